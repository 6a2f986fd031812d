"""Given numbers by right ones, as an SVG string or a figure."""

from collections.abc import Sequence

import numpy as np

from tfmodel.evaluate import drawing
from tfmodel.evaluate.drawing import ACCENT, MUTED

_FEW = 100  # points; of more each is fainter, so that many in a place show


def scatter(points: Sequence[Sequence[float]], *, name: str = "scatter") -> str:
    """Draw a dot a row: right number to the right, given number upwards.

    On the dashed diagonal both are the same.

    Args:
        points: pairs of right and given, as `evaluate.regression` returns them.
        name: prefix of the ids inside.
    """
    with drawing.drawing_style():
        title = "Given number by right number, a dot a row"
        return drawing.to_svg(scatter_figure(points), name=name, title=title)


def scatter_figure(points: Sequence[Sequence[float]]) -> drawing.Figure:
    """What `scatter` draws, as a figure; call it inside `drawing.drawing_style`."""
    right, given = np.asarray(points, np.float64).reshape(-1, 2).T
    figure = drawing.new_figure(400, 380)
    axes = drawing.place(figure, left=58, top=10, right=384, bottom=338)
    low, high = min(right.min(), given.min()), max(right.max(), given.max())
    edge = 0.04 * (high - low) or 1.0
    low, high = low - edge, high + edge
    axes.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle=(0, (4, 4)))
    alpha = 0.75 if len(right) <= _FEW else 0.3
    axes.plot(right, given, "o", color=ACCENT, markersize=4, markeredgewidth=0, alpha=alpha)
    axes.set(xlim=(low, high), ylim=(low, high), xlabel="right", ylabel="given")
    axes.grid(axis="both")
    return figure
