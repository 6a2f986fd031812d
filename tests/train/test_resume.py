"""A run that is interrupted and continued is the run that was not: bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fit_to_resume
import keras
import numpy as np
import pytest
import toy

from tfmodel.config import ConfigError
from tfmodel.run_folder import clear_leftovers
from tfmodel.tasks import classify
from tfmodel.tokens.batches import batches
from tfmodel.train import linear_schedule
from tfmodel.train.callbacks import Resume, StepRecorder
from tfmodel.train.checkpoint import Checkpoint

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Weights and figures of a run that nothing interrupts: 4 epochs of 6 steps."""
    model, result = toy.train(tmp_path_factory.mktemp("undisturbed"))
    return toy.digest(model), result


@pytest.fixture
def interrupted(monkeypatch):
    """Send this process a signal at the end of a step; give the step."""
    record = StepRecorder.on_train_batch_end

    def set_up(step, number=signal.SIGINT):
        def record_and_signal(self, batch, logs=None):
            record(self, batch, logs)
            if self.history[-1]["step"] == step:
                signal.raise_signal(number)

        monkeypatch.setattr(StepRecorder, "on_train_batch_end", record_and_signal)

    return set_up


def assert_same_run(model, result, undisturbed, *, resumed):
    digest, expected = undisturbed
    assert toy.digest(model) == digest
    assert result.resumed_at_steps == resumed
    assert [step["step"] for step in result.steps] == list(range(1, 25))
    for name in ("loss", "learning_rate"):
        found, other = ([step[name] for step in run.steps] for run in (result, expected))
        np.testing.assert_allclose(found, other, rtol=1e-4, atol=1e-6)
    for name in ("epoch", "step", "dev_loss", "dev_accuracy"):
        assert [e[name] for e in result.epochs] == [e[name] for e in expected.epochs]
    assert (result.examples, result.tokens) == (expected.examples, expected.tokens)
    assert result.best_epoch == expected.best_epoch


def test_ctrl_c_and_sigterm_anywhere_and_on_again(tmp_path, interrupted, undisturbed, monkeypatch):
    handler = signal.getsignal(signal.SIGINT)
    # In the middle of an epoch, at its last step (its dev figure is still made), two epochs on.
    for step in (2, 6, 15):
        interrupted(step)
        with pytest.raises(KeyboardInterrupt):
            toy.train(tmp_path)
        assert signal.getsignal(signal.SIGINT) is handler
    assert Checkpoint(tmp_path / "last").state()["batch"] == 3
    interrupted(23, signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        toy.train(tmp_path)
    assert caught.value.code == 128 + 15
    monkeypatch.undo()
    model, result = toy.train(tmp_path)
    assert_same_run(model, result, undisturbed, resumed=[2, 6, 15, 23])


def test_ctrl_c_at_the_very_end_still_ends_with_ctrl_c(tmp_path, interrupted):
    interrupted(6)
    with pytest.raises(KeyboardInterrupt):
        toy.train(tmp_path, epochs=1)


def start(script, *arguments, **options):
    # Another hash seed than this process has: no order may hang on it.
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    paths = [str(HERE.parents[1]), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, **options)


def run_script(folder, *arguments):
    return start("toy.py", folder, f"{folder}.json", *arguments)


@pytest.mark.slow
def test_other_processes_even_killed_ones_make_the_same_weights(tmp_path, undisturbed):
    whole = run_script(tmp_path / "whole")
    killed = run_script(tmp_path / "killed", "9")
    errors = [process.communicate()[1].decode()[-2000:] for process in (whole, killed)]

    assert whole.returncode == 0, errors[0]
    found = json.loads((tmp_path / "whole.json").read_text())
    assert found["digest"] == undisturbed[0]

    assert killed.returncode == -signal.SIGKILL, errors[1]
    # As every command does first: the kill may fall between the two renames of a checkpoint.
    clear_leftovers(tmp_path / "killed")
    state = Checkpoint(tmp_path / "killed" / "last").state()
    # Saved beside training, it may be some steps old; it knows of no later ones.
    saved = state["epoch"] * 6 + state["batch"]
    assert 1 <= saved < 9
    assert len(state["callbacks"]["StepRecorder"]["steps"]) == saved
    assert_same_run(*toy.train(tmp_path / "killed"), undisturbed, resumed=[saved])


# --- what is not continued ----------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run stopped after step 2; copied before it is spoiled."""
    folder = tmp_path_factory.mktemp("stopped")
    record = StepRecorder.on_train_batch_end

    def record_and_signal(self, batch, logs=None):
        record(self, batch, logs)
        if self.history[-1]["step"] == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepRecorder, "on_train_batch_end", record_and_signal)
        with pytest.raises(KeyboardInterrupt):
            toy.train(folder)
    return folder


@pytest.fixture
def spoiled(stopped, tmp_path):
    import shutil

    return Path(shutil.copytree(stopped, tmp_path / "spoiled"))


