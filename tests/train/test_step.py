"""One step over a batch taken in parts is the step over the batch."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy

import tfmodel
from tfmodel.model import BertConfig, build_encoder
from tfmodel.tasks import classify
from tfmodel.tokens.batches import TokenRows
from tfmodel.train import adamw, adversarial
from tfmodel.train.step import TrainingModel

LENGTHS = [3, 9, 5, 12, 2, 7, 4]


class KeepGradients(keras.optimizers.Optimizer):
    """Change nothing; hold each weight's gradient, NaN where there was none."""

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        nothing = keras.initializers.Constant(np.nan)
        self.kept = [
            self.add_variable_from_reference(v, "gradient", initializer=nothing) for v in variables
        ]

    def update_step(self, gradient, variable, learning_rate):
        kept = self.kept[self._get_variable_index(variable)]
        kept.assign(tf.convert_to_tensor(gradient))

    def get_config(self):
        return super().get_config()


def encoder(*, vocabulary_size=60, dropout=0.0, sequence=False):
    keras.utils.set_random_seed(5)
    config = BertConfig(
        vocabulary_size=vocabulary_size,
        hidden_size=16,
        layers=1,
        heads=2,
        intermediate_size=32,
        max_positions=12,
        dropout=dropout,
        attention_dropout=dropout,
    )
    return build_encoder(config, sequence=sequence)


def batch(*, vocabulary_size=60, lengths=LENGTHS):
    random = np.random.default_rng(0)
    ids = random.integers(5, vocabulary_size, sum(lengths)).astype(np.int32)
    rows = TokenRows(ids, np.concatenate([[0], np.cumsum(lengths)]), np.array(lengths))
    inputs = rows.batch(np.arange(len(lengths)))
    return {name: tf.constant(values) for name, values in inputs.items()}


def classifier(**arguments):
    model = classify.build(encoder(**arguments), classes=3)
    model.get_layer("head").kernel.assign(np.random.default_rng(1).normal(size=(16, 3)))
    return model


def tagger(reduction="mean_with_sample_weight"):
    """A label for every token; the pooler has no part in it."""
    inner = encoder(sequence=True)
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in inner.input}
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(inner(inputs)["sequence"]))
    return model, keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)


class Tied(keras.layers.Layer):
    """Logits over the vocabulary by the embedding table itself."""

    def __init__(self, table, **arguments):
        super().__init__(**arguments)
        self.table = table

    def call(self, hidden):
        return keras.ops.matmul(hidden, keras.ops.transpose(self.table))


LABELS = tf.constant([0, 2, 1, 1, 0, 2, 2])
ROW_WEIGHTS = tf.constant([0.5, 2.0, 0.0, 3.0, 1.0, 0.25, 4.0])


def expected_gradients(model, loss, inputs, targets, weights):
    """The whole batch at once, by a tape of its own."""
    with tf.GradientTape() as tape:
        value = loss(targets, model(inputs, training=True), sample_weight=weights)
    variables = model.trainable_variables
    gradients = tape.gradient(value, [v.value for v in variables])
    return float(value), [None if g is None else tf.convert_to_tensor(g).numpy() for g in gradients]


def assert_is_the_whole_batchs(model, loss, data, *, steps, eager=False):
    inputs, targets, weights = data
    value, expected = expected_gradients(model, loss, *data)
    training = TrainingModel(model, accumulation_steps=steps)
    optimizer = KeepGradients(learning_rate=1.0)
    training.compile(optimizer, loss=loss, jit_compile=False, run_eagerly=eager)
    logs = training.train_on_batch(inputs, targets, sample_weight=weights, return_dict=True)
    found = [kept.numpy() for kept in optimizer.kept]
    squares = differences = 0.0
    for variable, ours, theirs in zip(model.trainable_variables, found, expected, strict=True):
        if theirs is None:
            assert np.isnan(ours).all(), variable.path
            continue
        squares += np.square(theirs, dtype=np.float64).sum()
        differences += np.square(ours.astype(np.float64) - theirs).sum()
    assert np.sqrt(differences) < 1e-6 * np.sqrt(squares)
    assert logs["step_loss"] == pytest.approx(value, rel=1e-6)
    assert logs["loss"] == pytest.approx(value, rel=1e-6)
    assert logs["gradient_norm"] == pytest.approx(np.sqrt(squares), rel=1e-5)


# 4: the last part is smaller; 10: more parts than rows.
@pytest.mark.parametrize(("steps", "weights"), [(4, None), (1, ROW_WEIGHTS), (10, ROW_WEIGHTS)])
def test_gradient_of_uneven_rows(steps, weights):
    assert_is_the_whole_batchs(
        classifier(), classify.loss(), (batch(), LABELS, weights), steps=steps
    )


