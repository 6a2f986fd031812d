"""How precision falls as recall rises: one curve a class, of its score against all others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfmodel.evaluate import drawing
from tfmodel.evaluate.drawing import ACCENT, INK, MUTED, WARM

_DRAWN_CURVES = 4
_DRAWN_POINTS = 400
_COLOURS = (ACCENT, WARM, INK, MUTED)


@dataclasses.dataclass(frozen=True)
class PrecisionRecall:
    """A curve.

    Attributes:
        label: the class.
        recall: float (k,), rising.
        precision: float (k,), of the same thresholds.
        average_precision: precision averaged over the steps of recall, in [0, 1].
    """

    label: str
    recall: np.ndarray
    precision: np.ndarray
    average_precision: float


def precision_recall(
    targets: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]
) -> list[PrecisionRecall]:
    """One curve for each class that has rows; rows of equal scores are taken together.

    Args:
        targets: integers (n,) in [0, C); or 0 and 1, (n, C), where a row has several classes.
        probabilities: floats (n, C).
        labels: C names.

    Returns:
        The curves in the order of the labels.

    Source: the average precision is that of scikit-learn's `average_precision_score`: the sum of
    precision times the step of recall, without interpolation.
    """
    targets, probabilities = np.asarray(targets), np.asarray(probabilities)
    if probabilities.shape != (len(targets), len(labels)):
        raise ValueError(
            f"probabilities must be ({len(targets)}, {len(labels)}), a row a target and a column "
            f"a label. Received: shape {probabilities.shape}."
        )
    curves = []
    for index, label in enumerate(labels):
        positive = targets == index if targets.ndim == 1 else targets[:, index] > 0
        if not positive.any():
            continue
        order = np.argsort(-probabilities[:, index], kind="stable")
        scores = probabilities[order, index]
        ends = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
        hits = np.cumsum(positive[order])[ends]
        precision, recall = hits / (ends + 1), hits / positive.sum()
        average = float((np.diff(recall, prepend=0.0) * precision).sum())
        curves.append(PrecisionRecall(str(label), recall, precision, average))
    return curves


def precision_recall_figure(curves: Sequence[PrecisionRecall]) -> drawing.Figure:
    """Draw the curves as a figure; call it inside `drawing.drawing_style`.

    Of more than four classes the four with the lowest average precision are drawn.

    Args:
        curves: from `precision_recall`.
    """
    shown = sorted(curves, key=lambda curve: curve.average_precision)[:_DRAWN_CURVES]
    figure = drawing.new_figure(400, 330 + 16 * len(shown))
    axes = drawing.place(figure, left=58, top=14 + 16 * len(shown), right=384, bottom=284)
    for colour, curve in zip(_COLOURS, shown, strict=False):
        recall = np.concatenate([[0.0], curve.recall])
        precision = np.concatenate([curve.precision[:1], curve.precision])
        if len(recall) > _DRAWN_POINTS:
            kept = np.linspace(0, len(recall) - 1, _DRAWN_POINTS).astype(int)
            recall, precision = recall[kept], precision[kept]
        name = f"{drawing.shorten(curve.label)}  (average {curve.average_precision:.3f})"
        axes.step(recall, precision, where="pre", color=colour, label=name)
    axes.set(xlim=(0, 1.005), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.grid(axis="both")
    if shown:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(-0.02, 1.0),
            frameon=False,
            fontsize=drawing.FONT_SIZE,
            labelcolor=INK,
            borderpad=0,
            labelspacing=0.2,
        )
    return figure
