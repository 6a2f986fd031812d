"""The forms that a gradient comes in: dense, as the rows of a table in use, or not at all."""

from __future__ import annotations

import tensorflow as tf

from tfmodel.train.optimizer import SMALLEST_SPARSE_ROWS, without_repeats

DENSE, ROWS_IN_USE, ABSENT = "dense", "rows in use", "absent"


def likely_kind(variable) -> str:
    """How the gradient will come: embedding tables are tall, and looked up."""
    shape = variable.shape
    tall = len(shape) == 2 and shape[0] >= SMALLEST_SPARSE_ROWS and shape[0] > 8 * shape[1]
    return ROWS_IN_USE if tall else DENSE


def kind_of(gradient, variable) -> str:
    """How the gradient comes: of a large table that is only looked up, the rows in use."""
    if gradient is None:
        return ABSENT
    sparse = isinstance(gradient, tf.IndexedSlices) and variable.shape[0] >= SMALLEST_SPARSE_ROWS
    return ROWS_IN_USE if sparse else DENSE


def merged(gradient, variable):
    """The gradient, each row of a table named once."""
    if isinstance(gradient, tf.IndexedSlices):
        return without_repeats(gradient, variable.shape[0])
    return gradient


def with_int32_rows(gradient):
    """The gradient; of rows in use, with the types of `of_no_rows`."""
    if not isinstance(gradient, tf.IndexedSlices):
        return tf.convert_to_tensor(gradient)
    indices, shape = (tf.cast(v, tf.int32) for v in (gradient.indices, gradient.dense_shape))
    return tf.IndexedSlices(gradient.values, indices, shape)


def of_no_rows(kind: str, variable):
    """The gradient of a batch without rows."""
    if kind == DENSE:
        return tf.zeros(variable.shape, variable.dtype)
    values = tf.zeros((0, *variable.shape[1:]), variable.dtype)
    return tf.IndexedSlices(values, tf.zeros((0,), tf.int32), tf.shape(variable))
