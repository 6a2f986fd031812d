"""Combining marks belong to the letter before them, whatever the tokenizer made of them.

A tokenizer that strips accents ends a piece before the marks of its last letter, as Hugging Face's
do. An answer that is cut out of the text there would lose them.

All operations are core TensorFlow, so that a SavedModel can hold them.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfmodel.tokens.offsets import bytes_before, characters_before


def whole_offsets(
    tokenizer, texts: tf.Tensor | Sequence[str]
) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
    """`tokenize_with_offsets`, with the marks of a piece's last letter inside of it.

    Args:
        tokenizer: strings to pieces with their places.
        texts: strings (B,), UTF-8.

    Returns:
        `ids`, `starts` and `ends`, each an int32 ragged tensor (B, None).
    """
    texts = tf.convert_to_tensor(texts, tf.string)
    ids, starts, ends = tokenizer.tokenize_with_offsets(texts)
    return ids, starts, behind_marks(texts, ends)


def behind_marks(texts: tf.Tensor, ends: tf.RaggedTensor) -> tf.RaggedTensor:
    """Move places in texts behind the combining marks that stand there.

    Args:
        texts: strings (B,), UTF-8.
        ends: int32 (B, None), places in characters.

    Returns:
        As `ends`.
    """

    def moved() -> tf.Tensor:
        codes = _codes(texts)
        bounds = tf.constant(_bounds_of_marks())
        is_mark = tf.searchsorted(bounds, codes, side="right") % 2 == 1
        others = tf.boolean_mask(tf.range(tf.size(codes)), ~is_mark)
        others = tf.concat([others, [tf.size(codes)]], axis=0)
        # Places among the characters of all texts; a mark that begins the next text is not ours.
        before = characters_before(texts)
        first = tf.gather(before, bytes_before(texts))
        behind = tf.concat([first[1:], [tf.size(codes)]], axis=0)[: tf.size(first)]
        rows = ends.value_rowids()
        skipped, limit = tf.gather(first, rows), tf.gather(behind, rows)
        found = tf.gather(others, tf.searchsorted(others, ends.flat_values + skipped))
        return tf.minimum(found, limit) - skipped

    # Most batches have none, and nothing needs to be counted.
    has_marks = tf.reduce_any(tf.strings.regex_full_match(texts, r"(?s).*\p{Mn}.*"))
    return ends.with_flat_values(tf.cond(has_marks, moved, lambda: ends.flat_values))


def _codes(texts: tf.Tensor) -> tf.Tensor:
    """The characters of all texts, one after the other, as `characters_before` counts them.

    TensorFlow's own decoding counts otherwise where bytes are not UTF-8.
    """
    joined = tf.cast(tf.io.decode_raw(tf.strings.reduce_join(texts), tf.uint8), tf.int32)
    padded = tf.pad(joined, [[0, 3]])
    first = tf.boolean_mask(tf.range(tf.size(joined)), joined & 0xC0 != 0x80)
    lead, *rest = (tf.gather(padded, first + place) for place in range(4))
    one, two, three = (each & 0x3F for each in rest)
    code = tf.where(lead < 0x80, lead, (lead & 0x1F) * 64 + one)
    code = tf.where(lead >= 0xE0, ((lead & 0x0F) * 64 + one) * 64 + two, code)
    return tf.where(lead >= 0xF0, (((lead & 0x07) * 64 + one) * 64 + two) * 64 + three, code)


@functools.cache
def _bounds_of_marks() -> np.ndarray:
    """Where runs of nonspacing marks begin and end among all characters, in turn."""
    is_mark = np.array([unicodedata.category(chr(code)) == "Mn" for code in range(0x110000)])
    return (np.flatnonzero(np.diff(is_mark)) + 1).astype(np.int32)
