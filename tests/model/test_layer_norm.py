"""The layer normalization with its own gradient against Keras' and against finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfmodel.model.layer_norm import LayerNorm


def pair(dtype):
    """Ours and Keras', with the same weights."""
    random = np.random.default_rng(0)
    weights = [random.normal(size=24), random.normal(size=24)]
    layers = [
        made(epsilon=1e-12, dtype=dtype) for made in (LayerNorm, keras.layers.LayerNormalization)
    ]
    for layer in layers:
        layer.build((None, 24))
        layer.set_weights(weights)
    return layers


def with_gradients(layer, values, upstream):
    with tf.GradientTape() as tape:
        tape.watch(values)
        outputs = layer(values, training=True) if isinstance(layer, LayerNorm) else layer(values)
    sources = [values, *(weight.value for weight in layer.trainable_variables)]
    return outputs, tape.gradient(
        outputs, sources, output_gradients=tf.cast(upstream, outputs.dtype)
    )


@pytest.mark.parametrize("dtype, distance", [("float32", 2e-6), ("mixed_bfloat16", 0.06)])
@pytest.mark.parametrize("in_graph", [False, True])
def test_outputs_and_gradients_are_those_of_keras(dtype, distance, in_graph):
    random = np.random.default_rng(1)
    compute = "bfloat16" if dtype == "mixed_bfloat16" else dtype
    values = tf.cast(random.normal(size=(7, 24)) * 3 + 2, compute)
    upstream = random.normal(size=(7, 24))
    ours, theirs = pair(dtype)
    found = (tf.function(with_gradients) if in_graph else with_gradients)(ours, values, upstream)
    expected = with_gradients(theirs, values, upstream)
    for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(
            tf.cast(one, "float32"), tf.cast(other, "float32"), rtol=distance, atol=distance
        )


def test_the_gradient_is_that_of_small_changes():
    random = np.random.default_rng(2)
    ours, theirs = pair("float32")
    gamma, beta = (weight.astype(np.float64) for weight in ours.get_weights())
    values, upstream = random.normal(size=(2, 3, 24))

    def loss(values, gamma, beta):
        centred = values - values.mean(-1, keepdims=True)
        normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return ((normal * gamma + beta) * upstream).sum()

    _, found = with_gradients(ours, tf.constant(values, tf.float32), upstream)
    for index, gradient in enumerate(found):
        for place in np.ndindex(*gradient.shape):
            arguments = [each.copy() for each in (values, gamma, beta)]
            arguments[index][place] += 1e-5
            above = loss(*arguments)
            arguments[index][place] -= 2e-5
            slope = (above - loss(*arguments)) / 2e-5
            np.testing.assert_allclose(gradient[place], slope, rtol=1e-4, atol=1e-4)


def test_answers_are_those_of_keras():
    ours, theirs = pair("float32")
    values = np.random.default_rng(3).normal(size=(5, 24)).astype(np.float32)
    np.testing.assert_array_equal(ours(values), theirs(values))


def test_it_is_saved_and_loaded(tmp_path):
    inputs = keras.Input((24,))
    model = keras.Model(inputs, LayerNorm(epsilon=1e-12)(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.layers[-1], LayerNorm)
