"""Long texts in overlapping windows: nothing is cut off, and every piece is read once.

A text of more pieces than a row holds becomes several rows. Each piece stands in one or more of
them, and is read in the one where it is farthest from the edges. The same operations, of core
TensorFlow alone, cut in training, in the SavedModel and in `predict`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfmodel.config import ConfigError
from tfmodel.tokens.batches import TokenRows
from tfmodel.tokens.combining_marks import whole_offsets
from tfmodel.tokens.row_tokenizer import RowTokenizer, check_limit
from tfmodel.tokens.tokenizer import Tokenizer

_ROWS_AT_ONCE = 1024
_OVERLAPS = 4
"""A quarter of a window stands in the next one too, where nothing else is said."""


class Windows(NamedTuple):
    """The windows over B texts; W in all, one text after the other, P pieces.

    Attributes:
        token_ids: int32 ragged (W, None), special tokens included.
        segment_ids: int32 ragged (W, None): 1 for the text where another one stands before it.
        texts: int32 (W,), which text a window is of.
        pieces: int32 ragged (W, None), which of the P pieces each token is; -1 for special tokens
            and for what stands before the text.
        is_read: bool ragged (W, None), whether a token is a piece that is read in this window. Each
            piece is in one window: values (R, …) of all tokens, masked by it, are those of the
            pieces (P, …) in their order.
    """

    token_ids: tf.RaggedTensor
    segment_ids: tf.RaggedTensor
    texts: tf.Tensor
    pieces: tf.RaggedTensor
    is_read: tf.RaggedTensor


def cut_windows(
    tokenizer: RowTokenizer,
    pieces: tf.RaggedTensor,
    before: tf.RaggedTensor | None = None,
    *,
    max_length: int | tf.Tensor,
    overlap: int | None = None,
) -> Windows:
    """Cut texts into windows of at most `max_length` tokens.

    A text that fits is one window, an empty one too. The last window of a longer text is as full as
    the others: it begins earlier than its turn.

    Args:
        tokenizer: gives the ids of the special tokens.
        pieces: int32 (B, None), from `tokenizer.tokenize` or `tokenize_with_offsets`.
        before: int32 (B, None), pieces that stand before every window of a text, such as a question
            before its context; they must leave room for at least one piece.
        max_length: tokens a window at most, special tokens included; or int32 (B,), a limit for
            each text.
        overlap: pieces that a window shares with the next one, at most half a window; a quarter of
            `max_length` by default.

    Returns:
        The windows.
    """
    lengths = tf.cast(pieces.row_lengths(), tf.int32)
    count = tf.size(lengths)
    limits = tf.broadcast_to(tf.cast(max_length, tf.int32), [count])
    leading = tf.ones([count], tf.int32)
    if before is not None:
        between = tf.fill([count, tokenizer.ends_between], tokenizer.vocabulary.end_id)
        before = tf.concat([before, between], axis=1)
        leading += tf.cast(before.row_lengths(), tf.int32)
    room = tf.maximum(limits - leading - 1, 1)
    shared = tf.minimum(overlap_of(limits) if overlap is None else overlap, room // 2)
    stride = room - shared
    over = tf.maximum(lengths - room, 0)
    counts = 1 + -(-over // stride)
    texts = tf.repeat(tf.range(count), counts)
    numbers = _positions(counts)
    # Places in the text: of the window's first piece, and behind its last.
    starts = tf.minimum(numbers * tf.gather(stride, texts), tf.gather(over, texts))
    ends = tf.minimum(starts + tf.gather(room, texts), tf.gather(lengths, texts))
    # Two neighbours meet in the middle of what they share.
    is_first, is_last = numbers == 0, numbers == tf.gather(counts, texts) - 1
    read_from = tf.where(is_first, 0, (starts + tf.roll(ends, 1, 0) + 1) // 2)
    read_to = tf.where(is_last, ends, tf.roll(read_from, -1, 0))

    sizes = ends - starts
    base = tf.gather(tf.cast(pieces.row_splits, tf.int32), texts)
    places = tf.repeat(starts, sizes) + _positions(sizes)  # in the text
    found = _ragged(tf.repeat(base, sizes) + places, sizes)
    is_read = (places >= tf.repeat(read_from, sizes)) & (places < tf.repeat(read_to, sizes))
    windows = tf.size(texts)
    start = tf.fill([windows, 1], tokenizer.vocabulary.start_id)
    end = tf.fill([windows, 1], tokenizer.vocabulary.end_id)
    ids = found.with_flat_values(tf.gather(pieces.flat_values, found.flat_values))
    heads = [start] if before is None else [start, tf.gather(before, texts)]
    token_ids = tf.concat([*heads, ids, end], axis=1)
    heads = tf.gather(leading, texts)
    positions = _positions(heads + sizes + 1)
    behind = positions - tf.repeat(heads, heads + sizes + 1)
    is_text = (behind >= 0) & (behind < tf.repeat(sizes, heads + sizes + 1))
    places = tf.where(is_text)
    shape = tf.shape(positions, tf.int64)
    of_pieces = tf.scatter_nd(places, found.flat_values + 1, shape) - 1
    read = tf.scatter_nd(places, tf.cast(is_read, tf.int32), shape) > 0
    second = tf.zeros_like(positions)
    if before is not None and tokenizer.has_segments:
        second = tf.cast(behind >= 0, tf.int32)
    return Windows(
        token_ids=token_ids,
        segment_ids=token_ids.with_flat_values(second),
        texts=texts,
        pieces=token_ids.with_flat_values(of_pieces),
        is_read=token_ids.with_flat_values(read),
    )


def overlap_of(max_length: int | tf.Tensor) -> int | tf.Tensor:
    """Pieces that a window of `max_length` tokens shares with the next, if nothing else is said."""
    return max_length // _OVERLAPS


def _positions(lengths: tf.Tensor) -> tf.Tensor:
    """0, 1, 2, … for each row, int32, one row after the other."""
    before = tf.cumsum(lengths, exclusive=True)
    return tf.range(tf.reduce_sum(lengths)) - tf.repeat(before, lengths)


def _ragged(values: tf.Tensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_row_lengths(values, tf.cast(lengths, tf.int64), validate=False)


@dataclasses.dataclass(frozen=True)
class WindowRows:
    """The windows over n texts in memory, as numpy arrays; W windows, R tokens, P pieces.

    Args:
        tokens: the windows as rows for `Batches`.
        texts: int32 (W,), which text a window is of.
        pieces: int32 (R,), which of the P pieces each token is; -1 for none.
        is_read: bool (R,), whether a token is a piece that is read in its window.
        ids: int32 (P,), the pieces of all texts, one text after the other.
        starts: int32 (P,), where each piece begins in its text, in characters.
        ends: int32 (P,), where it ends.
        splits: int64 (n + 1,); text i has the pieces `splits[i]` to `splits[i + 1]`.
    """

    tokens: TokenRows
    texts: np.ndarray
    pieces: np.ndarray
    is_read: np.ndarray
    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    splits: np.ndarray

    @classmethod
    def from_texts(
        cls,
        tokenizer: Tokenizer,
        texts: Sequence[str],
        befores: Sequence[str] | None = None,
        *,
        max_length: int | None = None,
        overlap: int | None = None,
        max_before: int | None = None,
    ) -> WindowRows:
        """Tokenize all texts and cut them, on all cores.

        Args:
            tokenizer: the tokenizer.
            texts: n strings.
            befores: n strings that stand before every window of their text, or None.
            max_length: tokens a window at most; the tokenizer's own by default.
            overlap: pieces that a window shares with the next one; see `cut_windows`.
            max_before: pieces of `befores` that are kept; half a window by default.
        """
        if befores is not None and len(befores) != len(texts):
            raise ConfigError(
                "Expected a text before for every text. "
                f"Received: {len(texts)} texts and {len(befores)} texts before."
            )
        limit = tokenizer.max_length if max_length is None else max_length
        check_limit("max_length", limit)
        kept = limit // 2 if max_before is None else max_before

        def cut(start: int) -> tuple[np.ndarray, ...]:
            chunk = slice(start, start + _ROWS_AT_ONCE)
            ids, starts, ends = whole_offsets(tokenizer, _strings(texts[chunk]))
            before = None
            if befores is not None:
                before = tokenizer.tokenize(_strings(befores[chunk]))[:, :kept]
            found = cut_windows(tokenizer, ids, before, max_length=limit, overlap=overlap)
            second = tf.cast(tf.reduce_sum(found.segment_ids, axis=1), tf.int64)
            first = found.token_ids.row_lengths() - second
            parts = (
                *(found.token_ids.flat_values, found.token_ids.row_lengths(), first),
                *(found.texts, found.pieces.flat_values, found.is_read.flat_values),
                *(ids.flat_values, starts.flat_values, ends.flat_values, ids.row_lengths()),
            )
            return tuple(part.numpy() for part in parts)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            chunks = list(pool.map(cut, range(0, len(texts), _ROWS_AT_ONCE))) or [cut(0)]
        # Texts and pieces are counted anew in each chunk.
        rows = pieces = 0
        for number, chunk in enumerate(chunks):
            of_pieces = np.where(chunk[4] >= 0, chunk[4] + pieces, -1).astype(np.int32)
            chunks[number] = (*chunk[:3], chunk[3] + rows, of_pieces, *chunk[5:])
            rows, pieces = rows + len(chunk[9]), pieces + len(chunk[6])
        token_ids, lengths, first, owners, of_pieces, is_read, ids, starts, ends, counts = (
            np.concatenate(parts) for parts in zip(*chunks, strict=True)
        )
        return cls(
            tokens=TokenRows(
                token_ids, _splits(lengths), first.astype(np.int32), tokenizer.vocabulary.padding_id
            ),
            texts=owners,
            pieces=of_pieces,
            is_read=is_read,
            ids=ids,
            starts=starts,
            ends=ends,
            splits=_splits(counts),
        )

    def __len__(self) -> int:
        """Texts."""
        return len(self.splits) - 1


def _splits(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _strings(texts: Sequence[str]) -> tf.Tensor:
    """As UTF-8; half of a surrogate pair, which that has no bytes for, becomes `?`."""
    return tf.constant([text.encode("utf-8", "replace") for text in texts], tf.string)
