"""How likely each tag of a word is among all sequences of tags, by what a CRF learned.

Letters: n texts, N words of a text, C tags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmodel.tasks.tag_chain import marginals
from tfmodel.tasks.tag_rules import LEAST, costs_of, log_scores, of_like_length


def tag_chances(
    scores: Sequence[np.ndarray], tags: Sequence[str], transitions: Mapping[str, Any]
) -> list[np.ndarray]:
    """The marginal probability of each tag of each word.

    Args:
        scores: of each text float32 (N, C), what each word says by itself, as probabilities.
        tags: C names.
        transitions: what a CRF learned, as `tag_rules.costs_of` takes it.

    Returns:
        Of each text float32 (N, C).

    Source: the forward-backward algorithm, Rabiner 1989, section III.
    """
    costs = costs_of(tags, transitions)
    found = [np.asarray(each, np.float32) for each in scores]
    for rows, padded, lengths in of_like_length(scores):
        chances = _chances(log_scores(padded), lengths, *costs)
        for each, row, length in zip(chances, rows, lengths, strict=True):
            found[row] = each[:length]
    return found


def _chances(unaries, lengths, first, following, last) -> np.ndarray:
    unaries[:, 0] += first
    unaries[np.arange(len(lengths)), lengths - 1] += last
    longest = unaries.shape[1]
    led = np.zeros_like(unaries)  # what comes before each tag, and below what comes behind it
    for word in range(1, longest):
        reached = _normalized(led[:, word - 1] + unaries[:, word - 1])
        led[:, word] = _log_sum(reached[:, :, None] + following, axis=1)
    message = np.zeros_like(unaries[:, 0])
    for word in range(longest - 1, -1, -1):
        led[:, word] += message
        sent = _log_sum(following + (unaries[:, word] + message)[:, None, :], axis=2)
        message = np.where((word < lengths)[:, None], _normalized(sent), message)
    joined = led + unaries
    chances = np.exp(joined - joined.max(axis=-1, keepdims=True))
    return chances / chances.sum(axis=-1, keepdims=True)


def _log_sum(values: np.ndarray, axis: int) -> np.ndarray:
    highest = values.max(axis=axis, keepdims=True)
    return np.log(np.exp(values - highest).sum(axis=axis)) + np.squeeze(highest, axis)


def _normalized(values: np.ndarray) -> np.ndarray:
    return values - values.max(axis=-1, keepdims=True)


def tag_chances_in_graph(
    scores: Any, lengths: Any, tags: Sequence[str], transitions: Mapping[str, Any]
) -> Any:
    """`tag_chances` inside a TensorFlow graph.

    Args:
        scores: float32 (n, N, C); what stands behind a text's end is not read.
        lengths: int32 (n,), words of each text.
        tags: C names.
        transitions: see there.

    Returns:
        float32 (n, N, C); behind a text's end 0.
    """
    import tensorflow as tf

    first, following, last = map(tf.constant, costs_of(tags, transitions))
    places = tf.range(tf.shape(scores)[1] + 1)[tf.newaxis]  # a batch without words has no first one
    is_word = places < lengths[:, tf.newaxis]
    padded = tf.pad(scores, [[0, 0], [0, 1], [0, 0]])
    unaries = tf.math.log(tf.maximum(tf.where(is_word[..., tf.newaxis], padded, 1.0), LEAST))
    unaries += tf.where((places == 0)[..., tf.newaxis], first, 0.0)
    unaries += tf.where((places == lengths[:, tf.newaxis] - 1)[..., tf.newaxis], last, 0.0)
    return marginals(unaries, following, is_word, is_word & (places > 0))[:, :-1]
