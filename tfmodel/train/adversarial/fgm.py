"""FGM: one step up the loss, learned from beside the clean rows."""

from __future__ import annotations

import tensorflow as tf

from tfmodel.train.adversarial.perturbation import (
    added,
    check,
    check_norm,
    direction,
    real_tokens,
    slope_at,
    zeros,
)


class FGM:
    """Fast gradient method: one step up the loss, of the whole size.

    The gradient is that of the objective without a perturbation plus `weight` times that at
    epsilon * slope / |slope|, which is taken as a constant. Both passes drop the same values. A
    step costs two.

    Args:
        epsilon: norm of the perturbation, above 0. Word embeddings of MiniLM have norms
            of 0.5 to 1.3.
        norm: `row`: the norm of all real tokens of a row together; `token`: each token has its
            own.
        weight: of the objective at the perturbation, above 0.

    Source: Miyato et al. 2017, section 3.1, equations 1 to 4. Deviation: embeddings are not
    scaled to unit variance; the layer norm that follows bounds what their size can do.

    Example:
        >>> training = tm.TrainingModel(model, adversary=tm.adversarial.FGM(epsilon=0.05))
    """

    def __init__(self, epsilon: float = 0.05, *, norm: str = "row", weight: float = 1.0):
        self.epsilon = check("epsilon", epsilon)
        self.norm = check_norm(norm)
        self.weight = check("weight", weight)

    def gradients(self, rows, variables):
        """See `step.Adversary`; the outputs are those without a perturbation."""
        loss, outputs, gradients, slope = slope_at(rows, zeros(rows), variables)
        towards = direction(slope, real_tokens(rows), self.norm)
        perturbation = tf.stop_gradient(self.epsilon * towards)
        more, _, others, _ = slope_at(rows, perturbation, variables, weight=self.weight)
        return loss + more, outputs, added(gradients, others)
