"""How far an artifact may be from the Keras model: figures of two sets of answers, and limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmodel.evaluate.classification import wilson_interval
from tfmodel.evaluate.labelling import given_labels, labelling
from tfmodel.evaluate.regression import pearson, regression

LARGEST_FLOAT32_DIFFERENCE = 1e-4
NEAR_TIE = 0.02
"""A row whose two best labels the Keras model scores this close could have gone either way."""
SMALLEST_CORRELATION = 0.2
"""Of all scores with the Keras model's, each label's mean taken off. An answer that is the same for
every text has 0, and loses no accuracy where nearly all rows have one label."""
LEAST_SPREAD = 0.05
"""Where the Keras model's own scores vary less (standard deviation), correlation is noise."""
SMALLEST_COSINE = 0.9
"""Measured with MiniLM's pooler on 300 sentences: float16 0.99999, one int8 scale a column 0.993,
one a matrix 0.951, noise of a third of the spread 0.85, the texts mixed up 0.00."""
STRAY_COSINE = 0.5
"""A vector below it is another text's; MiniLM's worst in int8 was 0.90."""
SMALLEST_NEIGHBOUR_AGREEMENT = 0.8
NEAR_NEIGHBOUR = 0.05
"""A neighbour whose cosine is this close to the nearest's is as good as the nearest."""

SMALLEST_AGREEMENT = 0.2
"""Of spans or best tokens with the Keras model's: below, it answers other questions."""

LARGEST_SHARE_OF_SPREAD = 0.35
"""What numbers may be off (root mean square), in standard deviations of the Keras model's: as far
as a correlation of 0.94 is from 1."""
LEAST_SHARE_OF_SIZE = 1e-3
"""What they may be off in any case, as a share of the largest: a model that gives one number to all
texts has no deviation to measure by."""

Figures = dict[str, Any]


def compare_scores(
    given: np.ndarray,
    wanted: np.ndarray,
    targets: np.ndarray | None,
    *,
    precision: str,
    max_drop: float,
) -> Figures:
    """Compare an artifact's scores with the Keras model's.

    Args:
        given: the artifact's, float32 (n, C).
        wanted: the Keras model's, float32 (n, C).
        targets: the right class ids, int (n,), where known.
        precision: the artifact's; only `float32` must give the same numbers.
        max_drop: share of rows that another precision may lose, in [0, 1].

    Returns:
        `rows`, `largest_score_difference`, `label_agreement`, `labels_changed`,
        `labels_changed_near_ties`, `accuracy`, `accuracy_interval` (95%), `accuracy_drop` and
        `failures`: in words, what is beyond a limit.
    """
    count = len(wanted)
    if given.shape != wanted.shape:
        return _unlike(given, wanted, "labels")
    difference = float(np.max(np.abs(given - wanted)))
    other = np.argmax(given, axis=1) != np.argmax(wanted, axis=1)
    before, after = accuracy(wanted, targets), accuracy(given, targets)
    figures = {
        "rows": count,
        "largest_score_difference": difference,
        "label_agreement": 1 - float(np.mean(other)),
        "labels_changed": int(np.sum(other)),
        "labels_changed_near_ties": int(np.sum(other & near_ties(wanted))),
        "accuracy": after,
        "accuracy_interval": accuracy_interval(given, targets),
        "accuracy_drop": None if after is None else before - after,
        "failures": [],
    }
    if not np.isfinite(given).all():
        # Numbers that are none cannot be stored as JSON.
        return {"rows": count, "failures": ["its scores are not numbers"]}
    failure = (
        float32_failure(figures)
        if precision == "float32"
        else _reduced_failure(figures, before, max_drop) or unrelated_failure(given, wanted)
    )
    return figures | {"failures": [failure] if failure else []}


def float32_failure(figures: Figures) -> str:
    """In words, that a score is off by more than its limit."""
    difference = figures["largest_score_difference"]
    if difference <= LARGEST_FLOAT32_DIFFERENCE:
        return ""
    return (
        f"a score is off by {difference:.2g} (limit {LARGEST_FLOAT32_DIFFERENCE:.0e}), "
        f"label agreement {figures['label_agreement']:.1%}"
    )


def _reduced_failure(figures: Figures, before: float | None, max_drop: float) -> str:
    """Accuracy where targets are known, else labels; one row is never proof."""
    count, after, changed = figures["rows"], figures["accuracy"], figures["labels_changed"]
    if after is not None:
        lost = round((before - after) * count)
        if lost <= max(1, max_drop * count):
            return ""
        return (
            f"accuracy {after:.1%}, the Keras model's is {before:.1%}: {lost} of {count} rows "
            f"lost (max_drop {max_drop:.1%})"
        )
    if changed <= max(1, 2 * max_drop * count):
        return ""
    return (
        f"another label on {changed} of {count} rows "
        f"(limit {2 * max_drop:.1%}; {figures['labels_changed_near_ties']} near-ties)"
    )


