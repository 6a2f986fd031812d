"""Phone numbers: with a country code, in a form of the regions, or after a word such as phone."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from types import ModuleType

from tfmodel.config import ConfigError
from tfmodel.data.privacy.cues import before, stands_before
from tfmodel.data.privacy.extra import module
from tfmodel.data.privacy.reading import Reading

_WORDS = (
    *("tele?phones?", "phones?", "tel", "fax", "mobiles?", "mob", "cell ?phones?", "hotline"),
    *("(?:my|his|her|your|our|their|by) cell", "cell(?: (?:number|no))?[.:#]", "cell number"),
    *("(?:call|reach|ring|dial|text)(?: (?:me|us|him|her|them|back|at|on))+", "dial"),
    *("whats ?app", "wechat", "sms", "contact numbers?"),
    *("电话", "電話", "手机", "手機", "传真", "傳真", "热线", "熱線", "致电", "联系方式"),
)
_CUE, _CUE_ADJACENT = before(_WORDS), before(_WORDS, adjacent=True)
# Said of much else too: the number must be valid in a region as well.
_CALLED = before(
    ["call", "ring", "dial", "te?xt", "reply", "contact", "cell", "致电", "拨打", "联系"]
)
_CUE_AFTER = re.compile(r"[\s\u2013-]{0,2}\(?(?:office|fax|mobile|cell|home|work)\b", re.IGNORECASE)
_OPENING = re.compile(r"(?:\+\(?|\(\+?)\Z")
_EXTENSION = re.compile(r" ?(?:x|ext\.? ?|extension )[0-9]{1,6}(?![0-9A-Za-z])", re.IGNORECASE)
_DATE = re.compile(
    r"(?:1[0-9]|20)[0-9]{2}[-./ ]{1,2}(?:0?[1-9]|1[0-2])[-./ ]{1,2}[0-3]?[0-9](?![0-9])|"
    r"[0-3]?[0-9][-./][0-3]?[0-9][-./](?:1[0-9]|20)[0-9]{2}(?![0-9])|"
    r"(?:1[0-9]|20)[0-9]{2} ?[-/] ?(?:1[0-9]|20)?[0-9]{2}(?![0-9])"
)
_THOUSANDS = re.compile(r"[1-9][0-9]{0,2}(?:[ .\u00a0][0-9]{3})+\Z")
# How much there is of something, or an American postal code: a word farther off tells nothing.
_AMOUNT = re.compile(r"[1-9][0-9]*000|[0-9]{5}-[0-9]{4}")
_GLUE_BEFORE, _GLUE_AFTER = "$€£¥#@/\\-_&", "%@/°€£¥"
_OTHER_NUMBERS = re.compile(
    r"(?:isbn|issn|doi|oclc|lccn|pmid|pmc|id|ean|order|version)\W{0,4}\Z", re.IGNORECASE
)
# One group of digits, or two (a postal code and a house), needs a word before it or a leading 0 ...
_BARELY = re.compile(r"[0-9]+|[1-9][0-9]*[ \u00a0-][0-9]+")
# ... but for the mobile numbers of China.
_MOBILE_OF_CHINA = re.compile("(?:86)?1[3-9][0-9]{9}")
_UNSPACED = re.compile(r"[0-9(][0-9()./-]{6,30}(?![0-9()./-])")
_UNLIKE = re.compile(r"/[.(]|\./|\.\.|//|--")
_MOST_DIGITS = 15
_FEWEST_DIGITS = 7
_LEAST_BEFORE_REMARK = 10
# A run of more is a table; it is looked through in pieces.
_LONGEST_RUN = 32


def find(reading: Reading) -> list[tuple[int, int]]:
    """Find phone numbers by phonenumbers' plans of all countries.

    One with + must be possible in its country, or one in the grouping that a region writes valid
    there; what a word before it calls a phone, or office, fax ... after it, needs only be as long
    as phone numbers are.
    """
    return [
        place
        for run in reading.numbers
        for start, end in _pieces(reading, *run)
        for place in _two_phones(reading, start, end) or [_phone(reading, start, end)]
        if place
    ]


def _pieces(reading: Reading, start: int, end: int) -> list[tuple[int, int]]:
    """A run of numbers; of one that is longer than any phone's, what stands between its spaces."""
    if end - start <= _LONGEST_RUN:
        return [(start, end)]
    return [match.span() for match in _UNSPACED.finditer(reading.text, start, end)]


