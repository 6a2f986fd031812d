"""What the epochs and steps of several tasks did, task by task."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import keras
import numpy as np

from tfmodel.tokens.batches import Batches
from tfmodel.tokens.mixing import MixedBatches
from tfmodel.train.callbacks.dev_figures import DevFigures
from tfmodel.train.callbacks.recording import StepRecorder
from tfmodel.train.callbacks.stopwatch import Stopwatch
from tfmodel.train.watch.figures import OUTPUTS
from tfmodel.train.watch.watching import Watch


@dataclasses.dataclass(frozen=True)
class TaskDev:
    """The dev rows of a task.

    Attributes:
        batches: the rows.
        measuring: what figures all answers together.
        monitor: the figure that counts where the best epoch is chosen.
    """

    batches: Batches
    measuring: list[DevFigures]
    monitor: str


class TaskFigures(keras.callbacks.Callback):
    """Add the figures of each task to an epoch: `NAME/loss`, and of dev `val_NAME/FIGURE`.

    `val_mean` is the mean of the figures that count, one a task: what the best epoch is chosen by.
    Where a task has none, as a correlation of answers that are all the same, it counts as 0.
    `val_loss` is the mean of the dev losses. Put it before the callbacks that read them.

    Args:
        recorder: of the steps.
        batches: what is trained on.
        dev: by name the dev rows of the tasks that have some.
        weights: by name what the loss of a task is multiplied with.
        clock: stands still while dev is measured.
    """

    def __init__(
        self,
        recorder: StepRecorder,
        batches: MixedBatches,
        *,
        dev: Mapping[str, TaskDev],
        weights: Mapping[str, float],
        clock: Stopwatch,
    ):
        super().__init__()
        self.recorder = recorder
        self.batches = batches
        self.dev = dict(dev)
        self.weights = dict(weights)
        self.clock = clock

    def on_train_begin(self, logs=None):
        """Have the evaluations give the answers that figures are made of."""
        for name, dev in self.dev.items():
            for each in dev.measuring:
                each.set_model(self.model.parts[name])
                each.on_train_begin()

    def on_epoch_end(self, epoch, logs=None):
        """Measure each task."""
        logs = logs if logs is not None else {}
        logs |= self._train_losses(epoch)
        if not self.dev:
            return
        self.clock.on_test_begin()
        counted, losses = [], []
        for name, dev in self.dev.items():
            found = self._measured(name, dev, epoch)
            logs |= {f"val_{name}/{figure}": value for figure, value in found.items()}
            figure = found[dev.monitor]
            counted.append(figure if math.isfinite(figure) else 0.0)
            losses.append(found["loss"])
        logs |= {"val_mean": float(np.mean(counted)), "val_loss": float(np.mean(losses))}
        self.clock.on_test_end()

    def _measured(self, name: str, dev: TaskDev, epoch: int) -> dict[str, float]:
        found = self.model.parts[name].evaluate(
            dev.batches.dataset(), callbacks=[*dev.measuring], return_dict=True, verbose=0
        )
        logs = {f"val_{figure}": value for figure, value in found.items() if figure != OUTPUTS}
        for each in dev.measuring:
            each.on_epoch_end(epoch, logs)
        return {figure.removeprefix("val_"): float(value) for figure, value in logs.items()}

    def _train_losses(self, epoch: int) -> dict[str, float]:
        """The mean loss of each task's own steps."""
        drawn = self.batches.drawn(epoch)
        losses = np.array([step["loss"] for step in self.recorder.history[-len(drawn) :]])
        return {
            f"{name}/loss": float(losses[drawn == number].mean()) / self.weights.get(name, 1.0)
            for number, name in enumerate(self.batches.tasks)
            if (drawn == number).any()
        }


class TaskLosses(keras.callbacks.Callback):
    """Show the loss of each task as a curve of its own, `train/NAME/loss`.

    Put it behind `watch`.

    Args:
        recorder: of the steps.
        batches: what is trained on.
        weights: by name what the loss of a task is multiplied with.
        watch: where it is shown.
        every_steps: steps between two points; a point is the mean of a task's steps since the last.
    """

    def __init__(
        self,
        recorder: StepRecorder,
        batches: MixedBatches,
        *,
        weights: Mapping[str, float],
        watch: Watch,
        every_steps: int,
    ):
        super().__init__()
        self.recorder = recorder
        self.batches = batches
        self.weights = dict(weights)
        self.watch = watch
        self.every_steps = every_steps
        self._losses: dict[str, list[float]] = {}

    def on_epoch_begin(self, epoch, logs=None):
        """Know the tasks of the steps."""
        skip = self.batches.skip if epoch == self.batches.epoch else 0
        self._drawn = self.batches.drawn(epoch)[skip:]

    def on_train_batch_end(self, batch, logs=None):
        """Show what has gathered, where it is time to."""
        name = [*self.batches.tasks][self._drawn[batch]]
        entry = self.recorder.history[-1]
        loss = entry["loss"] / self.weights.get(name, 1.0)
        self._losses.setdefault(name, []).append(loss)
        if entry["step"] % self.every_steps == 0:
            self.watch.tell(
                {f"train/{name}/loss": float(np.mean(of)) for name, of in self._losses.items()}
            )
            self._losses = {}
