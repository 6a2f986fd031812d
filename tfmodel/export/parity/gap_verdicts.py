"""How far what an artifact puts into gaps may be from what the Keras model puts there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmodel.export.parity.verdicts import reduced_answer_failure
from tfmodel.tasks.fill import Gaps

LARGEST_DIFFERENCE = 1e-4
"""Of a float32 artifact's probabilities."""

Figures = dict[str, Any]


def compare_gaps(
    given: Sequence[Gaps],
    wanted: Sequence[Gaps],
    targets: Sequence[str] | None,
    *,
    precision: str,
    max_drop: float,
    **decoding: Any,
) -> Figures:
    """Compare an artifact's likeliest tokens with the Keras model's.

    Args:
        given: the artifact's, of n texts.
        wanted: the Keras model's.
        targets: the token that stood in the one gap of each text, where known.
        precision: the artifact's; only `float32` must give the same numbers.
        max_drop: how much of the accuracy another precision may lose, in [0, 1]; or, where no
            tokens are known, half the share of gaps whose best token may be another.
        **decoding: not read.

    Returns:
        `rows`, `gaps`, `largest_score_difference`, `token_agreement` (share of gaps with the Keras
        model's best token), `tokens_changed`, `accuracy`, `accuracy_drop` and `failures`: in words,
        what is beyond a limit.
    """
    count = len(wanted)
    if [len(each.tokens) for each in given] != [len(each.tokens) for each in wanted]:
        return {"rows": count, "failures": ["it finds gaps in other places"]}
    pairs = [
        ((tokens, scores), (due, right))
        for one, other in zip(given, wanted, strict=True)
        for tokens, scores, due, right in zip(
            one.tokens, one.scores, other.tokens, other.scores, strict=True
        )
    ]
    if not pairs:
        return {"rows": count, "failures": ["no text has a gap to compare"]}
    if not all(np.isfinite(scores).all() for (_, scores), _ in pairs):
        return {"rows": count, "failures": ["its scores are not numbers"]}
    differences = [_difference(*pair) for pair in pairs]
    changed = sum(tokens[0] != due[0] for (tokens, _), (due, _) in pairs)
    before, after = gap_quality(wanted, targets), gap_quality(given, targets)
    known = after["accuracy"] is not None
    figures = {
        "rows": count,
        "gaps": len(pairs),
        "largest_score_difference": max(differences),
        "token_agreement": 1 - changed / len(pairs),
        "tokens_changed": changed,
        **after,
        "accuracy_drop": before["accuracy"] - after["accuracy"] if known else None,
    }
    failure = (
        _float32_failure(figures)
        if precision == "float32"
        else reduced_answer_failure(
            (figures["tokens_changed"], figures["gaps"]),
            ("accuracy", figures["accuracy"], figures["accuracy_drop"]),
            max_drop,
            what="another best token in {} of {} gaps",
        )
    )
    return figures | {"failures": [failure] if failure else []}


def gap_quality(values: Sequence[Gaps], targets: Sequence[str] | None, **decoding: Any) -> Figures:
    """`accuracy`: the share of texts whose one gap is filled with what stood there; None where
    that is not known.
    """
    if targets is None:
        return {"accuracy": None}
    right = [
        len(gaps.tokens) == 1 and gaps.tokens[0][0] == target
        for gaps, target in zip(values, targets, strict=True)
    ]
    return {"accuracy": float(np.mean(right))}


def _difference(given: tuple, wanted: tuple) -> float:
    """By how much the score of a token differs; one that is not named has at most the last's."""
    (tokens, scores), (due, right) = given, wanted
    theirs = dict(zip(tokens, map(float, scores), strict=True))
    last = float(scores[-1])
    off = [
        abs(theirs[token] - float(score)) if token in theirs else max(float(score) - last, 0.0)
        for token, score in zip(due, right, strict=True)
    ]
    return max(off)


def _float32_failure(figures: Figures) -> str:
    difference = figures["largest_score_difference"]
    if difference <= LARGEST_DIFFERENCE:  # which two as good tokens comes first is chance
        return ""
    return (
        f"a score is off by {difference:.2g} (limit {LARGEST_DIFFERENCE:.0e}); another best token "
        f"in {figures['tokens_changed']} of {figures['gaps']} gaps"
    )
