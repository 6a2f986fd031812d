"""How good a classifier's answers are: targets and probabilities in, one dict of figures out.

Letters: n rows, C classes.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmodel.evaluate.examples import check_columns, shown_row

MISTAKES = 50
CORRECT = 20
CONFUSED_PAIRS = 20

_CHUNK_ROWS = 65_536  # keeps the temporary arrays small beside a (1e6, 150) input
_SUM_TOLERANCE = 0.01  # float16 probabilities of 150 classes stay well inside


def classification(
    targets: np.ndarray,
    probabilities: np.ndarray,
    labels: Sequence[str],
    *,
    texts: Sequence[str] | None = None,
    text_pairs: Sequence[str] | None = None,
    origins: Sequence[str] | None = None,
    bins: int = 15,
) -> dict[str, Any]:
    """Measure a classifier on rows whose right answers are known.

    A class that is never predicted has precision 0, one without rows recall 0; both count in
    the macro mean, as in scikit-learn with `labels` set to all classes and `zero_division=0`.
    Of equal probabilities the first class wins.

    Args:
        targets: integers `(n,)` in [0, C).
        probabilities: floats `(n, C)`; rows sum to 1.
        labels: C distinct names.
        texts: n texts, for the examples; without them examples carry no text.
        text_pairs: n second texts, where the task has pairs.
        origins: n places the rows came from (`train.csv:12`).
        bins: how many equal steps of confidence the calibration curve has, at least 1.

    Returns:
        A dict that `json.dumps` takes: `examples` (n), `accuracy`, `accuracy_interval` (95%,
        low and high), `macro_f1`, `weighted_f1`, `log_loss`, `calibration_error`,
        `per_class` ({label: precision, recall, f1, support}), `confusion` (C x C counts, row =
        target, column = predicted), `confused` (the most frequent mix-ups), `calibration` (one
        dict per bin; `confidence` and `accuracy` are None where `count` is 0), `mistakes` (at
        most 50, the most confident first) and `correct` (at most 20, taken from every class in
        turn, in the order of the rows).

    Raises:
        ValueError: shapes that do not fit each other, a target outside [0, C), or
            probabilities that are not finite, not in [0, 1] or do not sum to 1.

    Source: calibration error as Guo et al. 2017, section 2; log loss clips at the type's epsilon
    as scikit-learn does.
    """
    labels = _checked_labels(labels)
    probabilities = np.asarray(probabilities)
    targets = np.asarray(targets)
    _check_shapes(targets, probabilities, labels)
    columns = {"texts": texts, "text_pairs": text_pairs, "origins": origins}
    check_columns(columns, rows=len(targets))
    if bins < 1:
        raise ValueError(f"bins must be at least 1. Received: {bins}.")

    targets = targets.astype(np.int64)
    predicted, confidence, likelihood = _read_answers(targets, probabilities)
    classes = len(labels)
    confusion = np.bincount(targets * classes + predicted, minlength=classes * classes)
    confusion = confusion.reshape(classes, classes)
    right = predicted == targets
    calibration = calibration_bins(confidence, right, bins)

    def example(row: int) -> dict[str, Any]:
        shown = shown_row(columns, row)
        shown["label"] = labels[targets[row]]
        shown["predicted"] = labels[predicted[row]]
        shown["score"] = float(confidence[row])
        shown["label_score"] = float(likelihood[row])
        return shown

    return {
        "examples": len(targets),
        "accuracy": float(right.mean()),
        "accuracy_interval": list(wilson_interval(int(right.sum()), len(targets))),
        **_class_scores(confusion, labels),
        "log_loss": _log_loss(likelihood, probabilities.dtype),
        "calibration_error": calibration_error(calibration),
        "confusion": confusion.tolist(),
        "confused": _confused_pairs(confusion, labels),
        "calibration": calibration,
        "mistakes": [example(row) for row in _confident_mistakes(confidence, right)],
        "correct": [example(row) for row in _first_of_each_class(targets, right)],
    }


def wilson_interval(successes: int, total: int, *, z: float = 1.959964) -> tuple[float, float]:
    """Give the interval that holds a rate, seen `successes` times in `total`.

    Unlike the plain normal interval it stays inside [0, 1] and keeps a width at 0% and 100%.

    Args:
        successes: 0 to `total`.
        total: trials; 0 knows nothing and gives (0, 1).
        z: width in standard deviations; the default is 95%.

    Returns:
        Low and high end, both in [0, 1].

    Source: Wilson 1927.
    """
    if total == 0:
        return 0.0, 1.0
    rate = successes / total
    scale = 1 + z * z / total
    middle = (rate + z * z / (2 * total)) / scale
    reach = z * math.sqrt(rate * (1 - rate) / total + z * z / (4 * total * total)) / scale
    # Rounding alone could put 0 of n above 0, or n of n below 1.
    low = 0.0 if successes == 0 else max(0.0, middle - reach)
    high = 1.0 if successes == total else min(1.0, middle + reach)
    return low, high


def _checked_labels(labels: Sequence[str]) -> list[str]:
    labels = [str(label) for label in labels]
    if len(set(labels)) != len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise ValueError(f"labels must be distinct. Received: {twice!r} more than once.")
    return labels


def _check_shapes(targets: np.ndarray, probabilities: np.ndarray, labels: list[str]) -> None:
    if probabilities.ndim != 2 or probabilities.shape[1] != len(labels):
        raise ValueError(
            f"probabilities must be (rows, classes) with one column per label, "
            f"(n, {len(labels)}). Received: shape {probabilities.shape}."
        )
    if not np.issubdtype(probabilities.dtype, np.floating):
        raise ValueError(f"probabilities must be floats. Received: {probabilities.dtype}.")
    if targets.shape != probabilities.shape[:1]:
        raise ValueError(
            f"targets must hold one integer per row of probabilities, "
            f"shape {probabilities.shape[:1]}. Received: shape {targets.shape}."
        )
    if not len(targets):
        raise ValueError("at least one row is needed to measure anything. Received: 0 rows.")
    if not np.issubdtype(targets.dtype, np.integer):
        raise ValueError(
            f"targets must be integers, the index of each row's label. Received: {targets.dtype}."
        )
    if targets.min() < 0 or targets.max() >= len(labels):
        wrong = targets.min() if targets.min() < 0 else targets.max()
        raise ValueError(f"targets must be in [0, {len(labels)}), as labels. Received: {wrong}.")


def _read_answers(
    targets: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per row: the predicted class, its probability, the probability of the right class."""
    rows = len(targets)
    predicted = np.empty(rows, np.int64)
    confidence = np.empty(rows, np.float64)
    likelihood = np.empty(rows, np.float64)
    for start in range(0, rows, _CHUNK_ROWS):
        chunk = slice(start, min(start + _CHUNK_ROWS, rows))
        part = probabilities[chunk]
        _check_probabilities(part, start)
        predicted[chunk] = part.argmax(axis=1)
        confidence[chunk] = np.take_along_axis(part, predicted[chunk][:, None], axis=1)[:, 0]
        likelihood[chunk] = np.take_along_axis(part, targets[chunk][:, None], axis=1)[:, 0]
    return predicted, confidence, likelihood


