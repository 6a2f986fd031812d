"""How far the spans of an artifact may be from the Keras model's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmodel.export.parity.verdicts import reduced_answer_failure

LARGEST_DIFFERENCE = 1e-4
"""Of a float32 artifact's probabilities, and of its margins as a share of the largest."""
NEAR_TIE = 1e-3
"""Two spans of a window whose margins the Keras model has this close (as such a share) may change
places in float32."""

Figures = dict[str, Any]


def compare_answers(
    given: np.ndarray,
    wanted: np.ndarray,
    targets: Sequence[Any] | None,
    *,
    precision: str,
    max_drop: float,
    null_threshold: float | None = None,
    **decoding: Any,
) -> Figures:
    """Compare an artifact's best spans with the Keras model's.

    Args:
        given: the artifact's, float32 (n, 4): start, end, score, margin.
        wanted: the Keras model's, float32 (n, 4).
        targets: n questions with their right answers, where known.
        precision: the artifact's; only `float32` must give the same numbers.
        max_drop: how much of the F1 another precision may lose, in [0, 1]; or, where no answers
            are known, half the share of answers that may be others.
        null_threshold: above which there is no answer.
        **decoding: not read.

    Returns:
        `rows`, `largest_score_difference`, `answer_agreement` (share of rows with the Keras
        model's span, or none as there), `answers_changed`, `f1`, `f1_interval` (95%),
        `exact_match`, `f1_drop` and `failures`: in words, what is beyond a limit.
    """
    count = len(wanted)
    if given.shape != wanted.shape:
        columns = given.shape[1] if given.ndim == 2 else 0
        return {"rows": count, "failures": [f"{columns} numbers a row, expected 4"]}
    if not np.isfinite(given).all():
        return {"rows": count, "failures": ["its answers are not numbers"]}
    ours, theirs = (_answers(each, null_threshold) for each in (wanted, given))
    same = (ours == theirs).all(axis=1)
    before, after = (
        answer_quality(each, targets, null_threshold=null_threshold) for each in (wanted, given)
    )
    difference = np.abs(given - wanted)
    scale = max(1.0, float(np.max(np.abs(wanted[:, 3]))))
    # Where two spans are as good, either may come first, and has a score of its own.
    tied = (given[:, :2] != wanted[:, :2]).any(axis=1) & (difference[:, 3] <= NEAR_TIE * scale)
    figures = {
        "rows": count,
        "largest_score_difference": float(np.max(difference[~tied, 2], initial=0.0)),
        "answer_agreement": float(np.mean(same)),
        "answers_changed": int(np.sum(~same)),
        **after,
        "f1_drop": None if targets is None else before["f1"] - after["f1"],
    }
    if precision == "float32":
        off = float(np.max(difference[:, 3])) / scale
        failure = _float32_failure(figures, off, int(np.sum(~same & ~tied)))
    else:
        failure = reduced_answer_failure(
            (figures["answers_changed"], figures["rows"]),
            ("F1", figures["f1"], figures["f1_drop"]),
            max_drop,
            what="another answer on {} of {} rows",
        )
    return figures | {"failures": [failure] if failure else []}


def answer_quality(
    values: np.ndarray,
    targets: Sequence[Any] | None,
    *,
    null_threshold: float | None = None,
    **decoding: Any,
) -> Figures:
    """`f1` of the best spans (n, 4) with its 95% interval, and `exact_match`; None where unknown.

    Args:
        values: the best spans.
        targets: n questions with their right answers, where known.
        null_threshold: above which there is no answer.
        **decoding: not read.
    """
    if targets is None:
        return {"f1": None, "f1_interval": None, "exact_match": None}
    from tfmodel.tasks import span

    found = span.evaluate(targets, values, [], null_threshold=null_threshold)
    return {name: found[name] for name in ("f1", "f1_interval", "exact_match")}


def _answers(values: np.ndarray, null_threshold: float | None) -> np.ndarray:
    """Start and end of what is answered, (n, 2); 0 and 0 for none."""
    from tfmodel.tasks.span_search import is_answered

    return np.where(is_answered(values, null_threshold)[:, np.newaxis], values[:, :2], 0)


def _float32_failure(figures: Figures, off: float, changed: int) -> str:
    difference = figures["largest_score_difference"]
    if difference <= LARGEST_DIFFERENCE and off <= LARGEST_DIFFERENCE and not changed:
        return ""
    return (
        f"a score is off by {difference:.2g}, a margin by {off:.2g} of the largest (limit "
        f"{LARGEST_DIFFERENCE:.0e}); another answer on {changed} of {figures['rows']} rows"
    )
