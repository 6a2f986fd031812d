"""What a run continues from after Ctrl-C or kill -9: all variables and where the data stood."""

from __future__ import annotations

import json
import threading
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfmodel.config import ConfigError
from tfmodel.run_folder import write_aside

_FILE = "checkpoint.npz"
_STATE = "state"

Variables = Sequence[keras.Variable] | Mapping[str, Sequence[keras.Variable]]


class Checkpoint:
    """A folder that always holds one whole checkpoint, or none.

    It is one file, which takes the place of the last one by one rename: whenever the process is
    killed, one of the two is there.

    Args:
        folder: made by the first save.

    Example:
        >>> checkpoint = Checkpoint("run/checkpoints/last")
        >>> checkpoint.save(model.variables, {"epoch": 1})
        >>> state = checkpoint.restore(model.variables)
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._writer: threading.Thread | None = None
        self._failure: BaseException | None = None

    def exists(self) -> bool:
        """Whether there is something to continue from."""
        return (self.folder / _FILE).exists()

    def state(self) -> dict[str, Any]:
        """What was saved beside the variables.

        Raises:
            ConfigError: there is none, or it is damaged.
        """
        return json.loads(self._read([_STATE])[_STATE].tobytes())

    def save(self, variables: Variables, state: dict[str, Any], *, wait: bool = True) -> None:
        """Write a checkpoint aside and put it in place of the last one.

        Args:
            variables: in an order that `restore` will be given again; or several such groups by
                name.
            state: JSON-able; numbers that are not finite too.
            wait: return when the file is on disk; otherwise the values are copied now and
                written while training goes on.

        Raises:
            OSError: the disk is full or the folder cannot be written (of an earlier write
                that was not waited for, too).
        """
        self.wait()
        text = json.dumps(state, ensure_ascii=False).encode("utf-8", "surrogatepass")
        arrays = {_STATE: np.frombuffer(text, np.uint8)}
        for name, variable in _named(variables).items():
            arrays[name] = np.array(keras.ops.convert_to_numpy(variable))
        if wait:
            self._write(arrays)
            return
        self._writer = threading.Thread(target=self._write_safely, args=(arrays,))
        self._writer.start()

    def agree(self, flags: Sequence[bool]) -> list[bool]:
        """What this process wants; of several workers that share a checkpoint, what any wants."""
        return list(flags)

    def wait(self) -> None:
        """Wait for a write under way, and raise what it failed with."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def restore(self, variables: Variables) -> dict[str, Any]:
        """Give the variables their saved values; all of them, or none where some do not fit.

        Args:
            variables: what `save` was given; of groups, some may be left out.

        Returns:
            The saved state.

        Raises:
            ConfigError: the checkpoint is of a model of another shape, or damaged.
        """
        state, values = self._saved(variables)
        for name, variable in _named(variables).items():
            variable.assign(values[name])
        return state

    def _saved(self, variables: Variables) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The state, and by name the values of variables; all of them fit."""
        saved = self._read()
        state = json.loads(saved.pop(_STATE).tobytes())
        wanted = _named(variables)
        groups = {_group(name) for name in wanted}
        values = {name: value for name, value in saved.items() if _group(name) in groups}
        unlike = [
            name
            for name in {*wanted, *values}
            if name not in wanted
            or name not in values
            or tuple(wanted[name].shape) != values[name].shape
        ]
        if unlike:
            raise ConfigError(
                f"{self.folder}: expected the checkpoint of a model with {len(wanted)} variables "
                f"of this model's shapes. Received: {len(values)} variables that do not fit. "
                "Start anew with --restart; in a script of your own, delete the folder."
            )
        for name, value in values.items():
            if value.dtype.kind == "V":  # NumPy knows bfloat16 as two bytes of no type
                values[name] = value.view(tf.as_dtype(wanted[name].dtype).as_numpy_dtype)
        return state, values

    def _read(self, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        try:
            # Opened here: np.load leaves a damaged file open.
            with (
                open(self.folder / _FILE, "rb") as file,
                np.load(file, allow_pickle=False) as arrays,
            ):
                return {name: arrays[name] for name in names or arrays.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ConfigError(
                f"{self.folder}: expected a whole checkpoint. Received: {error}. "
                "Start anew with --restart; in a script of your own, delete the folder."
            ) from None

    def _write(self, arrays: dict[str, np.ndarray]) -> None:
        with write_aside(self.folder / _FILE) as aside, open(aside, "wb") as file:
            np.savez(file, **arrays)

    def _write_safely(self, arrays: dict[str, np.ndarray]) -> None:
        try:
            self._write(arrays)
        except BaseException as error:  # handed to the thread that trains
            self._failure = error


def _named(variables: Variables) -> dict[str, keras.Variable]:
    groups = variables if isinstance(variables, Mapping) else {"variables": variables}
    return {
        f"{group}/{index:05d}": variable
        for group, members in groups.items()
        for index, variable in enumerate(members)
    }


def _group(name: str) -> str:
    return name.rpartition("/")[0]
