"""What one optimizer step does: the gradient of a batch, taken in parts, of what is asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import keras
import tensorflow as tf

from tfmodel.model.embeddings import perturbed
from tfmodel.train.optimizer import AdamW, global_norm, without_repeats

STEP_FIGURES = ("step_loss", "gradient_norm")
"""What `fit`'s logs hold of the last step alone, beside the metrics."""

# Gradients of tables with as many rows or more are kept as the rows in use.
_SMALLEST_SPARSE_ROWS = 4096


class Regularizer(Protocol):
    """What is added to the loss: it may put the rows through the model again."""

    def __call__(self, rows: Rows, outputs: Any, loss: tf.Tensor) -> tf.Tensor:
        """The loss to differentiate, float32 scalar.

        Args:
            rows: the rows; `rows.outputs()` is another pass, with other dropout.
            outputs: the model's outputs for them.
            loss: the loss so far, float32 scalar, a mean over the rows.
        """
        ...


class Adversary(Protocol):
    """How the gradient is found where training is adversarial."""

    def gradients(
        self, rows: Rows, variables: Sequence
    ) -> tuple[tf.Tensor, Any, list[tf.Tensor | tf.IndexedSlices]]:
        """The loss, the outputs without a perturbation, and the gradient of each variable.

        Args:
            rows: the rows; `rows.objective(perturbation)` is the loss to differentiate.
            variables: what the gradient is taken of.
        """
        ...


class Rows:
    """Rows that go through the model together.

    Args:
        model: the `TrainingModel`.
        inputs: batch of `token_ids`, `segment_ids` and `padding_mask`, int32 (B, T).
        targets: what the loss takes.
        weights: weight of each row in the loss, or None.
        share: these rows' share of the step, in [0, 1]: the loss is scaled by it.
    """

    def __init__(self, model: TrainingModel, inputs, targets, weights, share=1.0):
        self.model = model
        self.inputs = inputs
        self.targets = targets
        self.weights = weights
        self.share = share

    def outputs(self, perturbation: tf.Tensor | None = None) -> Any:
        """One pass through the model in training.

        Args:
            perturbation: (B, T, D), added to the word embeddings.
        """
        with perturbed(perturbation):
            return self.model(self.inputs, training=True)

    def task_loss(self, outputs, targets=None, weights=None) -> tf.Tensor:
        """The compiled loss of outputs, a mean over the rows: float32 scalar.

        Args:
            outputs: of `outputs()`.
            targets: other targets than the rows' own.
            weights: other weights than the rows' own.
        """
        loss = self.model.compute_loss(
            x=self.inputs,
            y=self.targets if targets is None else targets,
            y_pred=outputs,
            sample_weight=self.weights if weights is None else weights,
            training=True,
        )
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return tf.cast(loss, tf.float32) * float(replicas)  # Keras divides by it

    def loss(self, outputs) -> tf.Tensor:
        """The loss of outputs with all that is added to it."""
        loss = self.task_loss(outputs)
        for regularizer in self.model.regularizers:
            loss = regularizer(self, outputs, loss)
        return loss

    def objective(self, perturbation: tf.Tensor | None = None) -> tuple[tf.Tensor, Any]:
        """What is differentiated, and the outputs it came from."""
        outputs = self.outputs(perturbation)
        return self.loss(outputs), outputs

    def differentiate(self, tape: tf.GradientTape, loss, sources):
        """The gradient of `loss` times these rows' share of the step."""
        return tape.gradient(loss, sources, output_gradients=tf.convert_to_tensor(self.share))


