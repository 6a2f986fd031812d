"""Figures of numbers, against scipy."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from tfmodel.evaluate import drawing, regression
from tfmodel.evaluate.regression import pearson, ranks, spearman
from tfmodel.evaluate.scatter import scatter


def pairs(seed, rows=200, *, ties=False):
    generator = np.random.default_rng(seed)
    targets = generator.normal(3, 1.5, rows)
    given = targets + generator.normal(0, 1.0, rows)
    return (np.round(targets), np.round(given)) if ties else (targets, given)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_correlations_are_scipys(seed, ties):
    targets, given = pairs(seed, ties=ties)
    assert pearson(targets, given) == pytest.approx(stats.pearsonr(targets, given)[0], abs=1e-12)
    assert spearman(targets, given) == pytest.approx(stats.spearmanr(targets, given)[0], abs=1e-12)
    np.testing.assert_array_equal(ranks(given), stats.rankdata(given))


def test_pearsons_interval_is_scipys():
    targets, given = pairs(0)
    found = regression(targets, given)
    wanted = stats.pearsonr(targets, given).confidence_interval(0.95)
    assert found["pearson_interval"] == pytest.approx([wanted.low, wanted.high], abs=1e-6)
    low, high = found["spearman_interval"]
    assert low < found["spearman"] < high and high - low < 0.2


def test_errors_are_those_of_the_numbers():
    found = regression([1.0, 2.0, 3.0, 4.0], [1.5, 2.0, 2.0, 6.0])
    assert found["rmse"] == pytest.approx(math.sqrt((0.25 + 0 + 1 + 4) / 4))
    assert found["mae"] == pytest.approx((0.5 + 0 + 1 + 2) / 4)
    assert found["bias"] == pytest.approx(1.5 / 4)
    assert found["target_deviation"] == pytest.approx(np.std([1, 2, 3, 4]))
    json.dumps(found, allow_nan=False)


def test_the_farthest_off_come_first_with_their_texts():
    found = regression(
        [1.0, 2.0, 3.0], [1.0, 5.0, 2.5], texts=["a", "b" * 2000, "c"], text_pairs=["x", "y", "z"],
        origins=["f:1", "f:2", "f:3"],
    )  # fmt: skip
    assert [each["score"] for each in found["mistakes"]] == [2.0, 3.0, 1.0]
    first = found["mistakes"][0]
    assert (first["predicted"], first["error"], first["text_pair"]) == (5.0, 3.0, "y")
    assert len(first["text"]) == 1001 and first["origin"] == "f:2"
    assert found["correct"][0]["text"] == "a"


def test_points_are_spread_over_many_rows():
    targets, given = pairs(1, rows=5000)
    points = regression(targets, given)["points"]
    assert len(points) == 1000
    assert points[0] == [targets[0], given[0]] and points[-1] == [targets[-1], given[-1]]


@pytest.mark.parametrize("given", [[2.0, 2.0, 2.0, 2.0], [1.0, float("nan"), 2.0, 3.0]])
def test_no_correlation_is_none(given):
    assert math.isnan(pearson([1.0, 2.0, 3.0, 4.0], given))
    assert math.isnan(spearman([1.0, 2.0, 3.0, 4.0], given))


def test_constant_answers_have_no_interval():
    found = regression([1.0, 2.0, 3.0, 4.0], [2.0] * 4)
    assert found["spearman"] is None and found["spearman_interval"] is None
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("targets", "given", "message"),
    [
        ([1.0, 2.0], [1.0], "one number a row each"),
        ([[1.0]], [[1.0]], "one number a row each"),
        ([], [], "at least one row"),
        ([1.0, 2.0], [1.0, float("inf")], "predictions must be finite. Received: inf in row 1"),
    ],
)
def test_what_does_not_fit_is_refused(targets, given, message):
    with pytest.raises(ValueError, match=message):
        regression(targets, given)


def test_columns_are_as_long_as_the_rows():
    with pytest.raises(ValueError, match="texts must hold one entry per row, 2. Received: 1"):
        regression([1.0, 2.0], [1.0, 2.0], texts=["a"])


def test_the_picture_is_the_same_for_the_same_points():
    targets, given = pairs(2)
    points = regression(targets, given)["points"]
    drawn = scatter(points)
    assert drawn == scatter(points) and drawn.startswith("<svg") and "Given number" in drawn
    assert "inf" not in scatter([[2.0, 2.0]])  # a single row has no range
    with drawing.drawing_style():
        from tfmodel.evaluate.scatter import scatter_figure

        assert drawing.to_png(scatter_figure(points)).startswith(b"\x89PNG")
