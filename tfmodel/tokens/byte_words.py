"""Where byte-level BPE ends one word and begins the next: GPT-2's pattern in the graph."""

from __future__ import annotations

import functools

import tensorflow as tf

from tfmodel.tokens.character_kinds import SPACE, kinds_of
from tfmodel.tokens.offsets import bytes_before

_BLANK, _APOSTROPHE = ord(" "), ord("'")
_ONE_LETTER = [ord(letter) for letter in "stmd"]
_TWO_LETTERS = [(ord(a), ord(b)) for a, b in ("re", "ve", "ll")]


def words_of_bytes(texts: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Cut texts to words.

    Args:
        texts: strings (B,).
        size: how many bytes they have in all, n.

    Returns:
        int32 (n,), ascending: of each byte the number of its word. No word is of two texts.
    """
    codes, offsets = tf.strings.unicode_decode_with_offsets(texts, "UTF-8")
    rows = codes.value_rowids()
    first_bytes = tf.gather(bytes_before(texts), rows) + offsets.flat_values
    begins = tf.boolean_mask(first_bytes, _word_begins(codes.flat_values, rows))
    return tf.searchsorted(begins, tf.range(size), side="right") - 1


def _word_begins(codes: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Where a word begins: bool (n,) for n characters of texts, one text after the other.

    Args:
        codes: int32 (n,) code points.
        rows: int64 (n,), the text of each.

    Source: the pattern of GPT-2, `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+|
    ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+`: a word takes one blank before it; the other white space
    before that is a word itself.
    """
    kinds = kinds_of(codes)

    def shifted(values, by, filler):
        """What stands `by` places further on in the same text, or `filler`."""
        count = tf.size(values)
        places = tf.range(count) + by
        inside = (places >= 0) & (places < count)
        places = tf.where(inside, places, 0)
        same = inside & (tf.gather(rows, places) == rows)
        return tf.where(same, tf.gather(values, places), filler)

    before, code_before = shifted(kinds, -1, -1), shifted(codes, -1, -1)
    after = shifted(kinds, 1, -1)
    is_space = kinds == SPACE
    of_last_space = (before == SPACE) & (after != SPACE) & (after >= 0)
    begins = tf.where(
        is_space,
        (before != SPACE) | of_last_space,
        (before != kinds) & (code_before != _BLANK),
    )
    # 's and the like, where a word begins with the apostrophe.
    one, two = shifted(codes, 1, -1), shifted(codes, 2, -1)
    short = functools.reduce(tf.logical_or, (one == letter for letter in _ONE_LETTER))
    long = functools.reduce(tf.logical_or, ((one == a) & (two == b) for a, b in _TWO_LETTERS))
    apostrophe = begins & (codes == _APOSTROPHE)
    short, long = (tf.cast(apostrophe & each, tf.int32) for each in (short, long))
    ends = (shifted(short, -2, 0) + shifted(long, -3, 0)) > 0
    goes_on = shifted(short + long, -1, 0) > 0
    return (begins | ends) & tf.logical_not(goes_on)
