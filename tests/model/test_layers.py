"""One contract for every layer: a new layer costs one row of `LAYERS`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tfmodel.model.attention import AddAndNormalize, FeedForward, SelfAttention
from tfmodel.model.dropout import Dropout
from tfmodel.model.embeddings import BertEmbeddings, SameText
from tfmodel.model.encoder import FirstToken, ToRows

B, T, D = 3, 5, 8
RANDOM = np.random.default_rng(0)
HIDDEN = RANDOM.normal(size=(B * T, D)).astype(np.float32)
IDS = RANDOM.integers(0, 20, (B, T)).astype(np.int32)
SEGMENTS = RANDOM.integers(0, 2, (B, T)).astype(np.int32)
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 2, 2, 0]], np.int32)
SAME = MASK[:, :, None] == MASK[:, None, :]


def dense(units, name):
    return lambda dtype: keras.layers.Dense(units, name=name, dtype=dtype)


def attention(dtype, **arguments):
    return SelfAttention(
        2,
        query_key_value=dense(3 * D, "query_key_value")(dtype),
        output=dense(D, "output")(dtype),
        dropout=0.2,
        dtype=dtype,
        **arguments,
    )


def feed_forward(activation):
    return lambda dtype: FeedForward(
        widen=dense(12, "widen")(dtype),
        narrow=dense(D, "narrow")(dtype),
        activation=activation,
        dtype=dtype,
    )


# name: (layer of a dtype policy, its inputs)
LAYERS = {
    "same_text": (lambda dtype: SameText(dtype=dtype), [MASK]),
    "embeddings": (
        lambda dtype: BertEmbeddings(20, D, max_positions=T, dropout=0.1, dtype=dtype),
        [IDS, SEGMENTS, SAME],
    ),
    "attention": (attention, [HIDDEN, SAME]),
    "attention, first token": (lambda dtype: attention(dtype, first_only=True), [HIDDEN, SAME]),
    "feed_forward": (feed_forward("gelu"), [HIDDEN]),
    "feed_forward, tanh": (feed_forward("gelu_new"), [HIDDEN]),
    "feed_forward, relu": (feed_forward("relu"), [HIDDEN]),
    "add_and_normalize": (lambda dtype: AddAndNormalize(dropout=0.1, dtype=dtype), [HIDDEN] * 2),
    "dropout": (lambda dtype: Dropout(0.1, seed=3, dtype=dtype), [HIDDEN]),
    "to_rows": (lambda dtype: ToRows(dtype=dtype), [HIDDEN, IDS]),
    "first_token": (lambda dtype: FirstToken(dtype=dtype), [HIDDEN.reshape(B, T, D)]),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def called(name, dtype="float32"):
    """A layer that has weights, and its inputs."""
    make, inputs = LAYERS[name]
    keras.utils.set_random_seed(1)
    layer = make(dtype)
    layer(*inputs)
    return layer, inputs


def functional(layer, inputs):
    """The layer in a model whose sizes are open but for the width."""
    open_shapes = [
        (None, D)
        if x.ndim == 2 and x.dtype == np.float32
        else (None,) * (x.ndim - 1) + (D,)
        if x.dtype == np.float32
        else (None,) * x.ndim
        for x in inputs
    ]
    symbols = [
        keras.Input(batch_shape=shape, dtype=str(x.dtype))
        for shape, x in zip(open_shapes, inputs, strict=True)
    ]
    return keras.Model(symbols, layer(*symbols))


@every_layer
def test_config_round_trip(name):
    layer, inputs = called(name)
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert restored.get_config() == layer.get_config()
    restored(*inputs)
    shapes = [[tuple(w.shape) for w in each.weights] for each in (layer, restored)]
    assert shapes[0] == shapes[1]


@every_layer
def test_symbolic_shape_is_the_eager_one(name):
    layer, inputs = called(name)
    eager = layer(*inputs)
    symbol = functional(layer, inputs).outputs[0]
    assert symbol.dtype == keras.backend.standardize_dtype(eager.dtype)
    assert len(symbol.shape) == len(eager.shape)
    for stated, found in zip(symbol.shape, eager.shape, strict=True):
        assert stated in (None, found)
    exact = layer.compute_output_shape(*(x.shape for x in inputs))
    assert all(stated in (None, found) for stated, found in zip(exact, eager.shape, strict=True))


@every_layer
def test_bfloat16_is_float32_to_its_precision(name):
    layer, inputs = called(name)
    half, _ = called(name, "mixed_bfloat16")
    for target, source in zip(half.weights, layer.weights, strict=True):
        target.assign(source)
    expected, found = layer(*inputs), half(*inputs)
    if expected.dtype != tf.bool:
        assert found.dtype == tf.bfloat16
        assert {w.dtype for w in half.trainable_weights} <= {"float32"}
        np.testing.assert_allclose(ops.cast(found, "float32"), expected, atol=0.05, rtol=0.02)


@every_layer
def test_saved_and_loaded_it_gives_the_same(name, tmp_path):
    layer, inputs = called(name)
    model = functional(layer, inputs)
    model.save(tmp_path / "layer.keras")
    loaded = keras.models.load_model(tmp_path / "layer.keras")
    np.testing.assert_array_equal(loaded(inputs), model(inputs))


@every_layer
def test_every_weight_learns_and_graphs_train_as_eager_code(name):
    layer, inputs = called(name)
    if not layer.trainable_weights:
        return

    def gradients():
        with tf.GradientTape() as tape:
            outputs = layer(*inputs, training=True)
            loss = tf.reduce_sum(outputs * tf.cast(tf.range(D), outputs.dtype))
        return [tf.convert_to_tensor(g) for g in tape.gradient(loss, layer.trainable_weights)]

    random_states = [w for w in layer.variables if w.dtype not in ("float32", "bfloat16")]
    before = [w.numpy() for w in random_states]
    eager = gradients()
    for state, value in zip(random_states, before, strict=True):
        state.assign(value)
    graph = tf.function(gradients)()
    for weight, one, other in zip(layer.trainable_weights, eager, graph, strict=True):
        if not weight.path.endswith("query_key_value/bias"):  # a key's bias changes no softmax
            assert np.abs(one).max() > 0, weight.path
        np.testing.assert_allclose(one, other, atol=1e-4)


# --- each layer's own promises ------------------------------------------------------------


def test_padding_belongs_with_padding():
    same = SameText()(np.array([[1, 2, 2, 0, 0]])).numpy()[0]
    assert same.tolist() == [
        [1, 0, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 0, 1, 1],
        [0, 0, 0, 1, 1],
    ]


def test_positions_restart_at_each_text():
    layer = BertEmbeddings(4, D, max_positions=3)
    same = SameText()(np.array([[1, 1, 1, 2, 2, 0]]))
    zeros = np.zeros((1, 6), np.int32)
    layer(zeros, zeros, same)
    # Without learned scale and with tokens all alike, only positions tell the rows apart.
    rows = layer(zeros, zeros, same).numpy()
    np.testing.assert_array_equal(rows[[3, 4, 5]], rows[[0, 1, 0]])
    assert np.abs(rows[0] - rows[1]).max() > 0.1


def test_heads_must_divide_the_width():
    layer = SelfAttention(3, query_key_value=keras.layers.Dense(24), output=keras.layers.Dense(8))
    with pytest.raises(ValueError, match="multiple of heads. Received: hidden size 8, heads 3"):
        layer(HIDDEN, SAME)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="gelu, gelu_new, relu. Received: 'swish'"):
        FeedForward(widen=keras.layers.Dense(2), narrow=keras.layers.Dense(2), activation="swish")


def test_gelu_in_training_is_exact_gelu_with_its_derivative():
    values = tf.constant(np.linspace(-6, 6, 241), tf.float32)
    slopes = []
    for training in (True, False):
        layer = FeedForward(widen=keras.layers.Identity(), narrow=keras.layers.Identity())
        with tf.GradientTape() as tape:
            tape.watch(values)
            result = layer(values[:, None], training=training)[:, 0]
        np.testing.assert_allclose(result, ops.gelu(values, approximate=False), atol=1e-6)
        slopes.append(tape.gradient(result, values))
    np.testing.assert_allclose(*slopes, atol=1e-6)


# --- dropout ------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.999])
def test_dropout_drops_its_share_and_keeps_the_expectation(rate):
    keras.utils.set_random_seed(0)
    count = 400_001  # not a multiple of the four bytes of a random word
    values = Dropout(rate)(np.ones(count, np.float32), training=True).numpy()
    share = rate if rate < 8 / 256 else min(round(rate * 256), 255) / 256
    assert abs(share - rate) <= 1 / 256
    deviation = np.sqrt(share * (1 - share) / count)
    assert abs((values == 0).mean() - share) < 5 * deviation
    kept = values[values != 0]
    np.testing.assert_allclose(kept, 1 / (1 - share), rtol=1e-6)


def test_dropout_draws_anew_each_time_and_its_seed_alone_decides():
    ones = np.ones((7, 33), np.float32)
    first, second = (Dropout(0.3, seed=5) for _ in range(2))
    draws = [[layer(ones, training=True).numpy() for _ in range(3)] for layer in (first, second)]
    np.testing.assert_array_equal(*draws)
    assert not np.array_equal(draws[0][0], draws[0][1])
    other = Dropout(0.3, seed=6)(ones, training=True).numpy()
    assert not np.array_equal(draws[0][0], other)


def test_dropped_values_are_independent_of_their_neighbours():
    keras.utils.set_random_seed(0)
    kept = Dropout(0.5)(np.ones((1_000, 256), np.float32), training=True).numpy() > 0
    for shift in (1, 2, 3, 4):
        together = (kept[:, :-shift] & kept[:, shift:]).mean()
        assert abs(together - 0.25) < 0.01
    assert abs(kept.mean(axis=0) - 0.5).max() < 0.1


def test_dropout_is_nothing_outside_training_or_at_rate_zero():
    for layer, training in ((Dropout(0.5), False), (Dropout(0), True)):
        np.testing.assert_array_equal(layer(HIDDEN, training=training), HIDDEN)
    assert Dropout(0).variables == []


@pytest.mark.parametrize("rate", [-0.1, 1])
def test_a_rate_out_of_range_is_refused(rate):
    with pytest.raises(ValueError, match=rf"rate must be in \[0, 1\). Received: {rate}"):
        Dropout(rate)
