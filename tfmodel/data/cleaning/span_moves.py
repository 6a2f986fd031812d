"""How places in a text move when a step of cleaning changes it."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import accumulate

from tfmodel.data.cleaning.markup import Edit, apply_edits, tag_edits
from tfmodel.data.cleaning.steps import ENTITY, INVISIBLE, LINE, STEPS, fixed_line, unescaped

Span = tuple[int, int]

_WHITESPACE = re.compile(r"\s+")
_OUTSIDE_ASCII = re.compile("[^\x00-\x7f]+")
# A character with the marks that may compose with it. Neither ASCII nor letters do, except the
# vowels and finals of Hangul and the half-width forms.
_COMPOSED = re.compile(
    r"(?s).(?:[^\w\x00-\x7f]|[\u1160-\u11ff\u3131-\u318e\ud7b0-\ud7ff\uff9e-\uffdf])*"
)


def span_mover(name: str, before: str, after: str) -> Callable[[int, int], Span]:
    """Make the function that moves a span from a text to what a step made of it.

    Args:
        name: of `STEPS`.
        before: any string.
        after: `STEPS[name](before)`.

    Returns:
        A function from half-open offsets to half-open offsets. A border inside a place that
        changed is drawn in to the nearest side of it.
    """
    edits = _edits(name, before, after)
    starts = [start for start, _, _ in edits]
    ends = [end for _, end, _ in edits]
    # How far the text behind the first n edits has moved.
    shifts = [0, *accumulate(len(new) - (end - start) for start, end, new in edits)]

    def move(start: int, end: int) -> Span:
        passed = bisect_left(starts, start)  # edits that begin before the span
        if passed and start < ends[passed - 1]:
            start = ends[passed - 1]
        new_start = start + shifts[passed]
        passed = bisect_left(starts, end)
        if passed and end < ends[passed - 1]:
            end = starts[passed - 1]
            passed -= 1
        return new_start, max(new_start, end + shifts[passed])

    return move


def _edits(name: str, before: str, after: str) -> list[Edit]:
    """List what a step changed, each place as narrow as it can be told."""
    edits = list(_EDITS[name](before))
    # Characters that compose across the borders assumed here: then the change is one place.
    return edits if apply_edits(before, edits) == after else [(0, len(before), after)]


def _rewritten(
    pattern: re.Pattern[str], replace: Callable[[re.Match[str]], str]
) -> Callable[[str], Iterator[Edit]]:
    """Edits of `pattern.sub(replace, text)`."""

    def edits(text: str) -> Iterator[Edit]:
        for match in pattern.finditer(text):
            new = replace(match)
            if new != match[0]:
                yield _narrowed(match[0], match.start(), new)

    return edits


def _narrowed(old: str, start: int, new: str) -> Edit:
    """Leave out what an edit keeps at both ends."""
    shorter = min(len(old), len(new))
    head = 0
    while head < shorter and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < shorter - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    return start + head, start + len(old) - tail, new[head : len(new) - tail]


def _mojibake_edits(text: str) -> Iterator[Edit]:
    """Edits of `fix_mojibake`: where the runs of ASCII stay, each run between them is one."""
    for line in LINE.finditer(text):
        new = fixed_line(line)
        if new == line[0]:
            continue
        if _OUTSIDE_ASCII.split(line[0]) == _OUTSIDE_ASCII.split(new):
            runs = zip(_OUTSIDE_ASCII.finditer(line[0]), _OUTSIDE_ASCII.findall(new), strict=True)
            for run, fixed in runs:
                if run[0] != fixed:
                    yield _narrowed(run[0], line.start() + run.start(), fixed)
        else:
            yield _narrowed(line[0], line.start(), new)


def _one_space(run: re.Match[str]) -> str:
    return "" if run.start() == 0 or run.end() == len(run.string) else " "


def _step(name: str) -> Callable[[re.Match[str]], str]:
    return lambda match: STEPS[name](match[0])


_EDITS: dict[str, Callable[[str], Iterator[Edit] | list[Edit]]] = {
    "mojibake": _mojibake_edits,
    "control_characters": _rewritten(INVISIBLE, lambda match: ""),
    "html": tag_edits,
    "html_entities": _rewritten(ENTITY, unescaped),
    "unicode": _rewritten(_COMPOSED, _step("unicode")),
    "unicode_nfkc": _rewritten(_COMPOSED, _step("unicode_nfkc")),
    "whitespace": _rewritten(_WHITESPACE, _one_space),
}
