"""What one optimizer step does: the gradient of a batch, taken in parts, of what is asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import keras
import tensorflow as tf

from tfmodel.model.embeddings import perturbed
from tfmodel.train.distribute import replicas
from tfmodel.train.gradients import ABSENT, DENSE, ROWS_IN_USE, kind_of, likely_kind, merged
from tfmodel.train.graph_passes import as_traced
from tfmodel.train.head import split_at_pooled
from tfmodel.train.optimizer import AdamW, global_norm
from tfmodel.train.watch.figures import (
    LEARNING_RATE,
    OUTPUTS,
    WATCHED_FIGURES,
    input_figures,
)

STEP_FIGURES = ("step_loss", "gradient_norm", *WATCHED_FIGURES, f"val_{OUTPUTS}")
"""What `fit`'s logs hold of the last step alone, or of a watched model, beside the metrics."""

_TOKEN_INPUTS = {"token_ids", "segment_ids", "padding_mask"}


class Regularizer(Protocol):
    """What is added to the loss: it may put the rows through the model again."""

    def __call__(self, rows: Rows, outputs: Any, loss: tf.Tensor) -> tf.Tensor:
        """The loss to differentiate, float32 scalar.

        Args:
            rows: the rows; `rows.outputs()` is another pass, with other dropout or the same.
            outputs: the model's outputs for them.
            loss: the loss so far, float32 scalar, a mean over the rows.
        """
        ...


