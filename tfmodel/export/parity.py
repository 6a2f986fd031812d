"""Does every artifact answer as the Keras model does? Figures, and a gate."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.export.artifacts import load
from tfmodel.export.predictor import Predictor

ROWS = 200
LARGEST_FLOAT32_DIFFERENCE = 1e-4
NEAR_TIE = 0.02
"""A row whose two best labels the Keras model scores this close could have gone either way."""
SECOND_LOOK_ROWS = 1000
LATENCY_ROWS = 50


class ParityError(RuntimeError):
    """An artifact answers otherwise than the Keras model it was made from.

    Attributes:
        parity: every figure, as `check_parity` returns them.
    """

    def __init__(self, message: str, parity: dict[str, Any]):
        super().__init__(message)
        self.parity = parity


@dataclasses.dataclass(frozen=True)
class _Rows:
    """The rows asked, and what the Keras model says to them."""

    texts: list[str]
    text_pairs: list[str] | None
    targets: np.ndarray | None
    scores: np.ndarray

    def first(self, count: int) -> _Rows:
        cut = {
            field.name: None if (value := getattr(self, field.name)) is None else value[:count]
            for field in dataclasses.fields(self)
        }
        return _Rows(**cut)


def check_parity(
    reference: Predictor,
    artifacts: Mapping[str, str | Path],
    texts: Sequence[str],
    text_pairs: Sequence[str] | None = None,
    *,
    targets: Sequence[int] | np.ndarray | None = None,
    max_drop: float = 0.01,
    rows: int = ROWS,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Ask the Keras model and every artifact the same real texts.

    A float32 artifact fails when a score is off by more than 1e-4. One of reduced precision
    fails when it loses more than `max_drop` of accuracy, or, where no targets are known, gives
    another label on more than `2 * max_drop` of the rows: a changed label was right before or
    is right now about as often, so half of them at most are lost; one row is never proof. With
    more rows at hand, a reduced one that fails on the first is asked up to 1,000 before the
    verdict, which chance must not give.

    Args:
        reference: the float32 Keras model.
        artifacts: name to what `load` takes.
        texts: real texts, at least one; drawn from where there are more than `rows`.
        text_pairs: as many second texts, for a model of pairs.
        targets: the right class ids, int (n,), where known.
        max_drop: share of rows an artifact of reduced precision may lose, in [0, 1].
        rows: how many texts to ask.
        seed: which ones are drawn.
        progress: told the name of each artifact before it is asked.

    Returns:
        What `parity.json` holds: `rows`, `limits`, `passed`, `reference` and `artifacts` with
        largest score difference, label agreement, accuracy, bytes, load time and latency each.

    Raises:
        ParityError: an artifact fails; it names each with its figures.
        ConfigError: no texts, or not as many pairs or targets as texts.
    """
    drawn = _draw(reference, texts, text_pairs, targets, rows=rows, seed=seed)
    first = drawn.first(rows)
    parity = {
        "rows": len(first.texts),
        "limits": {
            "float32_score_difference": LARGEST_FLOAT32_DIFFERENCE,
            "max_drop": max_drop,
            "label_agreement": None if targets is not None else 1 - 2 * max_drop,
            "near_tie": NEAR_TIE,
        },
        "reference": {
            "accuracy": _accuracy(first.scores, first.targets),
            "latency_ms": _latency(reference, first),
            "threads": os.cpu_count(),
        },
        "artifacts": {},
    }
    for name, path in artifacts.items():
        if progress is not None:
            progress(name)
        parity["artifacts"][name] = _check(Path(path), reference, drawn, rows, max_drop=max_drop)
    failed = [name for name, figures in parity["artifacts"].items() if not figures["passed"]]
    parity["passed"] = not failed
    if failed:
        raise ParityError(_message(parity, failed), parity)
    return parity


def _draw(
    reference: Predictor,
    texts: Sequence[str],
    text_pairs: Sequence[str] | None,
    targets: Sequence[int] | np.ndarray | None,
    *,
    rows: int,
    seed: int,
) -> _Rows:
    if not len(texts):
        raise ConfigError(
            "Expected texts to compare the artifacts on. Received: none. Give the test or dev part."
        )
    for name, values in (("text_pairs", text_pairs), ("targets", targets)):
        if values is not None and len(values) != len(texts):
            raise ConfigError(
                f"Expected as many {name} as texts. Received: {len(texts)} texts and "
                f"{len(values)} {name}."
            )
    order = np.random.default_rng(seed).permutation(len(texts))[: max(rows, SECOND_LOOK_ROWS)]
    chosen = [texts[row] for row in order]
    pairs = None if text_pairs is None else [text_pairs[row] for row in order]
    wanted = None if targets is None else np.asarray(targets)[order]
    # The rows beyond the first are scored when a second look asks for them.
    scores = reference.probabilities(chosen[:rows], None if pairs is None else pairs[:rows])
    return _Rows(chosen, pairs, wanted, scores)


