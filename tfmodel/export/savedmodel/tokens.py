"""What a SavedModel of a task that reads tokens does with strings: windows, words, tags."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import tensorflow as tf

from tfmodel import tasks
from tfmodel.export.manifest import Manifest
from tfmodel.export.savedmodel.unpadded import flatten_batch
from tfmodel.tokens.row_tokenizer import SHORTEST_LIMIT, RowTokenizer
from tfmodel.tokens.windows import cut_windows


def token_functions(
    answer: tf.types.experimental.ConcreteFunction, tokenizer: RowTokenizer, manifest: Manifest
) -> dict[str, Callable[..., Mapping[str, tf.Tensor]]]:
    """The functions of the signatures that take texts, texts with limits, and ids.

    Args:
        answer: from `answer_function`.
        tokenizer: strings to pieces with their places.
        manifest: names the task, its labels and the longest window.

    Returns:
        `texts`, `limited_texts` and `ids`. Long texts are answered in windows: nothing is cut off.
        `ids` gives `scores`, float32 (B, T, C), of the tokens as they are given.
    """
    served, labels = tasks.find(manifest.task).served, list(manifest.labels)

    def from_texts(text: tf.Tensor, limit: int | tf.Tensor = manifest.max_length):
        pieces, starts, ends, begins = tokenizer.tokenize_words(text)
        windows = cut_windows(tokenizer, pieces, max_length=limit)
        lengths = tf.cast(windows.token_ids.row_lengths(), tf.int32)
        scores = answer(windows.token_ids.flat_values, windows.segment_ids.flat_values, lengths)[
            "scores"
        ]
        of_pieces = tf.boolean_mask(scores, windows.is_read.flat_values)
        counted = tf.pad(tf.cumsum(tf.cast(begins, tf.int64)), [[1, 0]])
        splits = tf.gather(counted, pieces.row_splits)
        # A word ends where its last piece does: the one before the next word, or before what
        # stands in front of the next text's first, such as a blank that is a piece.
        in_word = counted[1:] > tf.gather(splits, pieces.value_rowids())
        is_next = tf.concat([(begins | ~in_word)[1:], tf.ones_like(begins[:1])], axis=0)
        is_last = in_word & is_next

        def rows(values: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
            words = tf.boolean_mask(values, chosen)
            return tf.RaggedTensor.from_row_splits(words, splits, validate=False).to_tensor()

        words = {
            "starts": rows(starts.flat_values, begins),
            "ends": rows(ends.flat_values, is_last),
            "scores": rows(of_pieces, begins),
            "lengths": tf.cast(splits[1:] - splits[:-1], tf.int32),
        }
        return served(words, labels, **manifest.decoding)

    def from_limited_texts(text: tf.Tensor, max_length: tf.Tensor):
        return from_texts(text, tf.clip_by_value(max_length, SHORTEST_LIMIT, manifest.max_length))

    def from_ids(token_ids: tf.Tensor, segment_ids: tf.Tensor, padding_mask: tf.Tensor):
        scores = answer(*flatten_batch(token_ids, segment_ids, padding_mask))["scores"]
        is_first = tf.range(tf.maximum(tf.shape(padding_mask)[1], 1)) == 0
        missing = tf.maximum(1 - tf.shape(padding_mask)[1], 0)
        real = tf.equal(tf.pad(padding_mask, [[0, 0], [0, missing]]), 1) | is_first
        shape = tf.concat([tf.shape(real), [len(labels)]], axis=0)
        return {"scores": tf.scatter_nd(tf.cast(tf.where(real), tf.int32), scores, shape)}

    return {"texts": from_texts, "limited_texts": from_limited_texts, "ids": from_ids}
