"""From bytes of normalized texts back to characters of the user's own, and to whole words.

All operations but the tokenizer's own are core TensorFlow, so that a SavedModel can hold them.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

LONGEST_WORD_CHARACTERS = 100
"""BERT's limit: a longer word is unknown."""


class Pieces(NamedTuple):
    """The pieces of B texts, one text after the other; P pieces in all.

    Attributes:
        ids: int32 (P,).
        starts: int64 (P,), first byte of each piece in its normalized text.
        ends: int64 (P,), the byte after its last.
        splits: int64 (B + 1,); text i has the pieces `splits[i]` to `splits[i + 1]`.
    """

    ids: tf.Tensor
    starts: tf.Tensor
    ends: tf.Tensor
    splits: tf.Tensor

    def ragged(self, values: tf.Tensor) -> tf.RaggedTensor:
        """Values (P,) as one row a text."""
        return tf.RaggedTensor.from_row_splits(values, self.splits, validate=False)


def characters_before(texts: tf.Tensor) -> tf.Tensor:
    """How many characters begin before each byte of the texts, joined without a gap.

    Args:
        texts: UTF-8 strings (B,).

    Returns:
        int32 (n + 1,) for n bytes in all; the last is the number of characters.
    """
    joined = tf.io.decode_raw(tf.strings.reduce_join(texts), tf.uint8)
    begins = tf.bitwise.bitwise_and(joined, 0xC0) != 0x80  # no continuation byte of UTF-8
    return tf.pad(tf.cumsum(tf.cast(begins, tf.int32)), [[1, 0]])


def bytes_before(texts: tf.Tensor) -> tf.Tensor:
    """Where each text begins among the bytes of all texts joined: int64 (B,)."""
    return tf.cumsum(tf.cast(tf.strings.length(texts), tf.int64), exclusive=True)


def without_long_words(
    pieces: Pieces, normalized: tf.Tensor, *, continues: tf.Tensor, unknown_id: int
) -> Pieces:
    """Make every word of more than 100 characters one unknown piece.

    The operation that splits words has a limit in bytes, which is right for ASCII alone.

    Args:
        pieces: pieces of the normalized texts.
        normalized: those texts, strings (B,).
        continues: bool (V,), whether a piece of the vocabulary continues a word.
        unknown_id: of the piece that stands for unknown words.

    Returns:
        The pieces, as they are where no word is longer.
    """
    begins = tf.logical_not(tf.gather(continues, pieces.ids))
    firsts = tf.where(begins)[:, 0]
    lasts = tf.concat([firsts, pieces.splits[-1:]], 0)[1:] - 1
    starts, ends = tf.gather(pieces.starts, firsts), tf.gather(pieces.ends, lasts)

    def merged() -> Pieces:
        texts = tf.gather(_rows(pieces), firsts)
        base = tf.gather(bytes_before(normalized), texts)
        before = characters_before(normalized)
        characters = tf.gather(before, base + ends) - tf.gather(before, base + starts)
        is_long = characters > LONGEST_WORD_CHARACTERS
        word = tf.cumsum(tf.cast(begins, tf.int32)) - 1
        in_long = tf.gather(is_long, word)
        kept = begins | ~in_long
        return Pieces(
            tf.boolean_mask(tf.where(in_long, unknown_id, pieces.ids), kept),
            tf.boolean_mask(pieces.starts, kept),
            tf.boolean_mask(tf.where(in_long, tf.gather(ends, word), pieces.ends), kept),
            tf.gather(tf.pad(tf.cumsum(tf.cast(kept, tf.int64)), [[1, 0]]), pieces.splits),
        )

    # In nearly all batches no word has so many bytes, and nothing needs to be counted.
    return tf.cond(tf.reduce_any(ends - starts > LONGEST_WORD_CHARACTERS), merged, lambda: pieces)


def character_offsets(
    pieces: Pieces, texts: tf.Tensor, sources: tf.RaggedTensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Where each piece stands in its text, in characters.

    Args:
        pieces: pieces of the normalized texts.
        texts: the texts before normalization, strings (B,).
        sources: int64 (B, None), of each byte of a normalized text a byte of the character in
            `texts` that it came from.

    Returns:
        int32 (P,) each: first character, and the one after the last.
    """
    rows = _rows(pieces)
    base = tf.gather(sources.row_splits, rows)
    first = tf.gather(sources.flat_values, base + pieces.starts)
    last = tf.gather(sources.flat_values, base + pieces.ends - 1)
    before = characters_before(texts)
    text_base = tf.gather(bytes_before(texts), rows)
    skipped = tf.gather(before, text_base)
    return (
        tf.gather(before, text_base + first) - skipped,
        tf.gather(before, text_base + last + 1) - skipped,
    )


def _rows(pieces: Pieces) -> tf.Tensor:
    """Of each piece its text: int64 (P,)."""
    counts = pieces.splits[1:] - pieces.splits[:-1]
    return tf.repeat(tf.range(tf.size(counts, tf.int64)), counts)
