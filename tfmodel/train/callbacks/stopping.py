"""Stop where going on is of no use."""

from __future__ import annotations

import math

import keras


class StopOnNaN(keras.callbacks.Callback):
    """End training at the first loss that is not a number, before it is saved anywhere."""

    def on_train_batch_end(self, batch, logs=None):
        """Look at the loss."""
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            raise FloatingPointError(
                f"The loss is {loss} at step {batch + 1} of this epoch. Expected a number. Lower "
                "train.learning_rate, or try train.precision=float32."
            )
