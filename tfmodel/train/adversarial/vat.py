"""VAT: answers that do not change where the model is most easily moved; no label needed."""

from __future__ import annotations

import tensorflow as tf

from tfmodel.train.adversarial.perturbation import (
    check,
    check_norm,
    check_steps,
    direction,
    real_tokens,
    zeros,
)
from tfmodel.train.divergence import divergence


class VAT:
    """Virtual adversarial training: a regularizer.

    It adds `weight` * KL(answers || answers at the perturbation that moves them most), which power
    iteration finds. All passes drop the same values. A step costs `steps` + 2 passes, of which
    `steps` need no gradient of the weights.

    Args:
        epsilon: norm of the perturbation, above 0. Word embeddings of MiniLM have norms
            of 0.5 to 1.3.
        weight: of the divergence in the loss, above 0.
        steps: power iterations, 1 or more.
        probe_size: norm of the small perturbation in the power iteration. In bfloat16 a smaller
            one than the default's is lost in rounding.
        norm: `row`: norms are those of all real tokens of a row together; `token`: each token
            has its own.
        seed: of the first direction.

    Source: Miyato et al. 2018, algorithm 1; Miyato et al. 2017, section 3.2, for text. Deviation:
    rows without a label take no part.

    Example:
        >>> training = tm.TrainingModel(model, regularizers=[tm.adversarial.VAT(1.0)])
    """

    def __init__(
        self,
        epsilon: float = 1.0,
        *,
        weight: float = 1.0,
        steps: int = 1,
        probe_size: float = 0.1,
        norm: str = "row",
        seed: int = 0,
    ):
        self.epsilon = check("epsilon", epsilon)
        self.weight = check("weight", weight)
        self.steps = check_steps(steps)
        self.probe_size = check("probe_size", probe_size)
        self.norm = check_norm(norm)
        self.seed = seed

    def start(self, rows) -> tf.Tensor:
        """The first direction, not yet of norm 1: (B, T, D)."""
        nothing = zeros(rows)
        return tf.random.stateless_normal(
            tf.shape(nothing), rows.random_seed(self.seed), dtype=nothing.dtype
        )

    def __call__(self, rows, outputs, loss):
        """See `step.Regularizer`."""
        real = real_tokens(rows)
        answers = tf.nest.map_structure(tf.stop_gradient, outputs)
        towards = direction(self.start(rows), real, self.norm)
        for _ in range(self.steps):
            probe = tf.stop_gradient(self.probe_size * towards)
            with tf.GradientTape() as tape:
                tape.watch(probe)
                moved = rows.outputs(probe, same_dropout=True)
                apart = divergence(rows, answers, moved, symmetric=False)
            towards = direction(tape.gradient(apart, probe), real, self.norm)
        perturbation = tf.stop_gradient(self.epsilon * towards)
        moved = rows.outputs(perturbation, same_dropout=True)
        return loss + self.weight * divergence(rows, answers, moved, symmetric=False)
