"""Words as BERT's tokenizer sees them before it looks for pieces, and how often each occurs."""

from __future__ import annotations

import functools
import heapq
import logging
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator

from tfmodel.tokens.normalization import UNKNOWN_LETTER

_log = logging.getLogger(__name__)

# Each Chinese character is a word: the blocks of google-research/bert's `_is_chinese_char`.
_CHINESE = (
    *((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F)),
    *((0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)),
)
# ASCII signs that Unicode calls symbols are punctuation to BERT.
_ASCII_SYMBOLS = "$+<=>^`|~"
_CHARACTERS_AT_ONCE = 4_000_000


@functools.cache
def _word() -> re.Pattern:
    codes = map(chr, range(sys.maxunicode + 1))
    marks = {c for c in codes if unicodedata.category(c)[0] == "P"} | {*_ASCII_SYMBOLS}
    alone = "".join(f"\\U{ord(mark):08x}" for mark in sorted(marks))
    alone += "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in _CHINESE)
    return re.compile(f"[^ {alone}]+|[{alone}]")


def split_words(normalized: str) -> list[str]:
    """Split a normalized text at spaces, around punctuation and around Chinese characters.

    Args:
        normalized: what `Tokenizer.normalize` gives.

    Returns:
        The words; each is what `FastWordpieceTokenizer` looks for pieces in.
    """
    return _word().findall(normalized)


def count_words(texts: Iterable[str], *, lowercase: bool, most: int) -> Counter[str]:
    """Count the words of texts that may not fit into memory.

    Args:
        texts: any strings.
        lowercase: lower-case and strip accents, as the tokenizer will.
        most: distinct words remembered, at least 1; beyond it those seen least are forgotten, down
            to half, and counted from nothing if they come again.

    Returns:
        How often each word occurs; less by what was forgotten of it. Words longer than any piece is
        looked for in, and those with a character that is in no vocabulary, are left out.

    Source: the table is pruned as in lossy counting (Manku and Motwani 2002), by size.
    """
    counts: Counter[str] = Counter()
    forgotten = highest = 0
    for normalized in _normalized(texts, lowercase=lowercase):
        counts.update(split_words(normalized))
        if len(counts) > most:
            # The word breaks ties: what stays depends on the texts alone.
            kept = heapq.nlargest(most // 2, counts.items(), key=lambda item: (item[1], item[0]))
            forgotten += len(counts) - len(kept)
            highest = max(highest, kept[-1][1] if kept else 0)
            counts = Counter(dict(kept))
    if forgotten:
        _log.warning(
            "vocabulary: more than %s distinct words; %s that had come at most %s times were "
            "forgotten on the way",
            *(f"{number:,}" for number in (most, forgotten, highest)),
        )
    longest = _longest_word()
    for word in [w for w in counts if len(w) > longest or UNKNOWN_LETTER in w]:
        del counts[word]
    return counts


def _normalized(texts: Iterable[str], *, lowercase: bool) -> Iterator[str]:
    import tensorflow as tf

    from tfmodel.tokens.tokenizer import Tokenizer
    from tfmodel.tokens.vocabulary import SPECIAL_PIECES, Vocabulary

    # The tokenizer's own normalizer, which takes no notice of the pieces; one there must be.
    tokenizer = Tokenizer(Vocabulary([*SPECIAL_PIECES.values(), "a"]), lowercase=lowercase)
    for chunk in _chunks(texts):
        encoded = [text.encode("utf-8", "replace") for text in chunk]
        for normalized in tokenizer.normalize(tf.constant(encoded)).numpy():
            yield normalized.decode("utf-8", "replace")


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts that are normalized together: by what they take up, however long each is."""
    chunk, characters = [], 0
    for text in texts:
        chunk.append(text)
        characters += len(text)
        if characters >= _CHARACTERS_AT_ONCE:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _longest_word() -> int:
    from tfmodel.tokens.offsets import LONGEST_WORD_CHARACTERS

    return LONGEST_WORD_CHARACTERS
