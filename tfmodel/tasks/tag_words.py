"""Words of texts: what is tagged, where it stands, and what each tag is given.

A word is a piece with the `##` pieces behind it. Its first piece is asked for all of it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

_log = logging.getLogger(__name__)


class Words(NamedTuple):
    """The words of a text, N of them, and the probability of each of C tags.

    Attributes:
        starts: int32 (N,), the first character of each, a Unicode code point of the text.
        ends: int32 (N,), the character behind its last.
        scores: float32 (N, C).
    """

    starts: np.ndarray
    ends: np.ndarray
    scores: np.ndarray


def places_of_words(windows: Any, begins: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the words of all texts stand.

    Args:
        windows: `WindowRows` of n texts.
        begins: bool (P,), whether a piece begins a word.

    Returns:
        Starts and ends (N in all,), and int64 (n + 1,): text i has the words `splits[i]` to
        `splits[i + 1]`.
    """
    first = np.flatnonzero(begins)
    splits = np.asarray(windows.splits)
    # A text may begin with a piece of no word, a blank: the word before it ends with its own text.
    of_text = splits[np.searchsorted(splits, first, side="right")]
    last = np.minimum(np.append(first[1:], len(begins))[: len(first)], of_text) - 1
    counted = np.concatenate([[0], np.cumsum(begins)])
    return windows.starts[first], windows.ends[last], counted[splits]


def read_words(windows: Any, begins: np.ndarray, scores: np.ndarray) -> list[Words]:
    """What a model says of each text.

    Args:
        windows: `WindowRows` of n texts, R tokens.
        begins: bool (P,), whether a piece begins a word.
        scores: float32 (R, C), probabilities of each token of the windows.
    """
    starts, ends, splits = places_of_words(windows, begins)
    scores = scores[windows.is_read][begins]
    return [
        Words(starts[start:end], ends[start:end], scores[start:end])
        for start, end in zip(splits[:-1], splits[1:], strict=True)
    ]


def learned_tags(
    windows: Any, begins: np.ndarray, spans: Sequence[Sequence[tuple]], labels: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The tag of each token of the windows, and whether it is learned.

    The first word of a span is `B`, its others `I`; a word that a span begins or ends in belongs to
    it. Of spans that share words the longest is learned. Each word is learned in the window in
    which it is read, by its first piece.

    Args:
        windows: `WindowRows` of n texts, R tokens.
        begins: bool (P,), whether a piece begins a word.
        spans: first character, the one behind the last and label of each span, by text.
        labels: the labels of spans, in the order of the tags: O, B and I of each.

    Returns:
        int32 (R,) ids of tags, and float32 (R,), 1 or 0.
    """
    starts, ends, splits = places_of_words(windows, begins)
    tags = np.zeros(len(starts), np.int32)
    place = {label: index for index, label in enumerate(labels)}
    lost = 0
    for row, of_text in enumerate(spans):
        here = slice(splits[row], splits[row + 1])
        for start, end, label in sorted(of_text, key=lambda span: span[0] - span[1]):
            words = np.flatnonzero((starts[here] < end) & (ends[here] > start)) + splits[row]
            if not len(words) or tags[words].any():
                lost += 1
                continue
            tags[words] = 2 + 2 * place[label]
            tags[words[0]] -= 1
            lost += starts[words[0]] != start or ends[words[-1]] != end
    if lost:
        _log.warning(
            "%s of %s entities overlap a longer one, begin or end inside a word of the vocabulary, "
            "or hold none: they are never answered exactly, and count as missing where they are "
            "measured",
            f"{lost:,}",
            f"{sum(map(len, spans)):,}",
        )
    is_learned = windows.is_read.copy()
    is_learned[is_learned] = begins
    found = np.zeros(len(windows.is_read), np.int32)
    found[is_learned] = tags
    return found, is_learned.astype(np.float32)
