"""AdamW against the paper's algorithm in NumPy, and what "rows in use" means."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfmodel.train import AdamW, adamw, linear_schedule

RATES = [0.1, 0.05, 0.2, 0.01, 0.1]
ROWS = 5_000  # above the size from which only rows in use are updated


class Paper:
    """Loshchilov and Hutter 2019, algorithm 2, with the gradient's norm clipped first."""

    def __init__(self, weights, *, weight_decay=0.01, clip=1.0, epsilon=1e-8):
        self.weights = [np.asarray(w, np.float64) for w in weights]
        self.first = [np.zeros_like(w) for w in self.weights]
        self.second = [np.zeros_like(w) for w in self.weights]
        self.step = 0
        self.weight_decay, self.clip, self.epsilon = weight_decay, clip, epsilon

    def apply(self, gradients, rate):
        self.step += 1
        norm = np.sqrt(sum((np.asarray(g, np.float64) ** 2).sum() for g in gradients))
        scale = 1.0 if self.clip is None or norm <= self.clip else self.clip / norm
        for i, gradient in enumerate(gradients):
            g = np.asarray(gradient, np.float64) * scale
            self.first[i] = 0.9 * self.first[i] + 0.1 * g
            self.second[i] = 0.999 * self.second[i] + 0.001 * g * g
            first = self.first[i] / (1 - 0.9**self.step)
            second = self.second[i] / (1 - 0.999**self.step)
            decay = self.weight_decay if self.weights[i].ndim > 1 else 0.0
            update = first / (np.sqrt(second) + self.epsilon) + decay * self.weights[i]
            self.weights[i] = self.weights[i] - rate * update


class Rates(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return tf.gather(tf.constant(RATES), tf.cast(step, tf.int32))

    def get_config(self):
        return {}


def variables(*shapes, seed=0):
    random = np.random.default_rng(seed)
    return [keras.Variable(random.normal(size=s).astype(np.float32)) for s in shapes]


def slices(rows, values, shape):
    return tf.IndexedSlices(
        tf.constant(values, tf.float32), tf.constant(rows, tf.int32), tf.constant(shape, tf.int64)
    )


def dense(gradient):
    return tf.convert_to_tensor(gradient).numpy()


@pytest.mark.parametrize("clip", [None, 1.0, 1e6])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("in_graph", [False, True])
def test_dense_updates_are_the_papers(clip, weight_decay, in_graph):
    weights = variables((4, 3), (3,), (2, 2, 2))
    paper = Paper([w.numpy() for w in weights], weight_decay=weight_decay, clip=clip)
    optimizer = AdamW(Rates(), weight_decay=weight_decay, global_clipnorm=clip)
    optimizer.build(weights)
    apply = (lambda g: optimizer.apply(g, weights)) if not in_graph else tf.function(
        lambda g: optimizer.apply(g, weights)
    )  # fmt: skip
    random = np.random.default_rng(1)
    for rate in RATES:
        gradients = [random.normal(size=w.shape).astype(np.float32) for w in weights]
        apply([tf.constant(g) for g in gradients])
        paper.apply(gradients, rate)
        for weight, expected in zip(weights, paper.weights, strict=True):
            np.testing.assert_allclose(weight, expected, atol=1e-5)
    assert int(optimizer.iterations) == len(RATES)


def test_biases_and_norms_are_not_decayed():
    weights = [keras.Variable(np.ones(s, np.float32)) for s in ((2, 2), (2,))]
    optimizer = AdamW(0.5, weight_decay=0.1)
    for _ in range(3):
        optimizer.apply([tf.zeros((2, 2)), tf.zeros(2)], weights)
    np.testing.assert_allclose(weights[0], np.full((2, 2), 0.95**3), rtol=1e-6)
    np.testing.assert_array_equal(weights[1], [1, 1])


# --- rows in use --------------------------------------------------------------------------


def test_weights_that_keras_is_told_to_spare_are_not_decayed():
    weights = variables((2, 2), (2, 2))
    optimizer = AdamW(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=weights[:1])
    before = [w.numpy() for w in weights]
    optimizer.apply([tf.zeros((2, 2))] * 2, weights)
    np.testing.assert_array_equal(weights[0].numpy(), before[0])
    np.testing.assert_allclose(weights[1].numpy(), 0.95 * before[1], rtol=1e-6)


@pytest.mark.parametrize("norm_is_known", [False, True])
def test_keras_own_accumulation_is_a_step_by_the_mean(norm_is_known):
    """What is clipped is the mean, whatever the norm of a single gradient."""
    random = np.random.default_rng(3)
    weights, gradients = variables((3, 2)), [random.normal(size=(3, 2)) for _ in range(4)]
    paper = Paper([w.numpy() for w in weights], clip=0.1, weight_decay=0.01)
    optimizer = AdamW(0.1, global_clipnorm=0.1, gradient_accumulation_steps=2)
    optimizer.build(weights)

    @tf.function(autograph=False)
    def apply(gradient):
        known = {"gradient_norm": tf.norm(gradient)} if norm_is_known else {}
        optimizer.apply([gradient], weights, **known)

    for gradient in gradients:
        apply(tf.constant(gradient, tf.float32))
    for first, second in (gradients[:2], gradients[2:]):
        paper.apply([(first + second) / 2], 0.1)
    np.testing.assert_allclose(weights[0].numpy(), paper.weights[0], rtol=1e-5)


def test_rows_that_are_not_in_the_batch_stay_as_they_are():
    (table,) = variables((ROWS, 4))
    before = table.numpy()
    optimizer = AdamW(0.1, weight_decay=0.1, global_clipnorm=None)
    for rows in ([3, 4_999], [7]):
        optimizer.apply([slices(rows, np.ones((len(rows), 4)), table.shape)], [table])
    changed = np.flatnonzero((table.numpy() != before).any(axis=1))
    assert changed.tolist() == [3, 7, 4_999]
    # Row 7 was seen at the second step alone: its moments begin there.
    first, second = 0.1, 0.001
    step = 0.1 * np.sqrt(1 - 0.999**2) / (1 - 0.9**2) * first / np.sqrt(second)
    np.testing.assert_allclose(table.numpy()[7], before[7] * (1 - 0.1 * 0.1) - step, rtol=1e-5)


def test_repeated_rows_are_summed():
    tables = [variables((ROWS, 2))[0] for _ in range(2)]
    repeated = slices([5, 9, 5, 5], [[1, 2], [3, 3], [0.5, 1], [-4, 0]], (ROWS, 2))
    summed = slices([5, 9], [[-2.5, 3], [3, 3]], (ROWS, 2))
    for table, gradient in zip(tables, (repeated, summed), strict=True):
        optimizer = AdamW(0.1)
        for _ in range(2):
            optimizer.apply([gradient], [table])
    np.testing.assert_allclose(*tables, atol=1e-6)


def test_a_batch_with_every_row_is_the_dense_update():
    weights = variables((ROWS, 3), (3, 2), (2,))
    paper = Paper([w.numpy() for w in weights], weight_decay=0.1)
    optimizer = AdamW(Rates(), weight_decay=0.1)
    random = np.random.default_rng(2)
    for rate in RATES[:3]:
        rows = np.concatenate([random.permutation(ROWS), random.integers(0, ROWS, 100)])
        table = slices(rows, random.normal(size=(len(rows), 3)), (ROWS, 3))
        gradients = [table, *(tf.constant(random.normal(size=w.shape), tf.float32)
                              for w in weights[1:])]  # fmt: skip
        optimizer.apply(gradients, weights)
        paper.apply([dense(g) for g in gradients], rate)
    for weight, expected in zip(weights, paper.weights, strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-5)


def test_small_tables_are_updated_whole():
    (table,) = variables((100, 3))
    paper = Paper([table.numpy()])
    optimizer = AdamW(Rates())
    for rate, rows in zip(RATES, ([1, 1, 2], [2, 3]), strict=False):
        gradient = slices(rows, np.ones((len(rows), 3)), (100, 3))
        optimizer.apply([gradient], [table])
        paper.apply([dense(gradient)], rate)
    np.testing.assert_allclose(table, paper.weights[0], atol=1e-6)


def test_an_encoders_large_vocabulary_is_updated_by_rows():
    from tfmodel.model import BertConfig, build_encoder

    config = BertConfig(
        vocabulary_size=ROWS, hidden_size=8, layers=1, heads=2, intermediate_size=8,
        max_positions=6,
    )  # fmt: skip
    encoder = build_encoder(config, sequence=False)
    embeddings = encoder.get_layer("embeddings")
    before = [t.numpy() for t in (embeddings.token_table, embeddings.position_table)]
    optimizer = AdamW(0.1)
    optimizer.build(encoder.trainable_variables)
    batch = {
        "token_ids": tf.constant([[2, 40, 40, 3]]),
        "segment_ids": tf.zeros((1, 4), tf.int32),
        "padding_mask": tf.ones((1, 4), tf.int32),
    }

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(encoder(batch, training=True)["pooled"])
        variables = encoder.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)

    step()
    changed = np.flatnonzero((embeddings.token_table.numpy() != before[0]).any(axis=1))
    assert changed.tolist() == [2, 3, 40]
    # The small table is decayed as a whole.
    assert (embeddings.position_table.numpy() != before[1]).any(axis=1).all()


