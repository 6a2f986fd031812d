"""A run that is interrupted and continued is the run that was not: bit for bit."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import toy

from tfmodel.config import ConfigError
from tfmodel.run_folder import clear_leftovers
from tfmodel.train.callbacks import StepRecorder
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


def test_ctrl_c_anywhere_and_on_again(tmp_path, interrupted, undisturbed, monkeypatch):
    handler = signal.getsignal(signal.SIGINT)
    # In the middle of an epoch, at its last step (its dev figure is still made), two epochs on.
    for step in (2, 6, 15):
        interrupted(step)
        with pytest.raises(KeyboardInterrupt):
            toy.train(tmp_path)
        assert signal.getsignal(signal.SIGINT) is handler
    monkeypatch.undo()
    assert Checkpoint(tmp_path / "last").state()["batch"] == 3
    model, result = toy.train(tmp_path)
    assert_same_run(model, result, undisturbed, resumed=[2, 6, 15])


def test_sigterm_ends_with_its_exit_code(tmp_path, interrupted, undisturbed, monkeypatch):
    interrupted(23, signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        toy.train(tmp_path)
    assert caught.value.code == 128 + 15
    monkeypatch.undo()
    assert_same_run(*toy.train(tmp_path), undisturbed, resumed=[23])


def test_ctrl_c_at_the_very_end_still_ends_with_ctrl_c(tmp_path, interrupted):
    interrupted(6)
    with pytest.raises(KeyboardInterrupt):
        toy.train(tmp_path, epochs=1)


def run_script(folder, *arguments):
    # Another hash seed than this process has: no order may hang on it.
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    paths = [str(HERE.parents[1]), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    command = [sys.executable, str(HERE / "toy.py"), str(folder), f"{folder}.json", *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


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