def reduced_answer_failure(
    changed: tuple[int, int],
    figure: tuple[str, float | None, float | None],
    max_drop: float,
    *,
    what: str,
) -> str:
    """In words, that too many answers are others; by a figure where right answers are known.

    One answer is never proof.

    Args:
        changed: how many are others, and of how many.
        figure: its name, the artifact's, and what it lost; None: no right answers are known.
        max_drop: what it may lose; without right answers, half the share that may be others.
        what: how the former two are said.
    """
    (others, count), (name, after, drop) = changed, figure
    if others > max(1, (1 - SMALLEST_AGREEMENT) * count):
        return what.format(others, count)
    if drop is None or after is None:
        if others <= max(1, 2 * max_drop * count):
            return ""
        return f"{what.format(others, count)} (limit {2 * max_drop:.1%})"
    if drop <= max(max_drop, 1 / count) + 1e-9:
        return ""
    return (
        f"{name} {after:.3f}, the Keras model's is {after + drop:.3f}, on {count} "
        f"{what.rpartition(' ')[2]} (max_drop {max_drop:.1%})"
    )


def unrelated_failure(given: np.ndarray, wanted: np.ndarray) -> str:
    """Scores that say nothing of the text pass for good where nearly all rows have one label."""
    if wanted.std(axis=0).max() < LEAST_SPREAD:
        return ""
    ours, theirs = (_unit((each - each.mean(axis=0)).reshape(1, -1)) for each in (wanted, given))
    correlation = float(np.sum(ours * theirs))
    if correlation >= SMALLEST_CORRELATION:
        return ""
    return (
        f"its scores do not follow the Keras model's: their correlation is {correlation:.2f} "
        f"(limit {SMALLEST_CORRELATION})"
    )


def compare_numbers(
    given: np.ndarray,
    wanted: np.ndarray,
    targets: np.ndarray | None,
    *,
    precision: str,
    max_drop: float,
) -> Figures:
    """Compare an artifact's numbers with the Keras model's.

    Args:
        given: the artifact's, float32 (n, 1).
        wanted: the Keras model's, float32 (n, 1).
        targets: the right numbers, float (n,), where known.
        precision: the artifact's; only `float32` must give the same numbers.
        max_drop: how much of Spearman's correlation with the right numbers another precision may
            lose, in [0, 1].

    Returns:
        `rows`, `largest_score_difference`, `score_correlation` (Pearson's, with the Keras model's;
        None where there is none), `spearman`, `spearman_interval` (95%), `spearman_drop` and
        `failures`: in words, what is beyond a limit.
    """
    count = len(wanted)
    if given.shape != wanted.shape:
        return _unlike(given, wanted, "numbers")
    if not np.isfinite(given).all():
        return {"rows": count, "failures": ["its answers are not numbers"]}
    ours, theirs = (np.asarray(each, np.float64).reshape(-1) for each in (wanted, given))
    correlation = pearson(ours, theirs)
    before, after = (number_quality(each, targets) for each in (wanted, given))
    known = before["spearman"] is not None and after["spearman"] is not None
    figures = {
        "rows": count,
        "largest_score_difference": float(np.max(np.abs(theirs - ours))),
        "score_correlation": None if np.isnan(correlation) else correlation,
        **after,
        "spearman_drop": before["spearman"] - after["spearman"] if known else None,
    }
    if precision == "float32":
        failure = _float32_number_failure(figures, ours)
    else:
        failure = _reduced_number_failure(figures, ours, theirs, max_drop)
    return figures | {"failures": [failure] if failure else []}


def _float32_number_failure(figures: Figures, wanted: np.ndarray) -> str:
    difference = figures["largest_score_difference"]
    limit = LARGEST_FLOAT32_DIFFERENCE * max(1.0, float(np.max(np.abs(wanted))))
    if difference <= limit:
        return ""
    return f"a number is off by {difference:.2g} (limit {limit:.0e})"


def _reduced_number_failure(
    figures: Figures, wanted: np.ndarray, given: np.ndarray, max_drop: float
) -> str:
    """Its distance from the Keras model's, and its ranks where the right ones are known."""
    spread, count = float(wanted.std()), len(wanted)
    off = float(np.sqrt(np.mean((given - wanted) ** 2)))
    limit = max(
        LARGEST_SHARE_OF_SPREAD * spread, LEAST_SHARE_OF_SIZE * float(np.max(np.abs(wanted)))
    )
    if off > limit:
        return (
            f"its numbers are off by {off:.2g} (root mean square, limit {limit:.2g}) where the "
            f"Keras model's spread by {spread:.2g}"
        )
    drop = figures["spearman_drop"]
    # One row is never proof: in a few rows it changes the ranks of all.
    if drop is None or drop <= max(max_drop, 1 / count):
        return ""
    after = figures["spearman"]
    return (
        f"Spearman {after:.3f}, the Keras model's is {after + drop:.3f}, on {count} rows "
        f"(max_drop {max_drop:.1%})"
    )


