"""SavedModels and TFLite files asked in the runtimes they are made for, in a fresh process."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmodel import tasks
from tfmodel.export.manifest import Manifest
from tfmodel.export.parity.description import Description
from tfmodel.export.parity.measure import Told, run_client
from tfmodel.export.spans import Spans
from tfmodel.export.tflite.metadata import LOGIT_NAMES, OUTPUT_NAMES
from tfmodel.tasks.span_search import COLUMNS

RUNTIME_OF_KIND = {"savedmodel": "tensorflow", "tflite": "litert"}
CHECK_ROWS = 20
"""Rows that every further signature of a SavedModel is asked, in one batch."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """What an artifact answers to the rows, and what it takes.

    Attributes:
        values: the task's values (n, C), or one a text, or vectors (n, D); None where there are
            failures instead.
        figures: load time, latency and memory.
        failures: in words.
        others: what other signatures answer to the first rows, by name.
    """

    values: np.ndarray | list | None
    figures: dict[str, Any]
    failures: list[str] = dataclasses.field(default_factory=list)
    others: dict[str, np.ndarray | list] = dataclasses.field(default_factory=dict)


def token_rows(
    description: Description, texts: Sequence[str], text_pairs: Sequence[str] | None
) -> list[dict[str, list[int]]]:
    """Tokenize with the tokenizer inside an artifact.

    Returns:
        For each row `ids` and `segment_ids`, special tokens included and without padding.
    """
    columns = [texts] if text_pairs is None else [texts, text_pairs]
    batch = description.tokenizer()(
        *([text.encode("utf-8", "replace") for text in column] for column in columns)
    )
    lengths = batch["padding_mask"].numpy().astype(bool).sum(axis=1)
    arrays = {"ids": batch["token_ids"].numpy(), "segment_ids": batch["segment_ids"].numpy()}
    return [
        {name: array[row, :length].tolist() for name, array in arrays.items()}
        for row, length in enumerate(lengths)
    ]


def ask_litert(
    description: Description,
    texts: Sequence[str],
    text_pairs: Sequence[str] | None,
    *,
    timeout_seconds: float,
) -> Asked:
    """Ask a TFLite file in LiteRT alone: the ids are made here, latency is the model's.

    Raises:
        ClientError: it crashes, hangs or cannot be loaded.
    """
    if tasks.find(description.manifest.task).ANSWERS == "span":
        return _ask_answerer(description, texts, text_pairs, timeout_seconds=timeout_seconds)
    request = {
        "path": str(description.path),
        "output": OUTPUT_NAMES[description.manifest.output],
        "padding_id": description.tokenizer().vocabulary.padding_id,
        "rows": token_rows(description, texts, text_pairs),
    }
    told = run_client("ask_litert", request, timeout_seconds=timeout_seconds)
    if told.errors:
        return Asked(None, told.figures, [refused(told)])
    return Asked(np.asarray(told.answers, np.float32), told.figures)


def _ask_answerer(
    description: Description,
    texts: Sequence[str],
    text_pairs: Sequence[str] | None,
    *,
    timeout_seconds: float,
) -> Asked:
    """As `ask_litert`, of a question answerer: a row is a window, and so is what latency is of."""
    manifest, tokenizer = description.manifest, description.tokenizer()
    spans = Spans(tokenizer, max_length=manifest.max_length, decoding=manifest.decoding)
    windows = spans.windows(texts, text_pairs)
    ends = np.cumsum(windows.lengths.numpy())[:-1]
    ids, segments = (
        np.split(each.numpy(), ends) for each in (windows.token_ids, windows.segment_ids)
    )
    request = {
        "path": str(description.path),
        "output": list(LOGIT_NAMES),
        "padding_id": tokenizer.vocabulary.padding_id,
        "rows": [
            {"ids": row.tolist(), "segment_ids": second.tolist()}
            for row, second in zip(ids, segments, strict=True)
        ],
    }
    told = run_client("ask_litert", request, timeout_seconds=timeout_seconds)
    if told.errors:
        return Asked(None, told.figures, [refused(told)])
    logits = np.moveaxis(np.asarray(told.answers, np.float32), 1, -1)
    return Asked(spans.best(logits, windows).numpy(), told.figures)


def ask_tensorflow(
    description: Description,
    texts: Sequence[str],
    text_pairs: Sequence[str] | None,
    *,
    with_vectors: bool,
    timeout_seconds: float,
) -> Asked:
    """Ask a SavedModel in TensorFlow: strings one by one, then each signature a batch.

    Args:
        description: the version folder.
        texts: n texts.
        text_pairs: n second texts, for pairs.
        with_vectors: whether a signature `vector` is expected.
        timeout_seconds: for the whole process.

    Raises:
        ClientError: it crashes, hangs or cannot be loaded.
    """
    columns = {"text": list(texts)} | (
        {} if text_pairs is None else {"text_pair": list(text_pairs)}
    )
    few = {name: values[:CHECK_ROWS] for name, values in columns.items()}
    limits = {"max_length": [description.manifest.max_length] * len(few["text"])}
    checks = {
        "serving_default": {"signature": "serving_default", "inputs": few},
        "max_length": {"signature": "max_length", "inputs": few | limits},
        "ids": {"signature": "ids", "inputs": padded(token_rows(description, *_columns(few)))},
    }
    task = tasks.find(description.manifest.task)
    if task.ANSWERS == "span":  # `ids` gives logits of tokens there
        checks = {"serving_default": checks["serving_default"]}
    if with_vectors:
        checks["vector"] = {"signature": "vector", "inputs": few}
    rows = [
        {
            "signature": "serving_default",
            "inputs": {name: [values[row]] for name, values in columns.items()},
        }
        for row in range(len(texts))
    ]
    request = {"path": str(description.path), "rows": rows, "checks": list(checks.values())}
    told = run_client("ask_tensorflow", request, timeout_seconds=timeout_seconds)
    if told.errors:
        return Asked(None, told.figures, [refused(told)])
    failures = _inconsistent(told.answers, description.manifest, text_pairs)
    values = task.VALUES
    others = {}
    for number, name in enumerate(checks):
        output = "vector" if name == "vector" else values
        found = told.checks[number]
        if found is None:
            failures.append(f"signature {name}: {told.check_errors[number]}")
        elif output not in found:
            failures.append(f"signature {name} gives {', '.join(sorted(found))}, not {output}")
        else:
            others[name] = _rows_of(found[output])
    if any(values not in answer for answer in told.answers):
        return Asked(None, told.figures, failures)
    asked = _rows_of([answer[values][0] for answer in told.answers])
    return Asked(asked, told.figures, failures, others)


def _rows_of(numbers: Sequence[Any]) -> np.ndarray:
    """What a signature gives for n rows, float32 (n, C): where a row has one number, C is 1."""
    return np.asarray(numbers, np.float32).reshape(len(numbers), -1)


def _inconsistent(
    answers: Sequence[Mapping[str, list]],
    manifest: Manifest,
    text_pairs: Sequence[str] | None = None,
) -> list[str]:
    """Whether the named outputs say the same thing, and in words where not."""
    task = tasks.find(manifest.task)
    missing = [name for name in task.SERVED if name not in answers[0]]
    if missing:
        given = ", ".join(sorted(answers[0]))
        return [f"signature serving_default gives {given}, not {', '.join(missing)}"]
    named = [name for name in task.SERVED if name != task.VALUES]
    is_span = task.ANSWERS == "span"
    columns = len(COLUMNS) if is_span else len(manifest.labels)
    for row, answer in enumerate(answers):
        values = _rows_of(answer[task.VALUES][:1])
        if values.shape[1] != columns:
            return []  # the comparison with the Keras model says so
        texts = {"text_pairs": [text_pairs[row]]} if is_span else {}
        (decoded,) = task.decode(values, manifest.labels, **texts, **manifest.decoding)
        given, wanted = ([each[name] for name in named] for each in (_first(answer), decoded))
        if not all(map(_alike, given, wanted)):
            said = " with ".join(f"{n} {_shown(v)}" for n, v in zip(named, given, strict=True))
            said = said.replace(" ", " is ", 1)
            due = " with ".join(map(_shown, wanted))
            return [f"its {said} where its {task.VALUES} say {due}"]
    return []


def _first(answer: Mapping[str, list]) -> dict[str, Any]:
    return {name: rows[0] for name, rows in answer.items()}


def _alike(given: Any, wanted: Any) -> bool:
    if isinstance(given, list):  # a graph fills rows up
        return [name for name in given if name] == wanted
    is_number = isinstance(given, float) and isinstance(wanted, float)
    return abs(given - wanted) <= 1e-6 if is_number else given == wanted


def _shown(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else repr(value)


def _columns(few: Mapping[str, list[str]]) -> tuple[list[str], list[str] | None]:
    return few["text"], few.get("text_pair")


def padded(rows: Sequence[Mapping[str, list[int]]]) -> dict[str, list[list[int]]]:
    """A batch as the signature `ids` takes it: rows of one length."""
    longest = max(len(row["ids"]) for row in rows)

    def pad(values: list[int]) -> list[int]:
        return values + [0] * (longest - len(values))

    return {
        "token_ids": [pad(row["ids"]) for row in rows],
        "segment_ids": [pad(row["segment_ids"]) for row in rows],
        "padding_mask": [pad([1] * len(row["ids"])) for row in rows],
    }


def refused(told: Told) -> str:
    """Which rows it made errors of, in words."""
    row, error = next(iter(told.errors.items()))
    return f"it does not answer {len(told.errors)} rows, first row {row}: {error}"
