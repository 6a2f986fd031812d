"""What a run continues from, and the signals that end one."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import keras

from tfmodel.train.checkpoint import Checkpoint

_log = logging.getLogger(__name__)


class SaveCheckpoints(keras.callbacks.Callback):
    """Save what a run continues from: by time, and on Ctrl-C or SIGTERM.

    Args:
        checkpoint: where to.
        batches: the `Batches` that feed `fit`.
        seconds: time between checkpoints.
        state: called for what else the run must remember.
    """

    def __init__(
        self, checkpoint: Checkpoint, batches, *, seconds: float, state: Callable[[], dict]
    ):
        super().__init__()
        self.checkpoint = checkpoint
        self.batches = batches
        self.seconds = seconds
        self.state = state
        self._signal: int | None = None
        self._ended = False
        self._handlers: dict[int, Any] = {}

    def variables(self) -> list:
        """All that changes in training: weights, optimizer, random states."""
        return [*self.model.variables, *self.model.optimizer.variables]

    def on_train_begin(self, logs=None):
        """Take over the signals that ask a process to end."""
        self._saved = time.perf_counter()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._remember)

    def on_epoch_begin(self, epoch, logs=None):
        """Know where the epoch begins."""
        self._epoch = epoch
        self._done = self.batches.skip if epoch == self.batches.epoch else 0
        self._last = len(self.batches.plan(epoch))

    def on_train_batch_end(self, batch, logs=None):
        """Save where it is time to, and end where a signal asked for it."""
        self._done += 1
        # After the last step the epoch's checkpoint follows, once its dev figure is known.
        if self._done == self._last:
            return
        position = {"epoch": self._epoch, "batch": self._done}
        if self._signal is not None:
            self._save(position, wait=True)
            self._end()
        elif time.perf_counter() - self._saved >= self.seconds:
            self._save(position, wait=False)

    def on_epoch_end(self, epoch, logs=None):
        """Save where it is time to: after short epochs the copy would cost more than it saves."""
        if epoch + 1 == self.params["epochs"] or self.model.stop_training:
            return
        position = {"epoch": epoch + 1, "batch": 0}
        if self._signal is not None:
            self._save(position, wait=True)
            self._end()
        elif time.perf_counter() - self._saved >= self.seconds:
            self._save(position, wait=False)

    def release(self) -> None:
        """Give the signals back and finish writing; also after a failure."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        self.checkpoint.wait()
        if self._signal is not None and not self._ended:
            self._end()

    def _end(self) -> None:
        self._ended = True
        _log.info("stopped; the same command continues from here")
        if self._signal == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt

    def _save(self, position: dict, *, wait: bool) -> None:
        self.checkpoint.save(self.variables(), {**position, **self.state()}, wait=wait)
        self._saved = time.perf_counter()

    def _remember(self, number, frame):
        if self._signal is not None:  # asked twice: at once
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._signal = number
