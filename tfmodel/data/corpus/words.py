"""Words of documents as numbers: what repetition and likeness are counted on.

Where a script has no spaces between words (Han, Kana, Thai ...), each character stands for half a
word: runs of words are twice as many characters there.
"""

from __future__ import annotations

import re
import zlib
from functools import lru_cache

import numpy as np

from tfmodel.data.similarity import mix

# Han with its extensions, Kana, Bopomofo, Thai, Lao, Myanmar, Khmer.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
_CHARACTER = re.compile(f"[{_UNSPACED}]")
_LOOK_CHARACTERS = 2_000
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@lru_cache(maxsize=2**17)
def _hash(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "replace"))


def hashed_words(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Cut a text into words, without case and punctuation.

    Returns:
        A hash of each word, uint64 (words,), the same on every machine; and how many characters
        each has, int64 (words,).
    """
    words = _WORD.findall(text.casefold())
    hashes = np.fromiter(map(_hash, words), np.uint64, len(words))
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    return mix(hashes), lengths


def pieces_a_word(text: str) -> int:
    """Say how many of `hashed_words` make a word: 2 for texts without spaces, by their start."""
    start = text[:_LOOK_CHARACTERS]
    characters = len(_CHARACTER.findall(start))
    return 2 if characters > len(_WORD.findall(start)) / 2 else 1


def count_words(text: str, *, most: int) -> float:
    """Count the words of a text, up to about `most`; where there are no spaces, two a word."""
    start = text[: 64 * most]
    characters = len(_CHARACTER.findall(start))
    return len(_WORD.findall(start)) - characters / 2


def hashed_runs(hashes: np.ndarray, length: int) -> np.ndarray:
    """Hash the runs of so many words: uint64 (words - length + 1,), empty where there are none."""
    runs = hashes[: max(0, len(hashes) - length + 1)].copy()
    for place in range(1, length):
        runs *= _FACTOR
        runs += hashes[place : place + len(runs)]
    return mix(runs)
