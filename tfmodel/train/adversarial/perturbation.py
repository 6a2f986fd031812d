"""Perturbations of word embeddings: directions, norms, balls; all in float32, none on padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

NORMS = ("row", "token")
"""Whose norm is bounded: that of all real tokens of a row together, or of each by itself."""


def check(name: str, value: float, *, positive: bool = True) -> float:
    """A size that makes sense.

    Raises:
        ValueError: it is negative, no finite number, or 0 where it must be positive.
    """
    if not (0 < value if positive else 0 <= value) or not value < float("inf"):
        expected = "more than 0" if positive else "0 or more"
        raise ValueError(f"{name} must be {expected}, and finite. Received: {value}.")
    return float(value)


def check_steps(steps: int) -> int:
    """A number of steps, 1 or more.

    Raises:
        ValueError: it is none.
    """
    if steps < 1 or steps != int(steps):
        raise ValueError(f"steps must be a whole number, 1 or more. Received: {steps}.")
    return int(steps)


def check_norm(norm: str) -> str:
    """One of `NORMS`.

    Raises:
        ValueError: it is none of them.
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}. Received: {norm!r}.")
    return norm


def real_tokens(rows) -> tf.Tensor:
    """1 for each real token, [CLS] and [SEP] too, 0 for padding: float32 (B, T, 1)."""
    precise = embedding_type(rows)
    return tf.cast(rows.inputs["padding_mask"] > 0, precise)[:, :, None]


def embedding_type(rows) -> tf.DType:
    """What perturbations are computed in, whatever the model's compute type: float32."""
    return tf.float64 if _embeddings(rows).token_table.dtype == "float64" else tf.float32


def zeros(rows) -> tf.Tensor:
    """No perturbation: (B, T, D)."""
    width = _embeddings(rows).hidden_size
    shape = tf.shape(rows.inputs["token_ids"])
    return tf.zeros([shape[0], shape[1], width], embedding_type(rows))


def _embeddings(rows):
    for layer in rows.model.model._flatten_layers():
        if hasattr(layer, "token_table"):
            return layer
    raise ValueError(
        "Expected a model on an encoder of tm.build_encoder, whose word embeddings can be "
        f"perturbed. Received: {rows.model.model.name!r} without such embeddings."
    )


def direction(slope: tf.Tensor, real: tf.Tensor, norm: str) -> tf.Tensor:
    """A slope as vectors of norm 1, or 0 where it is 0.

    Args:
        slope: (B, T, D).
        real: (B, T, 1), from `real_tokens`.
        norm: of `NORMS`.
    """
    slope = slope * real
    # Squares of a slope of 1e-20 or less, as of rows that are learned, are 0 in float32.
    axes = _axes(norm)
    largest = tf.reduce_max(tf.abs(slope), axis=axes, keepdims=True)
    slope = tf.math.divide_no_nan(slope, largest)
    return tf.math.divide_no_nan(slope, norms(slope, norm))


def norms(perturbation: tf.Tensor, norm: str) -> tf.Tensor:
    """Euclidean norms: (B, 1, 1) by `row`, (B, T, 1) by `token`."""
    return tf.sqrt(tf.reduce_sum(tf.square(perturbation), axis=_axes(norm), keepdims=True))


def into_ball(perturbation: tf.Tensor, radius: float, norm: str) -> tf.Tensor:
    """What has a norm above `radius`, scaled down to it."""
    return perturbation * (radius / tf.maximum(norms(perturbation, norm), radius))


def slope_at(
    rows, perturbation: tf.Tensor, variables: Sequence = (), *, weight: float = 1.0
) -> tuple[tf.Tensor, Any, list, tf.Tensor]:
    """The objective at a perturbation, and its gradients.

    Args:
        rows: the `Rows`.
        perturbation: (B, T, D).
        variables: weights to differentiate by, none to spare that part of the work.
        weight: what the objective is multiplied with.

    Returns:
        The loss (times `weight`), the outputs, the gradient of each variable, and of the
        perturbation.
    """
    with tf.GradientTape() as tape:
        tape.watch(perturbation)
        loss, outputs = rows.objective(perturbation)
        loss *= weight
    sources = [*(variable.value for variable in variables), perturbation]
    *gradients, slope = rows.differentiate(tape, loss, sources)
    return loss, outputs, gradients, slope


def added(first: Sequence, second: Sequence) -> list:
    """Sums of gradients; of looked-up tables the rows of both, one after the other."""
    return [_sum(one, other) for one, other in zip(first, second, strict=True)]


def _sum(one, other):
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, tf.IndexedSlices) and isinstance(other, tf.IndexedSlices):
        return tf.IndexedSlices(
            tf.concat([one.values, other.values], axis=0),
            tf.concat([one.indices, other.indices], axis=0),
            one.dense_shape,
        )
    return tf.convert_to_tensor(one) + tf.convert_to_tensor(other)


def _axes(norm: str) -> list[int]:
    return [1, 2] if norm == "row" else [2]
