"""In which scripts a text is written: Latin, Cyrillic, Han ..."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Collection

# Marks and letters that go with several scripts, such as the Japanese long vowel sign.
_SHARED = ("Zyyy", "Zinh", "Zzzz")


def script_names() -> list[str]:
    """Name all scripts, as Unicode does: `Latin`, `Han`, `Old_Turkic` ..."""
    # A table that is installed with matplotlib and follows each version of Unicode.
    from fontTools.unicodedata import Scripts

    return sorted(name for code, name in Scripts.NAMES.items() if code not in _SHARED)


def share_in_scripts(text: str, scripts: Collection[str]) -> float:
    """Tell how much of a text is written in some scripts.

    Args:
        text: any string.
        scripts: names as `script_names` has them.

    Returns:
        The share of the letters, in [0, 1]; digits, signs and letters that several scripts share
        count for nothing. 1 where there are no letters.
    """
    if text.isascii():
        return 1.0 if "Latin" in scripts or not any(map(str.isalpha, text)) else 0.0
    inside = letters = 0
    for character, count in Counter(text).items():
        if script := _script_of_letter(character):
            letters += count
            inside += count if script in scripts else 0
    return inside / letters if letters else 1.0


@functools.cache
def _script_of_letter(character: str) -> str:
    """Name the script, or "" for what is no letter or belongs to several."""
    from fontTools import unicodedata

    code = unicodedata.script(character)
    if code in _SHARED or not character.isalpha():
        return ""
    return unicodedata.script_name(code)
