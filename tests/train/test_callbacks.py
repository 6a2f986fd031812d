import json
import logging
import time
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfmodel.tokens import Batches
from tfmodel.tokens.batches import TokenRows
from tfmodel.train import callbacks
from tfmodel.train.checkpoint import Checkpoint


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = types.SimpleNamespace(seconds=100.0)
    fake = types.SimpleNamespace(perf_counter=lambda: now.seconds, time=time.time)
    for module in (callbacks.stopwatch, callbacks.progress):
        monkeypatch.setattr(module, "time", fake)
    return now


def test_training_time_is_without_dev_evaluation(clock):
    watch = callbacks.Stopwatch(start=90.0)  # ten seconds of tokenization
    clock.seconds = 105
    watch.on_train_batch_end(0)
    assert watch.seconds == 15
    watch.on_test_begin()
    clock.seconds = 145
    watch.on_test_end()
    clock.seconds = 150
    watch.on_train_batch_end(1)
    assert watch.seconds == 20
    # What comes after the last step is no training, and takes nothing off.
    watch.on_test_begin()
    clock.seconds = 200
    watch.on_test_end()
    assert watch.seconds == 20


def test_earlier_sittings_count(clock):
    watch = callbacks.Stopwatch(start=100.0)
    watch.set_state({"seconds": 60.0})
    assert watch.seconds == 60
    clock.seconds = 104
    watch.on_train_batch_end(0)
    assert watch.seconds == 64


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_at_once(loss):
    guard = callbacks.StopOnNaN()
    guard.on_train_batch_end(3, {"loss": 0.5})
    guard.on_train_batch_end(4, {})
    with pytest.raises(FloatingPointError, match=f"The loss is {loss} at step 6 of this epoch"):
        guard.on_train_batch_end(5, {"loss": loss})


# --- steps --------------------------------------------------------------------------------


def mean_model():
    """Its loss on a batch is the mean of what stands under the mask: known in advance."""
    inputs = {
        name: keras.Input((None,), dtype="int32", name=name)
        for name in ("token_ids", "segment_ids", "padding_mask")
    }
    take = keras.layers.Lambda(lambda x: tf.cast(x[:, :1], tf.float32), output_shape=(1,))
    first = take(inputs["token_ids"])
    model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones")(first))
    model.compile(keras.optimizers.SGD(0.0), loss=lambda _, y: y, jit_compile=False)
    return model


def fed(lengths=(3, 5, 4, 2, 6, 1, 7)):
    lengths = np.array(lengths)
    ids = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    rows = TokenRows(ids, np.concatenate([[0], np.cumsum(lengths)]), np.ones(len(lengths), int))
    return Batches(rows, np.zeros(len(lengths), np.float32), batch_size=3)


def test_each_steps_own_loss_is_recorded():
    batches, model = fed(), mean_model()
    recorder = callbacks.StepRecorder(batches)
    model.fit(batches.dataset(), epochs=2, verbose=0, shuffle=False, callbacks=[recorder])
    plans = [*batches.plan(0), *batches.plan(1)]
    assert [entry["step"] for entry in recorder.history] == [1, 2, 3, 4, 5, 6]
    losses = [entry["loss"] for entry in recorder.history]
    np.testing.assert_allclose(losses, [rows.mean() for rows in plans], rtol=1e-5)
    assert recorder.examples == 14
    assert recorder.tokens == 2 * 28
    assert all(entry["tokens_per_second"] > 0 for entry in recorder.history)


def test_steps_of_a_continued_epoch_are_recorded():
    batches, model = fed(), mean_model()
    batches.epoch, batches.skip = 4, 2
    recorder = callbacks.StepRecorder(batches)
    model.fit(
        batches.dataset(), initial_epoch=4, epochs=5, verbose=0, shuffle=False,
        callbacks=[recorder],
    )  # fmt: skip
    (rows,) = batches.plan(4)[2:]
    (entry,) = recorder.history
    assert entry["loss"] == pytest.approx(rows.mean(), rel=1e-5)
    assert recorder.examples == len(rows)


