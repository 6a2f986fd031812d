"""Stop where going on is of no use."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfmodel.run_folder import write_aside
from tfmodel.tokens.batches import batches_of
from tfmodel.train.callbacks.fed import Fed, check_fed

_ROWS_FILE = "not_a_number.jsonl"
_WATCHED = {
    "step_loss": "The loss",
    "loss": "The loss",
    "gradient_norm": "The gradient's norm",
}


class StopOnNaN(keras.callbacks.Callback):
    """End training at the first loss or gradient that is not a number, and say of which rows.

    A `TrainingModel` has not changed its weights by such a step: they are the last good ones. It
    should be the first callback, so that others do not learn of the step.

    Args:
        batches: the dataset from `tm.batches` (or the `Batches`) that feeds `fit`, to name the
            rows; None: only the step is named.
        folder: where the rows of the step are written to, in `not_a_number.jsonl`; None: nowhere.
        describe: row number -> what else is written of a row, such as its text.
        before: called before training ends, such as the `save` of a `Resume`.

    Raises:
        FloatingPointError: in `fit`, at that step.
        ValueError: `fit` is given other data than `batches`.

    Example:
        >>> stop = tm.callbacks.StopOnNaN(batches, folder="checkpoints")
        >>> model.fit(batches, epochs=3, callbacks=[stop], shuffle=False)
    """

    def __init__(
        self,
        batches=None,
        *,
        folder: str | Path | None = None,
        describe: Callable[[int], dict[str, Any]] | None = None,
        before: Callable[[], None] | None = None,
    ):
        super().__init__()
        self.batches = None if batches is None else batches_of(batches)
        self.folder = None if folder is None else Path(folder)
        self.describe = describe
        self.before = before

    def on_train_begin(self, logs=None):
        """Refuse other data than the batches."""
        if self.batches is not None:
            check_fed(self.batches, self.params, skipped=self.batches.skip)

    def on_epoch_begin(self, epoch, logs=None):
        """Know the batches of the epoch."""
        self._epoch = epoch
        if self.batches is not None:
            self._fed = Fed(self.batches, epoch)

    def on_train_batch_end(self, batch, logs=None):
        """Look at the loss and the gradient."""
        logs = logs or {}
        bad = [name for name in _WATCHED if not math.isfinite(logs.get(name, 0.0))]
        if not bad:
            return
        if self.before is not None:
            self.before()
        together = getattr(self.model, "steps_per_execution", 1)
        skip = 0 if self.batches is None else self._fed.skip
        where, kept = f"at step {skip + batch + 1} of this epoch", ""
        if together > 1:
            first = skip + batch + 2 - together
            where = f"in one of the {together} steps from {first} on of this epoch"
        if self.batches is not None:
            rows = self._fed.rows(batch, together)
            epoch = f"of epoch {self._epoch + 1}"
            where = f"{where.replace('of this epoch', epoch)}, {self._tell(rows)}"
        if "step_loss" in logs and together == 1:
            kept = "The weights are those before this step. "
        raise FloatingPointError(
            f"{_WATCHED[bad[0]]} is {logs[bad[0]]} {where}. Expected a number. {kept}Lower "
            "train.learning_rate, or try train.precision=float32."
        )

    def _tell(self, rows: np.ndarray) -> str:
        """Name rows, and write them down."""
        lengths = self._fed.lengths(rows)
        shown = ", ".join(str(row) for row in rows[:10]) + (", …" if len(rows) > 10 else "")
        words = f"rows {shown} (from 0), {lengths.min()} to {lengths.max()} tokens"
        if self.folder is None:
            return words
        path = self.folder / _ROWS_FILE
        with write_aside(path) as aside:
            lines = [json.dumps(self._row(int(row)), ensure_ascii=False) for row in rows]
            aside.write_text("\n".join(lines) + "\n", "utf-8", errors="backslashreplace")
        return f"{words}; they stand in {path}"

    def _row(self, row: int) -> dict[str, Any]:
        own = self.batches
        found = {"row": row, **(self.describe(row) if self.describe is not None else {})}
        for name, values in (("target", own.targets), ("weight", own.weights)):
            if values is not None:
                found[name] = values[row].tolist()
        token_ids = own.rows.ids[own.rows.splits[row] : own.rows.splits[row + 1]]
        return {**found, "token_ids": token_ids.tolist()}
