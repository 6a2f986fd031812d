"""The callback that measures a training and tells the trackers."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfmodel.train.watch import answers
from tfmodel.train.watch.answers import DevRows
from tfmodel.train.watch.background import Background
from tfmodel.train.watch.figures import OUTPUTS, WATCHED_FIGURES, as_rows, joined
from tfmodel.train.watch.memory import memory_figures
from tfmodel.train.watch.tracker import Tracker, flat_config

_log = logging.getLogger(__name__)

POINTS = 10_000  # of a curve at most, where the number of steps is known
PICTURE_SHARE = 0.01  # of the time of training that drawing may take
_PICTURE_SECONDS = 0.5  # what drawing takes, until it was measured
_NO_METRICS = (*WATCHED_FIGURES, "step_loss", "gradient_norm")


class Watch(keras.callbacks.Callback):
    """Tell trackers what a training does, step by step and epoch by epoch.

    Of each step: loss, learning rate, norm of the gradient before clipping, rows and real tokens
    a second, the share of time spent waiting for input and the share spent here, memory. Of each
    epoch: the metrics on train and dev, and pictures and mistakes of the dev rows, as often as
    drawing takes 1% of the time, and of the weights kept at the end.

    A `TrainingModel` gives all of it, except that a step compiled by XLA cannot say how long it
    waited for input. Any other model gives loss, learning rate, memory and metrics.

    The trackers work in a thread beside the training; none can end it. To continue a training
    restore the optimizer, whose `iterations` say where; it is then shown as one.

    Args:
        trackers: where to.
        config: settings to show, nested or not; those that sound like secrets are hidden.
        dev: rows of `validation_data` in its order, for pictures and mistakes, or None.
        monitor: figure of the epoch's logs, such as `val_accuracy`, whose best epoch has the
            weights that are kept; None: the last has.
        every_steps: steps between two points of a curve; None: 1, where `total_steps` is known as
            many as make 10,000 points.
        total_steps: of the whole training, all epochs; None: from the first `fit`.
        pictures: whether to draw.
        mistakes: number shown, 0 to 50.

    Raises:
        ValueError: at the beginning of training: `dev` for a model that is no `TrainingModel`.

    Example:
        >>> watch = tm.callbacks.Watch([tm.watch.MLflow("logs")], config={"learning_rate": 2e-4})
        >>> training.fit(batches, epochs=3, callbacks=[watch])
    """

    only_watches = True  # a training goes on with it as without it

    def __init__(
        self,
        trackers: Sequence[Tracker],
        *,
        config: Mapping[str, Any] | None = None,
        dev: DevRows | None = None,
        monitor: str | None = None,
        every_steps: int | None = None,
        total_steps: int | None = None,
        pictures: bool = True,
        mistakes: int = 20,
    ):
        super().__init__()
        if every_steps is not None and every_steps < 1:
            raise ValueError(f"every_steps must be 1 or more. Received: {every_steps}.")
        self.trackers = list(trackers)
        self.config = flat_config(config or {})
        self.dev = dev
        self.monitor = monitor
        self.every_steps = every_steps
        self.total_steps = total_steps
        self.pictures = pictures
        self.mistakes = mistakes
        self._background: Background | None = None
        self._begin_anew()

    def set_model(self, model):
        """Forget what was seen of another model."""
        if self._model is not None and model is not self._model:
            self._begin_anew()
        super().set_model(model)

    def on_train_begin(self, logs=None):
        """Start the trackers, and forget an earlier `fit` that came to its end."""
        if self._ended:
            self._begin_anew()
        self._step = int(self.model.optimizer.iterations.numpy())
        watchable = hasattr(self.model, "watched")
        if self.dev is not None and not watchable:
            raise ValueError(
                "Expected a TrainingModel, whose evaluation gives the answers on dev. Received: "
                f"{type(self.model).__name__}. Train tm.TrainingModel(model), or leave dev out."
            )
        for tracker in self.trackers:
            tracker.start(self.config, step=self._step)
        self._background = Background(self.trackers)
        if watchable:
            self._set_watched(True)
        steps = self.total_steps
        if steps is None and self.params.get("steps"):
            steps = self.params["steps"] * self.params["epochs"]
        self._every = self.every_steps or max(1, -(-(steps or 0) // POINTS))
        self._next = (self._step // self._every + 1) * self._every
        self._began = time.perf_counter()
        self._drawing_seconds, self._picture_seconds = 0.0, _PICTURE_SECONDS
        self._shown_at = self._kept_at = None
        self._traced, self._rate = False, None
        self._answers = self._kept_answers = None
        self._new_window()

    def on_epoch_begin(self, epoch, logs=None):
        """Begin an epoch's means."""
        self._mean, self._batches = 0.0, 0
        self._last_end: float | None = None

    def on_train_batch_begin(self, batch, logs=None):
        """Start the clocks."""
        began = time.perf_counter()
        if self._last_end is None:  # between epochs there may be an evaluation
            self._last_end = began
        self._due = self._step + 1 >= self._next
        if self._due and not getattr(self.model, "watched", False):
            rate = self.model.optimizer.learning_rate  # after the step it is the next one's
            self._rate = float(keras.ops.convert_to_numpy(rate))
        self._here += time.perf_counter() - began
        self._asked = time.time()

    def on_train_batch_end(self, batch, logs=None):
        """Measure the step, and tell."""
        now, logs = time.perf_counter(), logs if logs is not None else {}
        rows, tokens, ready, rate, _ = (logs.pop(name, None) for name in WATCHED_FIGURES)
        self._rate = self._rate if rate is None else rate
        self._seconds += now - self._last_end
        self._last_end = now
        self._rows += rows or 0
        self._tokens += tokens or 0
        if not self._traced:  # the first step also waits for itself to be traced
            self._traced, ready = True, None
        if ready is not None:
            self._waited += max(0.0, ready - self._asked)
        steps, self._batches = batch + 1 - self._batches, batch + 1
        loss = logs.get("step_loss")
        if loss is None and "loss" in logs:  # Keras' is a mean since the epoch began
            total = logs["loss"] * self._batches
            loss, self._mean = (total - self._mean) / steps, total
        self._step += steps
        if self._due:
            self._step = int(self.model.optimizer.iterations.numpy())
            self._next = self._step + self._every
            self._tell(loss, logs.get("gradient_norm"), rows, tokens, ready)
        self._here += time.perf_counter() - now

    def tell(self, figures: Mapping[str, float]) -> None:
        """Show figures of this moment, such as those of an evaluation between two steps.

        Args:
            figures: by name, such as `dev/loss`.
        """
        if self._background is not None:
            self._step = int(self.model.optimizer.iterations.numpy())
            self._background.call("log", self._step, dict(figures))
        self._last_end = None  # what took the time since was no step

    def on_test_begin(self, logs=None):
        """Gather anew."""
        self._gathered = []

    def on_test_batch_end(self, batch, logs=None):
        """Gather the answers."""
        outputs = (logs or {}).pop(OUTPUTS, None)
        if outputs is not None and self.dev is not None:
            self._gathered.append(as_rows(outputs))

    def on_epoch_end(self, epoch, logs=None):
        """Tell the epoch's metrics, and draw where it is time to."""
        logs = logs if logs is not None else {}
        for name in (*WATCHED_FIGURES, f"val_{OUTPUTS}"):
            logs.pop(name, None)
        self._step = int(self.model.optimizer.iterations.numpy())
        figures = {}
        for name, value in logs.items():
            part, base = ("dev", name[4:]) if name.startswith("val_") else ("train", name)
            # The loss on train is there step by step.
            if name not in (*_NO_METRICS, "loss", "learning_rate") and _is_number(value):
                figures[f"{part}/{base}"] = float(value)
        self._background.call("log", self._step, figures)
        self._answers = self._epoch_answers()
        if self._is_best(logs):
            self.kept = {
                name.replace("val_", "dev_") if name.startswith("val_") else f"train_{name}": value
                for name, value in logs.items()
                if name not in (*_NO_METRICS, "learning_rate") and _is_number(value)
            }
            self._kept_answers, self._kept_at = self._answers, self._step
        elapsed = time.perf_counter() - self._began
        if self._drawing_seconds + self._picture_seconds <= PICTURE_SHARE * elapsed:
            self._show(self._step, self._answers)
            self._shown_at = self._step

    def on_train_end(self, logs=None):
        """Show the weights that are kept, and end."""
        self._ended = True
        if self._kept_answers is None:  # the best epoch was before the training was taken up
            self._kept_answers, self._kept_at = self._answers, self._step
        if self._shown_at is None or self._shown_at != self._kept_at:
            # Shown last, for a slider begins at its end.
            at = self._step + (self._shown_at == self._step)
            self._show(at, self._kept_answers)
        try:
            self._finish()
        except OSError as error:  # watching never ends a training
            _log.warning("not all of this training is shown: %s", error)
        self._background.call("finish", self.kept)
        self.close()

    def close(self) -> None:
        """Write everything and let go of the model; also after a failure."""
        if self._background is None:
            return
        self._background.flush()
        self._background.end()
        self._background = None
        if hasattr(self.model, "watched"):
            self._set_watched(False)

    def state(self) -> dict[str, Any]:
        """What `set_state` continues from; all that was told so far outlives the process then."""
        if self._background is not None:
            self._background.flush()
        return {"best": self.best, "kept": self.kept}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue where `state()` was taken."""
        self.best, self.kept = state["best"], state["kept"]

    def _begin_anew(self) -> None:
        self.best: list[float] | None = None  # the figure, then the loss, more is better
        self.kept: dict[str, float] = {}
        self._ended = False

    def _finish(self) -> None:
        """What remains to be done with the weights kept."""

    def _set_watched(self, watched: bool) -> None:
        if self.model.watched != watched:
            self.model.watched = watched
            # Traced before, a step would go on as it was.
            if self.model.train_function is not None:
                self.model.make_train_function(force=True)
            if self.model.test_function is not None:
                self.model.make_test_function(force=True)

    def _tell(self, loss, norm, rows, tokens, ready) -> None:
        seconds = max(self._seconds, 1e-9)
        figures = {
            "train/loss": loss,
            "step/learning_rate": self._rate,
            "step/gradient_norm": norm,
            "speed/examples_per_second": self._rows / seconds if rows is not None else None,
            "speed/tokens_per_second": self._tokens / seconds if tokens is not None else None,
            "speed/input_share": self._waited / seconds if ready is not None else None,
            "speed/watch_share": self._here / seconds,
            **memory_figures(),
        }
        told = {name: float(value) for name, value in figures.items() if value is not None}
        self._background.call("log", self._step, told)
        self._new_window()

    def _new_window(self) -> None:
        """Begin the sums between two points of a curve."""
        self._seconds = self._waited = self._here = 0.0
        self._rows = self._tokens = 0

    def _epoch_answers(self) -> np.ndarray | None:
        gathered, self._gathered = getattr(self, "_gathered", []), []
        if self.dev is None or not gathered:
            return None
        outputs = joined(gathered)
        if len(outputs) != self.dev.answered:
            _log.warning(
                "no pictures: expected an evaluation of the %d dev rows, received %d outputs",
                self.dev.answered,
                len(outputs),
            )
            return None
        return outputs

    def _is_best(self, logs: Mapping[str, float]) -> bool:
        """Whether this epoch's weights are those kept so far."""
        if self.monitor is None or logs.get(self.monitor) is None:
            return self.monitor is None
        sign = -1 if self.monitor.endswith("loss") else 1
        found = [sign * float(logs[self.monitor]), -float(logs.get("val_loss", 0.0))]
        if self.best is not None and found <= self.best:
            return False
        self.best = found
        return True

    def _show(self, step: int, outputs: np.ndarray | None) -> None:
        """Draw the answers and list the mistakes."""
        if outputs is None or not np.isfinite(outputs).all():
            return
        began = time.perf_counter()
        if self.pictures:
            for name, png in answers.pictures(self.dev, outputs).items():
                self._background.call("image", step, f"dev/{name}", png)
        if self.mistakes and self.dev.texts is not None:
            rows = answers.mistakes(self.dev, outputs, count=self.mistakes)
            self._background.call("table", step, "dev/mistakes", rows)
        self._picture_seconds = time.perf_counter() - began
        self._drawing_seconds += self._picture_seconds


def _is_number(value) -> bool:
    return isinstance(value, int | float | np.number)
