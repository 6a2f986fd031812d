"""A text as the finders read it: its numbers are looked for once, whoever asks."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

# Seven digits and more, at most two signs between them. Every repeat consumes a digit and signs are
# no digits, so there is one way to match and a failure costs six steps at most.
_NUMBER = re.compile("[0-9](?:[ .()/\u00a0-]{0,2}[0-9]){6,}")
_GROUP = re.compile("[0-9]+")


class Reading:
    """A text, the countries it may come from, and its numbers.

    Args:
        text: any string; full-width characters made plain.
        regions: ISO 3166 codes.
    """

    def __init__(self, text: str, regions: Sequence[str]):
        self.text = text
        self.regions = regions

    @functools.cached_property
    def numbers(self) -> list[tuple[int, int]]:
        """Where runs of seven digits and more stand, with spaces, dots, dashes ... between them."""
        return [match.span() for match in _NUMBER.finditer(self.text)]

    def groups(self, start: int, end: int) -> list[tuple[int, int]]:
        """Where the unbroken groups of digits stand in a run."""
        return [match.span() for match in _GROUP.finditer(self.text, start, end)]

    def stands_alone(self, start: int, end: int, glue: str = "") -> bool:
        """Tell whether no letter, digit or underscore, nor a sign of `glue`, touches a place."""
        text = self.text
        before, after = text[start - 1 : start], text[end : end + 1]
        return not (_joins(before, glue) or _joins(after, glue))


def _joins(character: str, glue: str) -> bool:
    # Chinese letters touch numbers without being part of them.
    return bool(character) and (
        (character.isascii() and (character.isalnum() or character == "_")) or character in glue
    )
