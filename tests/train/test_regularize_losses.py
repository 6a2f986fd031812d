"""Softened losses and class weights against the papers' formulas in float64, and torch."""

import keras
import needs
import numpy as np
import pytest
import tensorflow as tf

from tfmodel.tasks import classify
from tfmodel.tasks.cross_entropy import CrossEntropy

CASES = [(0.1, 0.0), (0.0, 2.0), (0.2, 0.5), (0.0, 0.3), (0.3, 5.0)]


def by_hand(logits, labels, smoothing, gamma):
    """Sum over classes of -q (1 - p)^gamma log p: (B,)."""
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    q = np.full(logits.shape, smoothing / logits.shape[1])
    q[np.arange(len(labels)), labels] += 1 - smoothing
    return -(q * (1 - p) ** gamma * np.log(p)).sum(axis=1)


@pytest.mark.parametrize(("smoothing", "gamma"), CASES)
def test_loss_and_gradient_are_the_formulas(smoothing, gamma):
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(5, 4)) * 2, np.array([0, 3, 1, 1, 2])
    loss = CrossEntropy(label_smoothing=smoothing, focal_gamma=gamma, dtype="float64")
    values = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = loss(labels, values)
    expected = by_hand(logits, labels, smoothing, gamma)
    np.testing.assert_allclose(loss.call(labels, values), expected, rtol=1e-12)
    assert float(total) == pytest.approx(expected.mean(), rel=1e-12)
    found = tape.gradient(total, values).numpy()
    for index in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[index] = 1e-6
        above = by_hand(logits + step, labels, smoothing, gamma).mean()
        below = by_hand(logits - step, labels, smoothing, gamma).mean()
        assert found[index] == pytest.approx((above - below) / 2e-6, abs=1e-8)


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
def test_rows_that_are_surely_right_or_wrong_have_finite_gradients(gamma):
    logits = tf.constant([[200.0, 0.0], [0.0, 200.0], [20.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        total = classify.loss(focal_gamma=gamma)(np.array([0, 0, 0]), logits)
    assert np.isfinite(total)
    gradient = tape.gradient(total, logits).numpy()
    assert np.isfinite(gradient).all()
    assert abs(gradient[1]).max() == pytest.approx(1 / 3, rel=1e-5)  # sure and wrong: all of it


@pytest.mark.slow
def test_label_smoothing_is_torchs():
    torch = needs.package("torch")
    random = np.random.default_rng(1)
    logits, labels = random.normal(size=(6, 5)), random.integers(0, 5, 6)
    theirs = torch.tensor(logits, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(theirs, torch.tensor(labels), label_smoothing=0.15)
    loss.backward()
    ours = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(ours)
        found = CrossEntropy(label_smoothing=0.15, dtype="float64")(labels, ours)
    assert float(found) == pytest.approx(loss.item(), rel=1e-12)
    np.testing.assert_allclose(tape.gradient(found, ours), theirs.grad.numpy(), atol=1e-14)


def test_the_focal_loss_is_keras_own():
    random = np.random.default_rng(2)
    logits, labels = random.normal(size=(6, 3)).astype(np.float32), random.integers(0, 3, 6)
    theirs = keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=2.0, from_logits=True)
    expected = theirs(keras.utils.to_categorical(labels, 3), logits)
    assert float(classify.loss(focal_gamma=2.0)(labels, logits)) == pytest.approx(
        float(expected), rel=1e-5
    )


def test_without_either_it_is_plain_cross_entropy():
    assert isinstance(classify.loss(), keras.losses.SparseCategoricalCrossentropy)
    random = np.random.default_rng(3)
    logits, labels = random.normal(size=(6, 3)).astype(np.float32), random.integers(0, 3, 6)
    assert float(CrossEntropy()(labels, logits)) == pytest.approx(
        float(classify.loss()(labels, logits)), rel=1e-6
    )


def test_row_weights_count_and_it_is_kept_in_a_file():
    loss = classify.loss(label_smoothing=0.1, focal_gamma=1.0)
    random = np.random.default_rng(4)
    logits, labels = random.normal(size=(4, 3)), random.integers(0, 3, 4)
    weights = np.array([0.5, 2.0, 0.0, 1.0])
    expected = (by_hand(logits, labels, 0.1, 1.0) * weights).mean()
    assert float(loss(labels, logits, sample_weight=weights)) == pytest.approx(expected, rel=1e-5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.get_config() == loss.get_config()


@pytest.mark.parametrize("values", [{"label_smoothing": 1.0}, {"focal_gamma": -1.0}])
def test_a_value_out_of_range_is_refused(values):
    (name,) = values
    with pytest.raises(ValueError, match=f"{name} must be"):
        classify.loss(**values)


def test_effective_numbers_are_the_papers():
    labels = np.repeat([0, 1, 3], [100, 10, 1])
    weights = classify.effective_class_weights(labels, 4, 0.99)
    by_paper = np.array([(1 - 0.99) / (1 - 0.99**n) for n in (100, 10, 1)])
    present = weights[[0, 1, 3]].astype(np.float64)
    np.testing.assert_allclose(present / present[0], by_paper / by_paper[0], rtol=1e-6)
    assert weights[2] == 0
    assert weights[labels].mean() == pytest.approx(1, rel=1e-6)


def test_beta_goes_from_no_weights_to_balanced_ones():
    labels = np.repeat([0, 1], [90, 10])
    np.testing.assert_allclose(classify.effective_class_weights(labels, 2, 0.0), 1, rtol=1e-6)
    np.testing.assert_allclose(
        classify.effective_class_weights(labels, 2, 1 - 1e-9),
        classify.class_weights(labels, 2),
        rtol=1e-5,
    )
    with pytest.raises(ValueError, match="beta must be in"):
        classify.effective_class_weights(labels, 2, 1.0)