def _two_phones(reading: Reading, start: int, end: int) -> list[tuple[int, int]]:
    """Two numbers with a slash between them, `650-253-0000/650-253-0001`; empty for others."""
    text = reading.text
    slash = text.find("/", start, end)
    if slash < 0 or text.find("/", slash + 1, end) >= 0 or _glued(reading, start, end):
        return []
    if opening := _OPENING.search(text[max(0, start - 2) : start]):
        start -= len(opening[0])
    regions = tuple(reading.regions)
    for half in (text[start:slash].strip(), text[slash + 1 : end].strip()):
        digits = sum(map(str.isdigit, half))
        if not _FEWEST_DIGITS <= digits <= _MOST_DIGITS or not _in_a_plan(
            half, regions, called=False
        ):
            return []
    return [(start, slash), (slash + 1, end)]


def _phone(reading: Reading, start: int, end: int) -> tuple[int, int] | None:
    text = reading.text
    while date := _DATE.match(text, start, end):
        start = date.end()
        while start < end and not text[start].isdigit():
            start += 1
    remark = text.find(" (", start, end)
    if remark > 0 and remark - start >= _LEAST_BEFORE_REMARK:
        end = remark
    opening = _OPENING.search(text[max(0, start - 2) : start])
    number = start - len(opening[0]) if opening else start
    if extension := _EXTENSION.match(text, end):
        after = extension.end()
    else:
        after = end
    digits = sum(map(str.isdigit, text[start:end]))
    if _UNLIKE.search(text, start, end) or text.count("(", number, end) > text.count(
        ")", number, end
    ):
        return None
    if not _FEWEST_DIGITS <= digits <= _MOST_DIGITS or _glued(reading, number, after):
        return None
    written = text[number:end]
    is_amount = _THOUSANDS.match(text, start, end) or _AMOUNT.fullmatch(text, start, end)
    if is_amount and "+" not in written:
        told = stands_before(_CUE_ADJACENT, text, number)
    else:
        told = stands_before(_CUE, text, number) or (
            end - start > digits and _CUE_AFTER.match(text, after)
        )
    called = stands_before(_CALLED, text, number)
    if told or _in_a_plan(written, tuple(reading.regions), called=called):
        return number, after
    return None


def _glued(reading: Reading, start: int, end: int) -> bool:
    text = reading.text
    if not reading.stands_alone(start, end):
        return True
    before_it, after_it = text[max(0, start - 2) : start], text[end : end + 2]
    return (
        before_it[-1:] in (*_GLUE_BEFORE,)
        or after_it[:1] in (*_GLUE_AFTER,)
        or (before_it[-1:] in (*",.:",) and before_it[:1].isdigit())
        or (after_it[:1] in (*",.:",) and after_it[1:].isdigit())
        or (before_it[-1:] == "." and not before_it[:1].isalpha())
        or bool(_OTHER_NUMBERS.search(text[max(0, start - 12) : start]))
    )


@functools.lru_cache(4096)
def _in_a_plan(written: str, regions: tuple[str, ...], *, called: bool) -> bool:
    """Tell whether a number with a country code is possible, or one without valid in a region.

    Args:
        written: the number with its signs.
        regions: ISO 3166 codes.
        called: a word such as call stands before it.
    """
    phonenumbers = module("phonenumbers")
    if "+" in written or re.match("00[1-9]", written):
        number = "+" + written.lstrip("+(0") if "+" not in written else written
        try:
            return phonenumbers.is_possible_number(phonenumbers.parse(number))
        except phonenumbers.NumberParseException:
            return False
    if called or written[0] == "0" or _MOBILE_OF_CHINA.fullmatch(written):
        return any(_valid(phonenumbers, written, region) for region in regions)
    if _BARELY.fullmatch(written):
        return False
    return any(
        match.end - match.start >= len(written) - 1
        for region in regions
        for match in phonenumbers.PhoneNumberMatcher(
            written, region, phonenumbers.Leniency.STRICT_GROUPING
        )
    )


def _valid(phonenumbers: ModuleType, written: str, region: str) -> bool:
    if _MOBILE_OF_CHINA.fullmatch(written) and region != "CN":
        return False
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(written, region))
    except phonenumbers.NumberParseException:
        return False


def check_regions(regions: Sequence[str]) -> None:
    """Meet a region that no phone plan is known of.

    Raises:
        ConfigError: an unknown region, or the extra `privacy` is not installed.
    """
    for region in regions:
        if region not in module("phonenumbers").SUPPORTED_REGIONS:
            fix = "GB is the United Kingdom's" if region == "UK" else "Change it"
            raise ConfigError(
                f"privacy.regions: expected ISO 3166 codes of countries, such as US, GB or CN. "
                f"Received: {region}. {fix}."
            )
