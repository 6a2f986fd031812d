"""Cross-entropy over a whole vocabulary whose logits are never kept."""

from __future__ import annotations

import math

import keras
from keras import ops

# Logits of a quarter of the places stay near the processor, and take a quarter of the memory.
_PARTS = 4


def tied_cross_entropy(vectors, table, bias, target_ids, weights, *, parts: int = _PARTS):
    """The cross-entropy of `vectors @ table.T + bias` against ids, as a weighted sum.

    Products are in the type of `vectors`, the softmax in float32. What goes back is found on the
    way forward, for of the loss it needs but a factor: few passes over (M, V) values remain.

    Args:
        vectors: float (M, D).
        table: float (V, D), of the same type.
        bias: float32 (V,).
        target_ids: int32 (M,).
        weights: float32 (M,); 0 for places that do not count.
        parts: parts that the places are cut into; float32 logits are kept of one at a time.

    Returns:
        float32 (2,): the sum over places of weight times loss, and the sum of weights of places
        where no logit is above the target's. Only the first is differentiable, in `vectors`,
        `table` and `bias`.

    Source: the gradient on the way forward as in Hsu et al. 2024 (Liger kernels); here it waits
    for the product that makes the table's, which is one for all parts.
    """

    @ops.custom_gradient
    def loss_of(vectors, table, bias):
        count = ops.shape(vectors)[0]
        cuts = [count * number // parts for number in range(parts + 1)]
        found, to_vectors, slopes, scales = [], [], [], []
        for start, end in zip(cuts, cuts[1:], strict=False):
            ids, weight = target_ids[start:end], weights[start:end]
            logits = times_transposed(vectors[start:end], table)
            logits = ops.cast(logits, "float32") + bias
            rows = ops.arange(ops.shape(ids)[0], dtype="int32")
            own = ops.take(ops.reshape(logits, (-1,)), rows * table.shape[0] + ids)
            top = ops.max(logits, axis=-1, initial=-math.inf)  # of no places, too
            powers = ops.exp(logits - top[:, None])
            total = ops.sum(powers, axis=-1)
            loss = ops.sum(weight * (ops.log(total) + top - own))
            right = ops.sum(weight * ops.cast(own >= top, "float32"))
            found.append(ops.stack([loss, right]))
            # `total` times (softmax - target): divided by it are the rows of a product, (M, D).
            slope = ops.scatter_update(
                ops.cast(powers, vectors.dtype),
                ops.stack([rows, ids], axis=-1),
                ops.cast(ops.exp(own - top) - total, vectors.dtype),
            )
            scale = ops.cast(weight / total, vectors.dtype)[:, None]
            to_vectors.append(ops.matmul(slope, table) * scale)
            slopes.append(slope)
            scales.append(scale)

        def gradient(*args, upstream=None):
            if upstream is None:
                (upstream,) = args
            factor = ops.cast(upstream[0], vectors.dtype)
            scale = ops.concatenate(scales) * factor
            slope = ops.concatenate(slopes)
            to_table = _transposed_times(slope, vectors * scale)
            to_bias = ops.cast(_transposed_times(scale, slope)[0], bias.dtype)
            return ops.concatenate(to_vectors) * factor, to_table, to_bias

        return sum(found), gradient

    return loss_of(vectors, table, bias)


def draw_tied(vectors, table, bias, uniforms, *, parts: int = _PARTS):
    """Draw an id for each place from the softmax of `vectors @ table.T + bias`.

    Args:
        vectors: float (M, D).
        table: float (V, D), of the same type.
        bias: float32 (V,).
        uniforms: float32 (M,), in [0, 1): a place draws the id at which its cumulated
            probability passes its number.
        parts: as for `tied_cross_entropy`.

    Returns:
        int32 (M,), not differentiable.
    """
    count = ops.shape(vectors)[0]
    cuts = [count * number // parts for number in range(parts + 1)]
    drawn = []
    for start, end in zip(cuts, cuts[1:], strict=False):
        logits = ops.cast(times_transposed(vectors[start:end], table), "float32") + bias
        powers = ops.exp(logits - ops.max(logits, axis=-1, keepdims=True, initial=-math.inf))
        passed = ops.cumsum(powers, axis=-1)
        wanted = uniforms[start:end, None] * passed[:, -1:]
        drawn.append(ops.sum(ops.cast(passed <= wanted, "int32"), axis=-1))
    return ops.minimum(ops.concatenate(drawn), table.shape[0] - 1)


def times_transposed(first, second):
    """(M, D) and (V, D) to (M, V)."""
    if keras.backend.backend() != "tensorflow":
        return ops.matmul(first, ops.transpose(second))
    import tensorflow as tf  # whose product transposes as it reads

    return tf.matmul(first, second, transpose_b=True)


def _transposed_times(first, second):
    """(M, V) and (M, D) to (V, D)."""
    if keras.backend.backend() != "tensorflow":
        return ops.matmul(ops.transpose(first), second)
    import tensorflow as tf

    return tf.matmul(first, second, transpose_a=True)
