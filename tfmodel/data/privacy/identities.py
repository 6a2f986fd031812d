"""National identity and social security numbers, by country.

A country costs a row. What its form and check digits tell apart from other numbers is found
anywhere; what they do not (a check digit passes one number in ten) wants its name before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from tfmodel.data.privacy.cues import before, stands_before
from tfmodel.data.privacy.extra import module
from tfmodel.data.privacy.reading import Reading


class Identity(NamedTuple):
    """How the number of a country is found.

    Args:
        region: ISO 3166 code.
        form: what it looks like.
        check: a module of python-stdnum whose `is_valid` takes what was found; or none.
        words: one of these must stand before it; or none.
        letters: what its letters before the first digit look like, where it has some.
        in_numbers: whether it has seven digits and more with no letter among them: it is then
            looked for only where such numbers are.
    """

    region: str
    form: str
    check: str = ""
    words: tuple[str, ...] = ()
    letters: str = ""
    in_numbers: bool = True


IDENTITIES = {
    "ssn": Identity("US", r"[0-9]{3}([- ])[0-9]{2}\1[0-9]{4}", "stdnum.us.ssn"),
    "ssn, bare": Identity(
        "US",
        r"[0-9]{9}",
        "stdnum.us.ssn",
        ("ssn", "social security", "social security (?:no|nr|number|#)"),
    ),
    "itin": Identity("US", r"9[0-9]{2}([- ])[0-9]{2}\1[0-9]{4}", "stdnum.us.itin"),
    "national insurance": Identity(
        "GB",
        r"[0-9]{2}( ?)[0-9]{2}\1[0-9]{2}\1[A-D]",
        letters=r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?",
        in_numbers=False,
    ),
    "nhs": Identity("GB", r"[0-9]{3}([- ]?)[0-9]{3}\1[0-9]{4}", "stdnum.gb.nhs", ("nhs",)),
    "resident identity card": Identity("CN", r"[1-8][0-9]{16}[0-9Xx]", "stdnum.cn.ric"),
    "steuer-id": Identity(
        "DE",
        r"[1-9][0-9]( ?)[0-9]{3}\1[0-9]{3}\1[0-9]{3}",
        "stdnum.de.idnr",
        ("steuer-?id\\w*", "idnr", "identifikationsnummer", "steuerliche \\w+"),
    ),
    "nir": Identity(
        "FR",
        r"[12]( ?)[0-9]{2}\1[0-9]{2}\1[0-9][0-9AB]\1[0-9]{3}\1[0-9]{3} ?[0-9]{2}",
        "stdnum.fr.nir",
        in_numbers=False,
    ),
    "dni": Identity("ES", r"[0-9]{8}-?[A-HJ-NP-TV-Z]", "stdnum.es.dni"),
    "nie": Identity("ES", r"[0-9]{7}-?[A-HJ-NP-TV-Z]", "stdnum.es.nie", letters=r"[XYZ]-?"),
    "codice fiscale": Identity(
        "IT",
        r"[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPR-T][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]",
        "stdnum.it.codicefiscale",
        in_numbers=False,
    ),
    "bsn": Identity(
        "NL", r"[0-9]{9}", "stdnum.nl.bsn", ("bsn", "burgerservicenummer", "sofinummer")
    ),
    "cpf": Identity("BR", r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}", "stdnum.br.cpf"),
    "aadhaar": Identity(
        "IN", r"[2-9][0-9]{3}([ -]?)[0-9]{4}\1[0-9]{4}", "stdnum.in_.aadhaar", ("aadhaa?r", "uid")
    ),
    "resident registration": Identity("KR", r"[0-9]{6}-[0-9]{7}", "stdnum.kr.rrn"),
    "pesel": Identity("PL", r"[0-9]{11}", "stdnum.pl.pesel", ("pesel",)),
    "personnummer": Identity("SE", r"(?:19|20)?[0-9]{6}[-+][0-9]{4}", "stdnum.se.personnummer"),
    "henkilötunnus": Identity(
        "FI", r"[0-9]{6}[-+A][0-9]{3}[0-9A-Y]", "stdnum.fi.hetu", in_numbers=False
    ),
    "sin": Identity(
        "CA",
        r"[0-9]{3}([ -]?)[0-9]{3}\1[0-9]{3}",
        "stdnum.ca.sin",
        ("sin", "social insurance", "social insurance (?:no|number)"),
    ),
    "tfn": Identity(
        "AU", r"[0-9]{3}( ?)[0-9]{3}\1[0-9]{3}", "stdnum.au.tfn", ("tfn", "tax file number")
    ),
}

_FORMS = {name: re.compile(identity.form) for name, identity in IDENTITIES.items()}
_LETTERS = {
    name: re.compile(rf"(?:{each.letters})\Z") for name, each in IDENTITIES.items() if each.letters
}
_MOST_LETTERS = 3
_CUES = {name: before(each.words) for name, each in IDENTITIES.items() if each.words}


def find(reading: Reading) -> list[tuple[int, int]]:
    """Find the identity numbers of the reading's regions.

    Source: python-stdnum's checks; for the British national insurance number, which has none, the
    form that HMRC gives (NIM39110).
    """
    return [
        place
        for name, identity in IDENTITIES.items()
        if identity.region in reading.regions
        for place in _places(reading, name, identity)
        if reading.stands_alone(*place, glue="-/")
        and (name not in _CUES or stands_before(_CUES[name], reading.text, place[0]))
        and (not identity.check or _is_valid(identity.check, reading.text[slice(*place)]))
    ]


def _is_valid(check: str, number: str) -> bool:
    try:
        return module(check).is_valid(number)
    except LookupError:  # of a place that its table of places lacks
        return False


def _places(reading: Reading, name: str, identity: Identity) -> Iterator[tuple[int, int]]:
    text = reading.text
    where = [(0, len(text))]
    if identity.in_numbers:
        where = [(start, end + 2) for start, end in reading.numbers]
    for window in where:
        for match in _FORMS[name].finditer(text, *window):
            start = match.start()
            if name in _LETTERS:
                letters = _LETTERS[name].search(text[max(0, start - _MOST_LETTERS) : start])
                if not letters:
                    continue
                start -= len(letters[0])
            yield start, match.end()
