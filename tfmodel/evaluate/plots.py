"""Figures of an evaluation as SVG strings, to put into a page as they are.

Every function takes what `evaluate.classification` returns, draws without touching matplotlib's
global state or the screen, and gives the same bytes for the same figures. `name` prefixes the
ids inside: two drawings on one page need two names. The colours follow the page's CSS variables
`--plot-ink`, `--plot-muted`, `--plot-line`, `--plot-paper`, `--plot-accent`, `--plot-warm`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from tfmodel.evaluate import drawing
from tfmodel.evaluate.classification import wilson_interval
from tfmodel.evaluate.curves import learning_curves
from tfmodel.evaluate.drawing import ACCENT, INK, LINE, MUTED, PAPER, WARM

__all__ = ["confusion_matrix", "learning_curves", "reliability"]

ANNOTATED_CLASSES = 20  # up to here a confusion matrix names its classes and prints its counts


def confusion_matrix(
    confusion: Sequence[Sequence[int]], labels: Sequence[str], *, name: str = "confusion"
) -> str:
    """Draw a confusion matrix: right answers in one hue, mistakes in another.

    A cell is as strong as its share of its row. Up to 20 classes the cells carry their counts;
    beyond, only the picture is drawn, which shows where mistakes gather (name the pairs with
    the `confused` list of `evaluate.classification`).

    Args:
        confusion: counts `(C, C)`, row = right label, column = predicted.
        labels: C names.
        name: prefix of the ids inside.

    Raises:
        ValueError: `confusion` is not `(C, C)`.
    """
    with drawing.drawing_style():
        figure = confusion_figure(confusion, labels)
        title = f"Confusion matrix of {len(labels)} classes: right label by predicted label"
        return drawing.to_svg(figure, name=name, title=title)


def confusion_figure(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> drawing.Figure:
    """What `confusion_matrix` draws, as a figure; call it inside `drawing.drawing_style`."""
    counts = np.asarray(confusion)
    if counts.shape != (len(labels), len(labels)):
        raise ValueError(
            f"confusion must be {len(labels)} x {len(labels)}, as there are labels. "
            f"Received: shape {counts.shape}."
        )
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if len(labels) <= ANNOTATED_CLASSES:
        return _counted_cells(counts, shares, [drawing.shorten(label) for label in labels])
    return _heat_map(shares)


def _counted_cells(counts: np.ndarray, shares: np.ndarray, labels: list[str]) -> drawing.Figure:
    classes = len(labels)
    cell = 52 if classes <= 6 else 40 if classes <= 10 else 31
    widest = max(drawing.text_width(label) for label in labels)
    slanted = widest > cell - 4
    left, top = 26 + widest, 4
    width, height = left + cell * classes + 6, top + cell * classes
    below = 0.66 * widest + 12 if slanted else 20
    figure = drawing.new_figure(width, height + below + 18)
    axes = drawing.place(figure, left=left, top=top, right=width - 6, bottom=height)
    axes.set(xlim=(0, classes), ylim=(classes, 0))
    for row, column in np.ndindex(classes, classes):
        share, count = shares[row, column], counts[row, column]
        shade = float(share if row == column else np.sqrt(share)) if count else 0.0
        colour = ACCENT if row == column else WARM
        corner = (column + 0.03, row + 0.03)
        axes.add_patch(Rectangle(corner, 0.94, 0.94, facecolor=LINE, alpha=0.35, linewidth=0))
        if count:
            alpha = 0.15 + 0.85 * shade
            axes.add_patch(
                Rectangle(corner, 0.94, 0.94, facecolor=colour, alpha=alpha, linewidth=0)
            )
            axes.text(
                column + 0.5,
                row + 0.5,
                f"{count:,}" if count < 100_000 else f"{count / 1000:,.0f}k",
                ha="center",
                va="center",
                color=PAPER if alpha > 0.6 else INK,
                fontsize=10 if cell < 40 or count > 9999 else 12,
            )
    middles = np.arange(classes) + 0.5
    axes.set_yticks(middles, labels, color=INK)
    axes.set_xticks(middles, labels, color=INK)
    if slanted:
        for text in axes.get_xticklabels():
            text.set(rotation=45, ha="right", va="center", rotation_mode="anchor")
    axes.spines[:].set_visible(False)
    _axis_names(figure, axes, below=below)
    return figure


def _heat_map(shares: np.ndarray) -> drawing.Figure:
    side = 440
    figure = drawing.new_figure(side + 26, side + 28)
    axes = drawing.place(figure, left=22, top=4, right=22 + side, bottom=4 + side)
    pixels = np.zeros((*shares.shape, 4), np.uint8)
    pixels[..., :3] = drawing.WARM_PIXEL
    # The root lifts a single mistake among many rows into sight.
    pixels[..., 3] = np.where(shares > 0, 90 + 165 * np.sqrt(shares), 0)
    diagonal = np.arange(len(shares))
    pixels[diagonal, diagonal, :3] = drawing.ACCENT_PIXEL
    pixels[diagonal, diagonal, 3] = 25 + 230 * shares.diagonal()
    axes.imshow(pixels, interpolation="none", aspect="auto")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    _axis_names(figure, axes, below=0)
    return figure


def _axis_names(figure: drawing.Figure, axes: Axes, *, below: float) -> None:
    width, height = figure.get_size_inches() * 72
    box = axes.get_position()
    middle_x, middle_y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    figure.text(middle_x, box.y0 - (below + 14) / height, "predicted", ha="center", color=MUTED)
    figure.text(
        13 / width,
        middle_y,
        "right label",
        ha="center",
        va="baseline",
        rotation=90,
        rotation_mode="anchor",
        color=MUTED,
    )


def reliability(calibration: Sequence[Mapping[str, Any]], *, name: str = "reliability") -> str:
    """Draw how often the model is right at each confidence, and how many rows are there.

    On the dashed diagonal a score of 0.8 is right 80% of the time; below it the model is too
    sure. A dot grows with its number of rows; the whiskers are 95% Wilson intervals.

    Args:
        calibration: the bins `evaluate.classification` returns.
        name: prefix of the ids inside.
    """
    with drawing.drawing_style():
        title = "Reliability: share of right answers, and number of rows, by confidence"
        return drawing.to_svg(reliability_figure(calibration), name=name, title=title)


def reliability_figure(calibration: Sequence[Mapping[str, Any]]) -> drawing.Figure:
    """What `reliability` draws, as a figure; call it inside `drawing.drawing_style`."""
    filled = [part for part in calibration if part["count"]]
    counts = [part["count"] for part in calibration]
    figure = drawing.new_figure(400, 380)
    axes = drawing.place(figure, left=58, top=10, right=384, bottom=252)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 4)))
    most = max(counts, default=1)
    for part in filled:
        whisker = wilson_interval(round(part["accuracy"] * part["count"]), part["count"])
        axes.plot([part["confidence"]] * 2, whisker, color=ACCENT, linewidth=1.2, alpha=0.6)
        size = 4 + 6 * math.sqrt(part["count"] / most)
        axes.plot(
            part["confidence"],
            part["accuracy"],
            "o",
            color=ACCENT,
            markersize=size,
            clip_on=False,
        )
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share right")
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0], [])
    axes.yaxis.set_major_formatter(_percent)
    axes.grid(axis="both")

    below = drawing.place(figure, left=58, top=268, right=384, bottom=338)
    edges = [part["lower"] for part in calibration]
    widths = [part["upper"] - part["lower"] for part in calibration]
    below.bar(edges, counts, np.array(widths) * 0.92, align="edge", color=ACCENT, alpha=0.55)
    below.set(xlim=(0, 1), xlabel="confidence", ylabel="rows")
    below.xaxis.set_major_formatter(_percent)
    below.set_yticks([most], [f"{most:,}"])
    return figure


def _percent(value: float, _position: object = None) -> str:
    return f"{100 * value:.0f}%"