@pytest.mark.parametrize("reduction", ["mean_with_sample_weight", "sum"])
def test_gradient_of_other_means(reduction):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    data = (batch(), LABELS, ROW_WEIGHTS)
    assert_is_the_whole_batchs(classifier(), loss, data, steps=3)


@pytest.mark.parametrize("steps", [1, 3])
def test_gradient_of_a_loss_on_tokens(steps):
    """The mean is over real tokens, of which the parts hold unequal numbers, one part none."""
    model, loss = tagger()
    inputs = batch()
    targets = tf.constant(np.random.default_rng(2).integers(0, 3, (7, 12)))
    weights = tf.cast(inputs["padding_mask"], tf.float32)
    weights *= tf.constant([[1.0], [1.0], [1.0], [0.0], [0.0], [0.0], [1.0]])
    assert_is_the_whole_batchs(model, loss, (inputs, targets, weights), steps=steps)


@pytest.mark.parametrize(("steps", "eager"), [(1, False), (3, False), (3, True)])
def test_gradient_of_a_large_table(steps, eager):
    model = classifier(vocabulary_size=5000)
    data = (batch(vocabulary_size=5000), LABELS, None)
    assert_is_the_whole_batchs(model, classify.loss(), data, steps=steps, eager=eager)


@pytest.mark.parametrize("eager", [False, True])
def test_gradient_of_a_table_that_is_looked_up_and_multiplied(eager):
    inner = encoder(vocabulary_size=5000, sequence=True)
    table = inner.get_layer("embeddings").token_table
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in inner.input}
    model = keras.Model(inputs, Tied(table)(inner(inputs)["sequence"]))
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    given = batch(vocabulary_size=5000)
    weights = tf.cast(given["padding_mask"], tf.float32)
    data = (given, given["token_ids"], weights)
    assert_is_the_whole_batchs(model, loss, data, steps=3, eager=eager)


def test_gradient_with_a_frozen_encoder():
    model = classifier()
    model.get_layer("encoder").trainable = False
    assert_is_the_whole_batchs(model, classify.loss(), (batch(), LABELS, None), steps=3)


def test_rows_of_a_large_table_that_are_not_in_the_batch_stay():
    """As without accumulation: the optimizer is given the rows in use."""

    def trained(steps):
        model = classifier(vocabulary_size=5000)
        training = TrainingModel(model, accumulation_steps=steps)
        training.compile(adamw(1e-2, weight_decay=0.5), loss=classify.loss(), jit_compile=False)
        inputs = batch(vocabulary_size=5000)
        for _ in range(2):
            training.train_on_batch(inputs, LABELS)
        return model.get_layer("encoder").get_layer("embeddings").token_table.numpy()

    before = classifier(vocabulary_size=5000).get_layer("encoder").get_layer("embeddings")
    whole, parts = trained(1), trained(3)
    np.testing.assert_allclose(whole, parts, atol=1e-4)
    moved = (parts != before.token_table.numpy()).any(axis=1)
    used = np.unique(batch(vocabulary_size=5000)["token_ids"])
    assert np.array_equal(np.flatnonzero(moved), used)


def test_inputs_beside_the_tokens_stay_whole_in_every_part():
    """They are wider than the longest row of a part."""
    inner = encoder()
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in inner.input}
    figures = keras.Input((20,), name="figures")
    both = keras.layers.Concatenate()([inner(inputs)["pooled"], figures])
    model = keras.Model({**inputs, "figures": figures}, keras.layers.Dense(3)(both))
    random = np.random.default_rng(2)
    given = {**batch(), "figures": tf.constant(random.normal(size=(7, 20)), tf.float32)}
    assert_is_the_whole_batchs(model, classify.loss(), (given, LABELS, None), steps=3)


def test_keras_own_optimizers_take_the_gradient_too():
    def trained(steps):
        training = TrainingModel(classifier(vocabulary_size=5000), accumulation_steps=steps)
        optimizer = keras.optimizers.Adam(1e-2, epsilon=1e-3)  # a small one amplifies rounding
        training.compile(optimizer, loss=classify.loss(), jit_compile=False)
        for _ in range(2):
            training.train_on_batch(batch(vocabulary_size=5000), LABELS)
        return [w.numpy() for w in training.weights]

    for parts, whole in zip(trained(3), trained(1), strict=True):
        np.testing.assert_allclose(parts, whole, atol=2e-5)


