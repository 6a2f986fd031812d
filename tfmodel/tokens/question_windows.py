"""A question beside each stretch of a long text: overlapping windows, in the graph.

All operations but the tokenizer's own are core TensorFlow, so that a SavedModel can hold them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from tfmodel.tokens.combining_marks import whole_offsets
from tfmodel.tokens.tokenizer import Tokenizer

_MOST_WINDOWS = 1 << 20


class QuestionWindows(NamedTuple):
    """The windows of B questions and contexts, one after the other: W windows of R tokens in all.

    Attributes:
        token_ids: int32 (R,): [CLS] question [SEP] stretch of the context [SEP], W times.
        segment_ids: int32 (R,): 0 for the question, 1 for the context.
        lengths: int32 (W,), tokens of each window.
        rows: int32 (W,), which question and context it belongs to; each has one window at least.
        starts: int32 (R,): first character of the token in its context; -1 for all others.
        ends: int32 (R,): the character after its last.
        best: bool (R,): whether no other window shows more of what is around the token.
        pieces: int32 (B,), tokens of each question before it was cut.
    """

    token_ids: tf.Tensor
    segment_ids: tf.Tensor
    lengths: tf.Tensor
    rows: tf.Tensor
    starts: tf.Tensor
    ends: tf.Tensor
    best: tf.Tensor
    pieces: tf.Tensor

    def padded(self, values: tf.Tensor, filling: int | bool = 0) -> tf.Tensor:
        """Values (R,) as one row a window: (W, T), T as the longest, and 1 where there is none."""
        filling = tf.cast(filling, values.dtype)
        ragged = tf.RaggedTensor.from_row_lengths(values, self.lengths, validate=False)
        padded = ragged.to_tensor(filling)
        missing = tf.maximum(1 - tf.shape(padded)[1], 0)
        return tf.concat([padded, tf.fill([tf.shape(padded)[0], missing], filling)], axis=1)

    def batch(self) -> dict[str, tf.Tensor]:
        """What a model reads: `token_ids`, `segment_ids` and `padding_mask`, int32 (W, T)."""
        return {
            "token_ids": self.padded(self.token_ids),
            "segment_ids": self.padded(self.segment_ids),
            "padding_mask": self.padded(tf.ones_like(self.token_ids)),
        }


def question_windows(
    tokenizer: Tokenizer,
    questions: tf.Tensor | Sequence[str],
    contexts: tf.Tensor | Sequence[str],
    *,
    max_length: int,
    doc_stride: int,
    max_query_length: int,
) -> QuestionWindows:
    """Cut contexts into overlapping windows, each behind its question.

    Args:
        tokenizer: strings to pieces.
        questions: strings (B,).
        contexts: strings (B,); of an empty one there is one window without any of it.
        max_length: tokens a window at most, special tokens included; more than
            `max_query_length` + 3.
        doc_stride: tokens from the beginning of a window's stretch to that of the next, at most as
            many as it holds.
        max_query_length: tokens that a question is cut to.

    Returns:
        The windows, those of a context in its order.

    Source: Devlin et al. 2018 and its run_squad.py: `doc_stride`, and the window in which a token
    has the most context.
    """
    questions = tokenizer.tokenize(tf.convert_to_tensor(questions, tf.string))
    ids, starts, ends = whole_offsets(tokenizer, contexts)
    pieces = tf.cast(questions.row_lengths(), tf.int32)
    questions = questions[:, :max_query_length]
    asked = tf.cast(questions.row_lengths(), tf.int32)
    totals = tf.cast(ids.row_lengths(), tf.int32)
    # Of each row: how many tokens of the context a window holds, and how far apart they begin.
    rooms = max_length - 3 - asked
    steps = tf.minimum(doc_stride, rooms)
    counts = 1 + tf.maximum(-((rooms - totals) // steps), 0)
    rows = tf.repeat(tf.range(tf.size(counts)), counts)
    number = tf.range(tf.size(rows)) - tf.repeat(tf.cumsum(counts, exclusive=True), counts)
    begins = number * tf.gather(steps, rows)
    held = tf.minimum(tf.gather(rooms, rows), tf.gather(totals, rows) - begins)
    base = tf.gather(tf.cast(ids.row_splits, tf.int32)[:-1], rows) + begins
    context = tf.ragged.range(base, base + held)  # of all contexts' tokens: which they are

    windows = tf.size(rows)
    start = tf.fill([windows, 1], tokenizer.vocabulary.start_id)
    end = tf.fill([windows, 1], tokenizer.vocabulary.end_id)
    question = tf.gather(questions, rows)
    stretch = context.with_flat_values(tf.gather(ids.flat_values, context.flat_values))
    joined = tf.concat([start, question, end, stretch, end], axis=1)
    lengths = tf.cast(joined.row_lengths(), tf.int32)

    def beside(values: tf.Tensor, filling: int) -> tf.Tensor:
        """Values of the context's tokens in their windows, and of the others the filling."""
        values = tf.cast(values, tf.int32)
        other = tf.fill([windows, 1], filling)
        parts = [other, tf.zeros_like(question) + filling, other]
        return tf.concat([*parts, context.with_flat_values(values), other], axis=1).flat_values

    token = context.flat_values
    second = beside(tf.ones_like(token), 0)
    last = tf.cumsum(lengths) - 1  # the [SEP] behind the context is of its segment
    segments = tf.tensor_scatter_nd_update(second, last[:, tf.newaxis], tf.ones_like(last))
    return QuestionWindows(
        token_ids=joined.flat_values,
        segment_ids=segments,
        lengths=lengths,
        rows=rows,
        starts=beside(tf.gather(starts.flat_values, token), -1),
        ends=beside(tf.gather(ends.flat_values, token), -1),
        best=beside(_in_best_window(context, number, held, tf.size(ids.flat_values)), 0) > 0,
        pieces=pieces,
    )


def _in_best_window(
    context: tf.RaggedTensor, number: tf.Tensor, held: tf.Tensor, tokens: tf.Tensor
) -> tf.Tensor:
    """Of each token in each window: whether it is the one with the most context around it."""
    token = context.flat_values
    left = tf.ragged.range(held).flat_values
    total = tf.repeat(held, held)
    # BERT's score, min(left, right) + 0.01 * length, in whole numbers; the first window of equals.
    score = tf.cast(100 * tf.minimum(left, total - 1 - left) + total, tf.int64)
    score = score * _MOST_WINDOWS - tf.cast(tf.repeat(number, held), tf.int64)
    highest = tf.math.unsorted_segment_max(score, token, tokens)
    return tf.cast(score == tf.gather(highest, token), tf.int32)
