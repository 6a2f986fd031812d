"""A lower learning rate where nothing gets better any more."""

from __future__ import annotations

import logging
from typing import Any

import keras

from tfmodel.train.monitored import monitored
from tfmodel.train.regularize.rate import Rate

_log = logging.getLogger(__name__)


class LearningRateOnPlateau(keras.callbacks.Callback):
    """Multiply the learning rate with a factor when a figure has stopped getting better.

    Keras's `ReduceLROnPlateau` refuses an optimizer with a schedule; here the schedule goes on, and
    what it says is multiplied.

    Args:
        monitor: name in the epoch's logs; one that ends in `loss` should fall, others rise.
        factor: of the learning rate each time, in (0, 1).
        patience: epochs without a better figure before that, 1 or more.
        min_delta: a figure is better if by more than this.
        min_factor: the product of all factors never falls below this.

    Raises:
        ValueError: a value is out of range; in `fit`, `monitor` is no figure of the epoch.

    Source: PyTorch's `ReduceLROnPlateau`; Keras's of the same name.

    Example:
        >>> plateau = tm.regularize.LearningRateOnPlateau("val_loss", factor=0.5, patience=2)
        >>> model.fit(batches, validation_data=dev, epochs=10, callbacks=[plateau])
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        factor: float = 0.5,
        patience: int = 1,
        min_delta: float = 0.0,
        min_factor: float = 0.01,
    ):
        super().__init__()
        if not 0 < factor < 1 or not 0 < min_factor < 1:
            raise ValueError(
                "factor and min_factor must be in (0, 1). "
                f"Received: factor {factor}, min_factor {min_factor}."
            )
        if patience < 1 or min_delta < 0:
            raise ValueError(
                "patience must be 1 or more, min_delta 0 or more. "
                f"Received: patience {patience}, min_delta {min_delta}."
            )
        self.monitor = monitor
        self.factor = factor
        self.patience = patience
        self.min_delta = min_delta
        self.min_factor = min_factor
        self._begin_anew()

    def set_model(self, model):
        """Begin anew with another model."""
        if self._model is not None and self._model is not model:
            self._begin_anew()
        super().set_model(model)

    def on_train_begin(self, logs=None):
        """Take hold of the learning rate."""
        self._rate = Rate(self.model)
        self._rate.scale(self.product, times=1)

    def on_epoch_end(self, epoch, logs=None):
        """Compare."""
        value = monitored(logs, self.monitor)
        if value is None:
            return
        if self.best is None or value > self.best + self.min_delta:
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited < self.patience:
            return
        before, self.waited = self.product, 0
        self.product = max(before * self.factor, self.min_factor)
        if self.product < before:
            self._rate.scale(self.product, times=self.product / before)
            _log.info("%s no better: learning rate times %.3g", self.monitor, self.product)

    def _begin_anew(self) -> None:
        self.product = 1.0
        self.best: float | None = None
        self.waited = 0

    def state(self) -> dict[str, Any]:
        """What `set_state` continues from."""
        return {"product": self.product, "best": self.best, "waited": self.waited}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue where `state()` was taken, before training begins."""
        self.product, self.best, self.waited = state["product"], state["best"], state["waited"]
