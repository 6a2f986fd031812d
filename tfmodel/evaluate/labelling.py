"""How good answers of any number of labels a row are: targets and scores in, figures out.

Letters: n rows, C labels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmodel.evaluate.examples import check_columns, shown_row

MISTAKES = 50
CORRECT = 20
FEW_ROWS = 10
"""A label with fewer rows has no threshold of its own: it would be chance's."""
HALF = 0.5

_DRAWS = 1000


def labelling(
    targets: np.ndarray,
    scores: np.ndarray,
    labels: Sequence[str],
    *,
    thresholds: Sequence[float] | None = None,
    texts: Sequence[str] | None = None,
    text_pairs: Sequence[str] | None = None,
    origins: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Measure answers of several labels on rows whose right ones are known.

    A label is given where its score reaches its threshold. One that is never given has precision
    0, one without rows recall 0; both count in the macro mean, as in scikit-learn with
    `zero_division=0`.

    Args:
        targets: 0 or 1, `(n, C)`: whether a label is right.
        scores: floats in [0, 1], `(n, C)`.
        labels: C distinct names.
        thresholds: C numbers; 0.5 by default.
        texts: n texts, for the examples; without them examples carry no text.
        text_pairs: n second texts, where the task has pairs.
        origins: n places the rows came from (`train.csv:12`).

    Returns:
        A dict that `json.dumps` takes: `examples` (n), `micro_f1` with `micro_f1_interval` (95%,
        low and high), `macro_f1`, `exact_match` (share of rows with the very labels), `per_class`
        ({label: precision, recall, f1, threshold, support}), `mistakes` (at most 50, the most
        wrong labels first) and `correct` (at most 20), each with `labels`, `predicted`,
        `missing` and `wrong`.

    Raises:
        ValueError: shapes that do not fit each other, no rows, or numbers that are none.

    Source: the interval is the percentile bootstrap, Efron and Tibshirani 1993, chapter 13.
    """
    targets, scores = np.asarray(targets), np.asarray(scores)
    labels = [str(label) for label in labels]
    limits = np.full(len(labels), HALF) if thresholds is None else np.asarray(thresholds, float)
    _check(targets, scores, limits, labels)
    columns = {"texts": texts, "text_pairs": text_pairs, "origins": origins}
    check_columns(columns, rows=len(targets))
    right, given = targets.astype(bool), given_labels(scores, limits)
    wrong = (right != given).sum(axis=1)
    order = np.argsort(-wrong, kind="stable")

    def names(chosen: np.ndarray) -> list[str]:
        return [labels[index] for index in np.flatnonzero(chosen)]

    def example(row: int) -> dict[str, Any]:
        return {
            **shown_row(columns, row),
            "labels": names(right[row]),
            "predicted": names(given[row]),
            "missing": names(right[row] & ~given[row]),
            "wrong": names(given[row] & ~right[row]),
        }

    hits, named, support = ((right & given).sum(0), given.sum(0), right.sum(0))
    f1 = _share(2 * hits, named + support)
    precision, recall = _share(hits, named), _share(hits, support)
    return {
        "examples": len(targets),
        "micro_f1": micro_f1(right, given),
        "micro_f1_interval": _micro_interval(right, given),
        "macro_f1": float(f1.mean()),
        "exact_match": float(np.mean(wrong == 0)),
        "per_class": {
            label: {
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "threshold": float(limits[index]),
                "support": int(support[index]),
            }
            for index, label in enumerate(labels)
        },
        "mistakes": [example(row) for row in order[:MISTAKES].tolist() if wrong[row]],
        "correct": [example(row) for row in np.flatnonzero(wrong == 0)[:CORRECT].tolist()],
    }


def given_labels(scores: np.ndarray, thresholds: Sequence[float] | np.ndarray) -> np.ndarray:
    """Whether each label is given: bool (n, C), of scores (n, C) and C thresholds."""
    # In float32, as a graph compares them.
    return np.asarray(scores, np.float32) >= np.asarray(thresholds, np.float32)


def micro_f1(right: np.ndarray, given: np.ndarray) -> float:
    """F1 of all decisions together, bool (n, C) each; 0 where no label is right or given."""
    hits, others = int((right & given).sum()), int((right != given).sum())
    return 2 * hits / (2 * hits + others) if hits else 0.0


def tuned_thresholds(targets: np.ndarray, scores: np.ndarray) -> list[float]:
    """The thresholds, one a label, at which the micro F1 of these rows is the highest.

    Not each label's own F1: of a label that the scores hardly tell, that is highest where it is
    given to every row. A label with fewer than 10 rows has the threshold that is best for all
    labels together. Of equally good ones it is the middle of the widest gap between two scores.

    Args:
        targets: 0 or 1, `(n, C)`.
        scores: floats in [0, 1], `(n, C)`.

    Source: Lipton et al. 2014, section 4 (a label of no skill); the highest ratio of sums by
    Dinkelbach 1967: given the F1 that can be had, each label's best threshold is its own matter.
    """
    targets, scores = np.asarray(targets).astype(bool), np.asarray(scores, np.float64)
    together = best_threshold(targets.reshape(-1), scores.reshape(-1))
    thresholds = np.full(targets.shape[1], together)
    often = np.flatnonzero(targets.sum(axis=0) >= FEW_ROWS)
    cuts = {index: _cuts(targets[:, index], scores[:, index]) for index in often}
    f1 = micro_f1(targets, scores >= thresholds)
    while True:
        found = thresholds.copy()
        for index, (hits, count, gap, threshold) in cuts.items():
            found[index] = threshold[_best(2 * hits - f1 * count, gap)]
        better = micro_f1(targets, scores >= found)
        if better <= f1:
            return thresholds.tolist()
        f1, thresholds = better, found


def best_threshold(right: np.ndarray, scores: np.ndarray) -> float:
    """The threshold on scores (n,) with the highest F1; 0.5 where nothing is right, bool (n,)."""
    if not right.any():
        return HALF
    hits, count, gap, threshold = _cuts(right, scores)
    return float(threshold[_best(2 * hits / (count + right.sum()), gap)])


def _cuts(right: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, ...]:
    """All places for a threshold: rows given that are right, rows given, gap, and its middle."""
    order = np.argsort(-scores, kind="stable")
    bounds = np.concatenate([[1.0], scores[order], [0.0]])
    hits = np.concatenate([[0], np.cumsum(right[order])])
    gap = bounds[:-1] - bounds[1:]  # a threshold fits where two scores differ
    return hits, np.arange(len(hits)), gap, (bounds[:-1] + bounds[1:]) / 2


def _best(worth: np.ndarray, gap: np.ndarray) -> int:
    worth = np.where(gap > 0, worth, -np.inf)
    best = np.flatnonzero(worth >= worth.max() - 1e-12)
    return int(best[np.argmax(gap[best])])


def _micro_interval(right: np.ndarray, given: np.ndarray) -> list[float]:
    """The 95% interval of micro F1: the rows drawn again, with repeats, 1,000 times."""
    hits, others = (right & given).sum(axis=1), (right != given).sum(axis=1)
    # Rows alike in both counts are drawn together: there are few such kinds.
    kinds, counts = np.unique(np.stack([hits, others], axis=1), axis=0, return_counts=True)
    shares = counts / counts.sum()
    drawn = np.random.default_rng(0).multinomial(len(hits), shares, size=_DRAWS)
    hits, others = (drawn @ kinds).T
    found = 2 * hits / np.maximum(2 * hits + others, 1)
    return [float(end) for end in np.percentile(found, [2.5, 97.5])]


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _check(
    targets: np.ndarray, scores: np.ndarray, thresholds: np.ndarray, labels: list[str]
) -> None:
    if targets.ndim != 2 or targets.shape != scores.shape or targets.shape[1] != len(labels):
        raise ValueError(
            f"targets and scores must be (rows, labels) with one column per label, "
            f"(n, {len(labels)}). Received: {targets.shape} and {scores.shape}."
        )
    if thresholds.shape != (len(labels),):
        raise ValueError(
            f"thresholds must hold one number a label, {len(labels)}. "
            f"Received: shape {thresholds.shape}."
        )
    if not len(targets):
        raise ValueError("at least one row is needed to measure anything. Received: 0 rows.")
    if not np.isin(targets, (0, 1)).all():
        raise ValueError("targets must be 0 or 1. Received: other numbers.")
    good = (scores >= 0) & (scores <= 1)  # a NaN makes both false
    if not good.all():
        row = int(np.argmin(good.all(axis=1)))
        raise ValueError(
            f"scores must be in [0, 1]. Received: {scores[row].tolist()} in row {row}."
        )
