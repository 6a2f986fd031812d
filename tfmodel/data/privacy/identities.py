"""National identity and social security numbers, by country.

A country costs a row. What its form and check digits tell apart from other numbers is found
anywhere; what they do not (a check digit passes one number in ten) wants its name before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from tfmodel.data.privacy.cues import before, stands_before
from tfmodel.data.privacy.extra import module
from tfmodel.data.privacy.reading import Reading


class Identity(NamedTuple):
    """How the number of a country is found.

    Args:
        region: ISO 3166 code.
        form: what it looks like; must begin with a digit, or with what is rare in texts.
        check: a module of python-stdnum whose `is_valid` takes what was found; or none.
        words: one of these must stand before it; or none.
    """

    region: str
    form: str
    check: str = ""
    words: tuple[str, ...] = ()


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
        r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]( ?)[0-9]{2}\1[0-9]{2}\1"
        r"[0-9]{2}\1[A-D]",
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
    ),
    "dni": Identity("ES", r"[0-9]{8}-?[A-HJ-NP-TV-Z]", "stdnum.es.dni"),
    "nie": Identity("ES", r"[XYZ]-?[0-9]{7}-?[A-HJ-NP-TV-Z]", "stdnum.es.nie"),
    "codice fiscale": Identity(
        "IT",
        r"[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPR-T][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]",
        "stdnum.it.codicefiscale",
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
    "henkilötunnus": Identity("FI", r"[0-9]{6}[-+A][0-9]{3}[0-9A-Y]", "stdnum.fi.hetu"),
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
_CUES = {name: before(each.words) for name, each in IDENTITIES.items() if each.words}


def find(reading: Reading) -> list[tuple[int, int]]:
    """Find the identity numbers of the reading's regions.

    Source: python-stdnum's checks; for the British national insurance number, which has none, the
    form that HMRC gives (NIM39110).
    """
    return [
        match.span()
        for name, identity in IDENTITIES.items()
        if identity.region in reading.regions
        for match in _FORMS[name].finditer(reading.text)
        if reading.stands_alone(*match.span(), glue="-/")
        and (name not in _CUES or stands_before(_CUES[name], reading.text, match.start()))
        and (not identity.check or _valid(identity.check, match[0]))
    ]


def _valid(check: str, number: str) -> bool:
    valid: Callable[[str], bool] = module(check).is_valid
    return valid(number)
