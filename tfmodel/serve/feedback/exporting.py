"""From a feedback database to a file of rows that a training reads."""

from __future__ import annotations

import collections
import contextlib
import csv
import datetime
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

from tfmodel.config import ConfigError
from tfmodel.run_folder import write_aside
from tfmodel.serve.feedback.asked import task_of_answer
from tfmodel.serve.feedback.corrections import IN_PRIVATE_DATA, as_json
from tfmodel.serve.feedback.opening import open_store
from tfmodel.serve.feedback.store import Store
from tfmodel.serve.feedback.tables import shown

TARGET_OF_TASK = {
    "classify": "class",
    "multilabel": "classes",
    "regress": "number",
    "tag": "spans",
    "span": "answers",
    "embed": "number",
}
"""What `data.target` calls the labels of a task."""
_LEAST_SECONDS = 1e8
"""In 1973; a smaller number is none of seconds, but a mistake."""
_OF_TABLES = ("classify", "regress", "embed")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


class Exported(NamedTuple):
    """What an export wrote.

    Attributes:
        path: the rows.
        task: of the models that they are about.
        corrected: rows with a label of a correction.
        answered: rows with the label that the model gave.
        left_out: reason to how many rows have no place in the file.
        left_out_path: where these are; None: there are none.
        conflicts: rows, or equal texts, that were corrected to different labels.
    """

    path: Path
    task: str
    corrected: int
    answered: int
    left_out: Mapping[str, int]
    left_out_path: Path | None
    conflicts: int

    @property
    def lines(self) -> list[str]:
        """What a command says."""
        said = f"{self.path}: {self.corrected + self.answered:,} rows of the task {self.task}"
        if self.answered:
            said += f", {self.answered:,} of them with the model's own answer"
        lines = [said]
        if self.left_out:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
            lines.append(f"{self.left_out_path}: {self.left_out.total():,} left out ({reasons})")
        if self.conflicts:
            lines.append(f"{self.conflicts:,} corrected to different labels; the latest is taken")
        lines.append(f"read them with data.target: {TARGET_OF_TASK[self.task]}")
        return lines


class _Candidate(NamedTuple):
    """A row that may be exported: whose it is, texts, label, and where it comes from."""

    key: str
    text: str | None
    text_pair: str | None
    label: Any
    problem: str | None
    origin: Mapping[str, Any]


def export_feedback(
    database: str,
    output: str | Path,
    *,
    only: Literal["corrected", "all"] = "corrected",
    since: str | float | None = None,
    model: str | None = None,
    text: str = "text",
    text_pair: str = "text_pair",
    label: str = "label",
) -> Exported:
    """Write corrected rows in the format of a data set, as `data.train` reads it.

    Of a row's corrections the latest counts, and of equal texts the one corrected latest. What is
    left out is kept beside, in `NAME.left_out.jsonl`, with the reason. Both files appear whole.

    Args:
        database: its URL.
        output: `.jsonl`; for labels and numbers also `.csv` or `.tsv`.
        only: `all`: also the rows that nobody corrected, with the label that the model gave them.
        since: corrections (of `all`, also requests) from this time on: a date or a time as ISO
            8601 has them, UTC where they do not say, or seconds since 1970.
        model: whose; needed where the database holds models of several tasks.
        text: what the field with the text is called.
        text_pair: likewise, with the second text.
        label: likewise, with the label.

    Returns:
        What was written.

    Raises:
        ConfigError: no such database, nothing to export, models of several tasks, another format,
            or no such time.
        OSError: the database cannot be read.
    """
    output = Path(output)
    if output.suffix not in (".jsonl", *_DELIMITERS):
        raise ConfigError(
            f"--output: expected a file that ends in .jsonl, .csv or .tsv. Received: {output.name}."
        )
    if len({text, text_pair, label}) < 3:
        raise ConfigError("Expected three names for text, second text and label. Received: fewer.")
    if not output.parent.is_dir():
        raise ConfigError(
            f"{output}: expected a file in a folder that exists. Received: no such folder. Make it "
            "first."
        )
    moment = moment_of(since)
    with open_store(database) as store:
        task = _task(store, model, with_rows=only == "all")
        if output.suffix in _DELIMITERS and task not in _OF_TABLES:
            raise ConfigError(
                f"--output: expected a file that ends in .jsonl, for labels of {task} have no form "
                f"in a table. Received: {output.name}."
            )
        beside = output.with_suffix(".left_out.jsonl")
        sorter = _Sorter()
        names = {"text": text, "text_pair": text_pair, "label": label}
        columns = [text, label]
        if output.suffix in _DELIMITERS and store.has_pairs(model):
            columns = [text, text_pair, label]
        with contextlib.ExitStack() as stack:
            rows = stack.enter_context(_opened(output, names, columns))
            left_out = stack.enter_context(_opened(beside, names, columns))
            for each in _corrected(store, model, moment):
                reason = sorter.reason(each)
                (left_out if reason else rows)(each, "correction", reason)
            corrected = sorter.taken
            for each in _uncorrected(store, model, moment, task) if only == "all" else ():
                reason = sorter.reason(each, is_answer=True)
                (left_out if reason else rows)(each, "model", reason)
            if not sorter.taken and not sorter.left_out:
                raise _nothing(store, model, since)
        if not sorter.left_out:
            beside.unlink(missing_ok=True)
    return Exported(
        output,
        task,
        corrected,
        sorter.taken - corrected,
        sorter.left_out,
        beside if sorter.left_out else None,
        sorter.conflicts,
    )


