"""What happens around the steps: progress, TensorBoard, checkpoints, the best epoch.

Each is a plain `keras.callbacks.Callback` for anybody's `fit`; those that need the numbers of a
batch take the `Batches` that feed it.
"""

from __future__ import annotations

import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from tfmodel.train.checkpoint import Checkpoint

_log = logging.getLogger(__name__)


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


class StepRecorder(keras.callbacks.Callback):
    """Each step's own loss, rate and speed, kept and written to TensorBoard.

    Keras' `loss` is a mean since the epoch began; here it is turned back into single steps.

    Args:
        batches: the `Batches` that feed `fit`.
        logs: TensorBoard folder, or None.
        history: list that the steps are appended to, one dict each.
    """

    def __init__(self, batches, *, logs: Path | None = None, history: list | None = None):
        super().__init__()
        self.batches = batches
        self.logs_folder = logs
        self.history = history if history is not None else []
        self.examples = 0
        self.tokens = 0
        self._writer = None

    def on_train_begin(self, logs=None):
        """Open the event file."""
        if self.logs_folder is not None:
            import tensorflow as tf

            step = int(self.model.optimizer.iterations)
            self._writer = tf.summary.create_file_writer(str(self.logs_folder))
            with self._writer.as_default():
                tf.summary.scalar("train/resumed", 1.0 if step else 0.0, step=step)

    def on_epoch_begin(self, epoch, logs=None):
        """Know the batches of the epoch."""
        skip = self.batches.skip if epoch == self.batches.epoch else 0
        self._plan = self.batches.plan(epoch)[skip:]
        self._sum = self._rows = 0.0

    def on_train_batch_begin(self, batch, logs=None):
        """Note the step's rate, and start its clock."""
        rate = self.model.optimizer.learning_rate  # after the step it is the next one's
        self._rate = float(keras.ops.convert_to_numpy(rate))
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Record the step."""
        rows = self._plan[batch]
        tokens = int(self.batches.rows.lengths[rows].sum())
        self.examples += len(rows)
        self.tokens += tokens
        seconds = time.perf_counter() - self._began
        total = logs["loss"] * (self._rows + len(rows))
        loss = (total - self._sum) / len(rows)
        self._sum, self._rows = total, self._rows + len(rows)
        entry = {
            "step": int(self.model.optimizer.iterations),
            "loss": float(loss),
            "learning_rate": self._rate,
            "tokens_per_second": tokens / seconds,
        }
        self.history.append(entry)
        if self._writer is not None:
            import tensorflow as tf

            with self._writer.as_default(step=entry["step"]):
                for name in ("loss", "learning_rate", "tokens_per_second"):
                    tf.summary.scalar(f"train/{name}", entry[name])

    def on_epoch_end(self, epoch, logs=None):
        """Write the epoch's dev figures."""
        if self._writer is not None:
            import tensorflow as tf

            with self._writer.as_default(step=int(self.model.optimizer.iterations)):
                for name, value in (logs or {}).items():
                    if name.startswith("val_"):
                        tf.summary.scalar(f"dev/{name.removeprefix('val_')}", value)
            self._writer.flush()

    def on_train_end(self, logs=None):
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()


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

        done = int(self.model.optimizer.iterations)
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
            if name in ("loss", "val_loss", "val_accuracy")
        )
        if self._bar is not None:
            self._bar.clear()
        _log.info("epoch %d/%d: %s", epoch + 1, self.epochs, words)

    def on_train_end(self, logs=None):
        """Remove the line."""
        if self._bar is not None:
            self._bar.close()


class KeepBest(keras.callbacks.Callback):
    """Remember the weights of the best epoch, stop when none is better, restore at the end.

    Of epochs with an equal figure the one with the lower dev loss is the better: on few rows
    the accuracy is often equal, and the later epoch surer of the right answers.

    Args:
        monitor: name in the epoch's logs, such as `val_accuracy`.
        patience: epochs without a better figure before training stops; None: never.
        checkpoint: where the best weights are kept, so that they outlive the process.
    """

    def __init__(self, monitor: str, *, patience: int | None, checkpoint: Checkpoint):
        super().__init__()
        self.monitor = monitor
        self.patience = patience
        self.checkpoint = checkpoint
        self.best: list[float] | None = None  # the figure, then the loss, more is better
        self.best_epoch: int | None = None
        self.waited = 0

    def on_epoch_end(self, epoch, logs=None):
        """Compare."""
        value = (logs or {}).get(self.monitor)
        if value is None:
            return
        sign = -1 if self.monitor.endswith("loss") else 1
        found = [sign * float(value), -float(logs.get("val_loss", 0.0))]
        if self.best is None or found > self.best:
            self.best, self.best_epoch, self.waited = found, epoch, 0
            state = {"epoch": epoch, self.monitor: float(value)}
            self.checkpoint.save(self.model.trainable_variables, state)
            return
        self.waited += 1
        if self.patience is not None and self.waited >= self.patience:
            _log.info("no better dev figure for %d epochs: training stops", self.waited)
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        """Restore the best weights."""
        if self.best is not None:
            self.checkpoint.restore(self.model.trainable_variables)

    def state(self) -> dict[str, Any]:
        """What `set_state` continues from."""
        return {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue where `state()` was taken."""
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self.waited = state["waited"]


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

    def set_earlier(self, seconds: float) -> None:
        """Count the seconds of earlier sittings of the same run too."""
        self._start -= seconds
        self.seconds = seconds

    def on_train_batch_end(self, batch, logs=None):
        """Note the time."""
        self.seconds = time.perf_counter() - self._start

    def on_test_begin(self, logs=None):
        """Stop while dev is evaluated."""
        self._paused = time.perf_counter()

    def on_test_end(self, logs=None):
        """Go on."""
        self._start += time.perf_counter() - self._paused