def _check_probabilities(part: np.ndarray, first_row: int) -> None:
    sums = part.sum(axis=1, dtype=np.float64)
    # A NaN makes the comparison false, so it is found here too.
    good = (np.abs(sums - 1) <= _SUM_TOLERANCE) & (part.min(axis=1) >= -_SUM_TOLERANCE)
    if not good.all():
        row = int(np.argmin(good))
        raise ValueError(
            f"every row of probabilities must be finite, in [0, 1] and sum to 1 (take the softmax "
            f"of logits first). Received: row {first_row + row} summing to {sums[row]:.6g}, "
            f"lowest {part[row].min():.6g}."
        )


def _class_scores(confusion: np.ndarray, labels: list[str]) -> dict[str, Any]:
    hits = confusion.diagonal().astype(np.float64)
    support = confusion.sum(axis=1)
    named = confusion.sum(axis=0)
    precision = _share(hits, named)
    recall = _share(hits, support)
    f1 = _share(2 * hits, support + named)
    return {
        "macro_f1": float(f1.mean()),
        "weighted_f1": float((f1 * support).sum() / support.sum()),
        "per_class": {
            label: {
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "support": int(support[index]),
            }
            for index, label in enumerate(labels)
        },
    }


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _log_loss(likelihood: np.ndarray, dtype: np.dtype) -> float:
    epsilon = float(np.finfo(dtype).eps)
    return float(-np.log(likelihood.clip(epsilon, 1 - epsilon)).mean())


def calibration_bins(
    confidence: np.ndarray, right: np.ndarray, bins: int = 10
) -> list[dict[str, Any]]:
    """How often answers of each step of confidence are right, a dict a step."""
    edges = np.linspace(0, 1, bins + 1)
    # A confidence of exactly 1 belongs to the last bin.
    where = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(where, minlength=bins)
    confidence_sum = np.bincount(where, weights=confidence, minlength=bins)
    right_sum = np.bincount(where, weights=right, minlength=bins)
    return [
        {
            "lower": float(edges[index]),
            "upper": float(edges[index + 1]),
            "count": int(count[index]),
            "confidence": float(confidence_sum[index] / count[index]) if count[index] else None,
            "accuracy": float(right_sum[index] / count[index]) if count[index] else None,
        }
        for index in range(bins)
    ]


def calibration_error(calibration: list[dict[str, Any]]) -> float:
    """How far confidence is from the share right, in the mean over the answers."""
    filled = [part for part in calibration if part["count"]]
    gaps = sum(part["count"] * abs(part["accuracy"] - part["confidence"]) for part in filled)
    return gaps / sum(part["count"] for part in filled)


def _confused_pairs(confusion: np.ndarray, labels: list[str]) -> list[dict[str, Any]]:
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    support = confusion.sum(axis=1)
    rows, columns = np.nonzero(wrong)
    counts = wrong[rows, columns]
    # Equal counts: the larger share of its class first, then the order of the labels.
    order = np.lexsort((columns, rows, -counts / support[rows], -counts))[:CONFUSED_PAIRS]
    return [
        {
            "label": labels[rows[index]],
            "predicted": labels[columns[index]],
            "count": int(counts[index]),
            "share": float(counts[index] / support[rows[index]]),
        }
        for index in order
    ]


def _confident_mistakes(confidence: np.ndarray, right: np.ndarray) -> list[int]:
    wrong = np.flatnonzero(~right)
    order = np.argsort(-confidence[wrong], kind="stable")[:MISTAKES]
    return wrong[order].tolist()


def _first_of_each_class(targets: np.ndarray, right: np.ndarray) -> list[int]:
    hits = np.flatnonzero(right)
    by_class = hits[np.argsort(targets[hits], kind="stable")]
    _, starts, counts = np.unique(targets[by_class], return_index=True, return_counts=True)
    chosen: list[int] = []
    for turn in range(int(counts.max(initial=0))):
        chosen += by_class[starts[counts > turn] + turn].tolist()
        if len(chosen) >= CORRECT:
            break
    return chosen[:CORRECT]
