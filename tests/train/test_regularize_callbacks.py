"""Averages of weights, gradual unfreezing and the rate on a plateau, in a plain `fit`."""

import dataclasses

import keras
import numpy as np
import pytest
import toy
from test_regularize_model import SHAPE, depth_by_hand, values

from tfmodel.model import build_encoder
from tfmodel.tasks import classify
from tfmodel.train import adamw
from tfmodel.train.callbacks import KeepBest
from tfmodel.train.regularize import (
    ExponentialMovingAverage,
    GradualUnfreezing,
    LearningRateOnPlateau,
    StochasticWeightAveraging,
)
from tfmodel.train.regularize.rate import AdjustedSchedule
from tfmodel.train.step import TrainingModel

STEPS = 4  # an epoch


def data():
    """The same four batches every epoch, so that trainings can be compared bit for bit."""
    inputs = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
    return inputs, (inputs[:, 0] > inputs[:, 1]).astype(np.int32)


def compiled(*, rate=0.01, total_steps=20, several=1):
    """A model that is traced in no time: nothing here asks for a BERT."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((5,))
    below = keras.layers.Dense(4, activation="tanh", name="below")(inputs)
    dropped = keras.layers.Dropout(0.1, seed=3)(below)
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(dropped))
    model.compile(
        adamw(rate, total_steps=total_steps),
        loss=classify.loss(),
        metrics=classify.metrics(),
        jit_compile=False,
        steps_per_execution=several,
    )
    return model


def fit(model, callbacks, *, epochs=3, dev=True, given=None, **arguments):
    inputs, labels = data() if given is None else given
    return model.fit(
        inputs,
        labels,
        batch_size=16,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
        validation_data=(inputs, labels) if dev else None,
        **arguments,
    )


class Recorder(keras.callbacks.Callback):
    """The weights after each step, and during and after each epoch."""

    def __init__(self):
        super().__init__()
        self.steps, self.tested, self.epochs, self.rates, self.logs = [], [], [], [], []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(values(self.model))

    def on_train_batch_begin(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))

    def on_test_end(self, logs=None):
        self.tested.append(values(self.model))

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(values(self.model))
        self.logs.append(dict(logs))


def assert_equal(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for path, value in found.items():
        np.testing.assert_allclose(value, expected[path], err_msg=path, **tolerance)


@pytest.fixture(scope="module")
def plain():
    """A training that nothing is averaged in."""
    recorder = Recorder()
    model = compiled()
    first = values(model)
    fit(model, [recorder])
    return first, recorder, values(model)


# --- averages -------------------------------------------------------------------------------------


def averages_by_hand(first, steps, decay, every=1):
    """The shadow after each step, in float64."""
    average = {path: value.astype(np.float64) for path, value in first.items()}
    found, updates = [], 0
    for number, weights in enumerate(steps, start=1):
        if number % every == 0:
            now = min(decay**every, (1 + updates) / (10 + updates))
            average = {p: now * a + (1 - now) * weights[p] for p, a in average.items()}
            updates += 1
        found.append(average)
    return found


@pytest.mark.parametrize(("decay", "every"), [(0.99, 1), (0.3, 1), (0.6, 3)])
@pytest.mark.parametrize("dev", [True, False])
def test_the_moving_average_is_numpys(plain, decay, every, dev):
    first, expected, _ = plain
    recorder = Recorder()
    model = compiled()
    fit(model, [ExponentialMovingAverage(decay, every_steps=every), recorder], dev=dev)
    # Training goes on from the weights: it is the very training without an average.
    for found, other in zip(recorder.steps, expected.steps, strict=True):
        assert_equal(found, other, rtol=0, atol=0)
    averages = averages_by_hand(first, recorder.steps, decay, every)
    for epoch in range(3):
        now = averages[STEPS * (epoch + 1) - 1]
        assert_equal(recorder.epochs[epoch], now, rtol=1e-5, atol=1e-6)
        if dev:
            assert_equal(recorder.tested[epoch], now, rtol=1e-5, atol=1e-6)
    assert_equal(values(model), averages[-1], rtol=1e-5, atol=1e-6)


def test_several_steps_at_once_weigh_in_the_moving_average_as_many(plain):
    first, _, _ = plain
    recorder = Recorder()
    model = compiled(several=2)
    fit(model, [ExponentialMovingAverage(0.3), recorder], epochs=1, dev=False)
    assert len(recorder.steps) == STEPS // 2
    average = {path: value.astype(np.float64) for path, value in first.items()}
    for number, weights in enumerate(recorder.steps):
        one, two = (min(0.3, (1 + k) / (10 + k)) for k in (2 * number, 2 * number + 1))
        remains = one * two
        average = {p: remains * a + (1 - remains) * weights[p] for p, a in average.items()}
    assert_equal(values(model), average, rtol=1e-5, atol=1e-6)


def test_the_dev_figures_are_the_averages():
    model = compiled()
    recorder = Recorder()
    fit(model, [ExponentialMovingAverage(0.9), recorder])
    inputs, labels = data()
    loss, accuracy = model.evaluate(inputs, labels, verbose=0)
    assert recorder.logs[-1]["val_loss"] == pytest.approx(loss, rel=1e-5)
    assert recorder.logs[-1]["val_accuracy"] == pytest.approx(accuracy)


def test_a_second_fit_goes_on_from_the_weights(plain):
    _, expected, _ = plain
    model, average, recorder = compiled(), ExponentialMovingAverage(0.9), Recorder()
    fit(model, [average, recorder], epochs=2)
    assert average.state()["in_model"]
    fit(model, [average, recorder], epochs=3, initial_epoch=2)
    assert_equal(recorder.steps[-1], expected.steps[-1], rtol=0, atol=0)


def test_an_evaluation_of_its_own_swaps_nothing():
    model, average = compiled(), ExponentialMovingAverage(0.9)
    fit(model, [average], epochs=1)
    before = values(model)
    inputs, labels = data()
    model.evaluate(inputs, labels, verbose=0, callbacks=[average])
    assert_equal(values(model), before, rtol=0, atol=0)


@pytest.mark.parametrize("start", [1, 2, 3])
def test_stochastic_weight_averaging_is_the_mean_of_the_epochs(plain, start):
    _, expected, _ = plain
    recorder = Recorder()
    model = compiled()
    fit(model, [StochasticWeightAveraging(start), recorder])
    for found, other in zip(recorder.steps, expected.steps, strict=True):
        assert_equal(found, other, rtol=0, atol=0)
    ends = [recorder.steps[STEPS * (epoch + 1) - 1] for epoch in range(3)]
    for epoch in range(3):
        counted = ends[start - 1 : epoch + 1] or [ends[epoch]]
        mean = {p: np.mean([e[p] for e in counted], axis=0, dtype=np.float64) for p in counted[0]}
        assert_equal(recorder.tested[epoch], mean, rtol=1e-5, atol=1e-6)
    assert_equal(values(model), mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("total_steps", [12, None])
def test_its_rate_is_constant_from_the_start_epoch(total_steps):
    recorder = Recorder()
    model = compiled(total_steps=total_steps)
    fit(model, [StochasticWeightAveraging(2, learning_rate=0.004), recorder])
    assert np.float32(0.004) not in np.float32(recorder.rates[:STEPS])
    np.testing.assert_allclose(recorder.rates[STEPS:], 0.004, rtol=1e-6)
    moved = recorder.steps[-1]["head/kernel"] - recorder.steps[-2]["head/kernel"]
    assert abs(moved).max() > 1e-3  # a step at that rate; the schedule's last is far smaller


def test_the_best_epoch_is_kept_as_its_average():
    model, best, recorder = compiled(), KeepBest("val_loss"), Recorder()
    # Dev figures of my own: the second epoch is the best.
    figures = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(val_loss=[2.0, 1.0, 3.0][epoch])
    )
    fit(model, [ExponentialMovingAverage(0.9), figures, best, recorder], dev=False)
    assert best.best_epoch == 1
    assert_equal(values(model), recorder.epochs[1], rtol=0, atol=0)
    assert (recorder.epochs[1]["head/kernel"] != recorder.steps[7]["head/kernel"]).any()


def shown(*losses):
    """Dev figures of my own."""
    return keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(val_loss=losses[epoch])
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: ExponentialMovingAverage(0.9),
        lambda: StochasticWeightAveraging(1),
        lambda: LearningRateOnPlateau("val_loss", min_delta=100.0),
        lambda: KeepBest("val_loss"),
    ],
)
def test_a_callback_begins_anew_with_another_model(make):
    """As in a loop over seeds, of which the first may be the best."""
    used, found = make(), []
    fit(compiled(), [shown(-1.0, -1.0, -1.0), used])
    for callback in (make(), used):
        model = compiled()
        fit(model, [callback])
        found.append(values(model))
    assert_equal(*found, rtol=0, atol=0)


def test_the_best_epoch_is_that_of_the_last_fit():
    model, best = compiled(), KeepBest("val_loss", patience=2)
    fit(model, [shown(3.0, 2.0, 1.0), best])
    assert best.best_epoch == 2
    history = fit(model, [shown(4.0, 3.0, 3.5), best])
    assert best.best_epoch == 1 and len(history.epoch) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ExponentialMovingAverage(1.0), r"decay must be in \(0, 1\)"),
        (lambda: ExponentialMovingAverage(0.9, every_steps=0), "every_steps 1 or more"),
        (lambda: StochasticWeightAveraging(0), "start_epoch must be 1 or more"),
        (lambda: StochasticWeightAveraging(1, learning_rate=0.0), "learning_rate above 0"),
        (lambda: GradualUnfreezing(0), "epochs must be 1 or more"),
        (lambda: LearningRateOnPlateau(factor=1.0), r"factor and min_factor must be in \(0, 1\)"),
        (lambda: LearningRateOnPlateau(patience=0), "patience must be 1 or more"),
        (lambda: KeepBest("val_loss", patience=0), "patience must be 1 or more"),
        (lambda: KeepBest("val_loss", min_delta=-1), "min_delta 0 or more"),
    ],
)
def test_a_value_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_start_after_the_last_epoch_is_refused():
    with pytest.raises(ValueError, match="must not come after the last epoch. Received: 4 of 3"):
        fit(compiled(), [StochasticWeightAveraging(4)])


# --- gradual unfreezing ---------------------------------------------------------------------------


def tokens():
    rows = toy.rows(64)
    return toy.tokenizer()(rows.texts), np.asarray(rows.labels)


def compiled_bert(*, wrapped=False, total_steps=20):
    """Two layers: with embeddings and top four groups."""
    keras.utils.set_random_seed(1)
    shape = dataclasses.replace(SHAPE, layers=2)
    model = classify.build(build_encoder(shape, sequence=False), classes=2)
    trained = TrainingModel(model) if wrapped else model
    trained.compile(adamw(0.01, total_steps=total_steps), loss=classify.loss(), jit_compile=False)
    return model, trained


def depth(path):
    """0 of embeddings, 1 and 2 of layers, 3 of the top."""
    return min(depth_by_hand(path), 3)


def trained_depths(before, after):
    return {depth(path) for path in after if (after[path] != before[path]).any()}


@pytest.mark.parametrize(
    ("epochs", "wrapped", "expected"),
    [
        pytest.param(*(3, False, [{3}, {2, 3}, {1, 2, 3}, {0, 1, 2, 3}]), marks=pytest.mark.slow),
        (2, True, [{3}, {2, 3}, {0, 1, 2, 3}, {0, 1, 2, 3}]),
    ],
)
def test_layers_join_from_the_top_within_one_fit(epochs, wrapped, expected):
    model, trained = compiled_bert(wrapped=wrapped)
    first, trainable = values(model), [w.path for w in model.trainable_variables]
    recorder = Recorder()
    fit(trained, [GradualUnfreezing(epochs), recorder], epochs=4, given=tokens(), dev=False)
    ends = [first, *recorder.steps[STEPS - 1 :: STEPS]]
    assert [trained_depths(*pair) for pair in zip(ends, ends[1:], strict=False)] == expected
    assert [w.path for w in model.trainable_variables] == trainable
    for each in range(4):
        begun = next(epoch for epoch, depths in enumerate(expected) if each in depths)
        joined = trained.optimizer.joined_at
        assert {joined.get(p, 0) for p in first if depth(p) == each} == {STEPS * begun}


def test_unfreezing_minds_the_user_the_averages_and_the_best_epoch():
    model, _ = compiled_bert(total_steps=None)
    table = model.get_layer("encoder").get_layer("embeddings")
    table.trainable = False
    first, recorder, best = values(model), Recorder(), KeepBest("val_loss")
    figures = with_figures([3.0, 1.0, 2.0])
    callbacks = [GradualUnfreezing(1), ExponentialMovingAverage(0.9), figures, best, recorder]
    fit(model, callbacks, epochs=3, given=tokens(), dev=False)
    assert not table.trainable
    assert trained_depths(first, values(model)) == {1, 2, 3}
    averages = averages_by_hand(first, recorder.steps, 0.9)
    for epoch in range(3):
        now = averages[STEPS * (epoch + 1) - 1]
        assert_equal(recorder.epochs[epoch], now, rtol=1e-5, atol=1e-6)
    assert_equal(values(model), recorder.epochs[1], rtol=0, atol=0)
    # Adam's first step is the rate itself, weight decay apart; uncorrected it is 3 times that.
    path = "layer_0_feed_forward/widen/kernel"
    update = abs(recorder.steps[STEPS][path] - recorder.steps[STEPS - 1][path])
    assert np.percentile(update, 90) == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize(
    ("epochs", "of", "message"),
    [
        (4, 9, "must be at most the encoder's layers plus one, 3. Received: 4"),
        (2, 2, "below the epochs of training.*Received: 2 of 2"),
    ],
)
def test_unfreezing_that_does_not_fit_is_refused(epochs, of, message):
    _, trained = compiled_bert()
    with pytest.raises(ValueError, match=message):
        fit(trained, [GradualUnfreezing(epochs)], epochs=of, given=tokens())


# --- the rate on a plateau ------------------------------------------------------------------------


def with_figures(losses):
    figures = iter(losses)
    return keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(val_loss=next(figures))
    )


@pytest.mark.parametrize("total_steps", [24, None])
def test_the_rate_falls_where_a_figure_stands_still(total_steps):
    expected = Recorder()
    fit(compiled(total_steps=total_steps), [expected], epochs=6, dev=False)
    recorder, model = Recorder(), compiled(total_steps=total_steps)
    # Better; not enough better; no better, so it falls; better; two that are not: it falls.
    losses = [1.0, 0.95, 1.0, 0.5, 0.6, 0.5]
    plateau = LearningRateOnPlateau(factor=0.25, patience=2, min_delta=0.1)
    fit(model, [with_figures(losses), plateau, recorder], epochs=6, dev=False)
    factors = np.repeat([1, 1, 1, 0.25, 0.25, 0.25], STEPS)
    np.testing.assert_allclose(recorder.rates, factors * expected.rates, rtol=1e-6)
    assert plateau.product == 0.25**2
    # The step itself has the rate: the fourth epoch's weights differ from then on alone.
    for step, (found, other) in enumerate(zip(recorder.steps, expected.steps, strict=True)):
        assert (found["head/kernel"] == other["head/kernel"]).all() == (step < 3 * STEPS)


def test_it_never_falls_below_its_least_factor():
    plateau = LearningRateOnPlateau(factor=0.1, min_factor=0.05)
    recorder, model = Recorder(), compiled(total_steps=None)
    fit(model, [with_figures([1.0] * 5), plateau, recorder], epochs=5, dev=False)
    np.testing.assert_allclose(recorder.rates[-1], 0.01 * 0.05, rtol=1e-6)


def test_a_model_that_was_fitted_before_takes_the_new_rate():
    model = compiled(total_steps=24)
    fit(model, [], epochs=1)
    recorder = Recorder()
    fit(model, [with_figures([1.0, 1.0, 1.0]), LearningRateOnPlateau(factor=0.001), recorder],
        epochs=3, dev=False)  # fmt: skip
    moved = [
        abs(a["head/kernel"] - b["head/kernel"]).max()
        for a, b in zip(recorder.steps, recorder.steps[1:], strict=False)
    ]
    assert max(moved[2 * STEPS :]) < 0.01 * min(moved[: STEPS - 1])


def test_its_state_continues():
    first = LearningRateOnPlateau(factor=0.5, patience=2)
    fit(compiled(total_steps=40), [with_figures([1.0, 1.0, 1.0, 1.0]), first], epochs=4, dev=False)
    again = LearningRateOnPlateau(factor=0.5, patience=2)
    again.set_state(first.state())
    recorder, model = Recorder(), compiled(total_steps=40)
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(16)
    fit(model, [with_figures([1.0, 1.0]), again, recorder], epochs=2, dev=False)
    scheduled = [0.01 * (40 - step) / 36 for step in range(16, 24)]
    # It had waited for one epoch, and falls after the first here.
    factors = np.repeat([0.5, 0.25], STEPS)
    np.testing.assert_allclose(recorder.rates, factors * scheduled, rtol=1e-5)
    assert again.product == 0.25


def test_an_adjusted_schedule_can_be_kept_in_a_file():
    model = compiled()
    fit(model, [LearningRateOnPlateau()], epochs=1)
    optimizer = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(model.optimizer)
    )
    assert isinstance(optimizer._learning_rate, AdjustedSchedule)
    optimizer.build(model.trainable_variables)
    assert float(optimizer.learning_rate) == pytest.approx(0.005)  # the first of two steps' rise


# --- the best epoch -------------------------------------------------------------------------------


def test_the_best_epochs_weights_come_back_in_a_plain_fit():
    model, recorder = compiled(), Recorder()
    best = KeepBest("val_loss", patience=2)
    fit(model, [with_figures([2.0, 1.0, 1.5, 1.25, 0.0]), best, recorder], epochs=5, dev=False)
    assert (best.best_epoch, len(recorder.epochs)) == (1, 4)
    assert_equal(values(model), recorder.epochs[1], rtol=0, atol=0)


def test_min_delta_ends_the_wait_but_keeps_the_best_all_the_same():
    model, recorder = compiled(), Recorder()
    best = KeepBest("val_loss", patience=2, min_delta=0.1)
    fit(model, [with_figures([1.0, 0.95, 0.92, 0.0]), best, recorder], epochs=4, dev=False)
    assert (best.best_epoch, len(recorder.epochs)) == (2, 3)
    assert_equal(values(model), recorder.epochs[2], rtol=0, atol=0)
