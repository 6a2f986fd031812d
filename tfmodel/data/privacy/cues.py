"""Words near a number that say what it is."""

from __future__ import annotations

import re
from collections.abc import Sequence

# How far a word may stand from its number. Between the two are no digits and no @, so that nothing
# private that is itself replaced is ever between them, and a second pass sees the same.
_GAP = 24
_LONGEST_WORD = 24


def before(words: Sequence[str], *, adjacent: bool = False) -> re.Pattern:
    """A pattern for `stands_before`.

    Args:
        words: regular expressions of words, in lower case.
        adjacent: no other word may stand between, but for such as `number is`.
    """
    between = rf"[^0-9@]{{0,{_GAP}}}"
    if adjacent:
        between = (
            r"(?:[^\w@]{0,3}(?:numbers?|nos?|is|are|at|on)\b){0,3}[号號码碼是为為]{0,4}[^\w@]{0,4}"
        )
    return re.compile(rf"(?<![a-z])(?:{'|'.join(words)})(?![a-z]){between}\Z")


def stands_before(cue: re.Pattern, text: str, start: int) -> bool:
    """Tell whether one of a cue's words stands shortly before a place in a text."""
    return cue.search(text[max(0, start - _GAP - _LONGEST_WORD) : start].lower()) is not None
