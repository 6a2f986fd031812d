"""A training of one `fit` an epoch."""

from __future__ import annotations

import keras


class OneTraining(keras.callbacks.CallbackList):
    """The callbacks of a training that is one `fit` an epoch: begun once, ended once.

    Keras takes the first epoch's number of batches for that of all. Where a run continues in the
    middle of an epoch, that would cut the later ones short; so each epoch has a `fit` of its own.

    Args:
        callbacks: in the order they are called in.
        model: the model that is trained.
        epochs: epochs of the whole training.
    """

    def __init__(self, callbacks: list, *, model: keras.Model, epochs: int):
        super().__init__(callbacks, add_history=True, model=model, epochs=epochs)

    def begin(self) -> None:
        """Call every `on_train_begin`."""
        super().on_train_begin()

    def end(self) -> None:
        """Call every `on_train_end`."""
        super().on_train_end()

    def on_train_begin(self, logs=None):
        """Nothing: a single epoch begins."""

    def on_train_end(self, logs=None):
        """Nothing: a single epoch ends."""
