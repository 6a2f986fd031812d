"""Gradual unfreezing: the top of a model is trained first, lower layers join."""

from __future__ import annotations

import logging
from typing import Any

import keras

from tfmodel.train.regularize.depth import layers_by_depth

_log = logging.getLogger(__name__)


class GradualUnfreezing(keras.callbacks.Callback):
    """Train pooler and head alone in the first epoch; then let lower layers join, epoch by epoch.

    Frozen layers cost no backward pass; each time layers join, the step is traced again. What
    was trainable at the start is trainable at the end.

    Args:
        epochs: epochs in which a part is frozen, from 1 to the encoder's layers plus one (one
            layer an epoch, the embeddings last, as in the paper).

    Raises:
        ValueError: `epochs` is out of range (more than there are layers: at the start of
            training), or no epoch is left in which all is trained.

    Source: Howard and Ruder 2018, section 3.3. Deviation: with fewer epochs several layers join
    at once. Adam's moments of a layer count from when it joins (`AdamW.joined_at`); counted from
    the first step, its first updates would be up to six times too large.

    Example:
        >>> unfreezing = tm.regularize.GradualUnfreezing(epochs=2)
        >>> model.fit(batches, epochs=4, callbacks=[unfreezing])
    """

    def __init__(self, epochs: int):
        super().__init__()
        if epochs < 1:
            raise ValueError(f"epochs must be 1 or more. Received: {epochs}.")
        self.epochs = epochs
        self._joined_at: dict[str, int] = {}
        self._groups: list[list[keras.layers.Layer]] = []

    def on_train_begin(self, logs=None):
        """Look at the layers, and have the optimizer know all of their weights."""
        groups = layers_by_depth(self.model)
        if self.epochs >= len(groups):
            raise ValueError(
                "regularize.unfreeze_epochs must be at most the encoder's layers plus one, "
                f"{len(groups) - 1}. Received: {self.epochs}."
            )
        total = self.params.get("epochs")
        if total is not None and self.epochs >= total:
            raise ValueError(
                "unfreeze_epochs must be below the epochs of training, so that all layers are "
                f"trained. Received: {self.epochs} of {total} epochs."
            )
        self._groups = [[layer for layer in group if layer.trainable] for group in groups]
        self._trained = 0  # not frozen or joined yet, in this sitting
        optimizer = self.model.optimizer
        if not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        if hasattr(optimizer, "joined_at"):
            optimizer.joined_at.update(self._joined_at)

    def on_epoch_begin(self, epoch, logs=None):
        """Freeze what has not joined yet."""
        above = len(self._groups) - 1
        trained = 1 + min(epoch, self.epochs) * above // self.epochs
        if trained == self._trained:
            return
        self._set_trained(trained)
        if hasattr(self.model.optimizer, "join"):
            self.model.optimizer.join(self.model.trainable_variables)
        _log.info("%d of %d groups of layers are trained", trained, above + 1)

    def on_train_end(self, logs=None):
        """Leave everything trainable."""
        if self._trained != len(self._groups):
            self._set_trained(len(self._groups))

    def state(self) -> dict[str, Any]:
        """What `set_state` continues from."""
        optimizer = getattr(self.model, "optimizer", None)
        return {"joined_at": dict(getattr(optimizer, "joined_at", self._joined_at))}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue where `state()` was taken, before training begins."""
        self._joined_at = dict(state["joined_at"])

    def _set_trained(self, trained: int) -> None:
        frozen = len(self._groups) - trained
        for depth, group in enumerate(self._groups):
            for layer in group:
                layer.trainable = depth >= frozen
        self._trained = trained
        self.model.make_train_function(force=True)
