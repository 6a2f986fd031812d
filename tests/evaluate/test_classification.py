"""The figures equal scikit-learn's, also where classes are missing, and survive JSON."""

import json
import time

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from tfmodel.evaluate import classification, wilson_interval


def _case(rows, classes, *, seed=0, dtype=np.float64, sharpness=2.0):
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes, rows)
    logits = generator.normal(size=(rows, classes))
    logits[np.arange(rows), targets] += sharpness
    odds = np.exp(logits)
    return targets, (odds / odds.sum(axis=1, keepdims=True)).astype(dtype)


def _labels(classes):
    return [f"class {index}" for index in range(classes)]


@pytest.mark.parametrize("classes", [2, 5, 150])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_figures_equal_scikit_learn(classes, dtype):
    targets, probabilities = _case(997, classes, dtype=dtype)
    labels = _labels(classes)
    found = classification(targets, probabilities, labels)

    predicted = probabilities.argmax(axis=1)
    every = list(range(classes))
    assert found["examples"] == 997
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(targets, predicted))
    for name, average in [("macro_f1", "macro"), ("weighted_f1", "weighted")]:
        assert found[name] == pytest.approx(
            sklearn_metrics.f1_score(
                targets, predicted, labels=every, average=average, zero_division=0
            )
        )
    np.testing.assert_array_equal(
        found["confusion"], sklearn_metrics.confusion_matrix(targets, predicted, labels=every)
    )
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        targets, predicted, labels=every, zero_division=0
    )
    for index, label in enumerate(labels):
        scores = found["per_class"][label]
        assert scores["precision"] == pytest.approx(precision[index])
        assert scores["recall"] == pytest.approx(recall[index])
        assert scores["f1"] == pytest.approx(f1[index])
        assert scores["support"] == support[index]
    expected = -np.log(probabilities[np.arange(997), targets].astype(np.float64)).mean()
    assert found["log_loss"] == pytest.approx(expected, rel=1e-6)
    if dtype is np.float64:  # float32 rows only nearly sum to 1, which scikit-learn warns about
        assert found["log_loss"] == pytest.approx(
            sklearn_metrics.log_loss(targets, probabilities, labels=every)
        )


def test_log_loss_of_certain_mistakes_is_finite_as_in_scikit_learn():
    targets = np.array([0, 1, 1])
    probabilities = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = classification(targets, probabilities, ["a", "b"])
    assert found["log_loss"] == pytest.approx(sklearn_metrics.log_loss(targets, probabilities))


def test_a_class_absent_everywhere_counts_as_zero_in_the_macro_mean():
    targets = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1, 0.0]] * 2 + [[0.1, 0.9, 0.0]] * 2)
    found = classification(targets, probabilities, ["a", "b", "never"])
    assert found["per_class"]["never"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}
    assert found["macro_f1"] == pytest.approx(2 / 3)
    assert found["weighted_f1"] == 1.0


def test_calibration_equals_a_plain_loop():
    targets, probabilities = _case(2000, 4, seed=3)
    found = classification(targets, probabilities, _labels(4), bins=10)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == targets
    error = 0.0
    for index, part in enumerate(found["calibration"]):
        inside = (confidence > index / 10) & (confidence <= (index + 1) / 10)
        assert part["count"] == inside.sum()
        if inside.any():
            assert part["confidence"] == pytest.approx(confidence[inside].mean())
            assert part["accuracy"] == pytest.approx(right[inside].mean())
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
        else:
            assert part["confidence"] is None and part["accuracy"] is None
    assert found["calibration_error"] == pytest.approx(error)
    assert sum(part["count"] for part in found["calibration"]) == 2000


def test_a_confidence_of_one_falls_in_the_last_bin():
    found = classification(np.array([0]), np.array([[1.0, 0.0]]), ["a", "b"])
    assert [part["count"] for part in found["calibration"]] == [0] * 14 + [1]
    assert found["calibration_error"] == 0.0


def test_mistakes_are_the_most_confident_ones_with_their_text_and_place():
    targets, probabilities = _case(600, 3, seed=5, sharpness=0.5)
    texts = [f"text {row}" for row in range(600)]
    pairs = [f"pair {row}" for row in range(600)]
    origins = [f"test.csv:{row + 2}" for row in range(600)]
    found = classification(
        targets, probabilities, _labels(3), texts=texts, text_pairs=pairs, origins=origins
    )
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != targets)
    assert len(wrong) > 50
    first = max(wrong, key=lambda row: probabilities[row].max())
    assert len(found["mistakes"]) == 50
    assert found["mistakes"][0] == {
        "text": f"text {first}",
        "text_pair": f"pair {first}",
        "origin": f"test.csv:{first + 2}",
        "label": f"class {targets[first]}",
        "predicted": f"class {probabilities[first].argmax()}",
        "score": pytest.approx(probabilities[first].max()),
        "label_score": pytest.approx(probabilities[first, targets[first]]),
    }
    scores = [mistake["score"] for mistake in found["mistakes"]]
    assert scores == sorted(scores, reverse=True)


