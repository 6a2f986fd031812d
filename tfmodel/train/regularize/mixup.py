"""Mixup: the head learns from mixtures of sentence vectors and of their targets."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

_DRAWS = 1 << 16  # TensorFlow's gamma numbers, of which beta numbers are made, know no XLA


class HiddenMixup:
    """The loss of each row's sentence vector mixed with another row's, in place of its own.

    Vector and loss are those of share * row + (1 - share) * partner, the partner any row of the
    same micro-batch, the share drawn for each row. Metrics are taken of the rows as they are. The
    encoder is passed once, as without mixup; only the head is passed twice.

    Args:
        alpha: of the distribution Beta(alpha, alpha) of the shares, above 0: 1 is uniform, small
            ones leave most rows nearly as they are.
        seed: of shares and partners; they differ from step to step, and are the same in a run
            that continues.

    Source: Guo et al. 2019, section 3 (senMixup, before the last layer); Verma et al. 2019
    (manifold mixup). Deviations: always at the sentence vector, not at a layer drawn anew; a
    share for each row, not one a batch.

    Example:
        >>> training = tm.TrainingModel(model, regularizers=[tm.regularize.HiddenMixup(0.4)])
    """

    replaces_task_loss = True

    def __init__(self, alpha: float = 0.4, seed: int = 0):
        if not 0 < alpha < float("inf"):
            raise ValueError(f"alpha must be more than 0, and finite. Received: {alpha}.")
        self.alpha = float(alpha)
        self.seed = seed
        self._shares = np.random.default_rng(seed).beta(alpha, alpha, _DRAWS).astype(np.float32)

    def draw(self, rows) -> tuple[tf.Tensor, tf.Tensor]:
        """The share of each row, float32 (B,), and its partner, int32 (B,)."""
        count = tf.shape(rows.pooled)[0]
        for_shares, for_partners = tf.unstack(tf.random.split(rows.random_seed(self.seed), 2))
        drawn = tf.random.stateless_uniform([count], for_shares, 0, _DRAWS, dtype=tf.int32)
        order = tf.random.stateless_uniform([count], for_partners)
        return tf.gather(tf.constant(self._shares), drawn), tf.argsort(order)

    def __call__(self, rows, outputs, loss):
        """See `step.Regularizer`."""
        shares, partners = self.draw(rows)
        pooled = rows.pooled
        exact = pooled if pooled.dtype == tf.float64 else tf.cast(pooled, tf.float32)
        share = tf.cast(shares, exact.dtype)[:, None]
        mixed = share * exact + (1 - share) * tf.gather(exact, partners)
        _, head = rows.model.head
        outputs = head(tf.cast(mixed, pooled.dtype), training=True)
        weights = tf.ones_like(shares)
        if rows.weights is not None:
            weights = tf.cast(tf.reshape(rows.weights, tf.shape(shares)), tf.float32)
        own = self._loss(rows, outputs, rows.targets, shares * weights)
        of_partners = tf.nest.map_structure(lambda v: tf.gather(v, partners), rows.targets)
        others = (1 - shares) * tf.gather(weights, partners)
        return own + self._loss(rows, outputs, of_partners, others)

    def _loss(self, rows, outputs, targets, weights):
        loss = rows.task_loss(outputs, targets, weights)
        # A loss that divides by its weights' sum is to divide by that of the rows' own.
        scale = tf.math.divide_no_nan(rows.count(weights), rows.count())
        return loss * tf.cast(scale, loss.dtype)