class _Sorter:
    """Takes rows, the latest first, and says of each why it is left out."""

    def __init__(self):
        self.taken = self.conflicts = 0
        self.left_out: collections.Counter[str] = collections.Counter()
        self._labels: dict[bytes, bytes] = {}
        self._in_conflict: set[bytes] = set()

    def reason(self, each: _Candidate, *, is_answer: bool = False) -> str | None:
        """Why a row is left out; None: it is not."""
        reason = self._reason(each, is_answer)
        if reason is None:
            self.taken += 1
        else:
            self.left_out[reason] += 1
        return reason

    def _reason(self, each: _Candidate, is_answer: bool) -> str | None:
        if each.text is None:
            return "row_deleted"
        label = _digest(as_json(each.label))
        key = _digest(each.key)
        if key in self._labels:
            self._compare(key, label)
            return "older_correction"
        self._labels[key] = label
        if each.problem is not None:
            return each.problem
        if each.label is None:
            return "no_answer"
        same = _digest(as_json([each.text, each.text_pair]))
        if same in self._labels:
            if not is_answer:
                self._compare(same, label)
            return "same_text"
        self._labels[same] = label
        return None

    def _compare(self, key: bytes, label: bytes) -> None:
        if self._labels[key] != label and key not in self._in_conflict:
            self._in_conflict.add(key)
            self.conflicts += 1


def _digest(words: str) -> bytes:
    return hashlib.sha256(words.encode()).digest()[:16]


# --- reading --------------------------------------------------------------------------------


def _corrected(store: Store, model: str | None, since: float | None) -> Iterator[_Candidate]:
    for row in store.corrections(model, since):
        is_own = row.text is not None
        yield _Candidate(
            row.row_key,
            row.text if is_own else row.row_text,
            row.text_pair if is_own else row.row_text_pair,
            json.loads(row.label),
            row.problem,
            _origin(row, row.request_id),
        )


def _uncorrected(
    store: Store, model: str | None, since: float | None, task: str
) -> Iterator[_Candidate]:
    for row in store.uncorrected(model, since):
        label, problem = label_of_answer(json.loads(row.answer) if row.answer else None, task)
        origin = _origin(row, row.id)
        yield _Candidate(f"{row.id}:{row.row}", row.text, row.text_pair, label, problem, origin)


