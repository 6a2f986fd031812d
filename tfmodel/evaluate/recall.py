"""Recall by how many of the nearest texts are looked at, as an SVG string or a figure."""

from collections.abc import Sequence

from tfmodel.evaluate import drawing
from tfmodel.evaluate.drawing import ACCENT


def recall(curve: Sequence[float], *, name: str = "recall") -> str:
    """Draw recall at 1, 2, … as a line.

    Args:
        curve: recall at 1, 2, …, as `evaluate.vectors.retrieval` returns it.
        name: prefix of the ids inside.
    """
    with drawing.drawing_style():
        title = "Share of texts whose partner is among the nearest, by how many are looked at"
        return drawing.to_svg(recall_figure(curve), name=name, title=title)


def recall_figure(curve: Sequence[float]) -> drawing.Figure:
    """What `recall` draws, as a figure; call it inside `drawing.drawing_style`."""
    figure = drawing.new_figure(400, 260)
    axes = drawing.place(figure, left=58, top=10, right=384, bottom=218)
    reaches = range(1, len(curve) + 1)
    axes.plot(reaches, curve, color=ACCENT, marker="o" if len(curve) < 10 else None, markersize=4)
    axes.set(xlim=(0, len(curve) + 1), ylim=(0, 1.02), xlabel="nearest texts", ylabel="recall")
    axes.grid(axis="both")
    return figure
