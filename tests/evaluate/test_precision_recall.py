"""Precision by recall, against scikit-learn; plots as PNG."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from tfmodel.evaluate import drawing, plots
from tfmodel.evaluate.precision_recall import precision_recall, precision_recall_figure


def answers(rows=300, classes=6, *, steps=20):
    """Targets and probabilities, many of them equal."""
    random = np.random.default_rng(0)
    targets = random.integers(0, classes - 1, rows)  # the last class has no rows
    scores = random.normal(size=(rows, classes))
    scores[np.arange(rows), targets] += 1.5
    scores = np.round(np.exp(scores) * steps) + 1
    return targets, scores / scores.sum(axis=1, keepdims=True)


def test_curves_are_those_of_scikit_learn():
    targets, scores = answers()
    curves = precision_recall(targets, scores, list("abcdef"))
    assert [curve.label for curve in curves] == list("abcde")
    for index, curve in enumerate(curves):
        right = targets == index
        precision, recall, _ = precision_recall_curve(right, scores[:, index])
        # Theirs ends with a point of precision 1 and recall 0, and begins where recall is 1.
        np.testing.assert_allclose(curve.recall[::-1], recall[:-1])
        np.testing.assert_allclose(curve.precision[::-1], precision[:-1])
        expected = average_precision_score(right, scores[:, index])
        assert curve.average_precision == pytest.approx(expected, abs=1e-12)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(
        ValueError, match=r"probabilities must be \(3, 2\).*Received: shape \(3, 4\)"
    ):
        precision_recall(np.zeros(3, int), np.ones((3, 4)), ["a", "b"])


def test_plots_are_png_in_colours_for_white():
    targets, scores = answers()
    labels = ["a", "b $5", "c", "d", "e", "f"]
    with drawing.drawing_style():
        figures = [
            precision_recall_figure(precision_recall(targets, scores, labels)),
            plots.confusion_figure(np.eye(6, dtype=int) * 9, labels),
            precision_recall_figure([]),
        ]
        for figure in figures:
            png = drawing.to_png(figure)
            assert png[:8] == b"\x89PNG\r\n\x1a\n" and len(png) < 100_000
            colours = {
                artist.get_color() for artist in figure.findobj(lambda a: hasattr(a, "get_color"))
                if isinstance(artist.get_color(), str)
            }  # fmt: skip
            assert not colours & set(drawing._ON_WHITE)
        assert len(figures[0].axes[0].lines) == 4  # the worst
