"""The weights of the best epoch."""

from __future__ import annotations

import logging
from typing import Any

import keras

from tfmodel.train.checkpoint import Checkpoint
from tfmodel.train.distribute.workers import shared
from tfmodel.train.monitored import monitored

_log = logging.getLogger(__name__)


class KeepBest(keras.callbacks.Callback):
    """Remember the weights of the best epoch, stop when none is better, restore at the end.

    Of epochs with an equal figure the one with the lower dev loss is the better: on few rows
    the accuracy is often equal, and the later epoch surer of the right answers.

    Args:
        monitor: name in the epoch's logs, such as `val_accuracy`; one that ends in `loss` should
            fall, others rise.
        patience: epochs without a better figure before training stops, 1 or more; None: never.
        min_delta: only a figure that is better by more than this begins the wait anew; the best
            epoch is kept all the same.
        checkpoint: where the best weights are kept, so that they outlive the process; None: in
            memory.

    Raises:
        ValueError: `patience` or `min_delta` is out of range; in `fit`, `monitor` is no figure of
            the epoch. Where no epoch was evaluated a warning says that nothing was kept.

    Source: Prechelt 1998, the criterion UP; Keras's `EarlyStopping`, which does not keep an epoch
    that is better by less than `min_delta`.

    Example:
        >>> best = tm.callbacks.KeepBest("val_accuracy", patience=2)
        >>> model.fit(batches, validation_data=dev, epochs=20, callbacks=[best])
    """

    def __init__(
        self,
        monitor: str,
        *,
        patience: int | None = None,
        min_delta: float = 0.0,
        checkpoint: Checkpoint | None = None,
    ):
        super().__init__()
        if (patience is not None and patience < 1) or min_delta < 0:
            raise ValueError(
                "patience must be 1 or more, min_delta 0 or more. "
                f"Received: patience {patience}, min_delta {min_delta}."
            )
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.checkpoint = checkpoint
        self._begin_anew()
        self.state_variables: list[keras.Variable] = []  # the best weights, without a checkpoint

    def set_model(self, model):
        """Note the weights: while some are frozen the model names fewer."""
        if model is self._model:  # fitted again
            return
        if self._model is not None:
            self._begin_anew()
        super().set_model(model)
        self._weights = list(model.trainable_variables)
        if self.checkpoint is not None:
            self.checkpoint = shared(self.checkpoint, model.distribute_strategy)
        else:
            self.state_variables = [
                keras.Variable(keras.ops.zeros(w.shape), trainable=False, dtype=w.dtype)
                for w in self._weights
            ]

    def on_train_begin(self, logs=None):
        """Forget an earlier `fit` that came to its end."""
        if self._ended:
            self._begin_anew()

    def on_epoch_end(self, epoch, logs=None):
        """Compare."""
        figure = monitored(logs, self.monitor)
        if figure is None:
            return
        loss = monitored(logs, "val_loss") if "val_loss" in logs else 0.0
        found = [figure, loss]
        if self.best is None or found > self.best:
            self.best, self.best_epoch = found, epoch
            self._keep({"epoch": epoch, self.monitor: float(logs[self.monitor])})
        if self._wait_begins_anew(found):
            self._reference, self.waited = found, 0
            return
        self.waited += 1
        if self.patience is not None and self.waited >= self.patience:
            _log.info("no better dev figure for %d epochs: training stops", self.waited)
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        """Restore the best weights."""
        self._ended = True
        if self.best is None:
            _log.warning("no weights are kept: no epoch had %s", self.monitor)
            return
        if self.checkpoint is not None:
            self.checkpoint.restore(self._weights)
            return
        for weight, kept in zip(self._weights, self.state_variables, strict=True):
            weight.assign(kept)

    def _begin_anew(self) -> None:
        self.best: list[float] | None = None  # the figure, then the loss, more is better
        self.best_epoch: int | None = None
        self.waited = 0
        self._reference: list[float] | None = None  # what a figure must be better than
        self._ended = False

    def _wait_begins_anew(self, found: list[float]) -> bool:
        if self._reference is None:
            return True
        if self.min_delta:
            return found[0] > self._reference[0] + self.min_delta
        return found > self._reference

    def _keep(self, state: dict[str, Any]) -> None:
        if self.checkpoint is not None:
            self.checkpoint.save(self._weights, state)
            return
        for weight, kept in zip(self._weights, self.state_variables, strict=True):
            kept.assign(weight)

    def state(self) -> dict[str, Any]:
        """What `set_state` continues from."""
        return {
            "best": self.best,
            "best_epoch": self.best_epoch,
            "waited": self.waited,
            "reference": self._reference,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue where `state()` was taken."""
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self.waited, self._reference = state["waited"], state["reference"]
