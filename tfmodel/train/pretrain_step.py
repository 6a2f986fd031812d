"""One step of pretraining: the terms of an objective, each a mean over what it is about."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfmodel.train.step import TrainingModel


@keras.saving.register_keras_serializable("tfmodel")
class PretrainingModel(TrainingModel):
    """A model for `fit` whose loss is an objective's: no loss or metric is compiled.

    A step's loss is the sum over the objective's terms of factor times mean: over masked tokens,
    rows or real tokens of the whole batch, in however many parts and on however many devices it
    is taken.

    Args:
        model: from the `build` of `task`.
        task: the objective's module, with `TERMS`, `counts` and `sums`.
        accumulation_steps: micro-batches that a batch is cut into.

    Example:
        >>> training = PretrainingModel(fill.build(encoder), task=fill)
        >>> training.compile(tm.adamw(1e-3, total_steps=1000), jit_compile=False)
        >>> training.fit(batches.dataset(), shuffle=False)
    """

    def __init__(self, model: keras.Model, *, task: Any, accumulation_steps: int = 1, **kwargs):
        super().__init__(model, accumulation_steps=accumulation_steps, **kwargs)
        self.task = task

    def call(self, inputs, training: bool = False):
        """The task model's outputs; of the inputs those that it knows."""
        known = {name: inputs[name] for name in self.model.input}
        return self.model(known, training=training)

    def count(self, inputs, targets, weights) -> tf.Tensor:
        """What each term is a mean over: float32 (K,)."""
        return tf.stack(self.task.counts(inputs, targets, weights))

    def _part(self, inputs, targets, weights, total, part=0) -> tuple[tf.Tensor, list]:
        variables = [variable.value for variable in self.trainable_variables]
        with tf.GradientTape() as tape:
            found = self.task.sums(self.model, inputs, targets, weights, training=True)
            losses = tf.stack([term[0] for term in found])
            loss = self._mean(losses, total)
        return loss, tape.gradient(loss, variables)

    def _mean(self, losses, counts) -> tf.Tensor:
        factors = tf.constant(list(self.task.TERMS.values()), tf.float32)
        return tf.reduce_sum(factors * tf.math.divide_no_nan(losses, counts))

    def evaluate_rows(self, data) -> None:
        """Take rows into the mean loss of an evaluation."""
        sums, counts = self.evaluation_sums(data)
        self._loss_tracker.update_state(self._mean(sums[:, 0], counts), sample_weight=counts[0])

    def evaluation_sums(self, data) -> tuple[tf.Tensor, tf.Tensor]:
        """What rows add to an evaluation.

        Returns:
            float32 (K, 2), the loss and the right answers of each term, and float32 (K,), what
            both are divided by.
        """
        inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
        found = self.task.sums(self.model, inputs, targets, weights, training=False)
        return tf.stack(found), self.count(inputs, targets, weights)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        pass  # there are no metrics whose variables would have to be made
