"""FreeLB: learn from every point of the climb, not from its end alone."""

from __future__ import annotations

import tensorflow as tf

from tfmodel.train.adversarial.perturbation import (
    added,
    check,
    check_norm,
    check_steps,
    direction,
    into_ball,
    real_tokens,
    slope_at,
    zeros,
)


class FreeLB:
    """Free large-batch adversarial training.

    From a random start the loss is climbed; the gradient is the mean of those at the `steps`
    points passed, the start among them. All passes drop the same values. A step costs `steps`
    passes.

    Args:
        epsilon: largest norm of a perturbation, above 0. Word embeddings of MiniLM have norms
            of 0.5 to 1.3.
        step_size: norm of each step, above 0.
        steps: points that are learned from, 1 or more (of which the first is the start).
        start_size: s of the start, drawn from uniform(-s, s) / sqrt(values under one norm):
            a norm of about s / sqrt(3). None: epsilon, as in the paper; 0: the clean point.
        norm: `row`: norms are those of all real tokens of a row together; `token`: each token
            has its own.
        seed: of the starts; they differ from step to step, and are the same in a run that
            continues.

    Source: Zhu et al. 2020, algorithm 1 and section 3.3 (dropout).

    Example:
        >>> training = tm.TrainingModel(model, adversary=tm.adversarial.FreeLB(0.1, steps=3))
    """

    def __init__(
        self,
        epsilon: float = 0.1,
        *,
        step_size: float = 0.03,
        steps: int = 3,
        start_size: float | None = None,
        norm: str = "row",
        seed: int = 0,
    ):
        self.epsilon = check("epsilon", epsilon)
        self.step_size = check("step_size", step_size)
        self.steps = check_steps(steps)
        start = epsilon if start_size is None else start_size
        self.start_size = check("start_size", start, positive=False)
        self.norm = check_norm(norm)
        self.seed = seed

    def start(self, rows) -> tf.Tensor:
        """The random start: (B, T, D), 0 at padding."""
        real, nothing = real_tokens(rows), zeros(rows)
        if self.start_size == 0:
            return nothing
        drawn = tf.random.stateless_uniform(
            tf.shape(nothing), rows.random_seed(self.seed), -1.0, 1.0, dtype=nothing.dtype
        )
        tokens = tf.reduce_sum(real, axis=1, keepdims=True) if self.norm == "row" else real
        values = tokens * float(nothing.shape[-1])
        return drawn * real * self.start_size * tf.math.rsqrt(tf.maximum(values, 1.0))

    def gradients(self, rows, variables):
        """See `step.Adversary`; the outputs are those at the start."""
        real, perturbation = real_tokens(rows), self.start(rows)
        share = 1 / self.steps
        loss, outputs, gradients, slope = slope_at(rows, perturbation, variables, weight=share)
        for _ in range(self.steps - 1):
            perturbation += self.step_size * direction(slope, real, self.norm)
            perturbation = tf.stop_gradient(into_ball(perturbation, self.epsilon, self.norm))
            more, _, others, slope = slope_at(rows, perturbation, variables, weight=share)
            loss, gradients = loss + more, added(gradients, others)
        return loss, outputs, gradients
