"""The weights of the best epoch."""

from __future__ import annotations

import logging
from typing import Any

import keras

from tfmodel.train.checkpoint import Checkpoint

_log = logging.getLogger(__name__)


class KeepBest(keras.callbacks.Callback):
    """Remember the weights of the best epoch, stop when none is better, restore at the end.

    Of epochs with an equal figure the one with the lower dev loss is the better: on few rows
    the accuracy is often equal, and the later epoch surer of the right answers.

    Args:
        monitor: name in the epoch's logs, such as `val_accuracy`.
        patience: epochs without a better figure before training stops; None: never.
        checkpoint: where the best weights are kept, so that they outlive the process.
    """

    def __init__(self, monitor: str, *, patience: int | None, checkpoint: Checkpoint):
        super().__init__()
        self.monitor = monitor
        self.patience = patience
        self.checkpoint = checkpoint
        self.best: list[float] | None = None  # the figure, then the loss, more is better
        self.best_epoch: int | None = None
        self.waited = 0

    def on_epoch_end(self, epoch, logs=None):
        """Compare."""
        value = (logs or {}).get(self.monitor)
        if value is None:
            return
        sign = -1 if self.monitor.endswith("loss") else 1
        found = [sign * float(value), -float(logs.get("val_loss", 0.0))]
        if self.best is None or found > self.best:
            self.best, self.best_epoch, self.waited = found, epoch, 0
            state = {"epoch": epoch, self.monitor: float(value)}
            self.checkpoint.save(self.model.trainable_variables, state)
            return
        self.waited += 1
        if self.patience is not None and self.waited >= self.patience:
            _log.info("no better dev figure for %d epochs: training stops", self.waited)
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        """Restore the best weights."""
        if self.best is not None:
            self.checkpoint.restore(self.model.trainable_variables)

    def state(self) -> dict[str, Any]:
        """What `set_state` continues from."""
        return {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue where `state()` was taken."""
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self.waited = state["waited"]
