"""What sentence vectors are trained by: the texts of a row, told apart by the cosine between them.

Letters: B rows of a batch, K texts of a row, D width. A row is a text, its partner and, where
there is one, a text that it must be told apart from (a hard negative).
"""

from __future__ import annotations

import keras
from keras import ops

from tfmodel.model.pooling import unit

_LEFT_OUT = -1e9


@keras.saving.register_keras_serializable("tfmodel")
class ContrastiveLoss(keras.losses.Loss):
    """Cross-entropy of finding a text's partner among all partners and negatives of the batch.

    What is equal to the text or to its partner, and the other partners of an equal text, are no
    negatives: they are left out.

    Args:
        temperature: what cosines are divided by, above 0.

    Source: Henderson et al. 2017, section 4 (other rows as negatives); Gao et al. 2021, section 4
    (hard negatives, temperature). Deviation: equal texts are told from others.
    """

    def __init__(self, *, temperature: float = 0.05, name="loss", **kwargs):
        super().__init__(name=name, **kwargs)
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0. Received: {temperature}.")
        self.temperature = temperature

    def call(self, y_true, y_pred):
        """The loss of each row: (B,).

        Args:
            y_true: the number of each text, (B, K): equal texts, equal numbers.
            y_pred: the vectors, (B, K, D).
        """
        vectors = unit(ops.cast(y_pred, "float32"))
        first, rows = y_true[:, 0], ops.shape(y_true)[0]
        losses, similar, left_out = None, [], []
        for column in range(1, y_pred.shape[1]):
            found = ops.matmul(vectors[:, 0], ops.transpose(vectors[:, column])) / self.temperature
            texts = y_true[:, column][None]
            equal = ops.equal(texts, first[:, None]) | ops.equal(texts, y_true[:, 1:2])
            if column == 1:
                losses = -ops.diagonal(found)
                own = ops.eye(rows, dtype="bool")
                equal = (equal | ops.equal(first[None], first[:, None])) & ops.logical_not(own)
            similar.append(found)
            left_out.append(equal)
        similar = ops.concatenate(similar, axis=1)
        left_out = ops.concatenate(left_out, axis=1)
        similar = ops.where(left_out, ops.cast(_LEFT_OUT, similar.dtype), similar)
        return losses + ops.logsumexp(similar, axis=-1)

    def get_config(self) -> dict:
        """Arguments of `__init__`."""
        return {**super().get_config(), "temperature": self.temperature}


@keras.saving.register_keras_serializable("tfmodel")
class TripletLoss(keras.losses.Loss):
    """By how much a text's partner is not nearer than its negative by a margin, in cosines.

    Args:
        margin: in (0, 2].

    Source: Schroff et al. 2015, section 3.1. Deviation: cosines in place of squared distances,
    which on vectors of length 1 are twice as large.
    """

    def __init__(self, *, margin: float = 0.2, name="loss", **kwargs):
        super().__init__(name=name, **kwargs)
        if not 0 < margin <= 2:
            raise ValueError(f"margin must be in (0, 2]. Received: {margin}.")
        self.margin = margin

    def call(self, y_true, y_pred):
        """The loss of each row: (B,).

        Args:
            y_true: not read.
            y_pred: the vectors of text, partner and negative, (B, 3, D).
        """
        vectors = unit(ops.cast(y_pred, "float32"))
        partner = ops.sum(vectors[:, 0] * vectors[:, 1], axis=-1)
        negative = ops.sum(vectors[:, 0] * vectors[:, 2], axis=-1)
        return ops.maximum(negative - partner + self.margin, 0.0)

    def get_config(self) -> dict:
        """Arguments of `__init__`."""
        return {**super().get_config(), "margin": self.margin}


@keras.saving.register_keras_serializable("tfmodel")
class CosineLoss(keras.losses.Loss):
    """The squared error of the cosine of two texts against their score, on a scale from 0 to 1.

    Args:
        low: the score that means a cosine of 0.
        high: the score that means a cosine of 1, another than `low`.

    Source: Reimers and Gurevych 2019, section 3 (regression objective).
    """

    def __init__(self, *, low: float = 0.0, high: float = 1.0, name="loss", **kwargs):
        super().__init__(name=name, **kwargs)
        if not low < high:
            raise ValueError(f"low must be below high. Received: {low} and {high}.")
        self.low = low
        self.high = high

    def call(self, y_true, y_pred):
        """The loss of each row: (B,).

        Args:
            y_true: the scores, (B,).
            y_pred: the vectors, (B, 2, D).
        """
        vectors = unit(ops.cast(y_pred, "float32"))
        cosines = ops.sum(vectors[:, 0] * vectors[:, 1], axis=-1)
        scores = ops.reshape(ops.cast(y_true, "float32"), (-1,))
        return ops.square(cosines - (scores - self.low) / (self.high - self.low))

    def get_config(self) -> dict:
        """Arguments of `__init__`."""
        return {**super().get_config(), "low": self.low, "high": self.high}
