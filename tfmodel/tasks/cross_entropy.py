"""Cross-entropy with softened targets and with less weight on rows that are surely right."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfmodel")
class CrossEntropy(keras.losses.Loss):
    """Cross-entropy of logits (B, C) against class ids (B,), smoothed and focal.

    The loss of a row is the sum over its classes of -q (1 - p)^gamma log p, where p is the
    softmax of the logits and q the target: 1 - smoothing + smoothing / C for the row's own class,
    smoothing / C for the others.

    Args:
        label_smoothing: share of the target spread over all classes alike, in [0, 1).
        focal_gamma: 0 is plain cross-entropy; the paper's is 2.

    Source: Szegedy et al. 2016, section 7; Lin et al. 2017, equation (4). Deviation: the softmax
    over C classes stands for the focal loss's sigmoid, as in Keras's
    `CategoricalFocalCrossentropy`; its alpha is the row's weight (`train.class_weights`).
    """

    from_logits = True  # as Keras's own losses say how outputs are read

    def __init__(
        self, *, label_smoothing: float = 0.0, focal_gamma: float = 0.0, name="loss", **kwargs
    ):
        super().__init__(name=name, **kwargs)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1). Received: {label_smoothing}.")
        if focal_gamma < 0:
            raise ValueError(f"focal_gamma must be 0 or more. Received: {focal_gamma}.")
        self.label_smoothing = label_smoothing
        self.focal_gamma = focal_gamma

    def call(self, y_true, y_pred):
        """The loss of each row: (B,)."""
        log_p = ops.log_softmax(y_pred, axis=-1)
        classes = y_pred.shape[-1]
        labels = ops.reshape(ops.cast(y_true, "int32"), (-1,))
        targets = ops.one_hot(labels, classes, dtype=log_p.dtype)
        targets = targets * (1 - self.label_smoothing) + self.label_smoothing / classes
        loss = -targets * log_p
        if self.focal_gamma:
            # 1 - p from log p loses nothing near 1; at 0 a power below 1 has no slope.
            smallest = keras.config.epsilon()
            loss *= ops.power(ops.maximum(-ops.expm1(log_p), smallest), self.focal_gamma)
        return ops.sum(loss, axis=-1)

    def get_config(self) -> dict:
        """Arguments of `__init__`."""
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "focal_gamma": self.focal_gamma,
        }
