"""A training as TensorBoard, and any other tracker, gets to see it."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import event_reading
import keras
import numpy as np
import pytest
import toy

import tfmodel as tm
from tfmodel.tasks import classify
from tfmodel.tokens.batches import batches
from tfmodel.train import adamw
from tfmodel.train.step import TrainingModel
from tfmodel.train.watch import TensorBoard, Watch, sentence_vectors
from tfmodel.train.watch.answers import DevRows
from tfmodel.train.watch.background import Background


class Notes:
    """A tracker that writes down what it is told."""

    def __init__(self):
        self.config, self.steps, self.shown, self.ended = None, {}, [], None
        self.started_at = None

    def start(self, config, *, step):
        self.config, self.started_at = config, step

    def log(self, step, figures):
        self.steps.setdefault(step, {}).update(figures)

    def image(self, step, name, png):
        self.shown.append((step, name, png))

    def table(self, step, name, rows):
        self.shown.append((step, name, rows))

    def flush(self):
        self.shown.append("flush")

    def finish(self, figures):
        self.ended = figures


def fit(callback, *, epochs=2, rows=48, plain=False, compiled=False, model=None):
    """Train the toy model on batches of 8 with the callback."""
    model = toy.new_model() if model is None else model
    train, dev = toy.rows(rows), toy.rows(20, seed=9)
    trained = model if plain else TrainingModel(model)
    metrics = classify.metrics()
    trained.compile(
        adamw(0.01, total_steps=100), loss=classify.loss(), metrics=metrics, jit_compile=compiled
    )
    history = trained.fit(
        batches(train.texts, train.labels, tokenizer=toy.tokenizer(), batch_size=8),
        validation_data=batches(dev.texts, dev.labels, tokenizer=toy.tokenizer(), batch_size=8),
        epochs=epochs,
        verbose=0,
        shuffle=False,
        callbacks=[callback],
    )
    return model, history.history


def dev_rows():
    dev = toy.rows(20, seed=9)
    return DevRows(dev.labels, toy.LABELS, dev.texts)


@pytest.fixture(scope="module")
def watched():
    notes = Notes()
    watch = Watch([notes], dev=dev_rows(), monitor="val_accuracy", config={"rate": 0.01})
    model, history = fit(watch)
    notes.watch = watch
    return notes, model, history


def test_every_step_is_told_with_all_its_figures(watched):
    notes, _, _ = watched
    steps = [step for step, figures in notes.steps.items() if "train/loss" in figures]
    assert steps == list(range(1, 13))
    train = toy.rows(48)
    lengths = np.array([len(text.split()) + 2 for text in train.texts])
    for step in steps:
        figures = notes.steps[step]
        batch = slice((step - 1) % 6 * 8, (step - 1) % 6 * 8 + 8)
        # Rows and tokens are over the same seconds.
        ratio = figures["speed/tokens_per_second"] / figures["speed/examples_per_second"]
        assert ratio == pytest.approx(lengths[batch].sum() / 8, rel=1e-6)
        assert figures["step/gradient_norm"] > 0
        # The first step also waits for itself to be traced.
        assert step == 1 or 0 <= figures["speed/input_share"] < 1
        assert 0 < figures["speed/watch_share"] < 1
        assert 0.05 < figures["system/memory_gib"] < 50
    rates = [notes.steps[step]["step/learning_rate"] for step in steps]
    schedule = tm.train.linear_schedule(0.01, total_steps=100)
    np.testing.assert_allclose(rates, [float(schedule(step - 1)) for step in steps], rtol=1e-6)


def test_every_epoch_is_told_on_train_and_dev(watched):
    notes, _, history = watched
    for epoch, step in enumerate((6, 12)):
        for name, key in (("dev/accuracy", "val_accuracy"), ("dev/loss", "val_loss"),
                          ("train/accuracy", "accuracy")):  # fmt: skip
            assert notes.steps[step][name] == pytest.approx(history[key][epoch])
        losses = [notes.steps[s]["train/loss"] for s in range(step - 5, step + 1)]
        assert np.mean(losses) == pytest.approx(history["loss"][epoch], rel=1e-5)


def test_the_kept_weights_answers_are_shown_as_pictures_and_mistakes(watched):
    notes, model, history = watched
    shown = [each for each in notes.shown if each != "flush"]
    names = {name for _, name, _ in shown}
    assert names == {"dev/confusion_matrix", "dev/reliability", "dev/precision_recall",
                     "dev/mistakes"}  # fmt: skip
    assert all(value[:8] == b"\x89PNG\r\n\x1a\n" for _, name, value in shown if "mist" not in name)
    best = max(range(2), key=lambda e: (history["val_accuracy"][e], -history["val_loss"][e]))
    rows = next(value for _, name, value in reversed(shown) if name == "dev/mistakes")
    assert len(rows) == round(20 * (1 - history["val_accuracy"][best]))
    for row in rows:
        assert row["label"] in row["text"].split() and row["predicted"] != row["label"]
    assert notes.ended["dev_accuracy"] == pytest.approx(history["val_accuracy"][best])
    assert notes.config == {"rate": 0.01}


def test_what_only_the_callback_needs_stands_in_no_history(watched):
    _, _, history = watched
    assert set(history) == {
        "loss", "accuracy", "val_loss", "val_accuracy", "step_loss", "gradient_norm"
    }  # fmt: skip


def test_a_model_once_watched_is_as_before():
    model = TrainingModel(toy.new_model())
    model.compile(adamw(0.01), loss=classify.loss(), metrics=classify.metrics(), jit_compile=False)
    rows = toy.rows(16)
    data = batches(rows.texts, rows.labels, tokenizer=toy.tokenizer(), batch_size=8)
    before = model.evaluate(data, verbose=0, return_dict=True)
    notes = Notes()
    model.optimizer.learning_rate = 0.0
    watch = Watch([notes], dev=DevRows(rows.labels, toy.LABELS))
    model.fit(data, validation_data=data, verbose=0, shuffle=False, callbacks=[watch])
    assert any("confusion" in each[1] for each in notes.shown if each != "flush")
    assert model.evaluate(data, verbose=0, return_dict=True) == pytest.approx(before)


def test_watching_changes_no_weight(watched):
    alone, _ = fit(keras.callbacks.Callback())
    assert toy.digest(alone) == toy.digest(watched[1])


def test_the_best_epoch_is_known_to_a_training_that_goes_on(watched):
    watch = watched[0].watch
    again = Watch([Notes()], monitor="val_accuracy")
    again.set_state(json.loads(json.dumps(watch.state())))
    assert again.best == watch.best is not None and again.kept == watch.kept


def test_another_model_is_not_measured_by_the_first_ones_best_epoch():
    notes = Notes()
    watch = Watch([notes], monitor="val_accuracy", pictures=False)
    fit(watch, epochs=1)
    watch.best, watch.kept = [2.0, 0.0], {"dev_accuracy": 2.0}  # better than any can be
    _, history = fit(watch, epochs=2)
    assert notes.ended["dev_accuracy"] == max(history["val_accuracy"])


def test_any_keras_model_is_watched():
    notes = Notes()
    _, history = fit(Watch([notes]), plain=True)
    losses = [notes.steps[step]["train/loss"] for step in range(1, 7)]
    assert np.mean(losses) == pytest.approx(history["loss"][0], rel=1e-4)
    assert "speed/tokens_per_second" not in notes.steps[1]
    assert notes.ended["dev_loss"] == pytest.approx(history["val_loss"][-1])


def test_dev_rows_need_a_model_that_gives_its_answers():
    with pytest.raises(ValueError, match=r"Expected a TrainingModel.*Received: Functional"):
        fit(Watch([Notes()], dev=dev_rows()), plain=True)


@pytest.mark.slow
def test_a_compiled_step_is_watched_without_its_clock():
    notes = Notes()
    fit(Watch([notes]), epochs=1, rows=16, compiled=True)
    assert "speed/input_share" not in notes.steps[1]
    assert notes.steps[1]["speed/tokens_per_second"] > 0


def test_waiting_for_input_is_measured():
    import tensorflow as tf

    notes = Notes()
    rows = toy.rows(40)
    data = batches(rows.texts, rows.labels, tokenizer=toy.tokenizer(), batch_size=4)

    def wait(labels):
        time.sleep(0.1)
        return labels

    def slowly(values, labels):
        late = tf.numpy_function(wait, [labels], labels.dtype)
        return values, tf.ensure_shape(late, labels.shape)

    model = TrainingModel(toy.new_model())
    model.compile(adamw(0.01), loss=classify.loss(), jit_compile=False)
    model.fit(data.map(slowly), verbose=0, shuffle=False, callbacks=[Watch([notes])])
    late = [notes.steps[step] for step in range(4, 11)]
    for figures in late:
        seconds = 4 / figures["speed/examples_per_second"]
        assert 0.09 < figures["speed/input_share"] * seconds < seconds


def test_a_curve_of_a_long_training_has_fewer_points_than_steps():
    watch = Watch([Notes()], total_steps=25_000)
    watch.set_model(TrainingModel(toy.new_model()))
    watch.model.compile(adamw(0.01), loss=classify.loss())
    watch.on_train_begin()
    watch.close()
    assert watch._every == 3
    with pytest.raises(ValueError, match="every_steps must be 1 or more. Received: 0."):
        Watch([], every_steps=0)


def test_a_tracker_that_fails_ends_itself_alone(caplog):
    class Failing(Notes):
        def log(self, step, figures):
            raise OSError("no space left")

    failing, notes = Failing(), Notes()
    with caplog.at_level(logging.WARNING, logger="tfmodel"):
        both = Background([failing, notes])
        for step in range(3):
            both.call("log", step, {"train/loss": 1.0})
        both.call("finish", {})
        both.flush()
        both.end()
    assert len(notes.steps) == 3 and notes.ended == {} and failing.ended is None
    assert caplog.text.count("Failing shows nothing more of this training: OSError") == 1


def test_answers_of_other_rows_are_not_drawn(caplog):
    watch = Watch([], dev=dev_rows())
    watch.on_test_begin()
    watch.on_test_batch_end(0, {"outputs": np.zeros((9, 2))})
    with caplog.at_level(logging.WARNING, logger="tfmodel"):
        assert watch._epoch_answers() is None
    assert "expected an evaluation of the 20 dev rows, received 9 outputs" in caplog.text


def test_pictures_are_drawn_as_often_as_one_percent_of_the_time_takes(monkeypatch):
    from tfmodel.train.watch import watching

    now = [0.0]
    monkeypatch.setattr(watching.time, "perf_counter", lambda: now[0])
    drawn = []

    class Drawing(Watch):
        def _show(self, step, outputs):
            drawn.append(now[0])
            self._picture_seconds = 1.0
            self._drawing_seconds += 1.0

        def on_epoch_begin(self, epoch, logs=None):
            super().on_epoch_begin(epoch, logs)
            now[0] += 30.0

    fit(Drawing([Notes()], dev=dev_rows()), epochs=12, rows=8)
    # 0.5 s are first thought to be needed, so 50 s have to pass; then 200 s and 300 s for 1 s.
    assert drawn == [60.0, 210.0, 300.0, 360.0]


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board")
    model = toy.new_model()
    callback = TensorBoard(
        folder,
        dev=dev_rows(),
        config={"rate": 0.01, "batch": {"size": 8}, "hub_token": "hf_abcdefgh"},
        profile_steps=(3, 4),
        embed=sentence_vectors(model.get_layer("encoder"), toy.tokenizer()),
        projector_rows=7,
    )
    model, history = fit(callback, model=model)
    return folder, model, history


def test_event_files_overlay_train_and_dev(board):
    folder, _, history = board
    train, dev = (event_reading.scalars(folder / run) for run in ("train", "dev"))
    assert [step for step, _ in train["metrics/loss"]] == list(range(1, 13))
    assert dev["metrics/loss"] == [
        (6, pytest.approx(history["val_loss"][0])),
        (12, pytest.approx(history["val_loss"][1])),
    ]
    assert [step for step, _ in train["metrics/accuracy"]] == [6, 12]
    assert set(train) == {
        "metrics/loss", "metrics/accuracy", "step/learning_rate", "step/gradient_norm",
        "speed/examples_per_second", "speed/tokens_per_second", "speed/input_share",
        "speed/watch_share", "system/memory_gib",
    }  # fmt: skip


def test_settings_and_kept_figures_are_hyperparameters(board):
    from tensorboard.plugins.hparams import metadata

    folder, _, history = board
    found = event_reading.accumulator(folder)

    def content(tag):
        return found.SummaryMetadata(tag).plugin_data.content

    start = metadata.parse_session_start_info_plugin_data(content("_hparams_/session_start_info"))
    settings = {
        key: value.number_value or value.string_value for key, value in start.hparams.items()
    }
    assert settings == {"rate": 0.01, "batch.size": 8, "hub_token": "(hidden)"}
    kept = event_reading.scalars(folder)
    assert kept["weights_kept/dev_accuracy"][-1][1] == pytest.approx(history["val_accuracy"][-1])


def test_pictures_and_mistakes_are_in_the_event_files(board):
    folder, _, _ = board
    for name in ("confusion_matrix", "reliability", "precision_recall"):
        [(step, (width, height, png))] = event_reading.tensors(folder / "dev", f"pictures/{name}")
        assert step == 12 and min(int(width), int(height)) > 250 and png[1:4] == b"PNG"
        assert len(png) < 100_000
    [(_, [table])] = event_reading.tensors(folder / "dev", "texts/mistakes")
    assert table.startswith(b"- label **") or table == b"none"


def test_the_profile_of_the_chosen_steps_is_there(board):
    folder, _, _ = board
    [file] = folder.glob("train/plugins/profile/*/*.xplane.pb")
    content = file.read_bytes()
    assert b"train" in content and len(content) > 10_000


def test_the_projector_shows_the_vectors_of_the_model_that_is_kept(board):
    folder, model, _ = board
    vectors = np.loadtxt(folder / "dev/sentences.tensor.tsv", dtype=np.float32)
    lines = (folder / "dev/sentences.metadata.tsv").read_text("utf-8").splitlines()
    assert lines[0] == "label\tpredicted\tright\ttext"
    texts = [line.split("\t")[3] for line in lines[1:]]
    rows = np.linspace(0, 19, 7).round().astype(int)
    assert texts == [dev_rows().texts[row] for row in rows]
    encoder = model.get_layer("encoder")
    for text, vector in zip(texts, vectors, strict=True):
        [batch] = batches([text], tokenizer=toy.tokenizer())
        np.testing.assert_allclose(
            vector, np.array(encoder(batch)["pooled"])[0], rtol=1e-4, atol=1e-5
        )


def test_a_training_taken_up_again_shows_no_step_twice(tmp_path):
    train = toy.rows(48)
    fed = batches(train.texts, train.labels, tokenizer=toy.tokenizer(), batch_size=8)

    def new():
        model = TrainingModel(toy.new_model())
        model.compile(adamw(0.01), loss=classify.loss(), metrics=classify.metrics(),
                      jit_compile=False)  # fmt: skip
        return model

    new().fit(fed, epochs=2, verbose=0, shuffle=False, callbacks=[TensorBoard(tmp_path)])
    time.sleep(1.1)  # a file of another second
    again = new()
    again.optimizer.iterations.assign(4)  # as restored from a checkpoint of step 4
    again.fit(fed, epochs=1, verbose=0, shuffle=False, callbacks=[TensorBoard(tmp_path)])
    shown = event_reading.scalars(tmp_path / "train")
    assert [step for step, _ in shown["metrics/loss"]] == list(range(1, 11))
    assert [step for step, _ in shown["metrics/accuracy"]] == [10]


def test_finetune_is_watched_by_its_settings(tmp_path):
    _, result = toy.train(
        tmp_path / "checkpoints", logs=tmp_path / "logs", epochs=2,
        watch={"every_steps": 2, "mistakes": 3, "projector_rows": 5},
    )  # fmt: skip
    train, dev = (event_reading.scalars(tmp_path / "logs" / run) for run in ("train", "dev"))
    expected = {step["step"]: step["loss"] for step in result.steps if step["step"] % 2 == 0}
    assert dict(train["metrics/loss"]) == pytest.approx(expected, rel=1e-4)
    rates = {step["step"]: step["learning_rate"] for step in result.steps if step["step"] % 2 == 0}
    assert dict(train["step/learning_rate"]) == pytest.approx(rates)
    expected = {epoch["step"]: epoch["dev_accuracy"] for epoch in result.epochs}
    assert dict(dev["metrics/accuracy"]) == pytest.approx(expected)
    kept = event_reading.scalars(tmp_path / "logs")
    best = result.epochs[result.best_epoch]
    assert kept["weights_kept/dev_accuracy"][-1][1] == pytest.approx(best["dev_accuracy"])
    assert len((tmp_path / "logs/dev/sentences.tensor.tsv").read_text().splitlines()) == 5
    # The dev part is measured from short to long: the answers are still those of their rows.
    lines = (tmp_path / "logs/dev/sentences.metadata.tsv").read_text().splitlines()[1:]
    assert all(line.split("\t")[0] in line.split("\t")[3].split() for line in lines)


def test_finetune_writes_nothing_where_it_is_not_to_be_watched(tmp_path):
    toy.train(tmp_path / "checkpoints", logs=tmp_path / "logs", epochs=1,
              watch={"tensorboard": False})  # fmt: skip
    assert not (tmp_path / "logs").exists()


@pytest.mark.slow
def test_a_training_that_was_killed_shows_no_step_twice_nor_loses_one(tmp_path):
    program = f"""
