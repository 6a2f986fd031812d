"""A text as the finders read it: its numbers are looked for once, whoever asks."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

# Seven digits and more, at most two signs between them. Every repeat consumes a digit and signs are
# no digits, so there is one way to match and a failure costs six steps at most.
_NUMBER = re.compile("[0-9](?:[ .()/\u00a0-]{0,2}[0-9]){6,}")
_TELLING = re.compile("[0-9@]")
_WRITTEN_AT = re.compile(r"[\[({<] ?(?:at|AT)")
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
    def may_hold_any(self) -> bool:
        """Whether there is a digit or an @, written out or not: without, keys alone are found."""
        return _TELLING.search(self.text) is not None or self.may_write_at_out

    @functools.cached_property
    def may_write_at_out(self) -> bool:
        """Whether there is something like `[at]`."""
        return _WRITTEN_AT.search(self.text) is not None

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
