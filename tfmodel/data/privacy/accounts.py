"""Bank accounts: IBAN, by the length and form of its country and its check digits."""

from __future__ import annotations

import functools
import re

from tfmodel.data.privacy.extra import module
from tfmodel.data.privacy.reading import Reading

# Starts at the check digits, as a pattern that starts at letters tries every word of a text.
_CHECK_DIGITS = re.compile(r"[0-9](?<=[A-Za-z]{2}[0-9])[0-9](?=[ -]?[A-Za-z0-9]{2})")
_SIGNS = re.compile(r"[A-Za-z0-9](?:[ -]?[A-Za-z0-9]){10,31}")
_ONE = re.compile(r"[A-Za-z0-9]")


def find(reading: Reading) -> list[tuple[int, int]]:
    """Find IBANs, in one piece or in groups with single spaces or dashes.

    Source: ISO 13616, by python-stdnum; what the letters before the check digits stand for and how
    long it is come from its table of countries.
    """
    iban, text, found = module("stdnum.iban"), reading.text, []
    for match in _CHECK_DIGITS.finditer(text):
        start = match.start() - 2
        length = _length(text[start : start + 2].upper())
        signs = length and _SIGNS.match(text, match.start())
        if not signs:
            continue
        places = [each.start() for each in _ONE.finditer(text, match.start(), signs.end())]
        if len(places) < length - 2:
            continue
        end = places[length - 3] + 1
        if reading.stands_alone(start, end) and iban.is_valid(text[start:end]):
            found.append((start, end))
    return found


@functools.cache
def _length(country: str) -> int:
    """How long a country's IBAN is; 0 where it has none."""
    (_, properties), *_ = module("stdnum.numdb").get("iban").info(country)
    parts = re.findall(r"([0-9]+)!", properties.get("bban", ""))
    return 4 + sum(map(int, parts)) if parts else 0
