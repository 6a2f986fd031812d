"""Figures of any number of labels a row, against scikit-learn."""

import json
import warnings

import numpy as np
import pytest
from sklearn import metrics

from tfmodel.evaluate import labelling
from tfmodel.evaluate.labelling import best_threshold, given_labels, tuned_thresholds

LABELS = ["joy", "fear", "anger", "never"]


def made(seed, rows=300):
    """Targets and scores that know something of them; the last label has no rows."""
    generator = np.random.default_rng(seed)
    targets = (generator.random((rows, 4)) < [0.5, 0.2, 0.05, 0.0]).astype(np.float32)
    scores = np.clip(0.35 * targets + generator.random((rows, 4)) * 0.65, 0, 1)
    return targets, scores.astype(np.float32)


@pytest.mark.parametrize("thresholds", [None, [0.3, 0.6, 0.2, 0.99]])
@pytest.mark.parametrize("seed", range(3))
def test_figures_are_scikit_learns(seed, thresholds):
    targets, scores = made(seed)
    found = labelling(targets, scores, LABELS, thresholds=thresholds)
    given = scores >= np.asarray(thresholds or [0.5] * 4, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        micro, macro = (
            metrics.f1_score(targets, given, average=each, zero_division=0)
            for each in ("micro", "macro")
        )
        by_label = metrics.precision_recall_fscore_support(targets, given, zero_division=0)
    assert found["micro_f1"] == pytest.approx(micro) and found["macro_f1"] == pytest.approx(macro)
    assert found["exact_match"] == pytest.approx(metrics.accuracy_score(targets, given))
    for index, label in enumerate(LABELS):
        own = found["per_class"][label]
        for name, values in zip(("precision", "recall", "f1", "support"), by_label, strict=True):
            assert own[name] == pytest.approx(values[index])
    low, high = found["micro_f1_interval"]
    assert low < found["micro_f1"] < high
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_is_better_on_these_rows(seed):
    targets, scores = made(seed, rows=60)
    right, own = targets[:, 0] > 0, scores[:, 0].astype(np.float64)
    found = best_threshold(right, own)
    given = own >= np.linspace(0, 1, 2001)[:, None]
    best = (2 * (given & right).sum(1) / (given.sum(1) + right.sum())).max()
    assert metrics.f1_score(right, own >= found) >= best - 1e-12
    assert np.abs(own - found).min() > 0  # between two scores, not at one


def test_a_rare_label_has_the_threshold_of_all():
    targets, scores = made(0)
    targets[:, 2] = 0
    targets[:9, 2] = 1
    found = tuned_thresholds(targets, scores)
    assert found[2] == found[3] == best_threshold(targets.reshape(-1) > 0, scores.reshape(-1))
    assert best_threshold(np.zeros(3, bool), np.array([0.1, 0.2, 0.3])) == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_no_other_thresholds_together_are_better_on_these_rows(seed):
    targets, scores = made(seed, rows=100)
    targets, scores = targets[:, :2], scores[:, :2].astype(np.float64)
    assert (targets.sum(0) >= 10).all()
    limits = np.linspace(0, 1, 1001)
    given = scores.T[:, None] >= limits[:, None]  # (label, limit, row)
    hits = (given & (targets.T[:, None] > 0)).sum(-1)
    count = given.sum(-1)
    every = 2 * (hits[0][:, None] + hits[1]) / (count[0][:, None] + count[1] + targets.sum())
    given = scores >= tuned_thresholds(targets, scores)
    found = metrics.f1_score(targets, given, average="micro", zero_division=0)
    assert found >= every.max() - 1e-12


def test_a_label_that_the_scores_do_not_tell_is_not_given_to_all():
    random = np.random.default_rng(0)
    known = random.integers(0, 2, 200)
    rare = (random.random(200) < 0.1).astype(int)
    scores = np.stack([known * 0.8 + 0.1, random.random(200) * 0.2], axis=1)
    found = tuned_thresholds(np.stack([known, rare], axis=1), scores)
    assert (scores[:, 1] >= found[1]).mean() < 0.05
    assert ((scores[:, 0] >= found[0]) == known).all()


def test_equal_scores_are_not_parted():
    right = np.array([True, False, True, False])
    assert 0 < best_threshold(right, np.full(4, 0.7)) < 0.7


def test_thresholds_are_compared_as_graphs_do():
    limit = 0.1  # no number of float32
    assert given_labels(np.array([[0.1]], np.float32), [limit]).all()


def test_mistakes_say_what_is_missing_and_what_is_wrong():
    targets = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]])
    scores = np.array([[0.9, 0.1, 0.1, 0.1], [0.9, 0.1, 0.8, 0.1], [0.1, 0.1, 0.9, 0.6]])
    found = labelling(targets, scores, LABELS, texts=["a", "b", "c"])
    assert [each["text"] for each in found["mistakes"]] == ["b", "c"]
    assert found["mistakes"][0] == {
        "text": "b",
        "labels": ["joy", "fear"],
        "predicted": ["joy", "anger"],
        "missing": ["fear"],
        "wrong": ["anger"],
    }
    assert [each["text"] for each in found["correct"]] == ["a"]


@pytest.mark.parametrize(
    ("targets", "scores", "thresholds", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 3)), None, r"one column per label, \(n, 4\)"),
        (np.zeros((2, 4)), np.zeros((3, 4)), None, "one column per label"),
        (np.zeros((0, 4)), np.zeros((0, 4)), None, "at least one row"),
        (np.zeros((1, 4)), np.full((1, 4), 1.5), None, r"scores must be in \[0, 1\]"),
        (np.zeros((1, 4)), np.full((1, 4), np.nan), None, r"scores must be in \[0, 1\]"),
        (np.full((1, 4), 2), np.zeros((1, 4)), None, "targets must be 0 or 1"),
        (np.zeros((1, 4)), np.zeros((1, 4)), [0.5], "one number a label, 4"),
    ],
)
def test_what_does_not_fit_is_refused(targets, scores, thresholds, message):
    with pytest.raises(ValueError, match=message):
        labelling(targets, scores, LABELS, thresholds=thresholds)