def test_right_examples_come_from_every_class_in_turn():
    targets, probabilities = _case(600, 3, seed=5)
    found = classification(targets, probabilities, _labels(3), texts=["t"] * 600)
    assert len(found["correct"]) == 20
    assert [example["label"] for example in found["correct"][:6]] == _labels(3) * 2
    assert all(example["label"] == example["predicted"] for example in found["correct"])


def test_confused_pairs_are_counted_and_ordered():
    targets = np.array([0, 0, 0, 0, 1, 1, 2])
    named = np.array([1, 1, 2, 0, 0, 1, 2])
    found = classification(targets, np.eye(3)[named], ["a", "b", "c"])
    assert found["confused"] == [
        {"label": "a", "predicted": "b", "count": 2, "share": 0.5},
        {"label": "b", "predicted": "a", "count": 1, "share": 0.5},
        {"label": "a", "predicted": "c", "count": 1, "share": 0.25},
    ]


@pytest.mark.parametrize("right", [True, False])
def test_all_right_and_all_wrong(right):
    targets = np.array([0, 1, 1])
    named = targets if right else 1 - targets
    found = classification(targets, np.eye(2)[named], ["a", "b"], texts=["x", "y", "z"])
    assert found["accuracy"] == float(right)
    assert len(found["mistakes"]) == (0 if right else 3)
    assert len(found["correct"]) == (3 if right else 0)
    low, high = found["accuracy_interval"]
    assert (high == 1.0 and low < 1) if right else (low == 0.0 and high > 0)


def test_everything_is_plain_json_and_the_same_twice():
    targets, probabilities = _case(200, 7, dtype=np.float32)
    arguments = (targets, probabilities, _labels(7))
    found = classification(*arguments, texts=["é"] * 200)
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text) == found
    assert json.dumps(classification(*arguments, texts=["é"] * 200)) == text


def test_a_long_text_is_cut_in_the_examples():
    found = classification(
        np.array([0]), np.array([[0.0, 1.0]]), ["a", "b"], texts=["x" * 1_000_000]
    )
    assert len(found["mistakes"][0]["text"]) == 1001
    assert found["mistakes"][0]["text"].endswith("…")


def test_wilson_interval_matches_known_values():
    # R: binom::binom.wilson(c(8, 0, 10), 10)
    assert wilson_interval(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775328), abs=1e-6)
    assert wilson_interval(10, 10) == pytest.approx((0.7224672, 1.0), abs=1e-6)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_a_large_test_part_takes_seconds():
    generator = np.random.default_rng(0)
    rows, classes = 200_000, 150
    probabilities = generator.random((rows, classes), dtype=np.float32)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    targets = generator.integers(0, classes, rows)
    start = time.process_time()
    found = classification(targets, probabilities, _labels(classes))
    assert time.process_time() - start < 10
    assert found["examples"] == rows


GOOD = np.array([[0.5, 0.5], [0.1, 0.9]])


@pytest.mark.parametrize(
    ("targets", "probabilities", "more", "message"),
    [
        ([0, 1], [0.5, 0.5], {}, r"\(n, 2\)\. Received: shape \(2,\)"),
        ([0, 1], np.ones((2, 3)) / 3, {}, r"\(n, 2\)\. Received: shape \(2, 3\)"),
        ([0], GOOD, {}, r"shape \(2,\)\. Received: shape \(1,\)"),
        ([0, 2], GOOD, {}, r"in \[0, 2\).*Received: 2"),
        ([0, -1], GOOD, {}, r"in \[0, 2\).*Received: -1"),
        ([0.0, 1.0], GOOD, {}, "integers.*Received: float64"),
        ([0, 1], np.array([[1, 0], [0, 1]]), {}, "floats.*Received: int64"),
        (np.zeros(0, int), np.zeros((0, 2)), {}, "at least one row.*Received: 0 rows"),
        ([0, 1], [[0.5, 0.5], [3.0, -1.2]], {}, "softmax.*Received: row 1 summing to 1.8"),
        ([0, 1], [[0.5, 0.5], [2.0, -1.0]], {}, "row 1 summing to 1, lowest -1"),
        ([0, 1], [[np.nan, 0.5], [0.5, 0.5]], {}, "finite.*Received: row 0"),
        ([0, 1], GOOD, {"texts": ["one"]}, "texts.*one entry per row, 2. Received: 1"),
        ([0, 1], GOOD, {"origins": ["a"] * 3}, "origins.*2. Received: 3"),
        ([0, 1], GOOD, {"bins": 0}, "bins must be at least 1. Received: 0"),
    ],
)
def test_a_mistake_is_named(targets, probabilities, more, message):
    with pytest.raises(ValueError, match=message):
        classification(np.array(targets), np.array(probabilities), ["a", "b"], **more)


def test_labels_must_be_distinct():
    with pytest.raises(ValueError, match="distinct. Received: 'a' more than once"):
        classification(np.array([0, 1]), GOOD, ["a", "a"])
