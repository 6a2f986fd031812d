"""Bank cards: by the first digits and length of each scheme and the check digit."""

from __future__ import annotations

import itertools

from tfmodel.data.privacy.cues import before, stands_before
from tfmodel.data.privacy.extra import module
from tfmodel.data.privacy.reading import Reading

# First digits from, to (inclusive) and the lengths of each scheme's numbers.
_SCHEMES = (
    ("4", "4", (13, 16, 19)),  # Visa
    ("51", "55", (16,)),  # Mastercard
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),
    ("6011", "6011", (16, 17, 18, 19)),  # Discover
    ("644", "659", (16, 17, 18, 19)),
    ("300", "305", (14, 16)),  # Diners Club
    ("36", "36", (14, 15, 16, 17, 18, 19)),
    ("38", "39", (14, 16)),
    ("3528", "3589", (16, 17, 18, 19)),  # JCB
    ("62", "62", (16, 17, 18, 19)),  # UnionPay
    ("2200", "2204", (16,)),  # Mir
)
# Maestro and cards of old ranges begin as other numbers do: where a word says card, any will do.
_ANY = (("0", "9", tuple(range(12, 20))),)
_CUE = before(
    ["cards?", "visa", "master ?card", "maestro", "amex", "cc", "pan", "银行卡", "信用卡", "卡号"]
)
_GROUPINGS = {(4, 4, 4, 4), (4, 4, 4, 4, 3), (4, 6, 5), (4, 6, 4)}
_MOST_GROUPS = 5


def find(reading: Reading) -> list[tuple[int, int]]:
    """Find card numbers, in one piece or in the groups that are printed on cards.

    Source: ISO/IEC 7812; Luhn's check by python-stdnum.
    """
    luhn, found = module("stdnum.luhn"), []
    for run in reading.numbers:
        if run[1] - run[0] < 12:
            continue
        groups = reading.groups(*run)
        for place in _places(reading, groups):
            digits = "".join(filter(str.isdigit, reading.text[slice(*place)]))
            if (
                _of_scheme(digits, _SCHEMES)
                or (_of_scheme(digits, _ANY) and stands_before(_CUE, reading.text, place[0]))
            ) and luhn.is_valid(digits):
                found.append(place)
    return found


def _places(reading: Reading, groups: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Where digits stand in the number and the groups of a card."""
    places = []
    lengths = [end - start for start, end in groups]
    for first, length in enumerate(lengths):
        if 12 <= length <= 19:
            places.append((groups[first], groups[first]))
        elif length == 4:
            for last in range(first + 2, min(first + _MOST_GROUPS, len(groups))):
                if tuple(lengths[first : last + 1]) in _GROUPINGS:
                    signs = {
                        reading.text[a[1] : b[0]]
                        for a, b in itertools.pairwise(groups[first : last + 1])
                    }
                    if signs in ({" "}, {"-"}, {"."}, {"\u00a0"}):
                        places.append((groups[first], groups[last]))
    spans = [(a[0], b[1]) for a, b in places]
    return [span for span in spans if reading.stands_alone(*span, glue="-/")]


def _of_scheme(digits: str, schemes: tuple) -> bool:
    return any(
        len(digits) in lengths and low <= digits[: len(low)] <= high
        for low, high, lengths in schemes
    )
