"""R-Drop and mixup: their losses by formula, their gradients by central differences."""

import types

import keras
import keras_reference
import numpy as np
import numpy_reference as reference
import pytest
import tensorflow as tf
import toy
import toy_fit
from needs import package

from tfmodel.model import build_encoder, encoder_config
from tfmodel.tasks import classify
from tfmodel.train.divergence import divergence
from tfmodel.train.regularize.mixup import HiddenMixup
from tfmodel.train.regularize.r_drop import RDrop
from tfmodel.train.step import Rows, TrainingModel

LABELS = np.array([0, 2, 1, 1], np.int32)
RANDOM = np.random.default_rng(8)
FIRST, SECOND = RANDOM.normal(size=(2, 4, 3)) * 2


def rows_of(loss, *, weights=None, second=None, inputs=None):
    """Rows whose next pass gives `second`."""
    model = TrainingModel(keras.Sequential([keras.Input((3,))]))
    model.compile("sgd", loss=loss, jit_compile=False)
    rows = Rows(model, inputs, tf.constant(LABELS), weights)
    rows.outputs = lambda: second
    return rows


# --- R-Drop ---------------------------------------------------------------------------------


def r_drop_formula(first, second, weight, row_weights):
    """Liang et al. 2021, equations 2 to 4, the losses of both passes averaged."""
    entropy = reference.cross_entropy(first, LABELS) + reference.cross_entropy(second, LABELS)
    apart = (reference.kl(first, second) + reference.kl(second, first)) / 2
    return (row_weights * (entropy / 2 + weight * apart)).mean()


@pytest.mark.parametrize("row_weights", [None, [1.0, 0.0, 2.5, 0.3]], ids=["plain", "weighted"])
def test_r_drop_is_the_papers(row_weights):
    first, second = tf.constant(FIRST), tf.constant(SECOND)
    given = None if row_weights is None else tf.constant(row_weights)
    rows = rows_of(keras_reference.cross_entropy(), weights=given, second=second)
    with tf.GradientTape() as tape:
        tape.watch([first, second])
        loss = RDrop(0.7)(rows, first, rows.task_loss(first))
    found = tape.gradient(loss, [first, second])
    by_row = np.ones(4) if row_weights is None else np.array(row_weights)
    assert float(loss) == pytest.approx(r_drop_formula(FIRST, SECOND, 0.7, by_row), rel=1e-6)
    for index, gradient in enumerate(found):

        def of_one(values, index=index):
            pair = [FIRST, SECOND]
            pair[index] = values
            return r_drop_formula(*pair, 0.7, by_row)

        expected = reference.slope(of_one, (FIRST, SECOND)[index])
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_r_drop_is_the_authors_program():
    torch = package("torch")
    functional = torch.nn.functional
    first, second = (torch.tensor(v, requires_grad=True) for v in (FIRST, SECOND))
    labels = torch.tensor(LABELS, dtype=torch.int64)
    one, other = functional.log_softmax(first, -1), functional.log_softmax(second, -1)
    apart = (
        functional.kl_div(one, other.exp(), reduction="batchmean")
        + functional.kl_div(other, one.exp(), reduction="batchmean")
    ) / 2
    entropy = functional.cross_entropy(torch.cat([first, second]), torch.cat([labels, labels]))
    (entropy + 0.7 * apart).backward()
    ours = [tf.constant(FIRST), tf.constant(SECOND)]
    rows = rows_of(keras_reference.cross_entropy(), second=ours[1])
    with tf.GradientTape() as tape:
        tape.watch(ours)
        loss = RDrop(0.7)(rows, ours[0], rows.task_loss(ours[0]))
    for found, expected in zip(tape.gradient(loss, ours), (first, second), strict=True):
        np.testing.assert_allclose(found, expected.grad, rtol=1e-6, atol=1e-9)


def test_r_drop_compares_two_passes_with_other_dropout():
    model = toy.new_model()
    training = TrainingModel(model, regularizers=[RDrop(2.0)])
    training.compile("sgd", loss=classify.loss(), jit_compile=False)
    inputs = dict(toy.tokenizer()(toy.rows(4).texts))
    rows = Rows(training, inputs, tf.constant(toy.rows(4).labels), None)
    loss, outputs = rows.objective()
    again, _ = rows.objective()
    assert float(loss) == float(again)
    rows = Rows(training, inputs, tf.constant(toy.rows(4).labels), None)
    other, _ = rows.objective()
    assert float(other) != float(loss)
    first, second = rows.outputs(same_dropout=True), rows.outputs()
    assert np.abs(first - second).max() > 1e-3
    assert not np.array_equal(first, outputs)


