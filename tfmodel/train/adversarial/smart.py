"""SMART: answers that do not change within a small cube around the embeddings."""

from __future__ import annotations

import tensorflow as tf

from tfmodel.train.adversarial.perturbation import check, check_steps, real_tokens, zeros
from tfmodel.train.divergence import divergence


class SMART:
    """Smoothness-inducing regularization.

    It adds `weight` * the symmetric divergence between the answers and those at the perturbation
    that moves them most, each value of which is at most `epsilon`. All passes drop the same
    values. A step costs `steps` + 2 passes, of which `steps` need no gradient of the weights.

    Args:
        epsilon: largest absolute value in a perturbation, above 0. Values of MiniLM's
            word embeddings are 0.04 in size.
        weight: of the divergence in the loss, above 0.
        step_size: largest absolute value of a step up the divergence, above 0.
        steps: steps of the climb, 1 or more.
        start_size: standard deviation of the random start, above 0: at the clean point the
            divergence has no slope.
        seed: of the start.

    Source: Jiang et al. 2020, section 3.1 and algorithm 1. Deviations: all passes drop the same;
    no Bregman proximal term (section 3.2); the paper's cube of 1e-5 is smaller than the rounding of
    bfloat16, and the authors' program, which scales each token's perturbation up to 1, does not use
    it either: the defaults lie between.

    Example:
        >>> training = tm.TrainingModel(model, regularizers=[tm.adversarial.SMART()])
    """

    def __init__(
        self,
        epsilon: float = 0.01,
        *,
        weight: float = 1.0,
        step_size: float = 0.01,
        steps: int = 1,
        start_size: float = 0.001,
        seed: int = 0,
    ):
        self.epsilon = check("epsilon", epsilon)
        self.weight = check("weight", weight)
        self.step_size = check("step_size", step_size)
        self.steps = check_steps(steps)
        self.start_size = check("start_size", start_size)
        self.seed = seed

    def start(self, rows) -> tf.Tensor:
        """The random start: (B, T, D), 0 at padding."""
        nothing = zeros(rows)
        drawn = tf.random.stateless_normal(
            tf.shape(nothing), rows.random_seed(self.seed), dtype=nothing.dtype
        )
        return self._inside(self.start_size * drawn * real_tokens(rows))

    def __call__(self, rows, outputs, loss):
        """See `step.Regularizer`."""
        real = real_tokens(rows)
        answers = tf.nest.map_structure(tf.stop_gradient, outputs)
        perturbation = self.start(rows)
        for _ in range(self.steps):
            perturbation = tf.stop_gradient(perturbation)
            with tf.GradientTape() as tape:
                tape.watch(perturbation)
                moved = rows.outputs(perturbation, same_dropout=True)
                apart = divergence(rows, answers, moved, symmetric=True)
            slope = tape.gradient(apart, perturbation) * real
            largest = tf.reduce_max(tf.abs(slope), axis=[1, 2], keepdims=True)
            step = self.step_size * tf.math.divide_no_nan(slope, largest)
            perturbation = self._inside(perturbation + step)
        moved = rows.outputs(tf.stop_gradient(perturbation), same_dropout=True)
        return loss + self.weight * divergence(rows, outputs, moved, symmetric=True)

    def _inside(self, perturbation):
        return tf.clip_by_value(perturbation, -self.epsilon, self.epsilon)