def test_a_checkpoint_of_another_config_is_refused(spoiled):
    with pytest.raises(
        ConfigError, match=r"last: expected the checkpoint of this very run. .* Add --restart"
    ):
        toy.train(spoiled, key="another")


def test_a_checkpoint_of_another_model_is_refused(spoiled):
    model = toy.new_model(vocabulary_size=30)
    with pytest.raises(ConfigError, match="variables that do not fit. Start anew with --restart"):
        toy.train(spoiled, model=model)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(spoiled, kept):
    path = spoiled / "last" / "checkpoint.npz"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ConfigError, match=r"last: expected a whole checkpoint. Received: .+ Start"):
        toy.train(spoiled)


def test_flipped_bytes_are_noticed(spoiled):
    path = spoiled / "last" / "checkpoint.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="expected a whole checkpoint"):
        toy.train(spoiled)


# --- a user's own fit ---------------------------------------------------------------------


class Fail(keras.callbacks.Callback):
    """End `fit` as a bug or a power cut would: with nothing said to anybody."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == self.step:
            raise RuntimeError("failed")


@pytest.mark.parametrize(
    ("kind", "steps"),
    # 10 is in the middle of an epoch, 6 the last of one, 13 the first.
    [
        ("keras", [10]),
        pytest.param("everything", [3, 6, 10, 13, 18], marks=pytest.mark.slow),
        pytest.param("bfloat16", [3, 6, 13, 18], marks=pytest.mark.slow),
    ],
)
def test_a_users_own_fit_continues(kind, steps, tmp_path):
    whole, resume = fit_to_resume.fit(kind, tmp_path / "whole")
    assert resume.resumed_at_steps == [] and len(whole["losses"]) == 18
    for step in steps:
        with pytest.raises(RuntimeError, match="failed"):
            fit_to_resume.fit(kind, tmp_path / "cut", callbacks=[Fail(step)], seconds=1e-6)
    found, resume = fit_to_resume.fit(kind, tmp_path / "cut")
    assert resume.resumed_at_steps == [step - 1 for step in steps]
    assert found == whole


def small_fit(folder, *, rows=20, fit=None, remember=(), others=(), optimizer="sgd", **options):
    inputs = {
        name: keras.Input((None,), dtype="int32", name=name)
        for name in ("token_ids", "segment_ids", "padding_mask")
    }
    mean = keras.layers.Lambda(
        lambda x: keras.ops.mean(keras.ops.cast(x, "float32"), axis=1, keepdims=True),
        output_shape=(1,),
    )
    model = keras.Model(inputs, keras.layers.Dense(2)(mean(inputs["token_ids"])))
    model.compile(optimizer, loss=classify.loss(), jit_compile=False)
    split = toy.rows(rows)
    fed = batches(split.texts, split.labels, tokenizer=toy.tokenizer(), batch_size=8)
    resume = Resume(folder, fed, remember=remember, seconds=1e-6, **options)
    arguments = {"epochs": 2, "verbose": 0, "shuffle": False, **(fit or {})}
    model.fit(fed, callbacks=[*remember, *others, resume], **arguments)
    return model


def test_ctrl_c_in_a_users_own_fit(tmp_path):
    handler = signal.getsignal(signal.SIGINT)
    asks = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: signal.raise_signal(signal.SIGINT)
    )
    asks.state, asks.set_state = dict, lambda state: None
    with pytest.raises(KeyboardInterrupt):
        small_fit(tmp_path, remember=[asks])
    assert signal.getsignal(signal.SIGINT) is handler
    state = Checkpoint(tmp_path / "last").state()
    assert (state["epoch"], state["batch"]) == (0, 1)


def test_after_a_fit_that_failed_ctrl_c_is_pythons_again(tmp_path):
    """In a notebook the process goes on."""
    handler = signal.default_int_handler
    signal.signal(signal.SIGINT, handler)

    def fail(batch, logs):
        raise RuntimeError("of a callback")

    failing = keras.callbacks.LambdaCallback(on_train_batch_end=fail)
    with pytest.raises(RuntimeError, match="of a callback"):
        small_fit(tmp_path, others=[failing])
    assert signal.getsignal(signal.SIGINT) is not handler
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_folder_that_cannot_be_written_is_refused_before_the_first_step(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    steps = []
    counts = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_: steps.append(1))
    with pytest.raises(ConfigError, match="that can be written. Received: .*Not a directory"):
        small_fit(tmp_path / "file", others=[counts])
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match="last, which is read-only. Name another one"):
        small_fit(tmp_path, others=[counts])
    assert not steps


def test_a_full_disk_ends_fit_and_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    write, count = np.savez, 0

    def fill(file, **arrays):
        nonlocal count
        count += 1
        if count == 3:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        write(file, **arrays)

    monkeypatch.setattr("tfmodel.train.checkpoint.np.savez", fill)
    with pytest.raises(OSError, match="expected room on the disk to write checkpoint.npz. .* Free"):
        small_fit(tmp_path)
    state = Checkpoint(tmp_path / "last").state()
    assert (state["epoch"], state["batch"]) == (0, 2)
    assert [path.name for path in (tmp_path / "last").iterdir()] == ["checkpoint.npz"]
    small_fit(tmp_path)


def test_other_rows_are_refused(tmp_path):
    small_fit(tmp_path)
    small_fit(tmp_path)  # again: the last epoch is done once more
    with pytest.raises(ConfigError, match="one of another rows, or in another order. Add"):
        small_fit(tmp_path, rows=21)
    with pytest.raises(ConfigError, match="one of another config or other data"):
        small_fit(tmp_path, key="other")
    with pytest.raises(ConfigError, match="one of another callbacks"):
        small_fit(tmp_path, remember=[keras.callbacks.EarlyStopping()])


@pytest.mark.parametrize(
    "other",
    [
        lambda: keras.optimizers.SGD(0.1),  # the checkpoint's rate would stay
        lambda: keras.optimizers.SGD(linear_schedule(0.01, total_steps=6)),
        lambda: keras.optimizers.Lion(0.01),
    ],
)
def test_another_optimizer_is_refused(tmp_path, other):
    small_fit(tmp_path)
    with pytest.raises(ConfigError, match="one of another optimizer or learning rate. Add"):
        small_fit(tmp_path, optimizer=other())


def test_an_optimizer_that_cannot_tell_its_arguments_continues(tmp_path):
    class Halved(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.01 * 0.5 ** keras.ops.cast(step, "float32")

    for _ in range(2):
        small_fit(tmp_path, optimizer=keras.optimizers.SGD(Halved()))


def test_other_steps_than_the_batches_are_refused(tmp_path):
    with pytest.raises(ValueError, match="given these batches, 3 an epoch. Received: 2 steps"):
        small_fit(tmp_path, fit={"steps_per_epoch": 2})


def test_a_dataset_changed_since_is_refused(tmp_path):
    split = toy.rows(20)
    fed = batches(split.texts, split.labels, tokenizer=toy.tokenizer())
    with pytest.raises(ValueError, match="that tm.batches returned, unchanged .* Received: _Take"):
        Resume(tmp_path, fed.take(1))


def test_a_callback_with_nothing_to_remember_by_is_refused(tmp_path):
    split = toy.rows(20)
    fed = batches(split.texts, split.labels, tokenizer=toy.tokenizer())
    with pytest.raises(ValueError, match=r"must have state\(\) .* Received: a LambdaCallback"):
        Resume(tmp_path, fed, remember=[keras.callbacks.LambdaCallback()])
    stopping = keras.callbacks.EarlyStopping(restore_best_weights=True)
    with pytest.raises(ValueError, match="must not keep weights. .* Use tm.callbacks.KeepBest"):
        Resume(tmp_path, fed, remember=[stopping])


# --- killed -------------------------------------------------------------------------------


def start_fit(kind, folder, *arguments):
    out = folder.with_name(f"{folder.name}.json")
    return start(
        "fit_to_resume.py", kind, folder, out, *arguments, stdout=subprocess.PIPE, text=True
    ), out


def whole_fit(kind, tmp_path):
    process, out = start_fit(kind, tmp_path / "whole")
    errors = process.communicate()[1]
    assert process.returncode == 0, errors
    return json.loads(out.read_text())


def killed_twenty_times(kind, folder):
    """What a fit gives that is killed 20 times, and what one gives that is not.

    Each kill comes some steps after the fit was taken up, wherever that is: half are in a write.
    """
    folder.mkdir()
    whole, moments = whole_fit(kind, folder), random.Random(5)
    for _ in range(20):
        process, out = start_fit(kind, folder / "killed")
        for _ in range(moments.randint(1, 3)):
            process.stdout.readline()
        time.sleep(moments.random() * 0.06)
        process.kill()
        process.communicate()
    process, out = start_fit(kind, folder / "killed")
    errors = process.communicate()[1]
    assert process.returncode == 0, errors
    return json.loads(out.read_text()), whole


@pytest.mark.slow
def test_killed_at_twenty_random_moments(tmp_path):
    kinds = ["everything", "keras"]
    with ThreadPoolExecutor() as pool:  # most of the time goes into starting Python
        results = pool.map(lambda kind: killed_twenty_times(kind, tmp_path / kind), kinds)
        for found, whole in results:
            assert found == whole


@pytest.mark.slow
def test_killed_in_the_writing_of_a_checkpoint(tmp_path):
    whole, folder = whole_fit("everything", tmp_path), tmp_path / "killed"
    for number, stage in ((1, "half"), (2, "after"), (2, "before"), (3, "half"), (2, "after")):
        process, _ = start_fit("everything", folder, number, stage)
        errors = process.communicate()[1]
        assert process.returncode == -signal.SIGKILL, errors
    process, out = start_fit("everything", folder)
    errors = process.communicate()[1]
    assert process.returncode == 0, errors
    assert json.loads(out.read_text()) == whole
    assert [path.name for path in (folder / "last").iterdir()] == ["checkpoint.npz"]