def _check(
    path: Path, reference: Predictor, drawn: _Rows, rows: int, *, max_drop: float
) -> dict[str, Any]:
    """Figures and verdict on one artifact."""
    started = time.perf_counter()
    try:
        artifact = load(path, threads=1)
    except ConfigError as error:
        return {"passed": False, "failures": [f"it cannot be loaded: {error}"]}
    load_seconds = time.perf_counter() - started
    first = drawn.first(rows)
    scores, latency = _ask(artifact, first)
    figures = _compare(scores, first, artifact, max_drop=max_drop)
    if figures["failures"] and artifact.precision != "float32" and len(drawn.texts) > rows:
        # Chance may lose three rows of 200.
        more = dataclasses.replace(
            drawn, scores=reference.probabilities(drawn.texts, drawn.text_pairs)
        )
        scores = artifact.probabilities(more.texts, more.text_pairs)
        figures = _compare(scores, more, artifact, max_drop=max_drop)
    if artifact.labels != reference.labels:
        figures["failures"].append(
            f"its labels are {artifact.labels[:5]}, the Keras model's {reference.labels[:5]}"
        )
    return {
        "path": str(path),
        "kind": artifact.kind,
        "precision": artifact.precision,
        **figures,
        "bytes": _bytes(path),
        "load_seconds": round(load_seconds, 3),
        "latency_ms": latency,
        "threads": 1 if artifact.kind == "tflite" else os.cpu_count(),
        "passed": not figures["failures"],
    }


def _ask(artifact: Predictor, rows: _Rows) -> tuple[np.ndarray, dict[str, float]]:
    """Scores of all rows, and how long one takes."""
    if artifact.kind != "tflite":
        return artifact.probabilities(rows.texts, rows.text_pairs), _latency(artifact, rows)
    # A phone's file takes a row at a time anyway: one pass gives both.
    scores, milliseconds = _one_by_one(artifact, rows)
    return scores, _percentiles(milliseconds)


def _latency(predictor: Predictor, rows: _Rows) -> dict[str, float]:
    return _percentiles(_one_by_one(predictor, rows.first(LATENCY_ROWS))[1])


def _one_by_one(predictor: Predictor, rows: _Rows) -> tuple[np.ndarray, list[float]]:
    scores, milliseconds = [], []
    for row, text in enumerate(rows.texts):
        pair = None if rows.text_pairs is None else [rows.text_pairs[row]]
        if row == 0:
            predictor.probabilities([text], pair)  # the first call allocates
        started = time.perf_counter()
        scores.append(predictor.probabilities([text], pair)[0])
        milliseconds.append(1000 * (time.perf_counter() - started))
    return np.stack(scores), milliseconds


def _percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return {
        "p50": round(float(p50), 2),
        "p99": round(float(p99), 2),
        "rows": len(milliseconds),
    }


def _compare(
    scores: np.ndarray, rows: _Rows, artifact: Predictor, *, max_drop: float
) -> dict[str, Any]:
    """Figures of one artifact, and in words what is beyond its limits."""
    wanted, count = rows.scores, len(rows.texts)
    if scores.shape != wanted.shape:
        shapes = f"{scores.shape[1]} labels, expected {wanted.shape[1]}"
        return {"rows": count, "failures": [shapes]}
    difference = float(np.max(np.abs(scores - wanted)))
    other = np.argmax(scores, axis=1) != np.argmax(wanted, axis=1)
    best = np.sort(wanted, axis=1)
    near = (best[:, -1] - best[:, -2]) < NEAR_TIE
    before, after = _accuracy(wanted, rows.targets), _accuracy(scores, rows.targets)
    figures = {
        "rows": count,
        "largest_score_difference": difference,
        "label_agreement": 1 - float(np.mean(other)),
        "labels_changed": int(np.sum(other)),
        "labels_changed_near_ties": int(np.sum(other & near)),
        "accuracy": after,
        "accuracy_drop": None if after is None else before - after,
    }
    failures = []
    if not np.isfinite(scores).all():
        failures.append("its scores are not numbers")
    elif artifact.precision == "float32":
        if not difference <= LARGEST_FLOAT32_DIFFERENCE:
            failures.append(
                f"a score is off by {difference:.2g} (limit {LARGEST_FLOAT32_DIFFERENCE:.0e}), "
                f"label agreement {figures['label_agreement']:.1%}"
            )
    elif after is not None:
        lost = round((before - after) * count)
        if lost > max(1, max_drop * count):
            failures.append(
                f"accuracy {after:.1%}, the Keras model's is {before:.1%}: {lost} of {count} rows "
                f"lost (max_drop {max_drop:.1%})"
            )
    elif figures["labels_changed"] > max(1, 2 * max_drop * count):
        failures.append(
            f"another label on {figures['labels_changed']} of {count} rows "
            f"(limit {2 * max_drop:.1%}; {figures['labels_changed_near_ties']} near-ties)"
        )
    return {**figures, "failures": failures}


def _accuracy(scores: np.ndarray, targets: np.ndarray | None) -> float | None:
    if targets is None:
        return None
    return float(np.mean(np.argmax(scores, axis=1) == targets))


def _bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _message(parity: dict[str, Any], failed: Sequence[str]) -> str:
    artifacts = parity["artifacts"]
    lines = [
        f"{len(failed)} of {len(artifacts)} artifacts do not answer as the Keras model does, so "
        "none was published:"
    ]
    lines += [f"  {name}: {'; '.join(artifacts[name]['failures'])}" for name in failed]
    if all(artifacts[name].get("precision", "float32") != "float32" for name in failed):
        lines.append(
            "Leave these out of export.tflite, or allow more with export.max_drop "
            f"(now {parity['limits']['max_drop']})."
        )
    return "\n".join(lines)
