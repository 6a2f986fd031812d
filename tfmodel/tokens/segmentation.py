"""Where words and sentences begin, in English and Chinese text."""

from __future__ import annotations

import re

import numpy as np

from tfmodel.config import ConfigError

_CLOSERS = "\"'”’»)\\]」』】）》〉"
_OPENERS = "\"'“‘«([「『【（《〈"
_END = re.compile(
    rf"[。！？｡]+[{_CLOSERS}]*\s*"  # Chinese: no space follows
    rf"|…{{2,}}[{_CLOSERS}]*\s*"
    rf"|(?<![.!?])(?P<point>[.!?]+[{_CLOSERS}]*)[^\S\n]+"  # from a run's begin: time stays linear
    r"|\n\s*"
)
# A point after these does not end a sentence; lower case, without the point.
_ABBREVIATIONS = frozenset(
    """mr mrs ms dr prof rev hon sen rep gov gen col maj capt cmdr lt sgt cpl pvt st mt ft jr sr
    inc ltd co corp bros vs cf ca approx al etc eg ie e.g i.e viz eds fr msgr univ assn ave blvd
    rd hwy ph.d m.d b.a m.a u.s u.k u.n a.m p.m d.c""".split()
)
_BEFORE_NUMBERS = frozenset(
    """no nos vol vols p pp fig figs ch sec art op ed trans jan feb mar apr jun jul aug sep sept
    oct nov dec est c""".split()
)
_WORD_BEFORE = re.compile(r"[^\s(\[“\"']*$")


def sentence_starts(text: str) -> np.ndarray:
    """Where sentences begin: the first character of each, and 0 of a text that is not empty.

    A sentence ends at a line's end, after 。！？ and ……, and after a point, an exclamation or a
    question mark with space and no small letter behind it; not after known abbreviations and
    initials. Closing quotes and brackets belong to the sentence before.

    Args:
        text: English, Chinese, or both.

    Returns:
        int64 (s,), rising, counted in characters.

    Example:
        >>> sentence_starts("Dr. Ng came. She sat.").tolist()
        [0, 13]
    """
    starts = [0] if text else []
    for found in _END.finditer(text):
        end = found.end()
        if end == len(text):
            break
        point = found.group("point")
        if point is not None and not _ends(text, found.start(), point, end):
            continue
        if end > starts[-1]:
            starts.append(end)
    return np.array(starts, np.int64)


def _ends(text: str, place: int, point: str, after: int) -> bool:
    """Whether the point at `place` ends a sentence, where the next word begins at `after`."""
    following = text[after]
    while following in _OPENERS and after + 1 < len(text):
        after += 1
        following = text[after]
    if following.islower():
        return False
    if point[0] != "." or len(point) > 1:
        return True
    before = _WORD_BEFORE.search(text, max(place - 12, 0), place).group()
    if following.isdigit() and before.lower() in _BEFORE_NUMBERS:
        return False
    return not (len(before) == 1 and before.isupper()) and before.lower() not in _ABBREVIATIONS


def word_starts(text: str) -> np.ndarray:
    """Where words begin by a Chinese segmenter; space and punctuation are words of their own.

    Args:
        text: Chinese; other scripts are split at their spaces and punctuation.

    Returns:
        int64 (w,), rising, counted in characters; [0] first unless the text is empty.

    Raises:
        ConfigError: the extra `chinese` is not installed.

    Source: Cui et al. 2019, section 3.1, who use LTP; here jieba's dictionary and model.
    """
    try:
        import rjieba
    except ImportError:
        raise ConfigError(
            "Chinese whole words need the extra `chinese`. Received: no rjieba. Install it with "
            "`pip install 'tfmodel[chinese]'`, or leave words out."
        ) from None
    lengths = np.fromiter(map(len, rjieba.cut(text)), np.int64)
    return np.cumsum(lengths) - lengths
