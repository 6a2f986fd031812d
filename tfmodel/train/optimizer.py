"""AdamW for BERT: one fused operation a weight, and only the embedding rows in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from tfmodel.train.schedule import linear_schedule

# Tables with fewer rows than this are updated whole: finding the rows costs more.
SMALLEST_SPARSE_ROWS = 4096


@keras.saving.register_keras_serializable("tfmodel")
class AdamW(keras.optimizers.Optimizer):
    """Adam with decoupled weight decay, none of it on biases and norms.

    Args:
        learning_rate: a number or a Keras schedule.
        weight_decay: share of a weight taken off per step and unit of learning rate; weights
            of one dimension (biases, norms) are spared, and what `exclude_from_weight_decay` names.
        beta_1: decay of the first moment, in [0, 1).
        beta_2: decay of the second moment, in [0, 1).
        epsilon: added to the root of the second moment.
        global_clipnorm: the gradient of all weights together is scaled down to this norm, or
            None.
        rate_factors: by weight path, what the learning rate is multiplied with; others 1. From
            `regularize.layer_rates`.
        weight_decays: by weight path, a decay in place of the one above. From
            `regularize.weight_decays`.
        name: the optimizer's name.

    Attributes:
        joined_at: by weight path, the steps that were done when a weight was first updated;
            others 0. Its moments are corrected from there on.

    Source: Loshchilov and Hutter 2019, algorithm 2. Deviation: of a large embedding table
    only the rows that stand in the batch are updated; moments and decay of other rows wait
    until they are seen again ("lazy" Adam). Everything else equals the dense algorithm.
    """

    def __init__(
        self,
        learning_rate=2e-5,
        *,
        weight_decay: float = 0.01,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        global_clipnorm: float | None = 1.0,
        rate_factors: Mapping[str, float] | None = None,
        weight_decays: Mapping[str, float] | None = None,
        name: str = "adamw",
        **kwargs,
    ):
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            global_clipnorm=global_clipnorm,
            name=name,
            **kwargs,
        )
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.rate_factors = dict(rate_factors or {})
        self.weight_decays = dict(weight_decays or {})
        self.joined_at: dict[str, int] = {}
        self._apart: list[list[keras.Variable]] = []
        self._counted_by: dict[int, int] = {}  # index of a weight -> number of its group

    def build(self, variables):
        """Create the moments."""
        if self.built:
            return
        super().build(variables)
        self._momentums, self._velocities = self.add_optimizer_variables(
            variables, ["momentum", "velocity"]
        )
        self._updates = [
            self.add_variable((), initializer="zeros", dtype="int32", name=f"updates_{number}")
            for number in range(len(self._apart))
        ]
        self._counted_by = {
            self._get_variable_index(variable): number
            for number, group in enumerate(self._apart)
            for variable in group
        }

    def apply(self, grads, trainable_variables=None, *, gradient_norm=None):
        """Update the weights.

        Args:
            grads: a gradient for each weight; of embedding tables `tf.IndexedSlices`.
            trainable_variables: the weights.
            gradient_norm: `global_norm` of the gradients, where the caller knows it; embedding
                gradients are then free of repeats.
        """
        if self.gradient_accumulation_steps:  # what is clipped is a mean over several calls
            gradient_norm = None
        self._corrections = {}
        variables = (
            self._trainable_variables if trainable_variables is None else trainable_variables
        )
        if gradient_norm is None:
            grads = [
                without_repeats(g, v.shape[0]) if isinstance(g, tf.IndexedSlices) else g
                for g, v in zip(grads, variables, strict=True)
            ]
        self._norm = gradient_norm
        self._count(variables)
        super().apply(grads, trainable_variables)

    def count_apart(self, groups: Sequence[Sequence[keras.Variable]]) -> None:
        """Correct the moments of weights that not every step updates by their own updates.

        Such are the heads of several tasks of which each step trains one: by the number of all
        steps a head that is seldom updated would be updated too far.

        Args:
            groups: of weights that are always updated together.

        Raises:
            ValueError: the optimizer was built before.
        """
        if self.built:
            raise ValueError("Expected count_apart before build. Received: a built optimizer.")
        self._apart = [[*group] for group in groups]

    def _count(self, variables) -> None:
        """Count an update of the groups that weights are of."""
        if not self._apart:
            return
        if not self.built:
            self.build(variables)
        indices = [self._get_variable_index(variable) for variable in variables]
        for number in sorted({self._counted_by[i] for i in indices if i in self._counted_by}):
            self._updates[number].assign_add(1)

    def join(self, variables) -> None:
        """Correct the moments of weights never updated before as if the first step came now.

        Call it outside of a traced step, which keeps what it was traced with.

        Args:
            variables: weights this optimizer was built with.
        """
        for variable in variables:
            index = self._get_variable_index(variable)
            if not keras.ops.any(self._velocities[index]):
                self.joined_at[variable.path] = int(self.iterations.numpy())

    def _clip_gradients(self, grads):
        if not self.global_clipnorm:
            return super()._clip_gradients(grads)
        norm = global_norm(grads) if self._norm is None else self._norm
        scale = self.global_clipnorm / tf.maximum(norm, self.global_clipnorm)
        return [_scaled(g, scale) for g in grads]

    def _apply_weight_decay(self, variables):
        # Part of update_step, where the rows in use are known.
        pass

    def _decay_of(self, variable: keras.Variable) -> float:
        if variable.path in self.weight_decays:
            return self.weight_decays[variable.path]
        spared = len(variable.shape) < 2 or not self._use_weight_decay(variable)
        return 0.0 if spared else self.weight_decay or 0.0

    def _correction(self, index: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The powers of both betas, and epsilon: the same for all that are counted alike."""
        joined = self.joined_at.get(self._trainable_variables[index].path, 0)
        key = (self._counted_by.get(index), joined)
        if key not in self._corrections:
            if index in self._counted_by:
                done = self._updates[self._counted_by[index]].value - 1
            else:
                # With Keras's own accumulation `iterations` is a number, and no variable.
                done = keras.ops.convert_to_tensor(self.iterations) - joined
            step = tf.cast(done + 1, tf.float32)
            beta_1_power, beta_2_power = tf.pow(self.beta_1, step), tf.pow(self.beta_2, step)
            # TensorFlow's operation corrects the bias of both moments in the rate, which would
            # leave epsilon too large in the first steps.
            epsilon = self.epsilon * tf.sqrt(1 - beta_2_power)
            self._corrections[key] = (beta_1_power, beta_2_power, epsilon)
        return self._corrections[key]

    def update_step(self, gradient, variable, learning_rate):
        """Update one weight, or the rows of it that `gradient` names."""
        index = self._get_variable_index(variable)
        momentum = self._momentums[index].value
        velocity = self._velocities[index].value
        rate = tf.cast(learning_rate, variable.dtype)
        path = self._trainable_variables[index].path
        if (factor := self.rate_factors.get(path, 1.0)) != 1:
            rate *= factor
        share = self._decay_of(self._trainable_variables[index])
        decay = rate * share if share else None
        correction = self._correction(index)
        if isinstance(gradient, tf.IndexedSlices):
            self._update_rows(gradient, variable, momentum, velocity, rate, decay, correction)
            return
        if decay is not None:
            tf.raw_ops.ResourceApplyGradientDescent(
                var=variable.handle, alpha=decay, delta=variable.read_value()
            )
        beta_1_power, beta_2_power, epsilon = correction
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=momentum.handle,
            v=velocity.handle,
            beta1_power=beta_1_power,
            beta2_power=beta_2_power,
            lr=rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=epsilon,
            grad=tf.cast(gradient, variable.dtype),
        )

    def _update_rows(self, gradient, variable, momentum, velocity, rate, decay, correction):
        rows, values = gradient.indices, gradient.values
        beta_1_power, beta_2_power, epsilon = correction
        rate_now = rate * tf.sqrt(1 - beta_2_power) / (1 - beta_1_power)
        first = tf.gather(momentum, rows) * self.beta_1 + values * (1 - self.beta_1)
        second = tf.gather(velocity, rows) * self.beta_2 + tf.square(values) * (1 - self.beta_2)
        weights = tf.gather(variable, rows)
        if decay is not None:
            weights -= weights * decay
        weights -= rate_now * first / (tf.sqrt(second) + epsilon)
        for target, value in ((momentum, first), (velocity, second), (variable, weights)):
            target.scatter_update(tf.IndexedSlices(value, rows))

    def get_config(self) -> dict:
        """Arguments of `__init__`."""
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "rate_factors": self.rate_factors,
            "weight_decays": self.weight_decays,
        }


