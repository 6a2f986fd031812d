"""From logits of windows to the best span of each context, in characters.

It imports TensorFlow where it runs: spans are found in the graph of a SavedModel too, by core
operations alone.
"""

from __future__ import annotations

from typing import Any

_NEVER = -1e9
_NOTHING = -1e4  # the margin where a context has no token that could be an answer
COLUMNS = ("start", "end", "score", "margin")
"""What is known of the best span of a context: its first character and the one after its last, its
probability in its window, and by how much its logits are above those of no answer."""


def best_spans(logits, windows, *, rows: int | Any, max_answer_length: int):
    """Find the best span of each context.

    A span starts and ends at tokens of the context, is at most `max_answer_length` tokens long, and
    starts where its window shows most around it. The one with the highest sum of logits over all
    windows is the best; no answer is the sum at [CLS], the lowest over the windows.

    Args:
        logits: float (W, T or more, 2), of each token as the first and as the last of the answer.
        windows: `QuestionWindows` of `rows` contexts.
        rows: how many questions B.
        max_answer_length: tokens of an answer at most.

    Returns:
        float32 (B, 4), the `COLUMNS`. Of a context without tokens all are 0 but the margin.

    Source: Devlin et al. 2018, section 4.2 and 4.3, and run_squad.py. Deviation: all spans are
    looked at, not those of the 20 best starts and ends; an answer's offsets are its tokens' own.
    """
    import tensorflow as tf

    starts, ends = (windows.padded(each, -1) for each in (windows.starts, windows.ends))
    windows_there, length = tf.shape(starts)[0], tf.shape(starts)[1]
    begin, end = tf.unstack(tf.cast(logits, tf.float32)[:, :length], axis=-1)
    in_context = starts >= 0
    may_start = in_context & windows.padded(windows.best, False)
    begin_score = tf.where(may_start, begin, _NEVER)
    end_score = tf.where(in_context, end, _NEVER)
    highest, reach = _best_ends(begin_score, end_score, max_answer_length)
    first = tf.argmax(highest, axis=1, output_type=tf.int32)
    last = first + tf.gather(reach, first, batch_dims=1)
    highest = tf.reduce_max(highest, axis=1)
    none = begin[:, 0] + end[:, 0]

    # The first of a row's windows that has its best span.
    number = tf.range(windows_there)
    of_row = tf.math.unsorted_segment_max(highest, windows.rows, rows)
    is_best = highest >= tf.gather(of_row, windows.rows)
    chosen = tf.math.unsorted_segment_min(
        tf.where(is_best, number, windows_there), windows.rows, rows
    )
    lowest_none = tf.math.unsorted_segment_min(none, windows.rows, rows)

    def at(values, place):
        return tf.gather(tf.gather(values, chosen), tf.gather(place, chosen), batch_dims=1)

    possible = in_context | (tf.range(length) == 0)
    logs = [tf.nn.log_softmax(tf.where(possible, each, _NEVER)) for each in (begin, end)]
    score = tf.exp(at(logs[0], first) + at(logs[1], last))
    is_span = of_row > _NEVER / 2
    found = [tf.cast(at(starts, first), tf.float32), tf.cast(at(ends, last), tf.float32), score]
    found = [tf.where(is_span, each, 0.0) for each in found]
    margin = tf.where(is_span, of_row - lowest_none, _NOTHING)
    return tf.stack([*found, margin], axis=1)


def _best_ends(begin, end, longest: int):
    """Of spans that start at each token the highest sum (W, T), and how far on its last one is."""
    import tensorflow as tf

    length = tf.shape(begin)[1]

    def further(distance, best, reach):
        moved = tf.pad(end[:, distance:], [[0, 0], [0, distance]], constant_values=2 * _NEVER)
        sums = begin + moved
        is_better = sums > best
        return distance + 1, tf.where(is_better, sums, best), tf.where(is_better, distance, reach)

    # One length after the other: all at once would take so many times the memory.
    _, best, reach = tf.while_loop(
        lambda distance, *_: distance < tf.minimum(longest, length),
        further,
        (tf.constant(1), begin + end, tf.zeros_like(begin, tf.int32)),
        shape_invariants=(tf.TensorShape([]), begin.shape, begin.shape),
    )
    return best, reach


def is_answered(values, null_threshold: float | None):
    """Whether the best span is the answer, bool (B,), of values (B, 4): there is one, and no
    answer is not better by more than the threshold.
    """
    answered = values[:, 1] > values[:, 0]
    return answered if null_threshold is None else answered & (-values[:, 3] <= null_threshold)