# --- what outputs are -------------------------------------------------------------------------


def test_yes_or_no_answers_are_compared_by_themselves():
    loss = keras.losses.BinaryCrossentropy(from_logits=True)

    def of(x, y):
        p, q = 1 / (1 + np.exp(-x)), 1 / (1 + np.exp(-y))
        return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))

    found = divergence(rows_of(loss), tf.constant(FIRST), tf.constant(SECOND), symmetric=False)
    assert float(found) == pytest.approx(of(FIRST, SECOND).mean(), rel=1e-5)


def test_numbers_are_compared_by_squares():
    loss = keras.losses.MeanSquaredError()
    first, second = tf.constant(FIRST[:, 0]), tf.constant(SECOND[:, 0])
    found = divergence(rows_of(loss), first, second, symmetric=True)
    assert float(found) == pytest.approx(((FIRST - SECOND)[:, 0] ** 2).mean(), rel=1e-6)


@pytest.mark.parametrize("by_token", [False, True])
def test_tokens_are_compared_where_they_are_real(by_token):
    first, second = np.random.default_rng(3).normal(size=(2, 2, 4, 3))
    mask = np.array([[1, 1, 1, 0], [1, 2, 0, 0]])
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    weights = tf.constant(mask * [[1.0], [3.0]]) if by_token else None
    rows = rows_of(loss, weights=weights, inputs={"padding_mask": tf.constant(mask)})
    found = divergence(rows, tf.constant(first), tf.constant(second), symmetric=False)
    apart = reference.kl(first, second)
    if by_token:
        expected = (apart * weights.numpy()).sum() / weights.numpy().sum()
    else:
        expected = (apart[0, :3].mean() + apart[1, :2].mean()) / 2
    assert float(found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "loss",
    ["sparse_categorical_crossentropy", keras.losses.SparseCategoricalCrossentropy()],
    ids=["name", "probabilities"],
)
def test_outputs_that_are_no_logits_are_refused(loss):
    rows = rows_of(loss, second=tf.constant(SECOND))
    with pytest.raises(ValueError, match=r"expected a keras loss object with from_logits=True.*Re"):
        RDrop(1.0)(rows, tf.constant(FIRST), tf.constant(0.0))


def test_smoothed_and_focal_losses_say_that_they_take_logits():
    rows = rows_of(classify.loss(label_smoothing=0.1, focal_gamma=2.0))
    found = divergence(rows, tf.constant(FIRST), tf.constant(SECOND), symmetric=False)
    assert float(found) == pytest.approx(reference.kl(FIRST, SECOND).mean(), rel=1e-6)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_a_weight_is_positive(weight):
    with pytest.raises(ValueError, match="weight must be more than 0, and finite. Received"):
        RDrop(weight)


# --- mixup ------------------------------------------------------------------------------------

WEIGHTS, BATCH = reference.new_weights(), reference.new_batch(rows=4)


@pytest.mark.parametrize("row_weights", [None, [1.0, 0.25, 3.0, 0.0]], ids=["plain", "weighted"])
def test_mixup_is_the_papers(row_weights):
    mixup = HiddenMixup(0.8, seed=5)
    model, variables = keras_reference.new_model(WEIGHTS)
    rows = keras_reference.new_rows(model, BATCH, LABELS, weights=row_weights, regularizers=[mixup])
    loss, outputs = rows.objective()
    shares, partners = (values.numpy() for values in mixup.draw(rows))
    assert sorted(partners) == [0, 1, 2, 3] and (partners != np.arange(4)).any()
    by_row = np.ones(4) if row_weights is None else np.array(row_weights)

    def expected(weights):
        return reference.mixup(
            weights, BATCH, LABELS, by_row, shares=shares.astype(np.float64), partners=partners
        )

    assert float(loss) == pytest.approx(expected(WEIGHTS), rel=1e-5)
    # Metrics see the rows as they are.
    np.testing.assert_allclose(outputs, reference.logits(WEIGHTS, BATCH), rtol=1e-10)
    found = keras_reference.gradients(rows, variables)
    # The shares are float32.
    for name, one, other in zip(
        reference.NAMES, found, reference.weight_slopes(expected, WEIGHTS), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7, err_msg=name)


