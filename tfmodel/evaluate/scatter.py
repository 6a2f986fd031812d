"""Given numbers by right ones, as an SVG string or a figure."""

from collections.abc import Sequence

import numpy as np

from tfmodel.evaluate import drawing
from tfmodel.evaluate.drawing import ACCENT, MUTED

_SAME_SCALE = ("right", "given")
_FEW = 100  # points; of more each is fainter, so that many in a place show


def scatter(
    points: Sequence[Sequence[float]],
    *,
    labels: tuple[str, str] = _SAME_SCALE,
    name: str = "scatter",
) -> str:
    """Draw a dot a row: right number to the right, given number upwards.

    On the dashed diagonal both are the same.

    Args:
        points: pairs of right and given, as `evaluate.regression` returns them.
        labels: what the axes are called; under other names they have scales of their own, and
            there is no diagonal.
        name: prefix of the ids inside.
    """
    with drawing.drawing_style():
        title = f"{labels[1].capitalize()} number by {labels[0]} number, a dot a row"
        if labels != _SAME_SCALE:
            title = f"{labels[1].capitalize()} by {labels[0]}, a dot a row"
        return drawing.to_svg(scatter_figure(points, labels=labels), name=name, title=title)


def scatter_figure(
    points: Sequence[Sequence[float]], *, labels: tuple[str, str] = _SAME_SCALE
) -> drawing.Figure:
    """What `scatter` draws, as a figure; call it inside `drawing.drawing_style`."""
    right, given = np.asarray(points, np.float64).reshape(-1, 2).T
    figure = drawing.new_figure(400, 380)
    axes = drawing.place(figure, left=58, top=10, right=384, bottom=338)
    across, upwards = _limits(right), _limits(given)
    if labels == _SAME_SCALE:
        across = upwards = _limits(np.concatenate([right, given]))
        axes.plot(across, across, color=MUTED, linewidth=1, linestyle=(0, (4, 4)))
    alpha = 0.75 if len(right) <= _FEW else 0.3
    axes.plot(right, given, "o", color=ACCENT, markersize=4, markeredgewidth=0, alpha=alpha)
    axes.set(xlim=across, ylim=upwards, xlabel=labels[0], ylabel=labels[1])
    axes.grid(axis="both")
    return figure


def _limits(values: np.ndarray) -> tuple[float, float]:
    edge = 0.04 * np.ptp(values) or 1.0
    return float(values.min() - edge), float(values.max() + edge)