def test_the_mean_of_a_continued_epoch_is_turned_back_into_steps():
    batches, model = fed(), mean_model()
    plan = batches.plan(0)
    first, second = callbacks.StepRecorder(batches), callbacks.StepRecorder(batches)
    for recorder, steps in ((first, (0, 1)), (second, (2,))):
        recorder.set_model(model)
        batches.epoch, batches.skip = 0, steps[0]
        recorder.on_epoch_begin(0)
        batches.epoch = 1  # as its generator has begun
        for batch, step in enumerate(steps):
            recorder.on_train_batch_begin(batch)
            mean = np.concatenate(plan[: step + 1]).mean()  # Keras's goes on after `Resume`
            recorder.on_train_batch_end(batch, {"loss": mean})
        if recorder is first:
            second.set_state(json.loads(json.dumps(first.state())))
    losses = [entry["loss"] for entry in second.history]
    np.testing.assert_allclose(losses, [rows.mean() for rows in plan], rtol=1e-6)


def test_steps_that_are_one_call_are_all_counted():
    batches, model = fed(), mean_model()
    model.compile(
        keras.optimizers.SGD(0.0), loss=lambda _, y: y, jit_compile=False, steps_per_execution=2
    )
    recorder = callbacks.StepRecorder(batches)
    model.fit(batches.dataset(), epochs=2, verbose=0, shuffle=False, callbacks=[recorder])
    assert [entry["step"] for entry in recorder.history] == [2, 3, 5, 6]
    assert (recorder.examples, recorder.tokens) == (14, 2 * 28)
    first = np.concatenate(batches.plan(0)[:2]).mean()
    assert recorder.history[0]["loss"] == pytest.approx(first, rel=1e-5)


# --- progress -----------------------------------------------------------------------------


def watched(clock, **arguments):
    model = types.SimpleNamespace(optimizer=types.SimpleNamespace(iterations=keras.Variable(10)))
    recorder = types.SimpleNamespace(examples=320, history=[])
    progress = callbacks.Progress(recorder, total_steps=40, epochs=2, **arguments)
    progress.set_model(model)
    progress.on_train_begin()
    progress.on_epoch_begin(0)

    def step(seconds):
        clock.seconds += seconds
        recorder.examples += 32
        recorder.history.append({"step": 11 + len(recorder.history), "loss": 0.25})
        progress.on_train_batch_end(len(recorder.history))

    return progress, step


def test_progress_is_logged_where_there_is_no_terminal(clock, caplog, monkeypatch):
    monkeypatch.setattr("sys.stderr", types.SimpleNamespace(isatty=lambda: False))
    progress, step = watched(clock, seconds=10)
    with caplog.at_level(logging.INFO, "tfmodel"):
        for _ in range(11):
            step(2.0)
        progress.on_epoch_end(0, {"loss": 0.5, "val_loss": 0.75, "val_accuracy": 0.875, "x": 1})
        progress.on_train_end()
    # 5 steps in 10 seconds since it began: 25 are left, 50 seconds.
    assert caplog.messages == [
        "epoch 1/2, step 15 of 40, loss 0.250, 16 rows/s, 50 s left",
        "epoch 1/2, step 20 of 40, loss 0.250, 16 rows/s, 40 s left",
        "epoch 1/2: loss 0.5000, dev loss 0.7500, dev accuracy 0.8750",
    ]


def test_progress_is_one_line_on_a_terminal(clock, monkeypatch, caplog):
    import io

    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    progress, step = watched(clock)
    with caplog.at_level(logging.INFO, "tfmodel"):
        for _ in range(3):
            step(20.0)
        progress.on_train_end()
    shown = terminal.getvalue()
    assert "epoch 1/2" in shown and "/40" in shown
    assert "\n" not in shown.strip("\n")
    assert caplog.messages == []


# --- the best epoch -----------------------------------------------------------------------


