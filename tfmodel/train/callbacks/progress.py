"""Where training is, in one line."""

from __future__ import annotations

import logging
import sys
import time

import keras

from tfmodel.train.callbacks.recording import StepRecorder
from tfmodel.train.step import STEP_FIGURES

_log = logging.getLogger(__name__)


class Progress(keras.callbacks.Callback):
    """One line: where training is, how fast it goes and how long it will take.

    On a terminal the line is drawn over; elsewhere one is logged every `seconds`.

    Args:
        recorder: the run's `StepRecorder`.
        total_steps: steps of the whole run.
        epochs: epochs of the whole run.
        seconds: time between lines where the output is not a terminal.
    """

    def __init__(
        self, recorder: StepRecorder, *, total_steps: int, epochs: int, seconds: float = 10.0
    ):
        super().__init__()
        self.recorder = recorder
        self.total_steps = total_steps
        self.epochs = epochs
        self.seconds = seconds
        self._bar = None

    def on_train_begin(self, logs=None):
        """Draw the empty line."""
        from tqdm import tqdm

        done = int(self.model.optimizer.iterations.numpy())
        self._told = time.perf_counter()
        self._began, self._first = time.perf_counter(), done
        self._rows_before = self.recorder.examples
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=self.total_steps, initial=done, unit="step", dynamic_ncols=True, leave=False
            )

    def on_epoch_begin(self, epoch, logs=None):
        """Name the epoch."""
        self._epoch = f"epoch {epoch + 1}/{self.epochs}"
        if self._bar is not None:
            self._bar.set_description(self._epoch)

    def on_train_batch_end(self, batch, logs=None):
        """Draw or log."""
        now = time.perf_counter()
        entry = self.recorder.history[-1]
        rate = (self.recorder.examples - self._rows_before) / (now - self._began)
        words = f"loss {entry['loss']:.3f}, {rate:.0f} rows/s"
        if self._bar is not None:
            self._bar.set_postfix_str(words, refresh=False)
            self._bar.update()
        elif now - self._told >= self.seconds:
            self._told = now
            step = entry["step"]
            left = (now - self._began) / max(step - self._first, 1) * (self.total_steps - step)
            _log.info(
                "%s, step %d of %d, %s, %d s left",
                self._epoch,
                step,
                self.total_steps,
                words,
                round(left),
            )

    def on_epoch_end(self, epoch, logs=None):
        """Log the epoch's figures."""
        words = ", ".join(
            f"{name.replace('val_', 'dev ')} {value:.4f}"
            for name, value in (logs or {}).items()
            if (name == "loss" or name.startswith("val_")) and name not in STEP_FIGURES
        )
        if self._bar is not None:
            self._bar.clear()
        _log.info("epoch %d/%d: %s", epoch + 1, self.epochs, words)

    def on_train_end(self, logs=None):
        """Remove the line."""
        if self._bar is not None:
            self._bar.close()
