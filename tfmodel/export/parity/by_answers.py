"""How the values of an artifact are compared and how good they are, by a task's `ANSWERS`."""

from __future__ import annotations

from tfmodel.export.parity.answer_verdicts import answer_quality, compare_answers
from tfmodel.export.parity.entity_verdicts import compare_spans, span_quality
from tfmodel.export.parity.gap_verdicts import compare_gaps, gap_quality
from tfmodel.export.parity.verdicts import (
    compare_numbers,
    compare_scores,
    compare_sets,
    label_quality,
    number_quality,
    set_quality,
)

COMPARE = {
    "classes": compare_scores,
    "number": compare_numbers,
    "sets": compare_sets,
    "spans": compare_spans,
    "span": compare_answers,
    "gaps": compare_gaps,
}
"""(given, wanted, targets, precision=…, max_drop=…, **decoding) to figures with `failures`."""

QUALITY = {
    "classes": label_quality,
    "number": number_quality,
    "sets": set_quality,
    "spans": span_quality,
    "span": answer_quality,
    "gaps": gap_quality,
    "vectors": lambda values, targets: {},
}
"""(values, targets, **decoding) to figures."""


def read_by(predictor) -> dict:
    """What both take to read the values of a predictor beside the targets."""
    from tfmodel import tasks

    beside = dict(predictor.manifest.decoding)
    if tasks.gives_lists(predictor.task):
        beside["labels"] = predictor.labels
    return beside
