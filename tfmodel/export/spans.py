"""Questions and contexts to the best spans, whatever computes the logits of a window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfmodel.tasks.span_search import best_spans
from tfmodel.tasks.span_windows import DOC_STRIDE, MAX_ANSWER_LENGTH, MAX_QUERY_LENGTH
from tfmodel.tokens.question_windows import QuestionWindows, question_windows
from tfmodel.tokens.tokenizer import Tokenizer

_WINDOWS_AT_ONCE = 32
"""A context of a book has hundreds: memory must not grow with them."""

Texts = tuple[tf.Tensor, tf.Tensor]


class Spans:
    """How texts become windows, and logits of windows the best spans.

    Args:
        tokenizer: strings to pieces.
        max_length: tokens a window at most.
        decoding: the task's `doc_stride`, `max_query_length` and `max_answer_length`; BERT's for
            SQuAD where they are not given.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_length: int, decoding: Mapping[str, Any]):
        # A model of another's may read no more than its questions would take.
        most = max(min(decoding.get("max_query_length", MAX_QUERY_LENGTH), max_length - 4), 0)
        self._cut = {
            "max_length": max_length,
            "doc_stride": decoding.get("doc_stride", DOC_STRIDE),
            "max_query_length": most,
        }
        self._tokenizer = tokenizer
        self._longest = decoding.get("max_answer_length", MAX_ANSWER_LENGTH)

    def windows(self, text: tf.Tensor, text_pair: tf.Tensor) -> QuestionWindows:
        """Questions and contexts, strings (B,), to windows."""
        return question_windows(self._tokenizer, text, text_pair, **self._cut)

    def best(self, logits: tf.Tensor, windows: QuestionWindows) -> tf.Tensor:
        """Logits (W, T, 2) to the best spans (B, 4), as `span_search.COLUMNS` has them."""
        rows = tf.size(windows.pieces)
        return best_spans(logits, windows, rows=rows, max_answer_length=self._longest)

    def function(self, logits: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
        """Ask a model of a batch, whose logits are (W, T, 2), in the graph.

        Returns:
            A function from strings `text` and `text_pair` (B,) to the best spans (B, 4).
        """

        def spans(text: tf.Tensor, text_pair: tf.Tensor) -> tf.Tensor:
            windows = self.windows(text, text_pair)
            return self.best(_in_parts(logits, windows.batch()), windows)

        return spans

    def flat_function(self, answer: Callable[..., Mapping[str, tf.Tensor]]) -> Callable:
        """As `function`, of a model that computes on real tokens alone.

        Args:
            answer: from `answer_function`: tokens of windows, one window after the other, to their
                `scores` (R, 2).
        """

        def spans(text: tf.Tensor, text_pair: tf.Tensor) -> tf.Tensor:
            windows = self.windows(text, text_pair)
            begin, end = tf.unstack(_flat_in_parts(answer, windows), axis=-1)
            logits = tf.stack([windows.padded(begin), windows.padded(end)], axis=-1)
            return self.best(logits, windows)

        return spans

    def ask(
        self, logits: Callable[[dict[str, np.ndarray]], np.ndarray], length: int | None
    ) -> Callable[..., np.ndarray]:
        """Ask what is no part of a graph, such as a file for phones.

        Args:
            logits: batch to logits (W, T, 2), numpy.
            length: what all windows are padded to; None: to the longest.

        Returns:
            As `function`, of strings as TensorFlow has them, numpy.
        """
        text = tf.TensorSpec((None,), tf.string)
        cut = tf.function(self.windows, input_signature=[text, text], autograph=False)
        padding_id = self._tokenizer.vocabulary.padding_id

        def spans(text: tf.Tensor, text_pair: tf.Tensor) -> np.ndarray:
            windows = cut(text, text_pair)
            batch = {name: values.numpy() for name, values in windows.batch().items()}
            return self.best(logits(filled(batch, length, padding_id)), windows).numpy()

        return spans


def filled(
    batch: Mapping[str, np.ndarray], length: int | None, padding_id: int
) -> dict[str, np.ndarray]:
    """A batch with rows of exactly `length` tokens."""
    found = dict(batch)
    found["token_ids"] = np.where(batch["padding_mask"] > 0, batch["token_ids"], padding_id)
    missing = 0 if length is None else length - found["token_ids"].shape[1]
    filling = {"token_ids": padding_id}
    return {
        name: np.pad(values, [(0, 0), (0, missing)], constant_values=filling.get(name, 0)).astype(
            np.int32
        )
        for name, values in found.items()
    }


def _flat_in_parts(
    answer: Callable[..., Mapping[str, tf.Tensor]], windows: QuestionWindows
) -> tf.Tensor:
    """The logits (R, 2) of the tokens of windows, computed for so many windows at once."""
    count = tf.size(windows.lengths)
    parts = tf.maximum(-(-count // _WINDOWS_AT_ONCE), 1)
    bounds = tf.pad(tf.cumsum(windows.lengths), [[1, 0]])
    gathered = tf.TensorArray(tf.float32, size=parts, element_shape=(None, 2), infer_shape=False)

    def ask(part, gathered):
        first = part * _WINDOWS_AT_ONCE
        last = tf.minimum(first + _WINDOWS_AT_ONCE, count)
        here = slice(bounds[first], bounds[last])
        found = answer(
            token_ids=windows.token_ids[here],
            segment_ids=windows.segment_ids[here],
            lengths=windows.lengths[first:last],
        )
        return part + 1, gathered.write(part, found["scores"])

    _, gathered = tf.while_loop(
        lambda part, _: part < parts, ask, (tf.constant(0), gathered), parallel_iterations=1
    )
    return gathered.concat()


def _in_parts(logits: Callable[..., tf.Tensor], batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """The logits of a batch, computed for so many windows at once."""
    windows = tf.shape(batch["token_ids"])[0]
    parts = tf.maximum(-(-windows // _WINDOWS_AT_ONCE), 1)
    gathered = tf.TensorArray(
        tf.float32, size=parts, element_shape=(None, None, 2), infer_shape=False
    )

    def ask(part, gathered):
        here = slice(part * _WINDOWS_AT_ONCE, (part + 1) * _WINDOWS_AT_ONCE)
        found = logits(**{name: values[here] for name, values in batch.items()})
        return part + 1, gathered.write(part, found)

    _, gathered = tf.while_loop(
        lambda part, _: part < parts, ask, (tf.constant(0), gathered), parallel_iterations=1
    )
    return gathered.concat()