# --- Keras --------------------------------------------------------------------------------


def test_config_round_trip():
    optimizer = AdamW(linear_schedule(0.1, total_steps=10), weight_decay=0.2, beta_2=0.98)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()
    assert (again.weight_decay, again.beta_2, again.global_clipnorm) == (0.2, 0.98, 1.0)


def test_its_state_is_saved_with_a_model(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(adamw(0.1), loss="mse", jit_compile=False)
    data = tf.data.Dataset.from_tensors((tf.ones((4, 3)), tf.ones((4, 2))))
    model.fit(data, verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(again.optimizer, AdamW)
    for one, other in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)


def test_adamw_warms_up_and_decays_where_it_knows_the_steps():
    assert float(adamw(0.3).learning_rate) == pytest.approx(0.3)
    optimizer = adamw(0.3, total_steps=10, warmup_share=0.5)
    (weight,) = variables((2, 2))
    rates = []
    for _ in range(10):
        rates.append(float(optimizer.learning_rate))
        optimizer.apply([tf.ones((2, 2))], [weight])
    np.testing.assert_allclose(rates, 0.3 * np.array([1, 2, 3, 4, 5, 5, 4, 3, 2, 1]) / 5, rtol=1e-6)


def test_many_steps_of_very_different_gradients():
    # Some steps are clipped a thousandfold, some not at all.
    random = np.random.default_rng(5)
    weights = variables((6, 5), (5,))
    paper = Paper([w.numpy() for w in weights])
    optimizer = AdamW(0.01)
    optimizer.build(weights)
    apply = tf.function(lambda *gradients: optimizer.apply(list(gradients), weights))
    for _ in range(60):
        size = 10 ** random.uniform(-3, 3)
        gradients = [(random.normal(size=w.shape) * size).astype(np.float32) for w in weights]
        apply(*[tf.constant(g) for g in gradients])
        paper.apply(gradients, 0.01)
    for weight, expected in zip(weights, paper.weights, strict=True):
        np.testing.assert_allclose(weight, expected, atol=2e-5)
