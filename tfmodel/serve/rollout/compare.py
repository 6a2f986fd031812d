"""Two versions asked the same: how far they agree, how good each is, how long each takes."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.export.predictor import Predictor
from tfmodel.serve.client import Client
from tfmodel.serve.errors import ServingError
from tfmodel.serve.rollout.answers import agreement, quality
from tfmodel.serve.rollout.control import Rollout
from tfmodel.serve.rollout.live import Live
from tfmodel.serve.rollout.resampling import compared, latencies
from tfmodel.serve.rollout.rows import Rows, right_answers
from tfmodel.serve.rollout.served import manifest_of, served_predictor

EXAMPLES = 30
_WARM_UP = 3
_ANSWER_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Rule:
    """When a version may take the place of another.

    Attributes:
        max_drop: how much lower its first figure may be, where the right answers are known.
        min_agreement: how far it must agree; None: 0.9 where they are not known, else not at all.
        max_latency_ratio: how many times as long a request may take, at the median; at the 99th
            percentile this must not be above for sure.
        min_rows: that must have been compared; and corrected, for the figure to count.
        strict: whether the worse end of each interval, not the figure, must keep to it.
    """

    max_drop: float = 0.01
    min_agreement: float | None = None
    max_latency_ratio: float = 1.5
    min_rows: int = 50
    strict: bool = False

    def __post_init__(self):
        limits = {
            "max_drop": (self.max_drop, 0, 1),
            "min_agreement": (self.min_agreement or 0, 0, 1),
            "max_latency_ratio": (self.max_latency_ratio, 0.01, float("inf")),
            "min_rows": (self.min_rows, 1, float("inf")),
        }
        for name, (value, low, high) in limits.items():
            if not low <= value <= high:
                option = "--" + name.replace("_", "-")
                raise ConfigError(f"{option}: expected {low:g} to {high:g}. Received: {value:g}.")

    def failures(self, figures: dict[str, Any]) -> list[str]:
        """In words, what of a comparison does not keep to it."""
        found = []
        if figures["rows"] < self.min_rows:
            found.append(f"{figures['rows']} rows were compared, not {self.min_rows} or more")
        if figures.get("failed_requests"):
            found.append(
                f"version {figures['new']} failed on {figures['failed_requests']} of "
                f"{figures['latency']['requests'] + figures['failed_requests']} requests"
            )
        # So few corrected rows say nothing, and are shown alone.
        if figures.get("corrected_rows", self.min_rows) >= self.min_rows:
            found += self._of_quality(figures["quality"])
        share, ends = (figures["agreement"][key] for key in ("agreement", "agreement_interval"))
        wanted = self.min_agreement
        if wanted is None:
            # Corrected rows are no sample of all: people correct what was wrong.
            wanted = 0.0 if figures["quality"] and not figures.get("corrected_rows") else 0.9
        if (ends[0] if self.strict else share) < wanted:
            found.append(f"the versions agree to {_range(share, ends)}, not {wanted:.1%} or more")
        for name in ("p50", "p99"):
            each = figures["latency"][name]
            judged = each["ratio_interval"][0] if name == "p99" else each["ratio"]
            if self.strict:
                judged = each["ratio_interval"][1]
            if judged > self.max_latency_ratio:
                low, high = each["ratio_interval"]
                found.append(
                    f"its {name} latency is {each['ratio']:.2f} times the old version's ({low:.2f} "
                    f"to {high:.2f}), more than {self.max_latency_ratio:g}"
                )
        return found

    def _of_quality(self, figures: dict[str, Any]) -> list[str]:
        if not figures:
            return []
        name, each = next(iter(figures.items()))
        if each["difference"] is None:
            return [f"its {name} cannot be computed on these rows"]
        ends = each["difference_interval"] or [each["difference"]] * 2
        if (ends[0] if self.strict else each["difference"]) >= -self.max_drop - 1e-12:
            return []
        low, high = ends
        return [
            f"its {name} is {each['new']:.4f} after {each['old']:.4f}: {each['difference']:+.4f} "
            f"({low:+.4f} to {high:+.4f}), more than {self.max_drop:g} lower"
        ]


def _range(value: float, ends: Sequence[float]) -> str:
    return f"{value:.1%} ({ends[0]:.1%} to {ends[1]:.1%})"


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """What came of it.

    Attributes:
        figures: plain numbers and words, without texts: what the state keeps.
        examples: rows that the versions answer otherwise, with their texts.
    """

    figures: dict[str, Any]
    examples: list[dict[str, Any]]

    @property
    def passed(self) -> bool:
        """Whether the new version keeps to the rule."""
        return self.figures["passed"]


def compare(
    rollout: Rollout, rows: Rows, *, rule: Rule | None = None, latency_rows: int = 200
) -> Comparison:
    """Ask the old and the new version of a rollout the same, and note what came of it.

    Args:
        rollout: one whose new version is on trial.
        rows: what both are asked.
        rule: what the new version is held to.
        latency_rows: single requests that are timed, of each version in turn.

    Raises:
        ConfigError: there is no such rollout, or its versions are of different tasks.
        RuntimeError: the old version fails on a request, or the server does not answer.
    """
    state = rollout.on_trial()
    rule = rule or Rule()
    found: dict[str, Any] = {
        "model": rollout.model,
        "old": state.old,
        "new": state.new,
        "at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "server": state.server,
        "rows": len(rows),
        "rows_from": rows.name,
        "rule": dataclasses.asdict(rule),
    }
    examples: list[dict[str, Any]] = []
    with rollout.live() as live, _clients(live, state.old, state.new) as clients:
        old, new = (
            served_predictor(
                client, manifest_of(rollout.version_folder(number)), where=f"version {number}"
            )
            for client, number in zip(clients, (state.old, state.new), strict=True)
        )
        _check_alike(old, new)
        found["task"] = old.task
        try:
            measured, examples = _measure(old, new, rows, latency_rows, state.old)
        except _NewFails as error:
            failures = [f"version {state.new} fails on a request: {error}"]
            found |= {"agreement": None, "quality": {}, "latency": None}
        else:
            found |= measured
            failures = rule.failures(found)
    found |= {"failures": failures, "passed": not failures}
    rollout.note_comparison(found)
    return Comparison(found, examples)


class _NewFails(Exception):
    """The new version does not answer what the old one answers."""


@contextlib.contextmanager
def _clients(live: Live, *numbers: int) -> Iterator[list[Client]]:
    """A client of each version, closed at the end."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(live.client(version=number, timeout_seconds=_ANSWER_SECONDS))
            for number in numbers
        ]


