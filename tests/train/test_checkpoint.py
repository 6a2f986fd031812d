import threading

import keras
import numpy as np
import pytest

from tfmodel.config import ConfigError
from tfmodel.train import checkpoint as module
from tfmodel.train.checkpoint import Checkpoint


@pytest.fixture
def variables():
    values = (np.arange(6.0, dtype=np.float32).reshape(2, 3), np.array(7, np.int64))
    return [keras.Variable(value, dtype=str(value.dtype)) for value in values]


def spoil(variables):
    for variable in variables:
        variable.assign(keras.ops.zeros_like(variable))


@pytest.mark.parametrize("wait", [True, False])
def test_what_is_saved_is_restored(tmp_path, variables, wait):
    checkpoint = Checkpoint(tmp_path / "last")
    assert not checkpoint.exists()
    expected = [v.numpy() for v in variables]
    checkpoint.save(variables, {"epoch": 3, "names": ["ü"]}, wait=wait)
    spoil(variables)  # at once: the values were copied
    checkpoint.wait()
    assert checkpoint.exists()
    assert Checkpoint(tmp_path / "last").restore(variables) == {"epoch": 3, "names": ["ü"]}
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_the_last_save_counts_and_nothing_else_stays(tmp_path, variables):
    checkpoint = Checkpoint(tmp_path / "last")
    for step in range(3):
        checkpoint.save(variables, {"step": step}, wait=False)
    checkpoint.wait()
    assert checkpoint.state() == {"step": 2}
    assert [path.name for path in (tmp_path / "last").iterdir()] == ["checkpoint.npz"]
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_a_state_that_grows_while_it_is_written_is_saved_as_it_was(
    tmp_path, variables, monkeypatch
):
    go_on = threading.Event()
    write = np.savez

    def slow(*arguments, **arrays):
        go_on.wait(10)
        write(*arguments, **arrays)

    monkeypatch.setattr(module.np, "savez", slow)
    steps = [1, 2]
    checkpoint = Checkpoint(tmp_path / "last")
    checkpoint.save(variables, {"steps": steps}, wait=False)
    steps.append(3)
    go_on.set()
    checkpoint.wait()
    assert checkpoint.state() == {"steps": [1, 2]}


def test_a_failed_write_is_told_later_and_leaves_the_old_one(tmp_path, variables, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "last")
    checkpoint.save(variables, {"step": 1})

    def full(*arguments, **arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.np, "savez", full)
    checkpoint.save(variables, {"step": 2}, wait=False)
    with pytest.raises(OSError, match="expected room on the disk to write checkpoint.npz"):
        checkpoint.wait()
    checkpoint.wait()  # told once
    assert checkpoint.state() == {"step": 1}


def test_nothing_saved_is_no_whole_checkpoint(tmp_path, variables):
    with pytest.raises(ConfigError, match="expected a whole checkpoint. Received: .*No such file"):
        Checkpoint(tmp_path / "last").restore(variables)


def test_other_shapes_are_refused_and_nothing_is_assigned(tmp_path, variables):
    checkpoint = Checkpoint(tmp_path / "last")
    checkpoint.save(variables, {})
    others = [keras.Variable(np.full((2, 3), 9.0)), keras.Variable(np.zeros(5))]
    with pytest.raises(ConfigError, match="2 variables of this model's shapes. Received: 2"):
        checkpoint.restore(others)
    assert (others[0].numpy() == 9).all()
    with pytest.raises(ConfigError, match="with 1 variables .* Received: 2 variables"):
        checkpoint.restore(variables[:1])
