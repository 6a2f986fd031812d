"""Weights that are a mean over many steps: exponential moving average and SWA."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfmodel.train.regularize.rate import Rate


class _AveragedWeights(keras.callbacks.Callback):
    """Keeps an average beside the weights, and puts it in their place between the epochs.

    From the dev evaluation of an epoch (without one, from its end) to the start of the next epoch
    the average is in the model, and the weights wait here. So every figure, `KeepBest` and what
    is left after the last epoch are the average's, while training goes on from the weights.
    Put it before callbacks that look at the weights at the end of an epoch.
    """

    def __init__(self):
        super().__init__()
        self._pairs: list[tuple[keras.Variable, keras.Variable]] = []
        self._begin_anew()

    def set_model(self, model):
        """Make room for the average of the weights that are trainable now."""
        if self._model is model:
            return
        if self._model is not None:  # of another training
            self._begin_anew()
        super().set_model(model)
        with model.distribute_strategy.scope():
            self._pairs = [
                (weight, keras.Variable(_value(weight), trainable=False, dtype=weight.dtype))
                for weight in model.trainable_variables
            ]
        # One call a step in place of one a weight.
        self._move_all = tf.function(self._move_each)

    @property
    def state_variables(self) -> list[keras.Variable]:
        """The average, or the weights that wait for the next epoch; from `set_model` on."""
        return [other for _, other in self._pairs]

    def on_train_begin(self, logs=None):
        """Begin with the weights as they are."""
        if not self._begun:  # nor continued
            for weight, average in self._pairs:
                average.assign(weight)
        self._begun = True

    def on_epoch_begin(self, epoch, logs=None):
        """Go on from the weights."""
        self._in_epoch, self._epoch = True, epoch
        if self._in_model:
            self._exchange()

    def on_test_begin(self, logs=None):
        """Answer with the average."""
        if self._in_epoch:  # not in an `evaluate` of its own
            self._close_epoch()

    def on_epoch_end(self, epoch, logs=None):
        """Answer with the average where there was no evaluation."""
        if self._in_epoch:
            self._close_epoch()

    def state(self) -> dict[str, Any]:
        """What `set_state` continues from, together with `state_variables`."""
        return {"count": self.count, "in_model": self._in_model}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue where `state()` was taken."""
        self.count, self._in_model = state["count"], state["in_model"]
        self._begun = True

    def _begin_anew(self) -> None:
        self.count = 0
        self._begun = self._in_model = self._in_epoch = False

    def _close_epoch(self) -> None:
        self._in_epoch = False
        self._add_epoch()
        if self.count:
            self._exchange()

    def _add_epoch(self) -> None:
        """Take the weights at the end of an epoch into the average."""

    def _exchange(self) -> None:
        for weight, other in self._pairs:
            value = _value(weight)
            weight.assign(other)
            other.assign(value)
        self._in_model = not self._in_model

    def _move(self, share: float) -> None:
        """Move the average by this share of its way to the weights."""
        self._move_all(tf.constant(share, tf.float32))

    def _move_each(self, share) -> None:
        for weight, average in self._pairs:
            average.assign((1 - share) * average + share * weight)


class ExponentialMovingAverage(_AveragedWeights):
    """Answer with an exponential moving average of the weights.

    Put it before `KeepBest` and other callbacks that look at the weights between epochs; they
    see the average, as the dev figures do. After training the average is in the model.

    Args:
        decay: what remains of the average at each step, in (0, 1). In a short training, of a few
            hundred steps, 0.99 is enough; 0.999 would hardly leave the start.
        every_steps: steps between updates, each with decay^every_steps: less work. Of the
            steps of one `steps_per_execution` the last weights alone are seen, with what then
            remains of the average after as many.

    Raises:
        ValueError: a value is out of range.

    Source: Polyak and Juditsky 1992; Tarvainen and Valpola 2017, section 3. The k-th update
    (from 0) has the decay min(decay, (1 + k) / (10 + k)), as TensorFlow's
    `ExponentialMovingAverage` with `num_updates`, so that the first weights are soon forgotten.

    Example:
        >>> average = tm.regularize.ExponentialMovingAverage(0.99)
        >>> model.fit(batches, validation_data=dev, epochs=3, callbacks=[average])
    """

    def __init__(self, decay: float = 0.99, *, every_steps: int = 1):
        super().__init__()
        if not 0 < decay < 1 or every_steps < 1:
            raise ValueError(
                "decay must be in (0, 1), every_steps 1 or more. "
                f"Received: decay {decay}, every_steps {every_steps}."
            )
        self.decay = decay
        self.every_steps = every_steps

    def on_train_batch_begin(self, batch, logs=None):
        """Note the step: one call may be of several (`steps_per_execution`)."""
        self._updates_before = int(self.model.optimizer.iterations.numpy()) // self.every_steps

    def on_train_batch_end(self, batch, logs=None):
        """Move the average."""
        updates = int(self.model.optimizer.iterations.numpy()) // self.every_steps
        due = updates - self._updates_before
        if due == 0:
            return
        remains = 1.0
        for update in range(self.count, self.count + due):
            remains *= min(self.decay**self.every_steps, (1 + update) / (10 + update))
        self._move(1 - remains)
        self.count += due


class StochasticWeightAveraging(_AveragedWeights):
    """Answer with the mean of the weights at the end of each epoch from one on.

    Put it before `KeepBest` and other callbacks that look at the weights between epochs; they
    see the mean, as the dev figures do. After training the mean is in the model.

    Args:
        start_epoch: the first epoch, counted from 1, whose weights count.
        learning_rate: constant rate from that epoch on, so that the weights still move; None: the
            optimizer's own.

    Raises:
        ValueError: a value is out of range.

    Source: Izmailov et al. 2018, algorithm 1, with cycles of one epoch and a constant rate.
    Deviation: BERT has no batch statistics that would need another pass.

    Example:
        >>> average = tm.regularize.StochasticWeightAveraging(start_epoch=3, learning_rate=5e-5)
        >>> model.fit(batches, epochs=6, callbacks=[average])
    """

    def __init__(self, start_epoch: int, *, learning_rate: float | None = None):
        super().__init__()
        if start_epoch < 1 or (learning_rate is not None and learning_rate <= 0):
            raise ValueError(
                "start_epoch must be 1 or more, learning_rate above 0. "
                f"Received: start_epoch {start_epoch}, learning_rate {learning_rate}."
            )
        self.start_epoch = start_epoch
        self.learning_rate = learning_rate

    def on_train_begin(self, logs=None):
        """Refuse a training that ends before the first epoch that counts."""
        super().on_train_begin(logs)
        epochs = self.params.get("epochs")
        if epochs is not None and self.start_epoch > epochs:
            raise ValueError(
                "start_epoch must not come after the last epoch. "
                f"Received: {self.start_epoch} of {epochs} epochs."
            )
        if self.learning_rate is not None:
            self._rate = Rate(self.model)

    def on_epoch_begin(self, epoch, logs=None):
        """Go on from the weights, at the constant rate."""
        super().on_epoch_begin(epoch, logs)
        if self.learning_rate is not None and epoch + 1 >= self.start_epoch:
            self._rate.hold(self.learning_rate)

    def _add_epoch(self) -> None:
        if self._epoch + 1 >= self.start_epoch:
            self.count += 1
            self._move(1 / self.count)


def _value(variable) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(variable))