def compare_sets(
    given: np.ndarray,
    wanted: np.ndarray,
    targets: np.ndarray | None,
    *,
    precision: str,
    max_drop: float,
    thresholds: Sequence[float] | None = None,
) -> Figures:
    """Compare an artifact's scores of labels, of which any number are right, with the Keras one's.

    Args:
        given: the artifact's, float32 (n, C).
        wanted: the Keras model's, float32 (n, C).
        targets: 0 or 1, (n, C), where known.
        precision: the artifact's; only `float32` must give the same numbers.
        max_drop: how much of micro F1 another precision may lose, in [0, 1]; or, where no targets
            are known, half the share of decisions that may be others.
        thresholds: what the score of each label has to reach.

    Returns:
        `rows`, `largest_score_difference`, `label_agreement` (share of decisions, one a row and
        label, that are the Keras model's), `labels_changed`, `micro_f1`, `micro_f1_interval`
        (95%), `micro_f1_drop` and `failures`: in words, what is beyond a limit.
    """
    if given.shape != wanted.shape:
        return _unlike(given, wanted, "labels")
    count, columns = wanted.shape
    if not np.isfinite(given).all():
        return {"rows": count, "failures": ["its scores are not numbers"]}
    limits = np.full(columns, 0.5) if thresholds is None else np.asarray(thresholds)
    changed = int(np.sum(given_labels(given, limits) != given_labels(wanted, limits)))
    before, after = (set_quality(each, targets, thresholds=limits) for each in (wanted, given))
    figures = {
        "rows": count,
        "largest_score_difference": float(np.max(np.abs(given - wanted))),
        "label_agreement": 1 - changed / wanted.size,
        "labels_changed": changed,
        **after,
        "micro_f1_drop": None if targets is None else before["micro_f1"] - after["micro_f1"],
    }
    failure = (
        float32_failure(figures)
        if precision == "float32"
        else _reduced_set_failure(figures, columns, max_drop) or unrelated_failure(given, wanted)
    )
    return figures | {"failures": [failure] if failure else []}


def _reduced_set_failure(figures: Figures, columns: int, max_drop: float) -> str:
    """Micro F1 where targets are known, else decisions; one decision a row is never proof."""
    count, drop, changed = figures["rows"], figures["micro_f1_drop"], figures["labels_changed"]
    if drop is None:
        if changed <= max(1, 2 * max_drop * count * columns):
            return ""
        return f"another decision on {changed} of {count * columns} (limit {2 * max_drop:.1%})"
    if drop <= max(max_drop, 1 / count):
        return ""
    after = figures["micro_f1"]
    return (
        f"micro F1 {after:.3f}, the Keras model's is {after + drop:.3f}, on {count} rows "
        f"(max_drop {max_drop:.1%})"
    )


def set_quality(
    scores: np.ndarray, targets: np.ndarray | None, *, thresholds: Sequence[float] | None = None
) -> Figures:
    """`micro_f1` of scores (n, C) and its 95% interval; None where no targets are known."""
    if targets is None:
        return {"micro_f1": None, "micro_f1_interval": None}
    names = [str(index) for index in range(scores.shape[1])]
    found = labelling(targets, np.clip(scores, 0, 1), names, thresholds=thresholds)
    return {name: found[name] for name in ("micro_f1", "micro_f1_interval")}


def number_quality(values: np.ndarray, targets: np.ndarray | None) -> Figures:
    """`spearman` of numbers (n, 1) with the right ones and its 95% interval; None where unknown."""
    if targets is None:
        return {"spearman": None, "spearman_interval": None}
    found = regression(targets, np.reshape(values, -1))
    return {name: found[name] for name in ("spearman", "spearman_interval")}


def label_quality(scores: np.ndarray, targets: np.ndarray | None) -> Figures:
    """`accuracy` of scores (n, C) and its 95% interval; None where no targets are known."""
    return {
        "accuracy": accuracy(scores, targets),
        "accuracy_interval": accuracy_interval(scores, targets),
    }


