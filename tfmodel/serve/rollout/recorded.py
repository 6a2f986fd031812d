"""What clients really asked, from a feedback database: as rows, and as pairs of answers kept."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.data.dataset import Split
from tfmodel.export.manifest import Manifest
from tfmodel.serve.feedback.asked import task_of_answer
from tfmodel.serve.feedback.exporting import moment_of
from tfmodel.serve.feedback.opening import open_store
from tfmodel.serve.feedback.scrubbing import unpacked
from tfmodel.serve.feedback.store import Store
from tfmodel.serve.protocol_names import STABLE
from tfmodel.serve.rollout.answers import Agreement, agreement, quality
from tfmodel.serve.rollout.compare import EXAMPLES, Comparison, Rule, short_answer
from tfmodel.serve.rollout.control import Rollout
from tfmodel.serve.rollout.resampling import compared, latencies
from tfmodel.serve.rollout.rows import Rows, right_answers, spread
from tfmodel.serve.rollout.served import manifest_of
from tfmodel.serve.servable import DEFAULT_SIGNATURE


def feedback_rows(
    database: str,
    manifest: Manifest,
    *,
    model: str,
    version: int,
    since: str | float | None = None,
    most: int = 1000,
) -> Rows:
    """Read what a version was asked, as it is stored: without what was private.

    Args:
        database: its URL.
        manifest: of the version; says what its rows and labels are.
        model: its model's name.
        version: its number; requests by the label `stable` whose version is not known are taken,
            too.
        since: requests and corrections from this time on; see `export_feedback`.
        most: of more rows, as many are taken, evenly spread over the time; and of corrected ones
            the latest.

    Returns:
        The rows, without right answers; `corrected` are those that people corrected or confirmed,
        of any version.

    Raises:
        ConfigError: no such database or time, or it holds no requests of this version.
        RuntimeError: it cannot be read.
    """
    moment = moment_of(since)
    chosen = {"label": STABLE, "signature": DEFAULT_SIGNATURE, "since": moment}
    with open_store(database) as store:

        def asked() -> Iterator[Any]:
            rows = store.asked(model, version, **chosen)
            return (row for row in rows if (row.text_pair is not None) == manifest.has_pairs)

        count = sum(1 for _ in asked())
        kept = {*spread(count, most)}
        rows = [row for number, row in enumerate(asked()) if number in kept]
        corrected = _corrected(store, manifest, model, moment, most)
    if not rows:
        when = "" if since is None else f" since {since}"
        raise ConfigError(
            f"--feedback: expected requests of {model}, version {version}{when}. Received: none. "
            "Start the server with --feedback, and let clients ask it."
        )
    split = Split(
        texts=[row.text for row in rows],
        text_pairs=[row.text_pair for row in rows] if manifest.has_pairs else None,
        labels=[None] * len(rows),
        origins=[f"{row.request_id}:{row.row}" for row in rows],
    )
    return Rows(split, False, "recorded requests", corrected)


def _corrected(
    store: Store, manifest: Manifest, model: str, since: float | None, most: int
) -> Split | None:
    """The latest correction of each row, as labelled rows; equal texts once."""
    are_vectors = tasks.gives_vectors(manifest.task)
    has_pairs = manifest.has_pairs or are_vectors
    seen: set[str] = set()
    found: dict[tuple[str, str | None], tuple[Any, str]] = {}
    for row in store.corrections(model, since):
        if row.row_key in seen:
            continue
        seen.add(row.row_key)
        is_own = row.text is not None
        text, pair = (row.text, row.text_pair) if is_own else (row.row_text, row.row_text_pair)
        fits = row.task == manifest.task and (pair is not None) == has_pairs
        if text is None or row.problem is not None or not fits:
            continue
        found.setdefault((text, pair), (_right(json.loads(row.label), row.task), row.row_key))
        if len(found) == most:
            break
    if not found:
        return None
    labels: Any = [label for label, _ in found.values()]
    if are_vectors:
        labels = np.array(labels, np.float32)
    return Split(
        texts=[text for text, _ in found],
        text_pairs=[pair for _, pair in found] if has_pairs else None,
        labels=labels,
        origins=[key for _, key in found.values()],
    )


def _right(label: Any, task: str) -> Any:
    """A correction as a dataset has labels."""
    if task != "span":
        return label
    places = zip(label["text"], label["answer_start"], strict=True)
    return {"answers": [{"text": text, "start": start} for text, start in places], "id": ""}


# --- copies ---------------------------------------------------------------------------------


def compare_mirrored(
    rollout: Rollout,
    database: str,
    *,
    since: str | float | None = None,
    most: int = 10_000,
    rule: Rule | None = None,
) -> Comparison:
    """Compare the versions of a rollout by the copies that a server has kept; nobody is asked.

    Args:
        rollout: one whose new version is on trial.
        database: the URL of what the server, or the proxy, records in.
        since: copies from this time on; see `export_feedback`.
        most: of more rows, the latest are taken.
        rule: what the new version is held to.

    Returns:
        What came of it. Latency is that of the copies: each was asked of both versions in turn.

    Raises:
        ConfigError: there is no such rollout or database, or it holds no copies of these versions.
        RuntimeError: it cannot be read.
    """
    state = rollout.on_trial()
    rule = rule or Rule()
    name = manifest_of(rollout.version_folder(state.old)).task
    task = tasks.find(name)
    moment = moment_of(since)
    with open_store(database) as store:
        found_copies = store.copies(rollout.model, state.old, state.new, since=moment)
        copies = [*itertools.islice(found_copies, most)]
        rights = _latest(store, rollout.model)
    if not copies:
        when = "" if since is None else f" since {since}"
        raise ConfigError(
            f"--mirrored: expected copies of requests to {rollout.model}, version {state.old}, "
            f"that version {state.new} was asked{when}. Received: none. Start the server with "
            "--feedback and --feedback-mirror SHARE, and let clients ask the label stable."
        )
    found: dict[str, Any] = {
        "model": rollout.model,
        "old": state.old,
        "new": state.new,
        "at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "server": state.server,
        "rows_from": "mirrored requests",
        "rule": dataclasses.asdict(rule),
        "task": name,
    }
    failed = {copy.request_id for copy in copies if _has_failed(copy, name)}
    answered = [copy for copy in copies if copy.request_id not in failed]
    kept = [pair for copy in answered if (pair := _Pair.of(copy, name)) is not None]
    found |= {
        "rows": len(kept),
        "left_out": len(answered) - len(kept),
        "failed_requests": len(failed),
        "agreement": None,
        "quality": {},
        "latency": None,
    }
    if not kept:
        failures = [f"version {state.new} failed on all of {len(failed)} requests"]
        if not failed:
            failures = ["no row of the copies can be compared"]
        found |= {"failures": failures, "passed": False}
        rollout.note_comparison(found)
        return Comparison(found, [])
    agreed = _agreement_of(task.ANSWERS, kept)
    found["agreement"] = agreed.figures()
    found["latency"] = latencies(*_seconds(answered))
    corrected = [pair for pair in kept if pair.key in rights]
    if corrected and not tasks.gives_vectors(name):
        labels = [_right(rights[pair.key], name) for pair in corrected]
        pairs = [pair.text_pair for pair in corrected]
        right = right_answers(task, Split([], pairs, labels, []))
        sides = ([pair.old for pair in corrected], [pair.new for pair in corrected])
        one, other = (quality(task.ANSWERS, right, side) for side in sides)
        found["quality"] = {key: compared(one[key], other[key]) for key in one}
        found["corrected_rows"] = len(corrected)
    failures = rule.failures(found)
    found |= {"failures": failures, "passed": not failures}
    rollout.note_comparison(found)
    return Comparison(found, _examples(kept, agreed, name))


@dataclasses.dataclass(frozen=True, eq=False)
class _Pair:
    """A row with the answers of both versions, in the form of `predict`."""

    key: str
    text: str
    text_pair: str | None
    old: Mapping[str, Any]
    new: Mapping[str, Any]
    agrees: float | None

    @classmethod
    def of(cls, copy: Any, task: str) -> _Pair | None:
        """A copy as a pair; None where an answer is not kept, or is none of the task's."""
        old, new = _read(copy.row_answer), _read(copy.answer)
        if not (_has_form(old, task) and _has_form(new, task)):
            return None
        if tasks.gives_vectors(task):
            old, new = ({"vector": unpacked(each["vector"])} for each in (old, new))
        for each in (old, new):
            for entity in each.get("entities", ()):
                entity["text"] = copy.row_text[entity["start"] : entity["end"]]
        key = f"{copy.request_id}:{copy.row}"
        return cls(key, copy.row_text, copy.row_text_pair, old, new, copy.agrees)


