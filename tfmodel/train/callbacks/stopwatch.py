"""The time that training took."""

from __future__ import annotations

import time

import keras


class Stopwatch(keras.callbacks.Callback):
    """Wall-clock time of training, from `start` to the last step, without dev evaluation.

    Args:
        start: `time.perf_counter()` when the first batch was asked for.

    Attributes:
        seconds: time up to the last step.
    """

    def __init__(self, start: float):
        super().__init__()
        self._start = start
        self.seconds = 0.0

    def state(self) -> dict[str, float]:
        """What `set_state` continues from."""
        return {"seconds": self.seconds}

    def set_state(self, state: dict[str, float]) -> None:
        """Count the seconds of earlier sittings of the same run too."""
        self.seconds = state["seconds"]
        self._start -= self.seconds

    def on_train_batch_end(self, batch, logs=None):
        """Note the time."""
        self.seconds = time.perf_counter() - self._start

    def on_test_begin(self, logs=None):
        """Stop while dev is evaluated."""
        self._paused = time.perf_counter()

    def on_test_end(self, logs=None):
        """Go on."""
        self._start += time.perf_counter() - self._paused
