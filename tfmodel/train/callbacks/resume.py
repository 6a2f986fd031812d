"""Continue an interrupted training: what it continues from, and the signals that interrupt it."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
import time
import types
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfmodel.config import ConfigError
from tfmodel.run_folder import clear_leftovers, fingerprint
from tfmodel.tokens.batches import batches_of
from tfmodel.train.callbacks.fed import check_fed
from tfmodel.train.checkpoint import Checkpoint
from tfmodel.train.distribute.workers import is_chief, require_same, shared, worker_count

_log = logging.getLogger(__name__)

# What Keras' own callbacks would have to remember.
_KERAS = {
    keras.callbacks.EarlyStopping: ("wait", "best", "best_epoch", "stopped_epoch"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: ("best", "epochs_since_last_save"),
}


class Resume(keras.callbacks.Callback):
    """Continue where an interrupted training stopped, in the middle of an epoch too.

    While `fit` runs, a checkpoint is written every so many seconds, and on Ctrl-C and SIGTERM,
    which then end the process as they would have (the second Ctrl-C at once). The same script,
    started again, goes on after the last checkpoint, and each later step, the dev figures and the
    weights are bit for bit those of a training that was not interrupted: model, optimizer, random
    states, the position in the data, the epoch's metrics, and what the callbacks in `remember`
    know. It must be the last callback, and the script must build model, optimizer and batches as
    it did. When all epochs are done the checkpoint stays: delete the folder to train anew.

    Args:
        folder: for the checkpoint, in `folder/last`; no other training's.
        batches: the dataset from `tm.batches` (or the `Batches`) that feeds `fit`.
        remember: the other callbacks of the `fit` that change as they go: those with `state()`
            and `set_state()` (and, where they hold variables, `state_variables`), and Keras' own
            `EarlyStopping`, `ReduceLROnPlateau` and `ModelCheckpoint`.
        seconds: time between checkpoints.
        key: what the training depends on beside the batches, such as settings; with another one
            a checkpoint is refused.

    Attributes:
        epoch: epoch (from 0) that is continued; 0 where nothing is.
        resumed_at_steps: steps of the optimizer at which the training was taken up.

    Raises:
        ConfigError: the checkpoint is of other batches, another key, model, optimizer (its
            arguments, the learning rate or its schedule too) or other callbacks, or the folder
            cannot be written.
        ValueError: a callback in `remember` has nothing to remember by, or `fit` is given other
            data than `batches`.

    Example:
        >>> best = tm.callbacks.KeepBest("val_loss", patience=2)
        >>> resume = tm.callbacks.Resume("checkpoints", batches, remember=[best])
        >>> model.fit(batches, validation_data=dev, epochs=5, shuffle=False,
        ...           callbacks=[best, resume])
    """

    def __init__(
        self,
        folder: str | Path,
        batches,
        *,
        remember: Sequence[keras.callbacks.Callback] = (),
        seconds: float = 60.0,
        key: str = "",
    ):
        super().__init__()
        self.checkpoint = Checkpoint(Path(folder) / "last")
        self.batches = batches_of(batches)
        self.remember = _by_name(remember)
        self.seconds = seconds
        self.key = key
        self.epoch = 0
        self.resumed_at_steps: list[int] = []
        self._epoch, self._done = 0, 0
        self._late: list[tuple[keras.callbacks.Callback, dict[str, Any]]] = []
        self._train_function = None
        self._good = True
        self._signal: int | None = None
        self._handlers: dict[int, Any] = {}
        self._fit: types.FrameType | None = None  # the call of `fit` whose signals are taken over

    def set_model(self, model):
        """Take up the last checkpoint, when all other callbacks know the model."""
        if self._model is model:
            return
        super().set_model(model)
        with model.distribute_strategy.scope():
            if not model.optimizer.built:
                model.optimizer.build(model.trainable_variables)
        self._data_key = self.batches.fingerprint
        self._optimizer_key = _optimizer_key(model.optimizer)
        self._strategy = model.distribute_strategy
        self.checkpoint = shared(self.checkpoint, self._strategy)
        require_same(self._strategy, {"the rows and their order": self._data_key})
        if is_chief(self._strategy):
            self._make_folder()
            clear_leftovers(self.checkpoint.folder)
        if self.checkpoint.exists():
            self._take_up()

    def on_train_begin(self, logs=None):
        """Take over the signals that ask a process to end."""
        check_fed(self.batches, self.params)
        for callback, attributes in self._late:
            vars(callback).update(attributes)
        self.model._initial_epoch = self.epoch  # as Keras' BackupAndRestore does
        self._saved = time.perf_counter()
        if threading.current_thread() is threading.main_thread():
            self._fit = _outside_of_callbacks(sys._getframe())
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._remember_signal)

    def on_epoch_begin(self, epoch, logs=None):
        """Know where the epoch begins."""
        self.model._initial_epoch = None
        skip = self.batches.skip if epoch == self.batches.epoch else 0
        self.batches.epoch, self.batches.skip = epoch, skip
        self._epoch, self._skip, self._done = epoch, skip, skip
        self._last = len(self.batches)
        if skip:
            if self.checkpoint.state()["metrics"]:
                self._restore_metrics()
            self._end_after(self._last - skip)

    def on_train_batch_end(self, batch, logs=None):
        """Save where it is time to, and end where a signal asked for it."""
        # What is not a number is no place to continue from.
        figures = [(logs or {}).get(name, 0.0) for name in ("loss", "step_loss", "gradient_norm")]
        self._good = all(math.isfinite(figure) for figure in figures)
        done = self._skip + batch + 1
        if self._good:
            self._done = done
        # After the last step the epoch's checkpoint follows, once its dev figure is known.
        if done < self._last:
            self._save_if_due()

    def on_epoch_end(self, epoch, logs=None):
        """Save where it is time to: after short epochs the copy would cost more than it saves."""
        self._whole_epochs_again()
        if self._good:
            self._epoch, self._done = epoch + 1, 0
        if epoch + 1 < self.params["epochs"] and not self.model.stop_training:
            self._save_if_due()

    def on_train_end(self, logs=None):
        """Give the signals back and finish writing."""
        self.release()

    def save(self, *, wait: bool = True) -> None:
        """Save where training stands, after the last step that was a number; not before the first.

        Args:
            wait: return when it is on disk.
        """
        if not int(self.model.optimizer.iterations.numpy()):
            return
        callbacks = {name: _state(callback) for name, callback in self.remember.items()}
        state = {
            "key": self.key,
            "data": self._data_key,
            "optimizer": self._optimizer_key,
            "epoch": self._epoch,
            "batch": self._done,
            "resumed_at_steps": self.resumed_at_steps,
            "callbacks": callbacks,
            "watching": [name for name, each in self.remember.items() if _only_watches(each)],
        }
        variables = self._variables()
        # Not those that have seen what was not a number.
        if self._done and all(np.isfinite(v.numpy()).all() for v in self.model.metrics_variables):
            variables["metrics"] = self.model.metrics_variables
        state["metrics"] = "metrics" in variables
        self.checkpoint.save(variables, state, wait=wait)
        self._saved = time.perf_counter()

    def release(self) -> None:
        """Give the signals back and finish writing; call it where `fit` may fail, in `finally`."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        self._fit = None
        self._whole_epochs_again()
        self.checkpoint.wait()
        if self._signal is not None:
            self._end()

    def _variables(self) -> dict[str, list]:
        found = {"model": self.model.variables, "optimizer": self.model.optimizer.variables}
        for name, callback in self.remember.items():
            found[name] = list(getattr(callback, "state_variables", ()))
        return found

    def _make_folder(self) -> None:
        """Know at once, not at the first checkpoint, that nothing can be written."""
        folder = self.checkpoint.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            writable = os.access(folder, os.W_OK)
            found = f"{folder}, which is read-only"
        except OSError as error:
            writable, found = False, error
        if not writable:
            raise ConfigError(
                f"Expected a folder for checkpoints that can be written. Received: {found}. Name "
                "another one."
            )

    def _take_up(self) -> None:
        state = self.checkpoint.state()
        for name, mine, what in (
            ("key", self.key, "config or other data"),
            ("data", self._data_key, "rows, or in another order"),
            ("optimizer", self._optimizer_key, "optimizer or learning rate"),
            (
                "callbacks",
                [key for key, each in self.remember.items() if not _only_watches(each)],
                "callbacks",
            ),
        ):
            theirs = state.get(name)
            if name == "callbacks":  # whether it is watched changes no training
                theirs = [key for key in theirs if key not in state.get("watching", ())]
            if name == "callbacks" and not is_chief(self._strategy):
                theirs = [each for each in theirs if each in mine]  # the chief has more of them
            if theirs != mine:
                raise ConfigError(
                    f"{self.checkpoint.folder}: expected the checkpoint of this very run. Received:"
                    f" one of another {what}. Add --restart to train anew, or name another run "
                    "folder; in a script of your own, delete the folder."
                )
        self.checkpoint.restore(self._variables())
        for name, callback in self.remember.items():
            if name not in state["callbacks"]:
                continue
            if hasattr(callback, "set_state"):
                callback.set_state(state["callbacks"][name])
            else:  # Keras' own begin anew in on_train_begin
                self._late.append((callback, state["callbacks"][name]))
        self.epoch = self._epoch = state["epoch"]
        self._done = state["batch"]
        self.batches.epoch, self.batches.skip = state["epoch"], state["batch"]
        step = int(self.model.optimizer.iterations.numpy())
        self.resumed_at_steps = [*state["resumed_at_steps"], step]
        _log.info("continues at step %d (epoch %d)", step, self.epoch + 1)

    def _restore_metrics(self) -> None:
        """Let the epoch's figures count the steps before the interruption too."""
        devices = worker_count(self._strategy) > 1 or self._strategy.num_replicas_in_sync > 1
        if devices or len(self.model.metrics) == 1:  # the mean loss, made when it was compiled
            self.checkpoint.restore({"metrics": self.model.metrics_variables})
            return
        # Metrics have no variables before they have seen a batch.
        inputs, targets, weights = self.batches.batch(self._epoch, 0)
        outputs = self.model(inputs, training=False)
        self.model.compute_metrics(inputs, targets, outputs, sample_weight=weights)
        self.checkpoint.restore({"metrics": self.model.metrics_variables})

    def _end_after(self, steps: int) -> None:
        """Have Keras end this epoch early: it expects as many batches of it as of any."""
        train, model = self.model.train_function, self.model
        if train is None:  # one `fit` an epoch, by `OneTraining`: Keras knows the number
            return
        calls = math.ceil(steps / model.steps_per_execution)

        def train_the_rest(iterator):
            nonlocal calls
            if calls == 0:
                warnings.filterwarnings("ignore", "Your input ran out of data")
                raise StopIteration
            calls -= 1
            return train(iterator)

        self._filters = warnings.catch_warnings()
        self._filters.__enter__()
        self._train_function, model.train_function = train, train_the_rest

    def _whole_epochs_again(self) -> None:
        if self._train_function is not None:
            self.model.train_function, self._train_function = self._train_function, None
            self._filters.__exit__(None, None, None)

    def _save_if_due(self) -> None:
        due = time.perf_counter() - self._saved >= self.seconds
        # Of several workers all save, for a variable may be read only by all together.
        asked, due = self.checkpoint.agree([self._signal is not None, due])
        if asked:
            self._signal = self._signal or signal.SIGTERM
            if self._good:
                self.save()
            self.release()
        elif due and self._good:
            self.save(wait=False)

    def _end(self) -> None:
        number, self._signal = self._signal, None
        _log.info("stopped; the same command continues from here")
        if number == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt

    def _remember_signal(self, number, frame):
        if not _runs(self._fit, frame):  # it failed, and nobody called `release`
            self.release()
            signal.raise_signal(number)
            return
        if self._signal is not None:  # asked twice: at once
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._signal = number


