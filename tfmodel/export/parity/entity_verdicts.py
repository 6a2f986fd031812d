"""How far the entities of an artifact may be from the Keras model's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmodel.evaluate.tagging import tagging
from tfmodel.export.parity.verdicts import Figures, float32_failure, unrelated_failure
from tfmodel.tasks import tag
from tfmodel.tasks.tag_rules import best_sequences
from tfmodel.tasks.tag_words import Words


def compare_spans(
    given: Sequence[Words],
    wanted: Sequence[Words],
    targets: Sequence[Sequence[tuple]] | None,
    *,
    precision: str,
    max_drop: float,
    labels: Sequence[str],
    **decoding: Any,
) -> Figures:
    """Compare an artifact's tags of words with the Keras model's.

    Args:
        given: the artifact's, the words of n texts.
        wanted: the Keras model's.
        targets: the right spans of each text, where known.
        precision: the artifact's; only `float32` must give the same numbers.
        max_drop: how much of F1 another precision may lose, in [0, 1]; or, where no targets are
            known, half the share of words whose tag may be another.
        labels: the C tags.
        **decoding: what they are read by beside: of a CRF its `transitions`.

    Returns:
        `rows`, `largest_score_difference`, `label_agreement` (share of words that have the Keras
        model's tag), `labels_changed`, `f1`, `f1_interval` (95%), `f1_drop` and `failures`: in
        words, what is beyond a limit.
    """
    count = len(wanted)
    for ours, theirs in zip(wanted, given, strict=True):
        for name in Words._fields:
            if np.shape(getattr(ours, name)) != np.shape(getattr(theirs, name)):
                failure = (
                    f"{len(theirs.starts)} words and {theirs.scores.shape[-1:]} tags in a text"
                )
                return {"rows": count, "failures": [f"it finds {failure} of other shape"]}
        if not (
            np.array_equal(ours.starts, theirs.starts) and np.array_equal(ours.ends, theirs.ends)
        ):
            return {"rows": count, "failures": ["its words stand in other places of the texts"]}
    ours, theirs = (np.concatenate([words.scores for words in each]) for each in (wanted, given))
    if not np.isfinite(theirs).all():
        return {"rows": count, "failures": ["its scores are not numbers"]}
    best = [
        np.concatenate(best_sequences([words.scores for words in each], labels, **decoding))
        for each in (wanted, given)
    ]
    changed, words = int(np.sum(best[0] != best[1])), len(ours)
    before, after = (
        span_quality(each, targets, labels=labels, **decoding) for each in (wanted, given)
    )
    figures = {
        "rows": count,
        "largest_score_difference": float(np.max(np.abs(theirs - ours), initial=0)),
        "label_agreement": 1 - changed / max(words, 1),
        "labels_changed": changed,
        **after,
        "f1_drop": None if targets is None else before["f1"] - after["f1"],
    }
    failure = (
        float32_failure(figures)
        if precision == "float32"
        else _reduced_span_failure(figures, words, max_drop) or unrelated_failure(theirs, ours)
    )
    return figures | {"failures": [failure] if failure else []}


def _reduced_span_failure(figures: Figures, words: int, max_drop: float) -> str:
    """F1 where targets are known, else words; one word is never proof."""
    count, drop, changed = figures["rows"], figures["f1_drop"], figures["labels_changed"]
    if drop is None:
        if changed <= max(1, 2 * max_drop * words):
            return ""
        return f"another tag on {changed} of {words} words (limit {2 * max_drop:.1%})"
    if drop <= max(max_drop, 1 / count):
        return ""
    after = figures["f1"]
    return (
        f"F1 {after:.3f}, the Keras model's is {after + drop:.3f}, on {count} rows "
        f"(max_drop {max_drop:.1%})"
    )


def span_quality(
    values: Sequence[Words],
    targets: Sequence[Sequence[tuple]] | None,
    *,
    labels: Sequence[str],
    **decoding: Any,
) -> Figures:
    """`f1` of entities and its 95% interval; None where no targets are known."""
    if targets is None:
        return {"f1": None, "f1_interval": None}
    found = tagging(targets, tag.spans(values, labels, **decoding), [])
    return {name: found[name] for name in ("f1", "f1_interval")}