def test_mixup_keeps_the_mean_of_a_loss_that_divides_by_weights():
    mixup, row_weights = HiddenMixup(0.8, seed=5), np.array([1.0, 0.25, 3.0, 0.5], np.float32)
    found = []
    for reduction in ("sum_over_batch_size", "mean_with_sample_weight", "sum"):
        model, _ = keras_reference.new_model(WEIGHTS)
        rows = keras_reference.new_rows(
            model, BATCH, LABELS, weights=row_weights, regularizers=[mixup],
            loss=keras_reference.cross_entropy(reduction),
        )  # fmt: skip
        found.append(float(rows.objective()[0]))
    assert found[1] == pytest.approx(found[0] * 4 / row_weights.sum(), rel=1e-6)
    assert found[2] == pytest.approx(found[0] * 4, rel=1e-6)


def test_shares_follow_the_beta_distribution():
    mixup = HiddenMixup(0.4, seed=1)
    iterations = keras.Variable(3, dtype="int64", trainable=False)
    training = types.SimpleNamespace(optimizer=types.SimpleNamespace(iterations=iterations))
    training.adversary, training.regularizers = None, ()
    rows = Rows(training, None, None, None)
    rows.pooled = tf.zeros((20_000, 1))
    shares, partners = (values.numpy() for values in mixup.draw(rows))
    assert shares.mean() == pytest.approx(0.5, abs=0.01)
    assert shares.var() == pytest.approx(0.25 / (2 * 0.4 + 1), abs=0.005)
    assert np.array_equal(np.sort(partners), np.arange(20_000))
    assert abs(np.corrcoef(shares, partners)[0, 1]) < 0.03
    training.optimizer.iterations.assign(4)
    assert np.abs(mixup.draw(rows)[0] - shares).max() > 0.5


def test_mixup_comes_first_whatever_the_order():
    mixup, r_drop = HiddenMixup(0.4), RDrop(1.0)
    assert TrainingModel(toy.new_model(), regularizers=[r_drop, mixup]).regularizers == (
        mixup, r_drop,
    )  # fmt: skip


def test_the_head_shares_the_models_weights_and_answers():
    model = toy.new_model()
    training = TrainingModel(model, regularizers=[HiddenMixup(0.4)])
    encoder, head = training.head
    inputs = dict(toy.tokenizer()(toy.rows(4).texts))
    np.testing.assert_array_equal(head(encoder(inputs)["pooled"]), model(inputs))
    assert [w.path for w in training.trainable_weights] == [w.path for w in model.trainable_weights]


def test_models_without_a_sentence_vector_are_refused():
    encoder = build_encoder(encoder_config(toy.new_model().get_layer("encoder")))
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in encoder.input}
    tags = keras.layers.Dense(2)(encoder(inputs)["sequence"])
    expected = "Expected a model that answers by the sentence vector of its encoder. Received: "
    for model, received in (
        (keras.Model(inputs, tags, name="tagger"), "'tagger', whose head takes other outputs"),
        (encoder, "'encoder' without a layer named encoder"),
    ):
        with pytest.raises(ValueError, match=expected + received):
            TrainingModel(model, regularizers=[HiddenMixup(0.4)])


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("inf")])
def test_alpha_is_positive(alpha):
    with pytest.raises(ValueError, match="alpha must be more than 0, and finite. Received"):
        HiddenMixup(alpha)


@pytest.mark.parametrize("pieces", [[HiddenMixup(0.4)], [RDrop(0.5), HiddenMixup(0.4)]])
def test_a_model_learns(pieces):
    model = toy_fit.new_model()
    history = toy_fit.fit(toy_fit.compiled(TrainingModel(model, regularizers=pieces))).history
    assert history["loss"][-1] < 0.75 * history["loss"][0]
    assert history["accuracy"][-1] > 0.9 and toy_fit.accuracy(model) > 0.9
