"""A training of one `fit` an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tfmodel.train.callbacks.resume import Resume
from tfmodel.train.distribute.workers import from_chief


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
        self.epochs = epochs

    def fit(
        self,
        batches: Any,
        *,
        resume: Resume,
        validation: Any | None = None,
        watching: Sequence[keras.callbacks.Callback] = (),
    ) -> None:
        """Train to the end, or on to it where an interrupted training stopped.

        Args:
            batches: `Batches` or the like, whose `dataset()` is an epoch.
            resume: of the callbacks, the one that says where to go on.
            validation: batches to evaluate after each epoch, or None.
            watching: of the callbacks, those to `close` whatever happens.
        """
        model = self.model
        try:
            self.begin()
            strategy = model.distribute_strategy
            model.watched = from_chief(strategy, model.watched)  # the step is the same for all
            for epoch in range(resume.epoch, self.epochs):
                model.fit(
                    batches.dataset(),
                    initial_epoch=epoch,
                    epochs=epoch + 1,
                    validation_data=None if validation is None else validation.dataset(),
                    callbacks=self,
                    shuffle=False,
                    verbose=0,
                )
                if model.stop_training:
                    break
            self.end()
        finally:
            resume.release()
            for each in watching:
                each.close()

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