def keep_best(tmp_path, figures, *, monitor="val_accuracy", patience=None, best=None):
    """Show a `KeepBest` epochs whose weight is their number; the epochs it saw, and its weight."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.stop_training = False
    best = best or callbacks.KeepBest(
        monitor, patience=patience, checkpoint=Checkpoint(tmp_path / "best")
    )
    best.set_model(model)
    seen = 0
    for epoch, logs in enumerate(figures):
        model.layers[0].kernel.assign([[float(epoch)]])
        best.on_epoch_end(epoch, logs)
        seen += 1
        if model.stop_training:
            break
    best.on_train_end()
    return best, seen, float(model.layers[0].kernel.numpy()[0, 0])


def accuracies(*values):
    return [{"val_accuracy": value, "val_loss": 1.0} for value in values]


def test_the_best_epochs_weights_come_back(tmp_path):
    best, seen, weight = keep_best(tmp_path, accuracies(0.5, 0.9, 0.7, 0.8))
    assert (best.best_epoch, seen, weight) == (1, 4, 1.0)


def test_patience_counts_epochs_that_are_not_better(tmp_path):
    best, seen, weight = keep_best(tmp_path, accuracies(0.5, 0.9, 0.7, 0.9, 0.95), patience=2)
    assert (best.best_epoch, seen, weight) == (1, 4, 1.0)


def test_a_lower_loss_is_better(tmp_path):
    losses = [{"val_loss": value} for value in (0.5, 0.4, 0.6)]
    best, _, weight = keep_best(tmp_path, losses, monitor="val_loss")
    assert (best.best_epoch, weight) == (1, 1.0)


def test_equal_accuracies_are_told_apart_by_their_loss(tmp_path):
    figures = [{"val_accuracy": 0.9, "val_loss": loss} for loss in (0.5, 0.3, 0.4)]
    best, _, weight = keep_best(tmp_path, figures)
    assert (best.best_epoch, weight) == (1, 1.0)


def test_its_state_continues(tmp_path):
    first, _, _ = keep_best(tmp_path, accuracies(0.5, 0.9), patience=2)
    again = callbacks.KeepBest("val_accuracy", patience=2, checkpoint=Checkpoint(tmp_path / "best"))
    again.set_state(first.state())
    _, seen, weight = keep_best(tmp_path, accuracies(0.6, 0.7, 0.95), best=again)
    assert (again.best_epoch, seen, weight) == (1, 2, 1.0)


def test_without_an_evaluation_nothing_is_kept_and_a_warning_says_so(tmp_path, caplog):
    best, _, weight = keep_best(tmp_path, [{"loss": 1.0}] * 3)
    assert best.best_epoch is None and weight == 2.0
    assert not (tmp_path / "best").exists()
    assert "no weights are kept: no epoch had val_accuracy" in caplog.text


def test_an_epoch_without_an_evaluation_waits_for_the_next(tmp_path):
    figures = [{"loss": 1.0}, *accuracies(0.5), {"loss": 1.0}, *accuracies(0.4)]
    best, _, weight = keep_best(tmp_path, figures)
    assert (best.best_epoch, weight) == (1, 1.0)


def test_a_figure_that_is_none_of_the_epochs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="epoch: val_accuracy, val_loss. Received: val_acc"):
        keep_best(tmp_path, accuracies(0.5), monitor="val_acc")


def test_what_is_not_a_number_is_never_the_best(tmp_path):
    losses = [{"val_loss": value} for value in (float("nan"), 0.4, float("nan"))]
    best, _, weight = keep_best(tmp_path, losses, monitor="val_loss")
    assert (best.best_epoch, weight) == (1, 1.0)
    figures = [{"val_accuracy": 0.9, "val_loss": loss} for loss in (float("nan"), 0.3)]
    best, _, weight = keep_best(tmp_path / "equal", figures)
    assert (best.best_epoch, weight) == (1, 1.0)


def test_one_training_begins_and_ends_once():
    calls = []

    class Listener(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            calls.append("begin")

        def on_epoch_end(self, epoch, logs=None):
            calls.append(epoch)

        def on_train_end(self, logs=None):
            calls.append("end")

    model, batches = mean_model(), fed()
    together = callbacks.OneTraining([Listener()], model=model, epochs=3)
    together.begin()
    for epoch in range(3):
        model.fit(
            batches.dataset(), initial_epoch=epoch, epochs=epoch + 1, verbose=0, shuffle=False,
            callbacks=together,
        )  # fmt: skip
    together.end()
    assert calls == ["begin", 0, 1, 2, "end"]