class Adversary(Protocol):
    """How the gradient is found where training is adversarial."""

    def gradients(
        self, rows: Rows, variables: Sequence
    ) -> tuple[tf.Tensor, Any, list[tf.Tensor | tf.IndexedSlices]]:
        """The loss, the outputs that metrics are taken of, and the gradient of each variable.

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
        part: number of the micro-batch in the step.

    Attributes:
        pooled: (B, D), the sentence vectors of the last pass, where a regularizer
            `replaces_task_loss`.
    """

    def __init__(self, model: TrainingModel, inputs, targets, weights, share=1.0, part=0):
        self.model = model
        self.inputs = inputs
        self.targets = targets
        self.weights = weights
        self.share = share
        self.part = part
        self.pooled = None
        self._states = []  # of dropout, before the first pass
        if model.adversary is not None or model.regularizers:
            self._states = _values(model.dropout_states)

    def outputs(self, perturbation: tf.Tensor | None = None, *, same_dropout: bool = False) -> Any:
        """One pass through the model in training.

        Args:
            perturbation: (B, T, D), added to the word embeddings, and to the perturbation that
                the objective is asked with.
            same_dropout: drop what the first pass drops; otherwise the draw is new.
        """
        if not same_dropout:
            return self._pass(perturbation)
        now = _values(self.model.dropout_states)
        _assign(self.model.dropout_states, self._states)
        outputs = self._pass(perturbation)
        _assign(self.model.dropout_states, now)
        return outputs

    def _pass(self, perturbation) -> Any:
        with perturbed(perturbation):
            if self.model.head is None:
                return self.model(self.inputs, training=True)
            encoder, head = self.model.head
            self.pooled = encoder(self.inputs, training=True)["pooled"]
            return head(self.pooled, training=True)

    def random_seed(self, seed: int) -> tf.Tensor:
        """The seed of a random operation: of these rows, in this step, of a piece's own `seed`.

        A run that continues draws the same again, since it depends on nothing else.

        Returns:
            int32 (2,), for TensorFlow's stateless random operations.
        """
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        found = tf.constant([seed, 0], tf.int32)
        step = keras.ops.convert_to_tensor(self.model.optimizer.iterations)
        for number in (step, self.part, replica):
            found = tf.random.fold_in(found, tf.cast(number, tf.int32))
        return found

    def count(self, weights=None) -> tf.Tensor:
        """What the loss of the rows is divided by: float32 scalar.

        Args:
            weights: other weights than the rows' own.
        """
        if self.model.reduction == "sum":
            return tf.constant(1.0)
        weights = self.weights if weights is None else weights
        return self.model.count(self.inputs, self.targets, weights)

    def mean(self, values: tf.Tensor) -> tf.Tensor:
        """The mean of numbers, weighted and divided as the compiled loss does: a scalar.

        Args:
            values: float (B,), or of the shape of the rows' weights.
        """
        count = tf.size(values)
        if self.weights is not None:
            weights = tf.cast(tf.reshape(self.weights, tf.shape(values)), values.dtype)
            values *= weights
            if self.model.reduction == "mean_with_sample_weight":
                count = tf.reduce_sum(weights)
        total = tf.reduce_sum(values)
        if self.model.reduction == "sum":
            return total
        return tf.math.divide_no_nan(total, tf.cast(count, values.dtype))

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
        if loss.dtype != tf.float64:
            loss = tf.cast(loss, tf.float32)
        return loss * self.model.keras_divides_by

    def loss(self, outputs) -> tf.Tensor:
        """The loss of outputs with all that is added to it."""
        loss = self.task_loss(outputs)
        for regularizer in self.model.regularizers:
            loss = regularizer(self, outputs, loss)
        return loss

    def objective(self, perturbation: tf.Tensor | None = None) -> tuple[tf.Tensor, Any]:
        """What is differentiated, and the outputs it came from.

        All passes in it are perturbed, and asked again it drops the same again: it is a function
        of the perturbation.
        """
        _assign(self.model.dropout_states, self._states)
        with perturbed(perturbation):
            outputs = self.outputs()
            return self.loss(outputs), outputs

    def differentiate(self, tape: tf.GradientTape, loss, sources):
        """The gradient of `loss` times these rows' share of the step."""
        return tape.gradient(loss, sources, output_gradients=tf.cast(self.share, loss.dtype))


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
        regularizers: what is added to the loss, in this order; one that `replaces_task_loss`
            is always the first.

    Attributes:
        head: the encoder and what comes after it, where a regularizer `replaces_task_loss`.

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
        if accumulation_steps < 1 or accumulation_steps != int(accumulation_steps):
            raise ValueError(
                "accumulation_steps must be 1 or more, a whole number. "
                f"Received: {accumulation_steps}."
            )
        if not (adversary is None or hasattr(adversary, "gradients")) or not all(
            map(callable, regularizers)
        ):
            raise ValueError(
                "Expected FGM, PGD or FreeLB as adversary, and the others among regularizers. "
                f"Received: adversary {adversary}, regularizers {[*regularizers]}."
            )
        super().__init__(**kwargs)
        self.model = model
        self.accumulation_steps = accumulation_steps
        self.adversary = adversary
        # What replaces the loss comes before what is added to it.
        self.regularizers = tuple(sorted(regularizers, key=lambda each: not _replaces(each)))
        self.head = split_at_pooled(model) if any(map(_replaces, regularizers)) else None
        self.watched = False  # set by `callbacks.Watch`
        self.answers = False  # set by `callbacks.DevFigures`
        self.built = True
        # A strategy that the model was made under: its weights are on several devices.
        self._distribute_strategy = getattr(model, "_distribute_strategy", None)
        if self._distribute_strategy is not None:
            replicas.separate_seeds(self.dropout_states, self._distribute_strategy)

    @property
    def dropout_states(self) -> list[keras.Variable]:
        """Where the random numbers of the model's dropout stand."""
        return [v for v in self.model.variables if v.name == "seed_generator_state"]

    def call(self, inputs, training: bool = False):
        """The task model's outputs."""
        return self.model(inputs, training=training)

    def train_step(self, data):
        """One step of the optimizer.

        Returns:
            The metrics since the epoch began, and of this step alone `step_loss` and
            `gradient_norm` (before clipping).
        """
        # What changes by a pass alone: random states, a batch normalization's means. A step that
        # is taken back takes them back too, so that a run continued before it does the same again.
        not_by_a_pass = {id(v) for v in [*self.trainable_variables, *self.metrics_variables]}
        states = [v for v in self.variables if id(v) not in not_by_a_pass]
        states_before = [tf.identity(v.value) for v in states]
        loss, norm, gradients, figures = self.step_gradients(data)

        def take_back():
            for variable, before in zip(states, states_before, strict=True):
                variable.assign(before)

        tf.cond(tf.math.is_finite(loss + norm), lambda: self.update(gradients, norm), take_back)
        return {**self.get_metrics_result(), "step_loss": loss, "gradient_norm": norm, **figures}

    def step_gradients(self, data) -> tuple[tf.Tensor, tf.Tensor, list, dict[str, tf.Tensor]]:
        """What a step's rows say: in a replica, the rows of all together.

        Returns:
            The loss, the norm of the gradient, the gradient of each trainable weight (None where
            the loss does not depend on it), and the figures for `callbacks.Watch`, if it watches.
        """
        inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
        if replicas.replica_count() > 1:
            replicas.renew_seeds(self.dropout_states, self.optimizer.iterations.value)
        total = replicas.summed(self.count(inputs, targets, weights))
        parts = self._part if self.accumulation_steps == 1 else self._parts
        if replicas.replica_count() == 1:
            loss, gradients = parts(inputs, targets, weights, total)
        else:
            loss, gradients = replicas.summed_share(
                lambda: parts(inputs, targets, weights, total),
                self.trainable_variables,
                has_rows=tf.shape(tf.nest.flatten(inputs)[0])[0] > 0,
            )
        self._loss_tracker.update_state(loss, sample_weight=tf.reduce_sum(total))
        gradients = [
            merged(gradient, variable)
            for gradient, variable in zip(gradients, self.trainable_variables, strict=True)
        ]
        found = [gradient for gradient in gradients if gradient is not None]
        if not found:
            raise ValueError(
                "Expected a loss that depends on weights. Received: no gradient for any of "
                f"{len(gradients)} trainable weights. Unfreeze some, or look at the loss."
            )
        if not self.optimizer.built:  # for all weights: others may have a gradient later
            with tf.init_scope():
                self.optimizer.build(self.trainable_variables)
        figures = {}
        if self.watched:
            figures = input_figures(inputs, clock=not self.jit_compile)
            figures[LEARNING_RATE] = self.optimizer.learning_rate
        return loss, global_norm(found), gradients, figures

    def update(self, gradients, norm: tf.Tensor) -> None:
        """Change the weights.

        Args:
            gradients: of `step_gradients`.
            norm: of the gradients that are not None.
        """
        found = [
            (gradient, variable)
            for gradient, variable in zip(gradients, self.trainable_variables, strict=True)
            if gradient is not None  # as of a pooler that the task has no use for
        ]
        known = {"gradient_norm": norm} if isinstance(self.optimizer, AdamW) else {}
        self.optimizer.apply(*zip(*found, strict=True), **known)

    def make_train_function(self, force: bool = False):
        """Trace `train_step`; under a strategy, one of its own.

        Raises:
            ValueError: XLA is asked to compile a loop over micro-batches, which it cannot, or
                Keras would scale losses for float16, which this step does not.
        """
        if self.jit_compile and self.accumulation_steps > 1:
            raise ValueError(
                "accumulation_steps above 1 must be compiled with jit_compile=False. Received: "
                f"accumulation_steps {self.accumulation_steps}, jit_compile {self.jit_compile}."
            )
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            raise ValueError(
                "Expected an optimizer that takes gradients as they are. Received: one that scales "
                "losses for float16. Use mixed_bfloat16, which needs no scaling, or float32."
            )
        if self._distribute_strategy is None:
            if not self.optimizer.built:  # inside the step it would have it traced twice
                self.optimizer.build(self.trainable_variables)
            if self.train_function is None or force:
                super().make_train_function(force=True)
                self.train_function = as_traced(self.train_function)
        elif self.train_function is None or force:
            self.train_function = replicas.train_function(self)

    def test_step(self, data):
        """One step of an evaluation; `outputs` of the rows stand beside the metrics if wanted."""
        outputs = self.evaluate_rows(data)
        metrics = self.get_metrics_result()
        return {**metrics, OUTPUTS: outputs} if self.watched or self.answers else metrics

    def evaluate_rows(self, data) -> Any:
        """Take rows into the metrics of an evaluation, and answer them."""
        inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
        outputs = self(inputs, training=False)
        loss = self.compute_loss(
            x=inputs, y=targets, y_pred=outputs, sample_weight=weights, training=False
        )
        count = tf.cast(tf.shape(tf.nest.flatten(inputs)[0])[0], tf.float32)
        loss = tf.cast(loss, tf.float32) * self.keras_divides_by
        if replicas.replica_count() > 1:
            own = self.count(inputs, targets, weights)
            count, total = replicas.summed([count, own])
            share = 1.0 if self.reduction == "sum" else tf.math.divide_no_nan(own, total)
            loss = replicas.summed(loss * share)
        self._loss_tracker.update_state(loss, sample_weight=count)
        self.compute_metrics(inputs, targets, outputs, sample_weight=weights)
        return outputs

    def make_test_function(self, force: bool = False):
        """Trace `test_step`; under a strategy, one of its own."""
        if self._distribute_strategy is None:
            super().make_test_function(force)
        elif self.test_function is None or force:
            self.test_function = replicas.test_function(self)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        if self._distribute_strategy is not None:
            replicas.build_symbolically(self, iterator, data_batch)

    @property
    def keras_divides_by(self) -> float:
        """What Keras divides a loss by, beside its rows: replicas, unless it is a sum."""
        return 1.0 if self.reduction == "sum" else float(replicas.replica_count())

    @property
    def reduction(self) -> str:
        """How the compiled loss makes one number of many."""
        losses = tf.nest.flatten(self.loss)
        found = {getattr(loss, "reduction", "sum_over_batch_size") for loss in losses}
        if len(found) > 1 or (len(losses) > 1 and found == {"mean_with_sample_weight"}):
            raise ValueError(
                "Losses of several outputs must all have the reduction sum_over_batch_size or sum. "
                f"Received: {', '.join(sorted(map(str, found)))}."
            )
        return found.pop()

    def count(self, inputs, targets, weights) -> tf.Tensor:
        """What the loss is a mean over: float32 scalar."""
        if weights is not None and self.reduction == "mean_with_sample_weight":
            return tf.reduce_sum(tf.cast(weights, tf.float32))
        return tf.cast(tf.shape(tf.nest.flatten(inputs)[0])[0], tf.float32)

    def _part(self, inputs, targets, weights, total, part=0) -> tuple[tf.Tensor, list]:
        """The loss and gradient of some rows of a step, as their share of the whole."""
        share = tf.constant(1.0)
        if self.reduction != "sum":
            share = tf.math.divide_no_nan(self.count(inputs, targets, weights), total)
        rows = Rows(self, inputs, targets, weights, share, part)
        variables = self.trainable_variables
        if self.adversary is not None:
            loss, outputs, gradients = self.adversary.gradients(rows, variables)
        else:
            with tf.GradientTape() as tape:
                loss, outputs = rows.objective()
            gradients = rows.differentiate(tape, loss, [v.value for v in variables])
        self.compute_metrics(inputs, targets, outputs, sample_weight=weights)
        return loss * share, gradients

    def _parts(self, inputs, targets, weights, total) -> tuple[tf.Tensor, list]:
        """The same, micro-batch by micro-batch."""
        if tf.executing_eagerly():  # a loop that was begun wrong could not be begun again
            return tf.function(self._parts, autograph=False)(inputs, targets, weights, total)
        kinds = [likely_kind(variable) for variable in self.trainable_variables]
        try:
            return self._loop(kinds, inputs, targets, weights, total)
        except _OtherKinds as found:
            return self._loop(found.kinds, inputs, targets, weights, total)

    def _loop(self, kinds, inputs, targets, weights, total) -> tuple[tf.Tensor, list]:
        variables = self.trainable_variables
        rows = tf.shape(tf.nest.flatten(inputs)[0])[0]
        size = (rows + self.accumulation_steps - 1) // self.accumulation_steps

        def of_kind(values, kind):
            return [value for value, k in zip(values, kinds, strict=True) if k == kind]

        def body(start, loss, sums, indices, values, part):
            chosen = [
                None
                if whole is None
                else tf.nest.map_structure(lambda v: v[start : start + size], whole)
                for whole in (inputs, targets, weights)
            ]
            beside = [values for values in tf.nest.flatten(chosen[1:]) if values is not None]
            if all(values.shape.rank == 1 for values in beside):
                chosen[0] = _trimmed(chosen[0])
            more, gradients = self._part(*chosen, total, part)
            found = [kind_of(g, v) for g, v in zip(gradients, variables, strict=True)]
            if found != kinds:
                raise _OtherKinds(found)
            dense = [
                before + tf.convert_to_tensor(gradient)
                for before, gradient in zip(sums, of_kind(gradients, DENSE), strict=True)
            ]
            tables = of_kind(gradients, ROWS_IN_USE)
            indices = [
                a.write(part, tf.cast(t.indices, tf.int32))
                for a, t in zip(indices, tables, strict=True)
            ]
            values = [a.write(part, t.values) for a, t in zip(values, tables, strict=True)]
            return start + size, loss + more, dense, indices, values, part + 1

        def array(dtype):
            return tf.TensorArray(dtype, size=0, dynamic_size=True, infer_shape=False)

        tables = of_kind(variables, ROWS_IN_USE)
        first = (
            tf.constant(0),
            tf.constant(0.0),
            [tf.zeros(v.shape, v.dtype) for v in of_kind(variables, DENSE)],
            [array(tf.int32) for _ in tables],
            [array(v.dtype) for v in tables],
            tf.constant(0),
        )
        _, loss, sums, indices, values, _ = tf.while_loop(
            lambda start, *_: start < rows, body, first, parallel_iterations=1
        )
        sparse = [
            tf.IndexedSlices(
                tf.ensure_shape(value.concat(), (None, *table.shape[1:])),
                tf.ensure_shape(index.concat(), (None,)),
                tf.shape(table),
            )
            for table, index, value in zip(tables, indices, values, strict=True)
        ]
        left = {DENSE: iter(sums), ROWS_IN_USE: iter(sparse)}
        return loss, [None if kind == ABSENT else next(left[kind]) for kind in kinds]

    def get_config(self) -> dict:
        """Not saved: save the task's model."""
        raise NotImplementedError("Save the task's model, not the one that trains it.")


class _OtherKinds(Exception):
    """The gradients are of other kinds than the loop was begun for."""

    def __init__(self, kinds: list[str]):
        super().__init__()
        self.kinds = kinds


def _replaces(regularizer) -> bool:
    return getattr(regularizer, "replaces_task_loss", False)


def _values(states) -> list[tf.Tensor]:
    """Copies: what is read of a variable may change with it."""
    return [state.value * 1 for state in states]


def _assign(states, values) -> None:
    for state, value in zip(states, values, strict=bool(values)):
        state.assign(value)


def _trimmed(inputs):
    """The inputs cut to their longest row, where they are a batch of tokens and nothing else."""
    if not isinstance(inputs, dict) or set(inputs) != _TOKEN_INPUTS:
        return inputs
    longest = tf.reduce_max(tf.reduce_sum(tf.cast(inputs["padding_mask"] > 0, tf.int32), axis=1))
    return {name: values[:, :longest] for name, values in inputs.items()}
