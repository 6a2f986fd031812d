"""Tags of words as spans of a text: BIO, BIOES and their kin, and tags without a prefix.

`B-X` begins a span of the label X, `I-X` continues it, `E-X` ends it, `S-X` is one by itself, `O`
is none; `M`, `L` and `U` are other names of `I`, `E` and `S`. Any other tag, such as a part of
speech, is a span of its one word.

Source: Ramshaw and Marcus 1995; what tags out of turn mean is as in conlleval and seqeval.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

OUTSIDE = "O"

_PREFIXED = re.compile(r"([BIESLUM])[-_](\S.*)")
_BARE = re.compile(r"[BIESLUM][-_]\s*")
_SAME = {"L": "E", "U": "S", "M": "I"}
_CJK = re.compile(
    "[\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uff65\U00020000-\U0002fa1f]"
)


def parts_of_tag(tag: str) -> tuple[str, str]:
    """The prefix of a tag, one of B, I, E, S and O, and the label behind it.

    A tag without a prefix is an S of that name.
    """
    if tag == OUTSIDE:
        return OUTSIDE, ""
    found = _PREFIXED.fullmatch(tag)
    if found is None:
        return "S", tag
    return _SAME.get(found[1], found[1]), found[2]


def is_bare_prefix(tag: str) -> bool:
    """Whether a tag such as `B-` has a prefix, and no label behind it."""
    return _BARE.fullmatch(tag) is not None


def spans_of_tags(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """The spans that tags name, whether or not they are in turn.

    `I` and `E` that continue nothing begin a span.

    Returns:
        The first word, the one behind the last and the label of each span.
    """
    return _spans(tags)[0]


def tags_out_of_turn(tags: Sequence[str]) -> int:
    """How many tags continue, by their prefix, a span that is not there."""
    return _spans(tags)[1]


def _spans(tags: Sequence[str]) -> tuple[list[tuple[int, int, str]], int]:
    spans: list[tuple[int, int, str]] = []
    begun = None  # a span that may go on: its first word and its label
    repaired = 0
    for word, tag in enumerate([*tags, OUTSIDE]):
        prefix, label = parts_of_tag(tag)
        goes_on = prefix in "IE" and begun is not None and begun[1] == label
        if begun is not None and not goes_on:
            spans.append((begun[0], word, begun[1]))
            begun = None
        if prefix == OUTSIDE:
            continue
        repaired += prefix in "IE" and not goes_on
        begun = begun or (word, label)
        if prefix in "ES":
            spans.append((begun[0], word + 1, label))
            begun = None
    return spans, repaired


def joined(words: Sequence[str]) -> tuple[str, list[int]]:
    """Words as a text, with a space between two of them unless both sides are Chinese or Japanese.

    Returns:
        The text, and the character at which each word begins.
    """
    text, starts = "", []
    for word in words:
        if text and not (_CJK.match(text[-1]) and _CJK.match(word)):
            text += " "
        starts.append(len(text))
        text += word
    return text, starts


def as_spans(words: Sequence[str], tags: Sequence[str]) -> tuple[str, list[dict[str, Any]]]:
    """Words and as many tags as a text with its spans, in characters."""
    text, starts = joined(words)
    return text, [
        {"start": starts[first], "end": starts[end - 1] + len(words[end - 1]), "label": label}
        for first, end, label in spans_of_tags(tags)
    ]