def test_metrics_of_an_epoch_are_the_whole_batches():
    """18 rows in batches of 7: the last one, of 4 rows, counts as it should."""
    random = np.random.default_rng(3)
    lengths = random.integers(2, 12, 18)
    inputs = {name: v.numpy() for name, v in batch(lengths=list(lengths)).items()}
    labels = random.integers(0, 3, 18)
    weights = random.random(18).astype(np.float32)

    def history(steps):
        training = TrainingModel(classifier(), accumulation_steps=steps)
        training.compile(
            keras.optimizers.SGD(0.1),
            loss=classify.loss(),
            metrics=classify.metrics(),
            weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="weighted")],
            jit_compile=False,
        )
        fitted = training.fit(
            inputs, labels, sample_weight=weights, batch_size=7, epochs=2, shuffle=False, verbose=0
        )
        return fitted.history

    whole, parts = history(1), history(3)
    assert {"loss", "accuracy", "weighted", "step_loss", "gradient_norm"} == set(parts)
    for name, values in whole.items():
        np.testing.assert_allclose(parts[name], values, rtol=1e-4, err_msg=name)


def test_losses_of_several_outputs_that_are_means_of_other_things_are_refused():
    inputs = keras.Input((2,))
    outputs = {"a": keras.layers.Dense(1, name="a")(inputs), "b": inputs}
    training = TrainingModel(keras.Model(inputs, outputs), accumulation_steps=2)
    by_weight = keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")
    training.compile("sgd", loss={"a": by_weight, "b": by_weight}, jit_compile=False)
    targets = {"a": np.zeros((4, 1)), "b": np.zeros((4, 2))}
    with pytest.raises(ValueError, match="several outputs must all have .* Received: mean_with"):
        training.train_on_batch(np.zeros((4, 2)), targets)


def test_a_loss_that_depends_on_nothing_is_refused():
    model = classifier()
    model.trainable = False
    training = TrainingModel(model)
    training.compile("sgd", loss=classify.loss(), jit_compile=False)
    with pytest.raises(ValueError, match="no gradient for any of 0 trainable weights"):
        training.train_on_batch(batch(), LABELS)


# --- what is not a number -----------------------------------------------------------------


def everything(training):
    return [v.numpy() for v in (*training.variables, *training.optimizer.variables)]


