"""What each step and each epoch did."""

from __future__ import annotations

import time
from typing import Any

import keras

from tfmodel.tokens.batches import batches_of
from tfmodel.train.callbacks.fed import Fed, check_fed
from tfmodel.train.step import STEP_FIGURES


class StepRecorder(keras.callbacks.Callback):
    """Each step's own loss, rate and speed.

    A `TrainingModel` says what each step did. Of other models Keras knows the mean since the
    epoch began; it is turned back into single steps. Of several steps that are one call, by
    `steps_per_execution`, the last is recorded (of other models their mean); all count as
    examples and tokens.

    Args:
        batches: the dataset from `tm.batches` (or the `Batches`) that feeds `fit`.

    Attributes:
        history: one dict a step: step, loss, learning_rate, tokens_per_second; of a
            `TrainingModel` gradient_norm, too.
        examples: rows trained on, each epoch anew.
        tokens: real tokens trained on.

    Raises:
        ValueError: `fit` is given other data than `batches`.

    Example:
        >>> recorder = tm.callbacks.StepRecorder(batches)
        >>> model.fit(batches, epochs=2, callbacks=[recorder], shuffle=False)
        >>> recorder.history[-1]["loss"]
    """

    def __init__(self, batches):
        super().__init__()
        self.batches = batches_of(batches)
        self.history: list[dict[str, float]] = []
        self.examples = 0
        self.tokens = 0
        self._sum = self._rows = 0.0  # of this epoch's losses and rows

    def on_train_begin(self, logs=None):
        """Refuse other data."""
        check_fed(self.batches, self.params, skipped=self.batches.skip)

    def on_epoch_begin(self, epoch, logs=None):
        """Know where the epoch begins."""
        self._fed = Fed(self.batches, epoch)
        if not self._fed.skip:  # otherwise the mean goes on, too
            self._sum = self._rows = 0.0

    def on_train_batch_begin(self, batch, logs=None):
        """Note the step's rate, and start its clock."""
        rate = self.model.optimizer.learning_rate  # after the step it is the next one's
        self._rate = float(keras.ops.convert_to_numpy(rate))
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Record the step."""
        rows = self._fed.rows(batch, self.model.steps_per_execution)
        tokens = int(self._fed.lengths(rows).sum())
        self.examples += len(rows)
        self.tokens += tokens
        seconds = time.perf_counter() - self._began
        total = logs["loss"] * (self._rows + len(rows))
        loss = logs.get("step_loss", (total - self._sum) / len(rows))
        self._sum, self._rows = total, self._rows + len(rows)
        entry = {
            "step": int(self.model.optimizer.iterations.numpy()),
            "loss": float(loss),
            "learning_rate": self._rate,
            "tokens_per_second": tokens / seconds,
        }
        if "gradient_norm" in logs:
            entry["gradient_norm"] = float(logs["gradient_norm"])
        self.history.append(entry)

    def state(self) -> dict[str, Any]:
        """What `set_state` continues from."""
        return {
            "steps": self.history,
            "examples": self.examples,
            "tokens": self.tokens,
            "epoch": [float(self._sum), float(self._rows)],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue where `state()` was taken."""
        self.history[:] = state["steps"]
        self.examples, self.tokens = state["examples"], state["tokens"]
        self._sum, self._rows = state["epoch"]


class EpochRecorder(keras.callbacks.Callback):
    """Each epoch's figures.

    Attributes:
        history: one dict an epoch: epoch (from 0), step (the last), and what `fit` logs, with
            `dev_` in place of Keras' `val_`.
    """

    def __init__(self):
        super().__init__()
        self.history: list[dict[str, float]] = []

    def on_epoch_end(self, epoch, logs=None):
        """Record the epoch."""
        figures = {
            name.replace("val_", "dev_"): float(value)
            for name, value in (logs or {}).items()
            if name not in STEP_FIGURES
        }
        step = int(self.model.optimizer.iterations.numpy())
        self.history.append({"epoch": epoch, "step": step, **figures})

    def state(self) -> dict[str, Any]:
        """What `set_state` continues from."""
        return {"epochs": self.history}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue where `state()` was taken."""
        self.history[:] = state["epochs"]