@keras.saving.register_keras_serializable("tfmodel")
class TrainingModel(keras.Model):
    """A model for `fit` that shares the weights of a task's model, with a step of our own.

    The gradient of a step is the sum over its micro-batches (and replicas), each weighted by the
    rows in it, so that it is the whole batch's. Where the loss or the gradient is not a number the
    weights stay as they are; `callbacks.StopOnNaN` then ends training.

    Args:
        model: a task's model, from its `build`. Use it, not this one, to save and to export.
        accumulation_steps: micro-batches that a batch is cut into; the memory is that of one.
        adversary: from `tfmodel.train.adversarial`, or None.
        regularizers: what is added to the loss, in this order.

    Example:
        >>> training = tm.TrainingModel(model, accumulation_steps=4)
        >>> training.compile(tm.adamw(2e-4), loss=tm.tasks.classify.loss(), jit_compile=False)
        >>> training.fit(tm.batches(texts, labels, tokenizer=tokenizer, batch_size=128))
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        accumulation_steps: int = 1,
        adversary: Adversary | None = None,
        regularizers: Sequence[Regularizer] = (),
        **kwargs,
    ):
        if accumulation_steps < 1:
            raise ValueError(
                f"accumulation_steps must be 1 or more. Received: {accumulation_steps}."
            )
        super().__init__(**kwargs)
        self.model = model
        self.accumulation_steps = accumulation_steps
        self.adversary = adversary
        self.regularizers = tuple(regularizers)
        self.built = True

    def call(self, inputs, training: bool = False):
        """The task model's outputs."""
        return self.model(inputs, training=training)

    def train_step(self, data):
        """One step of the optimizer.

        Returns:
            The metrics since the epoch began, and of this step alone `step_loss` and
            `gradient_norm` (before clipping).
        """
        inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
        total = self._count(inputs, targets, weights)
        if self.accumulation_steps == 1:
            loss, gradients = self._part(inputs, targets, weights, total)
        else:
            loss, gradients = self._parts(inputs, targets, weights, total)
        variables = self.trainable_variables
        gradients = [
            without_repeats(gradient, variable.shape[0])
            if isinstance(gradient, tf.IndexedSlices)
            else gradient
            for gradient, variable in zip(gradients, variables, strict=True)
        ]
        norm = global_norm(gradients)

        def update():
            if isinstance(self.optimizer, AdamW):
                self.optimizer.apply(gradients, variables, gradient_norm=norm)
            else:
                self.optimizer.apply(gradients, variables)

        tf.cond(tf.math.is_finite(loss + norm), update, lambda: None)
        return {**self.get_metrics_result(), "step_loss": loss, "gradient_norm": norm}

    def _count(self, inputs, targets, weights) -> tf.Tensor:
        """What the loss is a mean over: float32 scalar."""
        reduction = getattr(self.loss, "reduction", None)
        if reduction == "mean_with_sample_weight" and weights is not None:
            return tf.reduce_sum(tf.cast(weights, tf.float32))
        return tf.cast(tf.shape(tf.nest.flatten(inputs)[0])[0], tf.float32)

    def _part(self, inputs, targets, weights, total) -> tuple[tf.Tensor, list]:
        """The loss and gradient of some rows of a step, as their share of the whole."""
        count = self._count(inputs, targets, weights)
        rows = Rows(self, inputs, targets, weights, share=tf.math.divide_no_nan(count, total))
        variables = self.trainable_variables
        if self.adversary is not None:
            loss, outputs, gradients = self.adversary.gradients(rows, variables)
        else:
            with tf.GradientTape() as tape:
                loss, outputs = rows.objective()
            gradients = rows.differentiate(tape, loss, [v.value for v in variables])
        self._loss_tracker.update_state(loss, sample_weight=count)
        self.compute_metrics(inputs, targets, outputs, sample_weight=weights)
        return loss * rows.share, gradients

    def _parts(self, inputs, targets, weights, total) -> tuple[tf.Tensor, list]:
        """The same, micro-batch by micro-batch."""
        variables = self.trainable_variables
        rows = tf.shape(tf.nest.flatten(inputs)[0])[0]
        size = (rows + self.accumulation_steps - 1) // self.accumulation_steps
        sparse = [_is_large_table(variable) for variable in variables]

        def body(start, loss, sums, indices, values, part):
            chosen = [
                None
                if whole is None
                else tf.nest.map_structure(lambda v: v[start : start + size], whole)
                for whole in (inputs, targets, weights)
            ]
            if len(tf.nest.flatten(targets)) == 1 and targets.shape.rank == 1:
                chosen[0] = _trimmed(chosen[0])
            more, gradients = self._part(*chosen, total)
            dense = [
                before + gradient
                for before, gradient in zip(
                    sums,
                    [_dense(g) for g, s in zip(gradients, sparse, strict=True) if not s],
                    strict=True,
                )
            ]
            tables = [_rows_of(g) for g, s in zip(gradients, sparse, strict=True) if s]
            indices = [a.write(part, t.indices) for a, t in zip(indices, tables, strict=True)]
            values = [a.write(part, t.values) for a, t in zip(values, tables, strict=True)]
            return start + size, loss + more, dense, indices, values, part + 1

        def arrays(dtype_of):
            return [
                tf.TensorArray(dtype_of(v), size=0, dynamic_size=True, infer_shape=False)
                for v, s in zip(variables, sparse, strict=True)
                if s
            ]

        zeros = [
            tf.zeros(v.shape, v.dtype) for v, s in zip(variables, sparse, strict=True) if not s
        ]
        first = (
            tf.constant(0),
            tf.constant(0.0),
            zeros,
            arrays(lambda v: tf.int32),
            arrays(lambda v: v.dtype),
            tf.constant(0),
        )
        _, loss, sums, indices, values, _ = tf.while_loop(
            lambda start, *_: start < rows, body, first, parallel_iterations=1
        )
        dense, tables = iter(sums), iter(zip(indices, values, strict=True))
        gradients = []
        for variable, is_table in zip(variables, sparse, strict=True):
            if not is_table:
                gradients.append(next(dense))
                continue
            index, value = next(tables)
            value = tf.ensure_shape(value.concat(), (None, *variable.shape[1:]))
            gradients.append(tf.IndexedSlices(value, index.concat(), tf.shape(variable)))
        return loss, gradients

    def get_config(self) -> dict:
        """Not saved: save the task's model."""
        raise NotImplementedError("Save the task's model, not the one that trains it.")


def _is_large_table(variable) -> bool:
    """Whether the gradient is kept as the rows in use: embedding tables are tall."""
    shape = variable.shape
    return len(shape) == 2 and shape[0] >= _SMALLEST_SPARSE_ROWS and shape[0] > 8 * shape[1]


def _dense(gradient):
    return tf.convert_to_tensor(gradient)


def _rows_of(gradient) -> tf.IndexedSlices:
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(
            gradient.values, tf.cast(gradient.indices, tf.int32), gradient.dense_shape
        )
    return tf.IndexedSlices(gradient, tf.range(tf.shape(gradient)[0]), tf.shape(gradient))


def _trimmed(inputs):
    """The inputs cut to their longest row."""
    longest = tf.reduce_max(tf.reduce_sum(tf.cast(inputs["padding_mask"] > 0, tf.int32), axis=1))
    return {name: values[:, :longest] for name, values in inputs.items()}