def adamw(
    learning_rate: float = 2e-5,
    *,
    total_steps: int | None = None,
    warmup_share: float = 0.1,
    weight_decay: float = 0.01,
    global_clipnorm: float | None = 1.0,
    rate_factors: Mapping[str, float] | None = None,
    weight_decays: Mapping[str, float] | None = None,
) -> AdamW:
    """The optimizer for fine-tuning a BERT, ready for `model.compile`.

    Args:
        learning_rate: the peak rate.
        total_steps: steps of the whole run, for warm-up and linear decay; None keeps the rate.
        warmup_share: share of the steps spent warming up, in [0, 1].
        weight_decay: decoupled decay; biases and norms have none.
        global_clipnorm: norm the whole gradient is clipped to, or None.
        rate_factors: by weight path, factors of the rate; from `regularize.layer_rates`.
        weight_decays: by weight path, decays of their own; from `regularize.weight_decays`.

    Returns:
        A Keras optimizer.

    Example:
        >>> model.compile(tm.adamw(5e-5, total_steps=500), loss=tm.tasks.classify.loss())
    """
    rate = learning_rate
    if total_steps is not None:
        rate = linear_schedule(learning_rate, total_steps=total_steps, warmup_share=warmup_share)
    return AdamW(
        rate,
        weight_decay=weight_decay,
        global_clipnorm=global_clipnorm,
        rate_factors=rate_factors,
        weight_decays=weight_decays,
    )


def global_norm(gradients) -> tf.Tensor:
    """The norm of all gradients together, those of embedding tables free of repeats: float32."""
    values = [g.values if isinstance(g, tf.IndexedSlices) else g for g in gradients]
    return tf.sqrt(2.0 * tf.add_n([tf.nn.l2_loss(tf.cast(v, tf.float32)) for v in values]))


def without_repeats(gradient: tf.IndexedSlices, rows: int):
    """Sum the repeated rows of an embedding gradient; make a small table's dense."""
    if rows < SMALLEST_SPARSE_ROWS:
        return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, rows)
    unique, positions = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, positions, tf.size(unique))
    return tf.IndexedSlices(values, unique, gradient.dense_shape)


def _scaled(gradient, scale):
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values * scale, gradient.indices, gradient.dense_shape)
    return gradient * tf.cast(scale, gradient.dtype)