def _origin(row: Any, request_id: str | None) -> dict[str, Any]:
    when = datetime.datetime.fromtimestamp(row.time, datetime.timezone.utc)
    return {
        "request_id": request_id,
        "row": row.row,
        "model": row.model,
        "version": row.version,
        "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


def label_of_answer(answer: Mapping[str, Any] | None, task: str) -> tuple[Any, str | None]:
    """The model's answer as a label, and why it cannot be one."""
    if answer is None or task_of_answer(answer) != task:
        return None, None
    if task in ("classify", "multilabel", "regress"):
        name = {"classify": "label", "multilabel": "labels", "regress": "score"}[task]
        return answer[name], None
    if answer.get("is_exact") is False:
        return None, IN_PRIVATE_DATA
    if task == "tag":
        return answer["entities"], None
    if not answer["answer"]:
        return {"text": [], "answer_start": []}, None
    return {"text": [answer["answer"]], "answer_start": [answer["start"]]}, None


def _task(store: Store, model: str | None, *, with_rows: bool) -> str:
    """The one task of what is to be exported."""
    found = store.tasks(with_rows=with_rows)
    chosen = [(name, task) for name, task in found if model in (None, name)]
    if model is not None and not chosen:
        known = ", ".join(sorted({name for name, _ in found})) or "none"
        raise ConfigError(f"--model: expected one of {known}. Received: {model!r}.")
    tasks = sorted({task for _, task in chosen})
    if len(tasks) > 1:
        known = ", ".join(f"{name} ({task})" for name, task in sorted(chosen))
        raise ConfigError(
            f"Expected models of one task. Received: {known}. Choose one: --model NAME"
        )
    if not tasks:
        raise _nothing(store, model, None)
    if tasks[0] not in TARGET_OF_TASK:
        raise ConfigError(f"Expected a task whose answers can be right. Received: {tasks[0]}.")
    return tasks[0]


def _nothing(store: Store, model: str | None, since: str | float | None) -> ConfigError:
    which = "" if model is None else f" of the model {model}"
    when = "" if since is None else f" since {since}"
    return ConfigError(
        f"{shown(store.engine)}: expected corrections{which}{when}. Received: none. Send some to "
        "/v1/feedback first, or export the model's own answers: --only all"
    )


def moment_of(since: str | float | None) -> float | None:
    """Seconds since 1970 of a date or a time as ISO 8601 has them, UTC where they do not say.

    Raises:
        ConfigError: no such time.
    """
    if since is None:
        return None
    with contextlib.suppress(ValueError):
        if float(since) > _LEAST_SECONDS:
            return float(since)
    try:
        words = str(since)
        when = datetime.datetime.fromisoformat(
            words[:-1] + "+00:00" if words[-1:] == "Z" else words
        )
    except ValueError:
        raise ConfigError(
            "--since: expected a date or a time such as 2026-01-31 or 2026-01-31T12:00. "
            f"Received: {since!r}."
        ) from None
    return (when if when.tzinfo else when.replace(tzinfo=datetime.timezone.utc)).timestamp()


# --- writing --------------------------------------------------------------------------------

_Write = Callable[[_Candidate, str, "str | None"], None]


@contextlib.contextmanager
def _opened(path: Path, names: Mapping[str, str], columns: Sequence[str]) -> Iterator[_Write]:
    """A function that writes a row to a file, which appears when all are written.

    Args:
        path: the file.
        names: what its fields are called.
        columns: those of a table.
    """
    with write_aside(path) as aside:
        if path.suffix in _DELIMITERS:
            with open(aside, "w", encoding="utf-8", newline="") as file:
                yield _table(file, _DELIMITERS[path.suffix], names, columns)
        else:
            with open(aside, "w", encoding="utf-8") as file:
                yield _lines(file, names)


def _lines(file: TextIO, names: Mapping[str, str]) -> _Write:
    def write(each: _Candidate, source: str, reason: str | None) -> None:
        row: dict[str, Any] = {} if reason is None else {"reason": reason}
        row |= _fields(each, names) | {
            name: value
            for name, value in ({"source": source} | dict(each.origin)).items()
            if name not in names.values()
        }
        file.write(json.dumps(row, ensure_ascii=False) + "\n")

    return write


def _table(
    file: TextIO, delimiter: str, names: Mapping[str, str], columns: Sequence[str]
) -> _Write:
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    writer.writerow(columns)

    def write(each: _Candidate, source: str, reason: str | None) -> None:
        fields = _fields(each, names)
        writer.writerow([fields.get(name, "") for name in columns])

    return write


def _fields(each: _Candidate, names: Mapping[str, str]) -> dict[str, Any]:
    fields = {names["text"]: each.text}
    if each.text_pair is not None:
        fields[names["text_pair"]] = each.text_pair
    return fields | {names["label"]: each.label}
