"""What each step did."""

from __future__ import annotations

import time
from pathlib import Path

import keras


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