def compare_vectors(given: np.ndarray, wanted: np.ndarray, *, precision: str) -> Figures:
    """Compare an artifact's sentence vectors with the Keras model's.

    Vectors are used to find what is near, so that is what one of reduced precision must keep. The
    mean of the Keras model's vectors is taken off first: a pooler gives vectors that all point
    much the same way, whose plain cosine is near 1 whatever the artifact does.

    Args:
        given: the artifact's, float32 (n, D).
        wanted: the Keras model's, float32 (n, D).
        precision: the artifact's; only `float32` must give the same numbers.

    Returns:
        `rows`, `largest_vector_difference` (in units of the largest number of `wanted`), `cosine`
        (mean), `smallest_cosine`, `neighbour_agreement` (share of rows whose nearest other row is
        the Keras model's nearest, or as near by 0.05; None below three rows) and `failures`, in
        words.
    """
    count = len(wanted)
    if given.shape != wanted.shape:
        return _unlike(given, wanted, "numbers in a vector")
    if not np.isfinite(given).all():
        return {"rows": count, "failures": ["its vectors are not numbers"]}
    difference = float(np.max(np.abs(given - wanted)) / max(np.max(np.abs(wanted)), 1e-12))
    centre = wanted.mean(axis=0) if count > 1 else np.zeros_like(wanted[0])
    ours, theirs = _unit(wanted - centre), _unit(given - centre)
    cosines = np.sum(ours * theirs, axis=1)
    figures = {
        "rows": count,
        "largest_vector_difference": difference,
        "cosine": float(np.mean(cosines)),
        "smallest_cosine": float(np.min(cosines)),
        "neighbour_agreement": _neighbour_agreement(ours, theirs),
        "failures": [],
    }
    failure = (
        _float32_vector_failure(figures)
        if precision == "float32"
        else _reduced_vector_failure(figures, stray=int(np.sum(cosines < STRAY_COSINE)))
    )
    return figures | {"failures": [failure] if failure else []}


def _float32_vector_failure(figures: Figures) -> str:
    difference = figures["largest_vector_difference"]
    if difference <= LARGEST_FLOAT32_DIFFERENCE:
        return ""
    return (
        f"a vector is off by {difference:.2g} of the largest number "
        f"(limit {LARGEST_FLOAT32_DIFFERENCE:.0e}), mean cosine {figures['cosine']:.3f}"
    )


def _reduced_vector_failure(figures: Figures, *, stray: int) -> str:
    """All vectors on the whole, no single ones, and what is near; one row is never proof."""
    count, agreement = figures["rows"], figures["neighbour_agreement"]
    if figures["cosine"] < SMALLEST_COSINE:
        return (
            f"the mean cosine with the Keras model's vectors is {figures['cosine']:.3f} "
            f"(limit {SMALLEST_COSINE})"
        )
    if stray > max(1, 0.01 * count):
        return f"{stray} of {count} vectors point elsewhere (cosine below {STRAY_COSINE})"
    if agreement is None:
        return ""
    limit = 1 - SMALLEST_NEIGHBOUR_AGREEMENT
    if (1 - agreement) * count <= max(1, limit * count):
        return ""
    return f"another nearest text on {1 - agreement:.1%} of {count} rows (limit {limit:.0%})"


def _neighbour_agreement(ours: np.ndarray, theirs: np.ndarray) -> float | None:
    if len(ours) < 3:
        return None
    wanted, given = ours @ ours.T, theirs @ theirs.T
    for cosines in (wanted, given):
        np.fill_diagonal(cosines, -np.inf)
    rows = np.arange(len(ours))
    behind = wanted.max(axis=1) - wanted[rows, given.argmax(axis=1)]
    return float(np.mean(behind <= NEAR_NEIGHBOUR))


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def near_ties(scores: np.ndarray) -> np.ndarray:
    """Which rows of (n, C) could have gone either way, bool (n,)."""
    best = np.sort(scores, axis=1)[:, -2:]
    return (
        best[:, -1] - best[:, 0] < NEAR_TIE if scores.shape[1] > 1 else np.zeros(len(scores), bool)
    )


def accuracy(scores: np.ndarray, targets: np.ndarray | None) -> float | None:
    """The share of rows whose best label is the right one; None where none is known."""
    return None if targets is None else float(np.mean(np.argmax(scores, axis=1) == targets))


def accuracy_interval(scores: np.ndarray, targets: np.ndarray | None) -> list[float] | None:
    """The 95% interval of `accuracy` (Wilson)."""
    if targets is None:
        return None
    return list(wilson_interval(int(np.sum(np.argmax(scores, axis=1) == targets)), len(scores)))


def _unlike(given: np.ndarray, wanted: np.ndarray, what: str) -> Figures:
    columns = given.shape[1] if given.ndim == 2 else 0
    failure = f"{columns} {what}, expected {wanted.shape[1]}"
    return {"rows": len(wanted), "failures": [failure]}
