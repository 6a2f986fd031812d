"""TFLite files asked in the runtimes of phones, which tokenize by themselves.

Where a device makes the ids that the model was trained with, a file must answer as it does here;
where it makes others, that is skew: counted, and shown, for no file can help it.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfmodel import tasks
from tfmodel.export.parity.description import Description
from tfmodel.export.parity.measure import ClientError, run_client
from tfmodel.export.parity.runtimes import token_rows
from tfmodel.export.parity.verdicts import (
    accuracy,
    accuracy_interval,
    compare_numbers,
    compare_sets,
    compare_vectors,
    near_ties,
)
from tfmodel.tokens.phone import PhoneTokenizer

TASK_LIBRARY_PYTHON = "TFMODEL_TASK_LIBRARY_PYTHON"
"""Names an interpreter that has tflite-support 0.4."""
LARGEST_DIFFERENCE = 1e-3
PHONE_ROWS = 50

_FLOAT = ("float32", "float16")
_EXAMPLE_CHARACTERS = 80
_PIECES_SHOWN = 4


@dataclasses.dataclass(frozen=True)
class Phone:
    """A runtime of phones: the client that asks it, and where it is installed.

    Attributes:
        client: the script in `clients/`.
        python: the interpreter that has it, or None.
        missing: in words, where it is not at hand.
    """

    client: str
    python: str | None
    missing: str


def phones() -> dict[str, Phone]:
    """The runtimes of phones by name, at hand or not."""
    mediapipe = importlib.util.find_spec("mediapipe")
    return {
        "mediapipe": Phone(
            "ask_mediapipe",
            sys.executable if mediapipe else None,
            "mediapipe is not installed: pip install 'tfmodel[parity]'",
        ),
        "task-library-0.4": Phone(
            "ask_task_library",
            os.environ.get(TASK_LIBRARY_PYTHON) or None,
            f"{TASK_LIBRARY_PYTHON} names no Python with tflite-support 0.4",
        ),
    }


@dataclasses.dataclass(frozen=True)
class DeviceRows:
    """Which rows a device tokenizes as we do.

    Attributes:
        same: bool (n,).
        example: of another row `text`, and the pieces from the first difference on: `ours` and
            `theirs`; None where all are the same.
    """

    same: np.ndarray
    example: dict[str, Any] | None


def device_rows(description: Description, texts: Sequence[str]) -> DeviceRows:
    """Tokenize as a device does, cut and wrapped as it does, and compare with ours.

    A device cuts rows for a file of fixed length, and a file of dynamic length cuts them itself:
    both to `max_length`, the last token kept.
    """
    vocabulary = description.tokenizer().vocabulary
    limit = description.manifest.max_length - 2
    ours = [row["ids"] for row in token_rows(description, texts, None)]
    first, last = vocabulary.start_id, vocabulary.end_id
    theirs = [
        [first, *ids[:limit], last] for ids in PhoneTokenizer(vocabulary).tokenize(list(texts))
    ]
    same = np.array([mine == other for mine, other in zip(ours, theirs, strict=True)])
    if same.all():
        return DeviceRows(same, None)
    row = int(np.argmin(same))
    place = _first_difference(ours[row], theirs[row])
    shown = {
        name: [vocabulary.pieces[piece] for piece in ids[row][place : place + _PIECES_SHOWN]]
        for name, ids in (("ours", ours), ("theirs", theirs))
    }
    return DeviceRows(same, {"text": texts[row][:_EXAMPLE_CHARACTERS], **shown})


def _first_difference(ours: Sequence[int], theirs: Sequence[int]) -> int:
    pairs = zip(ours, theirs, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))


def ask_phone(
    phone: Phone,
    description: Description,
    texts: Sequence[str],
    here: np.ndarray,
    targets: np.ndarray | None,
    *,
    max_drop: float,
    timeout_seconds: float,
) -> dict[str, Any]:
    """Ask a file in one runtime and compare with what it answers here.

    Args:
        phone: a runtime that is at hand.
        description: the file.
        texts: n single texts.
        here: what the file answers to them in LiteRT, with our tokenizer: values or vectors.
        targets: the right answers, where known.
        max_drop: share of rows in which a quantized file may give another label there.
        timeout_seconds: for the whole process.

    Returns:
        `rows`, `rows_with_our_ids`, `skew` (`rows`, `share` and `example`), the largest
        difference, label agreement and accuracy on the rows with our ids, load time, latency,
        memory, `failures` and `passed`.
    """
    output = description.manifest.output
    request = {"path": str(description.path), "rows": list(texts), "output": output}
    try:
        told = run_client(
            phone.client, request, python=phone.python, timeout_seconds=timeout_seconds
        )
    except ClientError as error:
        return {"failures": [str(error)], "passed": False}
    device = device_rows(description, texts)
    skewed = int(np.sum(~device.same))
    answered = np.array([answer is not None for answer in told.answers])
    figures = {
        "rows": len(texts),
        "rows_with_our_ids": len(texts) - skewed,
        "skew": {"rows": skewed, "share": skewed / len(texts), "example": device.example},
        **told.figures,
    }
    refused = np.flatnonzero(device.same & ~answered)
    failures = []
    if refused.size:
        row = int(refused[0])
        failures.append(f"it does not answer {refused.size} rows: {told.errors[row]}")
    rows = np.flatnonzero(device.same & answered)
    if rows.size:
        given = [told.answers[row] for row in rows]
        wanted = here[rows]
        if output == "vector":
            compared = _compare_vectors(given, wanted, description)
        else:
            compared = _compare_values(
                given, wanted, None if targets is None else targets[rows], description, max_drop
            )
        failures += compared.pop("failures")
        figures |= compared
    return {**figures, "failures": failures, "passed": not failures}


def _compare_values(
    given: Sequence[Sequence[Sequence[Any]]],
    wanted: np.ndarray,
    targets: np.ndarray | None,
    description: Description,
    max_drop: float,
) -> dict[str, Any]:
    names = [name for name, _ in given[0]]
    # A device shows the lines of labels.txt.
    if names != description.written_labels:
        return {"failures": [f"its labels are {names[:5]}, not {description.written_labels[:5]}"]}
    scores = np.asarray([[score for _, score in answer] for answer in given], np.float32)
    compare = _COMPARE.get(tasks.find(description.manifest.task).ANSWERS)
    if compare is not None:
        return _compared(compare, scores, wanted, targets, description, max_drop)
    difference = float(np.max(np.abs(scores - wanted)))
    other = np.argmax(scores, axis=1) != np.argmax(wanted, axis=1)
    clear = int(np.sum(other & ~near_ties(wanted)))
    failures = []
    if description.manifest.precision in _FLOAT:
        if not difference <= LARGEST_DIFFERENCE or clear:
            failures.append(
                f"a score is off by {difference:.2g} (limit {LARGEST_DIFFERENCE:.0e}), {clear} of "
                f"{len(wanted)} labels changed"
            )
    elif not np.isfinite(difference) or clear > max(1, 2 * max_drop * len(wanted)):
        failures.append(f"another label than in LiteRT on {clear} of {len(wanted)} rows")
    return {
        "largest_score_difference": difference if np.isfinite(difference) else None,
        "label_agreement": 1 - float(np.mean(other)),
        "accuracy": accuracy(scores, targets),
        "accuracy_interval": accuracy_interval(scores, targets),
        "failures": failures,
    }


_COMPARE = {"number": compare_numbers, "sets": compare_sets}
"""How the values of those files are compared that do not give one label of several."""


def _compared(
    compare: Callable[..., dict[str, Any]],
    values: np.ndarray,
    wanted: np.ndarray,
    targets: np.ndarray | None,
    description: Description,
    max_drop: float,
) -> dict[str, Any]:
    manifest = description.manifest
    # The same file in another runtime: a float one may round otherwise, more it may not.
    figures = compare(
        values, wanted, targets, precision="float16", max_drop=max_drop, **manifest.decoding
    )
    difference = figures.get("largest_score_difference")
    limit = LARGEST_DIFFERENCE * max(1.0, float(np.max(np.abs(wanted))))
    if manifest.precision in _FLOAT and difference is not None and difference > limit:
        figures["failures"] = [f"a score is off by {difference:.2g} (limit {limit:.0e})"]
    return {name: value for name, value in figures.items() if name != "rows"}


def _compare_vectors(
    given: Sequence[Sequence[float]], wanted: np.ndarray, description: Description
) -> dict[str, Any]:
    vectors = np.asarray(given, np.float32)
    if vectors.shape != wanted.shape:
        return {"failures": [f"{vectors.shape[1]} numbers, expected {wanted.shape[1]}"]}
    figures = compare_vectors(vectors, wanted, precision="float16")
    difference = figures["largest_vector_difference"]
    if description.manifest.precision in _FLOAT and not difference <= LARGEST_DIFFERENCE:
        figures["failures"] = [
            f"a vector is off by {difference:.2g} of the largest number "
            f"(limit {LARGEST_DIFFERENCE:.0e})"
        ]
    return {name: value for name, value in figures.items() if name != "rows"}
