"""Where a place of a text stands once what is private was replaced."""

from __future__ import annotations

from collections.abc import Sequence

Round = list[tuple[int, int, int]]
"""What one round of replacing changed, in the order of the text: start and end of what was there,
and how many characters have taken its place."""


def moved(rounds: Sequence[Round], start: int, end: int) -> tuple[int, int, bool]:
    """Move a span along with its text.

    Args:
        rounds: what `replace_and_follow` gave.
        start: first character of the span, in the text as it was.
        end: the one after its last, above `start`.

    Returns:
        Start and end in the text as it is, and whether both stand where they stood: a border inside
        of what was replaced is drawn out to the end of its placeholder.
    """
    is_exact = True
    for changes in rounds:
        new_start, new_end = start, end
        for first, last, size in changes:
            grown = size - (last - first)
            if last <= start:
                new_start += grown
            elif first < start:
                new_start -= start - first
                is_exact = False
            if first >= end:
                continue
            if last <= end:
                new_end += grown
            else:
                new_end += size - (end - first)
                is_exact = False
        start, end = new_start, new_end
    return start, end, is_exact
