"""Gaps in texts: how one is written, what pieces stand around it, how a piece fills it.

TensorFlow is imported where it runs: tasks decode answers without it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tfmodel.config import ConfigError

if TYPE_CHECKING:
    import tensorflow as tf

    from tfmodel.tokens.row_tokenizer import RowTokenizer

GAP = "[MASK]"
"""How a gap is written for WordPiece; `written_with` says how for other tokenizers."""
PART = "##"
"""How a piece of WordPiece begins that continues a word."""

# Unicode's white space, which Python and RE2 each have another class for.
_BLANKS = "[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+"


def written_with(tokenizer: RowTokenizer) -> dict[str, Any]:
    """How gaps are written for a tokenizer, and how its pieces are, as `filled` takes it.

    Args:
        tokenizer: whose vocabulary has a mask.

    Returns:
        Nothing for WordPiece; else `gap`, what a gap is written as, and `blanks`, True: a piece
        that begins a word begins with a blank.

    Raises:
        ConfigError: the vocabulary has none, or texts are cut in a way that knows no gaps.
    """
    vocabulary = tokenizer.vocabulary
    if vocabulary.mask_id is None:
        raise ConfigError(
            f"Expected a vocabulary with {vocabulary.special['mask']}. Received: one without. "
            "Choose a model that was pretrained to fill gaps."
        )
    if tokenizer.reads_beginnings_otherwise:
        raise ConfigError(
            "Expected a tokenizer that cuts the text behind a gap as it cuts a text. Received: one "
            "that puts ▁ before the first word of a text alone (prepend_scheme first), which "
            "cannot be told here. Fill gaps with another model."
        )
    if not tokenizer.has_blanks:
        return {}
    return {"gap": vocabulary.special["mask"], "blanks": True}


def pieces_with_gaps(
    tokenizer: RowTokenizer, texts: tf.Tensor | Sequence[str], *, gap: str | None = None
) -> tf.RaggedTensor:
    """Cut texts with gaps into pieces, without those that begin and end a row.

    Args:
        tokenizer: whose vocabulary has a mask.
        texts: strings (B,).
        gap: what stands in them for a gap; what `written_with` says by default.

    Returns:
        int32 ragged (B, None); a gap is the id of the mask. Where blanks are of pieces, those
        before a gap are left out: the piece that fills it has its own.

    Raises:
        ConfigError: as `written_with`.

    Source: the mask of Hugging Face's tokenizers, whose `lstrip` is true but for WordPiece.
    """
    import tensorflow as tf

    written = written_with(tokenizer)
    parts = tf.strings.split(texts, gap or written.get("gap", GAP))
    place = tf.ragged.range(parts.row_lengths()).flat_values
    values = parts.flat_values
    if tokenizer.has_blanks:
        behind = tf.repeat(parts.row_lengths(), parts.row_lengths()) - 1
        bare = tf.strings.regex_replace(values, _BLANKS + "$", "")
        values = tf.where(tf.cast(place, tf.int64) < behind, bare, values)
    ids = tokenizer.tokenize(values)
    gaps = tf.RaggedTensor.from_row_lengths(
        tf.fill([tf.math.count_nonzero(place, dtype=tf.int32)], tokenizer.vocabulary.mask_id),
        tf.cast(place > 0, tf.int64),
        validate=False,
    )
    pieces = tf.concat([gaps, ids], axis=1)
    splits = tf.gather(pieces.row_splits, parts.row_splits)
    return tf.RaggedTensor.from_row_splits(pieces.flat_values, splits, validate=False)


def filled(text: str, tokens: Sequence[str], *, gap: str = GAP, blanks: bool = False) -> str:
    """Put pieces into the gaps of a text, in their order; further gaps stay.

    A piece that continues a word is written right behind it: one of WordPiece that begins with
    `##`, or with `blanks` one without a blank first. One with a blank has it where the text has
    none before it.

    Args:
        text: with gaps.
        tokens: a piece for each, as `RowTokenizer.written` has them.
        gap: what a gap is written as.
        blanks: whether a piece that begins a word begins with a blank.
    """
    parts, whole = text.split(gap), ""
    for place, part in enumerate(parts[:-1]):
        token = tokens[place] if place < len(tokens) else None
        if token is None:
            token = gap
        elif blanks and token.startswith(" "):
            token = token.lstrip(" ")
            is_first = not part and place == 0
            if not is_first and not re.search(_BLANKS + r"\Z", part):
                token = " " + token
        elif blanks or (token.startswith(PART) and token != PART):
            part = re.sub(_BLANKS + r"\Z", "", part)
            token = token if blanks else token[len(PART) :]
        whole += part + token
    return whole + parts[-1]


def filled_in_graph(
    texts: tf.Tensor, best: tf.RaggedTensor, *, gap: str = GAP, blanks: bool = False
) -> tf.Tensor:
    """As `filled`, of texts (B,) in a graph.

    Args:
        texts: strings (B,).
        best: strings (B, None), a piece for each gap that was read.
        gap: what a gap is written as.
        blanks: whether a piece that begins a word begins with a blank.

    Returns:
        Strings (B,).
    """
    import tensorflow as tf

    parts = tf.strings.split(texts, gap)
    place = tf.ragged.range(parts.row_lengths())
    # Behind the last part there is no gap; one that was not read stays one.
    closed = (place < tf.cast(tf.expand_dims(parts.row_lengths() - 1, 1), place.dtype)).flat_values
    missing = tf.cast(parts.row_lengths(), tf.int64) - tf.cast(best.row_lengths(), tf.int64)
    fill_up = tf.RaggedTensor.from_row_lengths(
        tf.fill([tf.reduce_sum(missing)], gap), missing, validate=False
    )
    behind, before = tf.concat([best, fill_up], axis=1).flat_values, parts.flat_values
    is_read = tf.cast(place, tf.int64) < tf.expand_dims(best.row_lengths(), 1)
    if blanks:
        begins = tf.strings.regex_full_match(behind, "(?s) .*")
        continues = is_read.flat_values & ~begins
        has_blank = tf.strings.regex_full_match(before, "(?s).*" + _BLANKS)
        is_first = (tf.strings.length(before) == 0) & (place.flat_values == 0)
        lacks = is_read.flat_values & begins & ~has_blank & ~is_first
        behind = tf.where(begins, tf.strings.regex_replace(behind, "^ +", ""), behind)
        behind = tf.where(lacks, tf.strings.join([" ", behind]), behind)
    else:
        continues = tf.strings.regex_full_match(behind, PART + "(?s:.+)")
        behind = tf.where(continues, tf.strings.regex_replace(behind, "^" + PART, ""), behind)
    bare = tf.strings.regex_replace(before, _BLANKS + "$", "")
    before = tf.where(continues & closed, bare, before)
    behind = tf.where(closed, behind, "")
    return tf.strings.reduce_join(parts.with_values(before + behind), axis=-1)
