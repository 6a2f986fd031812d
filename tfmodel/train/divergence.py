"""How far the outputs of two passes are apart, row by row, as the task's loss reads outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

_NUMBERS = (
    keras.losses.MeanSquaredError,
    keras.losses.MeanAbsoluteError,
    keras.losses.Huber,
    keras.losses.LogCosh,
)
_YES_OR_NO = (keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy)


def divergence(rows, first: Any, second: Any, *, symmetric: bool) -> tf.Tensor:
    """The Kullback-Leibler divergence KL(first || second), a mean over the rows.

    The compiled loss says what outputs are: logits of one class of several, logits of yes or no
    each, or numbers, which are taken as means of normal distributions of variance 1: half the
    squared difference. Of a row of tokens it is the mean over its real tokens, or, where tokens
    have weights of their own, over these.

    Args:
        rows: the `Rows` of both passes.
        first: outputs: (B, C), (B, T, C), or a structure of such, whose divergences are added.
        second: outputs of the same shape.
        symmetric: add KL(second || first).

    Returns:
        float32 scalar, differentiable in both.

    Raises:
        ValueError: the compiled loss does not say what the outputs are.
    """
    measure = _measure(rows.model.loss)
    total = 0.0
    for one, other in zip(tf.nest.flatten(first), tf.nest.flatten(second), strict=True):
        one, other = _precise(one), _precise(other)
        apart = measure(one, other)
        if symmetric:
            apart += measure(other, one)
        by_token = rows.weights is not None and len(rows.weights.shape) > 1
        if apart.shape.rank > 1 and not by_token:
            real = tf.cast(rows.inputs["padding_mask"] > 0, apart.dtype)
            apart = tf.math.divide_no_nan(
                tf.reduce_sum(apart * real, axis=1), tf.reduce_sum(real, axis=1)
            )
        total += tf.cast(rows.mean(apart), tf.float32)
    return total


def _measure(loss) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """KL of each row or token for outputs of a loss."""
    if isinstance(loss, _NUMBERS):
        return _of_numbers
    if getattr(loss, "from_logits", False):
        return _of_yes_or_no if isinstance(loss, _YES_OR_NO) else _of_classes
    raise ValueError(
        "Two passes are compared by what the loss takes outputs for: expected a keras loss object "
        "with from_logits=True, or one of numbers such as MeanSquaredError. Received: "
        f"{getattr(loss, 'name', loss)!r}. Compile with tm.tasks.classify.loss(), or leave out "
        "R-Drop, SMART and VAT."
    )


def _precise(outputs: tf.Tensor) -> tf.Tensor:
    """In float32 or better, what belongs to one row or token on the last axis."""
    outputs = outputs if outputs.dtype == tf.float64 else tf.cast(outputs, tf.float32)
    return outputs[:, None] if outputs.shape.rank == 1 else outputs


def _of_classes(first, second):
    log_first, log_second = tf.nn.log_softmax(first), tf.nn.log_softmax(second)
    return tf.reduce_sum(tf.exp(log_first) * (log_first - log_second), axis=-1)


def _of_yes_or_no(first, second):
    # Of a logit x the logarithms of both probabilities are -softplus(-x) and -softplus(x).
    yes = tf.sigmoid(first) * (tf.nn.softplus(-second) - tf.nn.softplus(-first))
    no = tf.sigmoid(-first) * (tf.nn.softplus(second) - tf.nn.softplus(first))
    return tf.reduce_mean(yes + no, axis=-1)  # as the loss takes the mean of the labels


def _of_numbers(first, second):
    return tf.reduce_mean(tf.square(first - second), axis=-1) / 2
