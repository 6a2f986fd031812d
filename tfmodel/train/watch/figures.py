"""What the steps of a watched model say beside their metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

ROWS, TOKENS, INPUT_READY, OUTPUTS = "step_rows", "step_tokens", "input_ready", "outputs"
LEARNING_RATE = "step_learning_rate"
WATCHED_FIGURES = (ROWS, TOKENS, INPUT_READY, LEARNING_RATE, OUTPUTS)


def as_rows(outputs: Any) -> np.ndarray:
    """The outputs of a batch, float32 (B, …), out of `fit`'s logs.

    Keras makes a plain number of what holds a single one there.
    """
    found = np.asarray(outputs, np.float32)
    return found.reshape(1, 1) if found.ndim == 0 else found


def joined(batches: Sequence[np.ndarray]) -> np.ndarray:
    """The outputs of all batches; of tokens (B, T, C), padded with 0 to the longest row."""
    if batches[0].ndim < 3:
        return np.concatenate(batches)
    longest = max(batch.shape[1] for batch in batches)
    return np.concatenate(
        [np.pad(each, [(0, 0), (0, longest - each.shape[1]), (0, 0)]) for each in batches]
    )


def input_figures(inputs, *, clock: bool) -> dict[str, tf.Tensor]:
    """Rows and real tokens of a batch, and when it was there.

    Args:
        inputs: the model's inputs; real tokens are those of `padding_mask`, where it has one.
        clock: whether the time may be read: compiled by XLA a step has none.
    """
    flat = tf.nest.flatten(inputs)
    figures = {ROWS: tf.shape(flat[0])[0]}
    if isinstance(inputs, Mapping) and "padding_mask" in inputs:
        real = tf.cast(inputs["padding_mask"] > 0, tf.int32)
        figures[TOKENS] = tf.reduce_sum(real)
    replicas = tf.distribute.get_replica_context()
    if replicas is not None and replicas.num_replicas_in_sync > 1:
        figures = replicas.all_reduce(tf.distribute.ReduceOp.SUM, figures)
    if clock:
        with tf.control_dependencies(flat):
            figures[INPUT_READY] = tf.timestamp()
    return figures
