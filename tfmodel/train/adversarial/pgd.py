"""PGD: the worst perturbation that several steps find, learned from beside the clean rows."""

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


class PGD:
    """Projected gradient descent: climb the loss in `steps` steps, then learn from both ends.

    The gradient is that of the objective without a perturbation plus `weight` times that at the
    last perturbation, which is taken as a constant. All passes drop the same values. A step costs
    `steps` + 1 passes, of which `steps` - 1 need no gradient of the weights.

    Args:
        epsilon: largest norm of a perturbation, above 0. Word embeddings of MiniLM have norms
            of 0.5 to 1.3.
        step_size: norm of each step, above 0.
        steps: steps of the climb, 1 or more.
        norm: `row`: norms are those of all real tokens of a row together; `token`: each token
            has its own.
        weight: of the objective at the perturbation, above 0.

    Source: Madry et al. 2018, section 2.1. Deviations: in Euclidean balls around embeddings, as
    Miyato et al. 2017 perturb text; it starts at the clean point, whose gradient is had anyway,
    not at a random one; the clean rows stay in the objective.

    Example:
        >>> training = tm.TrainingModel(model, adversary=tm.adversarial.PGD(0.05, steps=3))
    """

    def __init__(
        self,
        epsilon: float = 0.05,
        *,
        step_size: float = 0.02,
        steps: int = 3,
        norm: str = "row",
        weight: float = 1.0,
    ):
        self.epsilon = check("epsilon", epsilon)
        self.step_size = check("step_size", step_size)
        self.steps = check_steps(steps)
        self.norm = check_norm(norm)
        self.weight = check("weight", weight)

    def gradients(self, rows, variables):
        """See `step.Adversary`; the outputs are those without a perturbation."""
        real, perturbation = real_tokens(rows), zeros(rows)
        loss, outputs, gradients, slope = slope_at(rows, perturbation, variables)
        for step in range(self.steps):
            perturbation += self.step_size * direction(slope, real, self.norm)
            perturbation = into_ball(perturbation, self.epsilon, self.norm)
            if step < self.steps - 1:
                slope = slope_at(rows, perturbation)[-1]
        perturbation = tf.stop_gradient(perturbation)
        more, _, others, _ = slope_at(rows, perturbation, variables, weight=self.weight)
        return loss + more, outputs, added(gradients, others)