@pytest.mark.parametrize(("steps", "vocabulary_size"), [(1, 60), (3, 5000)])
def test_a_step_that_is_not_a_number_leaves_no_trace(steps, vocabulary_size):
    model = classifier(vocabulary_size=vocabulary_size, dropout=0.1)
    training = TrainingModel(model, accumulation_steps=steps)
    training.compile(adamw(1e-3), loss=classify.loss(), jit_compile=False)
    inputs = batch(vocabulary_size=vocabulary_size)
    training.train_on_batch(inputs, LABELS, sample_weight=np.ones(7, np.float32))
    before = everything(training)
    infinite = np.array([1, 1, 1, 1, 1, np.inf, 1], np.float32)
    logs = training.train_on_batch(inputs, LABELS, sample_weight=infinite, return_dict=True)
    assert not np.isfinite(logs["step_loss"])
    for found, expected in zip(everything(training), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    training.train_on_batch(inputs, LABELS, sample_weight=np.ones(7, np.float32))
    after = everything(training)
    assert sum((a != b).any() for a, b in zip(after, before, strict=True)) > 20


def test_a_gradient_that_is_not_a_number_leaves_no_trace_where_the_loss_is_one():
    inputs = keras.Input((1,))
    outputs = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")(inputs)
    training = TrainingModel(keras.Model(inputs, keras.ops.sqrt(outputs)))
    training.compile("sgd", loss="mse", jit_compile=False)
    logs = training.train_on_batch(np.ones((2, 1)), np.ones((2, 1)), return_dict=True)
    assert np.isfinite(logs["step_loss"]) and not np.isfinite(logs["gradient_norm"])
    assert training.trainable_variables[0].numpy() == 0 and training.optimizer.iterations == 0


def test_means_of_batch_normalization_are_taken_back_too():
    inputs = keras.Input((2,))
    outputs = keras.layers.Dense(1)(keras.layers.BatchNormalization()(inputs))
    training = TrainingModel(keras.Model(inputs, outputs))
    training.compile("sgd", loss="mse", jit_compile=False)
    before = everything(training)
    training.train_on_batch(np.full((2, 2), np.nan), np.ones((2, 1)))
    for found, expected in zip(everything(training), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    training.train_on_batch(np.ones((2, 2)), np.ones((2, 1)))
    assert (training.non_trainable_variables[0].numpy() != before[2]).any()


# --- its limits ---------------------------------------------------------------------------


def test_parts_are_counted_from_one():
    with pytest.raises(ValueError, match="must be 1 or more, a whole number. Received: 0"):
        TrainingModel(classifier(), accumulation_steps=0)
    with pytest.raises(ValueError, match="must be 1 or more, a whole number. Received: 2.5"):
        TrainingModel(classifier(), accumulation_steps=2.5)


@pytest.mark.parametrize(
    "pieces", [{"adversary": adversarial.VAT()}, {"regularizers": [adversarial.FGM()]}]
)
def test_adversaries_and_regularizers_are_not_mistaken_for_each_other(pieces):
    with pytest.raises(ValueError, match="Expected FGM, PGD or FreeLB as adversary, and the"):
        TrainingModel(classifier(), **pieces)


def test_what_the_step_cannot_do_is_refused():
    training = TrainingModel(classifier(), accumulation_steps=2)
    training.compile("sgd", loss=classify.loss(), jit_compile=True)
    with pytest.raises(ValueError, match="must be compiled with jit_compile=False"):
        training.train_on_batch(batch(), LABELS)
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    training.compile(scaled, loss=classify.loss(), jit_compile=False)
    with pytest.raises(ValueError, match="scales losses for float16. Use mixed_bfloat16"):
        training.train_on_batch(batch(), LABELS)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_same_seed_makes_the_same_weights_where_threads_share_the_work(policy, steps):
    """Sums over repeated rows of a table, in whatever order threads come to them."""

    def trained():
        keras.utils.set_random_seed(0)
        config = BertConfig(
            vocabulary_size=8000,
            hidden_size=128,
            layers=2,
            heads=2,
            intermediate_size=512,
            max_positions=64,
        )
        model = classify.build(build_encoder(config, sequence=False, dtype=policy), classes=2)
        training = TrainingModel(model, accumulation_steps=steps)
        training.compile(adamw(1e-3), loss=classify.loss(), jit_compile=False)
        random = np.random.default_rng(0)
        for _ in range(6):
            ids = random.integers(0, 300, (64, 64)).astype(np.int32)
            inputs = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": 0 * ids + 1}
            training.train_on_batch(inputs, random.integers(0, 2, 64))
        return everything(training)

    first = trained()
    for again in (trained(), trained()):
        for found, expected in zip(again, first, strict=True):
            np.testing.assert_array_equal(found, expected)


# The peak is not asked of getrusage: there a process begins with that of the one that started it.
_MEMORY = """
import pathlib, sys
sys.path[:0] = [{tests!r}, {root!r}]
import numpy as np, keras
from tfmodel.model import BertConfig, build_encoder
from tfmodel.tasks import classify
from tfmodel.train import adamw
from tfmodel.train.step import TrainingModel

rows, steps = map(int, sys.argv[1:])
config = BertConfig(vocabulary_size=100, hidden_size=128, layers=4, heads=2, intermediate_size=512,
                    max_positions=128)
training = TrainingModel(classify.build(build_encoder(config), classes=2), accumulation_steps=steps)
training.compile(adamw(1e-4), loss=classify.loss(), jit_compile=False)
names = ("token_ids", "segment_ids", "padding_mask")
for count in (steps, rows):
    data = {{name: np.ones((count, 128), np.int32) for name in names}}
    for _ in range(2):
        training.train_on_batch(data, np.zeros(count, np.int32))
    status = pathlib.Path("/proc/self/status").read_text("ascii")
    print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""


def peak_growth(rows, steps):
    code = _MEMORY.format(tests=str(Path(__file__).parent), root=str(Path(__file__).parents[2]))
    command = [sys.executable, "-c", code, str(rows), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    small, peak = map(int, done.stdout.split()[-2:])
    return peak - small


@pytest.mark.slow
def test_memory_is_that_of_a_part():
    whole, parts, part = peak_growth(256, 1), peak_growth(256, 16), peak_growth(16, 1)
    print(f"MB: whole batch {whole}, 16 parts {parts}, one part alone {part}")
    assert parts < 1.5 * part + 50 < whole / 4


def test_graphs_are_rewritten_again_after_a_step():
    def switched_off():
        return tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer", False)

    model, seen = toy.new_model(), []
    training = TrainingModel(model)
    training.compile(adamw(0.01), loss=classify.loss(), jit_compile=False, run_eagerly=True)
    step = training.train_step
    training.train_step = lambda data: (seen.append(switched_off()), step(data))[1]
    rows = toy.rows(16)
    batches = tfmodel.batches(rows.texts, rows.labels, tokenizer=toy.tokenizer())
    training.fit(batches, shuffle=False, verbose=0)
    assert seen == [True]
    assert not switched_off()