def _by_name(callbacks: Sequence) -> dict[str, keras.callbacks.Callback]:
    """Callbacks by their class's name, and a number from the second of a kind on."""
    found: dict[str, keras.callbacks.Callback] = {}
    for callback in callbacks:
        name = type(callback).__name__
        if not hasattr(callback, "set_state") and _keras_kind(callback) is None:
            raise ValueError(
                "Callbacks to remember must have state() and set_state(). "
                f"Received: a {name}. Leave it out if it is the same at every step."
            )
        if getattr(callback, "restore_best_weights", False):
            raise ValueError(
                "EarlyStopping to remember must not keep weights. Received: one with "
                "restore_best_weights. Use tm.callbacks.KeepBest, which stops and restores."
            )
        count = sum(type(other) is type(callback) for other in found.values())
        found[f"{name} {count + 1}" if count else name] = callback
    return found


def _optimizer_key(optimizer: keras.optimizers.Optimizer) -> str:
    """A hash of the optimizer's kind and arguments, as far as it can tell them."""
    kind = type(optimizer).__name__
    try:
        arguments = optimizer.get_config()
        arguments.pop("name", None)  # Keras numbers the optimizers of a process
        return fingerprint([kind, arguments])
    except (NotImplementedError, TypeError):  # as of a schedule of the user's own
        return fingerprint(kind)


def _only_watches(callback: keras.callbacks.Callback) -> bool:
    return getattr(callback, "only_watches", False)


def _outside_of_callbacks(frame: types.FrameType) -> types.FrameType:
    """Who called `on_train_begin`: `fit`, or the function that calls it once an epoch."""
    while frame.f_code.co_name in ("on_train_begin", "begin"):
        frame = frame.f_back
    return frame


def _runs(called: types.FrameType | None, frame: types.FrameType | None) -> bool:
    """Whether a call is among those that led to a frame."""
    while frame is not None and frame is not called:
        frame = frame.f_back
    return frame is not None


def _keras_kind(callback) -> type | None:
    return next((kind for kind in _KERAS if isinstance(callback, kind)), None)


def _state(callback) -> dict[str, Any]:
    if hasattr(callback, "state"):
        return callback.state()
    found = {}
    for name in _KERAS[_keras_kind(callback)]:
        value = getattr(callback, name)
        found[name] = value.item() if hasattr(value, "item") else value
    return found