import sys; sys.path.insert(0, {str(Path(toy.__file__).parent)!r})
import os, signal, toy
from tfmodel.train.callbacks import StepRecorder
record, seen = StepRecorder.on_train_batch_end, []
def record_or_die(self, batch, logs=None):
    record(self, batch, logs)
    seen.append(batch)
    if sys.argv[1:] and self.history[-1]["step"] == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
StepRecorder.on_train_batch_end = record_or_die
toy.train({str(tmp_path / "checkpoints")!r}, logs={str(tmp_path / "logs")!r}, epochs=3,
          checkpoint_seconds=1e-6)
"""
    for die_at, code in ((["9"], -signal.SIGKILL), ([], 0)):
        done = subprocess.run(
            [sys.executable, "-c", program, *die_at], capture_output=True, text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )  # fmt: skip
        assert done.returncode == code, done.stderr
    train, dev = (event_reading.scalars(tmp_path / "logs" / run) for run in ("train", "dev"))
    assert [step for step, _ in train["metrics/loss"]] == list(range(1, 19))
    assert [step for step, _ in dev["metrics/loss"]] == [6, 12, 18]


@pytest.mark.slow
def test_the_guides_scripts_run_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs/tensorboard.md").read_text("utf-8")
    scripts = re.findall(r"<!-- test -->\n```python\n(.*?)^```$", page, re.S | re.M)
    fitting, own = scripts
    exec(compile(fitting, "tensorboard.md", "exec"), {})
    loss = event_reading.scalars(tmp_path / "logs/train")["metrics/loss"]
    assert [step for step, _ in loss] == list(range(1, 25)) and loss[-1][1] < loss[0][1]
    assert (tmp_path / "logs/dev/projector_config.pbtxt").exists()
    names = {}
    exec(compile(own, "tensorboard.md", "exec"), names)
    fit(names["watch"], epochs=1, rows=16)
    assert len((tmp_path / "figures.txt").read_text().splitlines()) == 3
