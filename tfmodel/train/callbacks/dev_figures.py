"""Figures of dev that need all of its answers at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import numpy as np

from tfmodel.train.watch.figures import OUTPUTS, as_rows, joined


class DevFigures(keras.callbacks.Callback):
    """Add figures to an epoch that no sum over batches gives, such as the correlation of ranks.

    Put it before the callbacks that read them. They are called `val_NAME`, as Keras calls what
    it measures on `validation_data` itself.

    Args:
        figures: the outputs for `validation_data` in its order, float (n, …), to figure by name.

    Raises:
        ValueError: at the beginning of training: the model is no `TrainingModel`, whose evaluation
            gives its answers.

    Example:
        >>> figures = tm.callbacks.DevFigures(lambda outputs: regress.dev_figures(scores, outputs))
        >>> best = tm.callbacks.KeepBest("val_spearman")
        >>> training.fit(batches, validation_data=dev, callbacks=[figures, best])
    """

    def __init__(self, figures: Callable[[np.ndarray], Mapping[str, float]]):
        super().__init__()
        self.figures = figures
        self._gathered: list[np.ndarray] = []

    def on_train_begin(self, logs=None):
        """Have the evaluation give its answers."""
        if not hasattr(self.model, "answers"):
            raise ValueError(
                "Expected a TrainingModel, whose evaluation gives the answers on dev. Received: "
                f"{type(self.model).__name__}. Train tm.TrainingModel(model)."
            )
        if not self.model.answers:
            self.model.answers = True
            if self.model.test_function is not None:  # traced before, it would go on as it was
                self.model.make_test_function(force=True)

    def on_test_begin(self, logs=None):
        """Gather anew."""
        self._gathered = []

    def on_test_batch_end(self, batch, logs=None):
        """Gather the answers."""
        outputs = (logs or {}).get(OUTPUTS)
        if outputs is not None:
            self._gathered.append(as_rows(outputs))

    def on_epoch_end(self, epoch, logs=None):
        """Add the figures."""
        logs = logs if logs is not None else {}
        logs.pop(f"val_{OUTPUTS}", None)
        if self._gathered:
            found = self.figures(joined(self._gathered))
            logs |= {f"val_{name}": float(value) for name, value in found.items()}
        self._gathered = []
