"""What a run continues from after Ctrl-C or kill -9: all variables and where the data stood."""

from __future__ import annotations

import copy
import json
import threading
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfmodel.config import ConfigError
from tfmodel.run_folder import write_aside, write_json

_STATE_FILE = "state.json"
_ARRAYS_FILE = "variables.npz"


class Checkpoint:
    """A folder that always holds one whole checkpoint, or none.

    Args:
        folder: replaced as a whole by each save.

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
        return (self.folder / _STATE_FILE).exists()

    def state(self) -> dict[str, Any]:
        """What was saved beside the variables.

        Raises:
            ConfigError: there is none, or it is damaged.
        """
        try:
            return json.loads((self.folder / _STATE_FILE).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise self._damaged(error) from None

    def save(
        self, variables: Sequence[keras.Variable], state: dict[str, Any], *, wait: bool = True
    ) -> None:
        """Write a checkpoint aside and put it in place of the last one.

        Args:
            variables: in an order that `restore` will be given again.
            state: JSON-able.
            wait: return when the files are on disk; otherwise the values are copied now and
                written while training goes on.

        Raises:
            OSError: the disk is full or the folder cannot be written (of an earlier write
                that was not waited for, too).
        """
        self.wait()
        arrays = {
            f"{index:05d}": np.array(keras.ops.convert_to_numpy(variable))
            for index, variable in enumerate(variables)
        }
        # A caller's lists may grow while this is written.
        state = copy.deepcopy(state)
        if wait:
            self._write(arrays, state)
            return
        self._writer = threading.Thread(target=self._write_safely, args=(arrays, state))
        self._writer.start()

    def wait(self) -> None:
        """Wait for a write under way, and raise what it failed with."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def restore(self, variables: Sequence[keras.Variable]) -> dict[str, Any]:
        """Give the variables their saved values.

        Returns:
            The saved state.

        Raises:
            ConfigError: the checkpoint is of a model of another shape, or damaged.
        """
        try:
            # Opened here: np.load leaves a damaged file open.
            with (
                open(self.folder / _ARRAYS_FILE, "rb") as file,
                np.load(file, allow_pickle=False) as arrays,
            ):
                values = [arrays[name] for name in sorted(arrays.files)]
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise self._damaged(error) from None
        state = self.state()
        shapes = [tuple(value.shape) for value in values]
        if shapes != [tuple(variable.shape) for variable in variables]:
            raise ConfigError(
                f"{self.folder}: expected the checkpoint of a model with {len(variables)} "
                f"variables of this model's shapes. Received: {len(values)} variables that do not "
                "fit. Start anew with --restart."
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return state

    def _damaged(self, error: Exception) -> ConfigError:
        return ConfigError(
            f"{self.folder}: expected a whole checkpoint. Received: {error}. "
            "Start anew with --restart."
        )

    def _write(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        with write_aside(self.folder, replace=True) as temporary:
            temporary.mkdir(parents=True, exist_ok=True)
            np.savez(temporary / _ARRAYS_FILE, **arrays)
            write_json(temporary / _STATE_FILE, state)

    def _write_safely(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        try:
            self._write(arrays, state)
        except BaseException as error:  # handed to the thread that trains
            self._failure = error