def _has_failed(copy: Any, task: str) -> bool:
    """Whether the new version gave no answer, or none of the task's where the old one did."""
    has_form = _has_form(_read(copy.answer), task)
    return copy.problem is not None or (_has_form(_read(copy.row_answer), task) and not has_form)


def _read(answer: str | None) -> dict[str, Any]:
    return json.loads(answer) if answer else {}


def _has_form(answer: Mapping[str, Any], task: str) -> bool:
    """Whether an answer is one of the task's; a number that was none is stored as null."""
    if tasks.gives_vectors(task):
        return "vector" in answer
    scores = answer.get("scores")
    numbers = [answer.get("score", 0), *(scores if isinstance(scores, list) else ())]
    return None not in numbers and task_of_answer(answer) == task


def _agreement_of(kind: str, pairs: Sequence[_Pair]) -> Agreement:
    """Row by row as it was found before anything was replaced; of all rows where it takes them."""
    agreed = agreement(kind, [pair.old for pair in pairs], [pair.new for pair in pairs])
    known = [pair.agrees for pair in pairs]
    if None in known:
        return agreed
    return dataclasses.replace(agreed, rows=np.array(known, np.float64))


def _seconds(copies: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Of each request."""
    times = {copy.request_id: (copy.old_seconds, copy.new_seconds) for copy in copies}
    old, new = np.array([*times.values()]).T
    return old, new


def _latest(store: Store, model: str) -> dict[str, Any]:
    """What is right of the rows that people corrected."""
    found: dict[str, Any] = {}
    for row in store.corrections(model):
        found.setdefault(row.row_key, None if row.problem is not None else json.loads(row.label))
    return {key: label for key, label in found.items() if label is not None}


def _examples(pairs: Sequence[_Pair], agreed: Agreement, task: str) -> list[dict[str, Any]]:
    if tasks.gives_vectors(task):
        return []
    return [
        {
            "origin": pairs[row].key,
            "text": pairs[row].text,
            "text_pair": pairs[row].text_pair,
            "old": short_answer(pairs[row].old),
            "new": short_answer(pairs[row].new),
        }
        for row in np.flatnonzero(agreed.rows < 1)[:EXAMPLES].tolist()
    ]
