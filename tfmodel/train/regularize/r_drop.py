"""R-Drop: two passes that drop different values must answer alike."""

from __future__ import annotations

from tfmodel.train.divergence import divergence


class RDrop:
    """Half the loss of each of two passes, and `weight` times what they are apart.

    The distance is (KL(first || second) + KL(second || first)) / 2, a mean over the rows. A step
    costs two passes.

    Args:
        weight: of the distance, above 0; 1 to 5 is usual.

    Source: Liang et al. 2021, section 2.2, equations 2 to 4. Deviation: the losses of the two
    passes are averaged, not added, so that the loss keeps its size: this weight is half of the
    paper's alpha. As in the authors' program, where both are one batch.

    Example:
        >>> training = tm.TrainingModel(model, regularizers=[tm.regularize.RDrop(1.0)])
    """

    def __init__(self, weight: float = 1.0):
        if not 0 < weight < float("inf"):
            raise ValueError(f"weight must be more than 0, and finite. Received: {weight}.")
        self.weight = float(weight)

    def __call__(self, rows, outputs, loss):
        """See `step.Regularizer`; put it before those that add to the loss."""
        second = rows.outputs()
        apart = divergence(rows, outputs, second, symmetric=True) / 2
        return (loss + rows.task_loss(second)) / 2 + self.weight * apart
