"""Words of documents as numbers: what repetition and likeness are counted on.

Where a script has no spaces between words (Han, Kana, Thai ...), each character stands for half a
word: runs of words are twice as many characters there.
"""

from __future__ import annotations

import functools
import re
import sys

import numpy as np

from tfmodel.data.similarity import mix

# Thai and Lao, Myanmar, Khmer, Kana, Bopomofo and its extension, Han with its extensions.
_UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x312F), (0x31A0, 0x31FF),
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF),
)  # fmt: skip
_CLASS = "".join(f"{chr(first)}-{chr(last)}" for first, last in _UNSPACED)
_CHARACTER = re.compile(f"[{_CLASS}]")
_WORD = re.compile(rf"[{_CLASS}]|[^\W_{_CLASS}]+")
_LOOK_CHARACTERS = 2_000
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SPACED, _ALONE = 1, 2  # characters of words, and those that stand for half a one


@functools.cache
def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the kind of every character, a hash of it, and factors for the places in a word."""
    every = range(sys.maxunicode + 1)
    kinds = np.fromiter(map(str.isalnum, map(chr, every)), np.uint8, len(every))
    for first, last in _UNSPACED:
        kinds[first : last + 1] = _ALONE
    hashes = mix(np.arange(1, sys.maxunicode + 2, dtype=np.uint64))
    return kinds, hashes, mix(np.arange(2**8, dtype=np.uint64)) | np.uint64(1)


def hashed_words(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Cut a text into words, without case and punctuation.

    Returns:
        A hash of each word, uint64 (words,), the same on every machine; and how many characters
        each has, int64 (words,).
    """
    kinds, character_hashes, factors = _tables()
    raw = text.casefold().encode("utf-32-le", "surrogatepass")
    characters = np.frombuffer(raw, np.uint32)
    kind = kinds[characters]
    goes_on = (kind[1:] == _SPACED) & (kind[:-1] == _SPACED)
    is_start = kind > 0
    is_start[1:] &= ~goes_on
    chosen = np.flatnonzero(kind)
    starts = np.flatnonzero(is_start[chosen])
    lengths = np.diff(starts, append=len(chosen))
    if not len(starts):
        return np.empty(0, np.uint64), lengths
    place = np.arange(len(chosen)) - np.repeat(starts, lengths)
    hashes = character_hashes[characters[chosen]] * factors[place & (len(factors) - 1)]
    return mix(np.add.reduceat(hashes, starts)), lengths


def pieces_a_word(text: str) -> int:
    """Say how many of `hashed_words` make a word: 2 for texts without spaces, by their start."""
    start = text[:_LOOK_CHARACTERS]
    characters = len(_CHARACTER.findall(start))
    return 2 if characters > len(_WORD.findall(start)) / 2 else 1


def count_words(text: str, *, most: int) -> float:
    """Count the words of a text, up to `most`; where there are no spaces, two characters a word.

    It looks no further than it must: at the whole of a text only where few words stand in it.
    """
    count = 0.0
    for word in _WORD.finditer(text):
        if count >= most:
            break
        count += 0.5 if _CHARACTER.match(word[0]) else 1
    return count


def hashed_runs(hashes: np.ndarray, length: int) -> np.ndarray:
    """Hash the runs of so many words: uint64 (words - length + 1,), empty where there are none."""
    runs = hashes[: max(0, len(hashes) - length + 1)].copy()
    for place in range(1, length):
        runs *= _FACTOR
        runs += hashes[place : place + len(runs)]
    return mix(runs)