def _check_alike(old: Predictor, new: Predictor) -> None:
    for name in ("task", "has_pairs"):
        one, other = getattr(old, name), getattr(new, name)
        if one != other:
            raise ConfigError(
                f"Expected two versions of one {name}. Received: {old.where} with {one}, "
                f"{new.where} with {other}. Serve the new one under a name of its own."
            )


def _measure(
    old: Predictor, new: Predictor, rows: Rows, latency_rows: int, number: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    task = tasks.find(old.task)
    asked = rows.split
    if tasks.gives_vectors(old.task) and asked.text_pairs is not None:
        asked = task.asked(asked)
    columns = (asked.texts, asked.text_pairs)
    try:
        of_old = old.predict(*columns)
    except ServingError as error:
        raise RuntimeError(f"Version {number} fails on a request: {error.message}") from None
    try:
        of_new = new.predict(*columns)
        agreed = agreement(task.ANSWERS, of_old, of_new)
        figures: dict[str, Any] = {"agreement": agreed.figures(), "quality": {}}
        labelled, given = rows.split if rows.is_labelled else rows.corrected, [of_old, of_new]
        if labelled is not None:
            if tasks.gives_vectors(old.task):
                given = [task.answers_of(each, labelled) for each in (old, new)]
            elif labelled is not rows.split:
                asks = labelled.texts, labelled.text_pairs
                given = [each.predict(*asks) for each in (old, new)]
            figures["quality"] = _qualities(task, right_answers(task, labelled), *given)
        if rows.corrected is not None:
            figures["corrected_rows"] = len(rows.corrected.texts)
        figures["latency"] = latencies(*_times(old, new, columns, latency_rows))
    except ServingError as error:
        raise _NewFails(error.message) from None
    otherwise = np.flatnonzero(agreed.rows < 1)[:EXAMPLES].tolist()
    return figures, [
        {
            "origin": asked.origins[row],
            "text": asked.texts[row],
            "text_pair": None if asked.text_pairs is None else asked.text_pairs[row],
            "old": short_answer(of_old[row]),
            "new": short_answer(of_new[row]),
        }
        for row in otherwise
        if not tasks.gives_vectors(old.task)
    ]


def _qualities(task: Any, right: Any, old: Any, new: Any) -> dict[str, Any]:
    one, other = (quality(task.ANSWERS, right, given) for given in (old, new))
    return {name: compared(one[name], other[name]) for name in one}


def _times(
    old: Predictor, new: Predictor, columns: tuple, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of single requests, of both versions in turn, each first as often."""
    texts, pairs = columns
    chosen = np.linspace(0, len(texts) - 1, count).round().astype(int).tolist()
    chosen = chosen[:_WARM_UP] + chosen
    found = np.empty((len(chosen), 2))
    for number, row in enumerate(chosen):
        asked = [texts[row]], None if pairs is None else [pairs[row]]
        for which in (0, 1) if number % 2 else (1, 0):
            started = time.perf_counter()
            (old, new)[which].values(*asked)
            found[number, which] = time.perf_counter() - started
    return tuple(found[_WARM_UP:].T)


def short_answer(answer: dict[str, Any]) -> str:
    """An answer in words."""
    if "entities" in answer:
        named = [f"{each['text']} ({each['label']})" for each in answer["entities"]]
        return ", ".join(named) or "nothing"
    if "answer" in answer:
        return answer["answer"] or "no answer"
    if "labels" in answer:
        return ", ".join(answer["labels"]) or "none"
    if "label" in answer:
        return f"{answer['label']} ({answer['score']:.3f})"
    return f"{answer['score']:.4g}"
