"""Addresses of the net: e-mail and IP."""

from __future__ import annotations

import ipaddress
import re

from tfmodel.data.privacy.findings import PLACEHOLDERS
from tfmodel.data.privacy.reading import Reading

# --- e-mail -------------------------------------------------------------------------------------

# Latin letters with accents too, but no other script: Chinese is written right up to an address.
_LETTER = "A-Za-z0-9\u00c0-\u024f"
_AT = re.compile(rf"@(?=[{_LETTER}])")
_WRITTEN_AT = re.compile(rf"[\[({{<] ?(?:at|AT) ?[\])}}>] ?(?=[{_LETTER}])")
_LOCAL = re.compile(rf"[{_LETTER}._%+'~!#$&*=?^`{{|}}/-]*\Z")
_DOMAIN = re.compile(
    rf"(?:[{_LETTER}](?:[{_LETTER}-]{{0,62}}))"
    rf"(?:(?:\.| ?[\[({{<] ?(?:dot|DOT) ?[\])}}>] ?)[{_LETTER}][{_LETTER}-]{{0,62}}){{1,8}}"
)
_LONGEST_LOCAL = 64
_OPENING = "'`{|/*=?!#$&^~.-"


def find_emails(reading: Reading) -> list[tuple[int, int]]:
    """Find e-mail addresses, `name [at] example.com` too, by their form.

    Source: RFC 5322's dot-atom, without quoted names and addresses of IPs.
    """
    text, found = reading.text, []
    signs = [*_AT.finditer(text)]
    if reading.may_write_at_out:
        signs += _WRITTEN_AT.finditer(text)
    for sign in signs:
        before = sign.start() - (sign[0] != "@" and text[sign.start() - 1 : sign.start()] == " ")
        name = _LOCAL.search(text[max(0, before - _LONGEST_LOCAL - 1) : before])[0].lstrip(_OPENING)
        domain = _DOMAIN.match(text, sign.end())
        if not domain or not 0 < len(name) <= _LONGEST_LOCAL or name[-1] in ".'":
            continue
        if name in PLACEHOLDERS.values():  # of a password in a URL
            continue
        end = domain.end()
        while text[end - 1] == "-":
            end -= 1
        last = re.split(r"[^\w-]+", text[sign.end() : end])[-1]
        if len(last) >= 2 and last.isalpha():
            found.append((before - len(name), end))
    return found


# --- IP -----------------------------------------------------------------------------------------

# Starts at the first dot, as digits are commoner than dots before digits.
_QUADS = re.compile(r"\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}")
_FIRST_OF_FOUR = re.compile(r"[0-9]{1,3}\Z")
# Two colons with nothing but hexadecimal digits between; a time of day has that too.
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_HEXADECIMAL = re.compile(r"[0-9A-Fa-f:.]*")
_HEXADECIMAL_BEFORE = re.compile(r"[0-9A-Fa-f:.]*\Z")
_LONGEST_IPV6 = 45
_VERSION = re.compile(r"(?:version|ver\.?|release|section|chapter|v)[ :]{0,2}\Z", re.IGNORECASE)


def find_ips(reading: Reading) -> list[tuple[int, int]]:
    """Find IPv4 and IPv6 addresses; loopback, version and section numbers are left."""
    return [*_ipv4(reading), *_ipv6(reading)]


def _ipv4(reading: Reading) -> list[tuple[int, int]]:
    text, found = reading.text, []
    for match in _QUADS.finditer(text):
        first = _FIRST_OF_FOUR.search(text[max(0, match.start() - 3) : match.start()])
        if not first:
            continue
        start, end = match.start() - len(first[0]), match.end()
        parts = text[start:end].split(".")
        if not reading.stands_alone(start, end) or _goes_on(text, start, end):
            continue
        if any(int(part) > 255 or (len(part) > 1 and part[0] == "0") for part in parts):
            continue
        # 1.2.3.4 numbers a section or a release.
        if all(len(part) == 1 for part in parts) or parts[0] in ("0", "127"):
            continue
        if not _VERSION.search(text[max(0, start - 10) : start]):
            found.append((start, end))
    return found


def _goes_on(text: str, start: int, end: int) -> bool:
    """Tell whether a dot and a digit are beside a place."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    return (before[-1:] == "." and before[:1].isdigit()) or (
        after[:1] == "." and after[1:].isdigit()
    )


def _ipv6(reading: Reading) -> list[tuple[int, int]]:
    text, found, seen = reading.text, [], 0
    if text.count(":") < 2:
        return found
    for match in _COLONS.finditer(text):
        if match.start() < seen:
            continue
        first = max(seen, match.start() - _LONGEST_IPV6)
        start = match.start() - len(_HEXADECIMAL_BEFORE.search(text[first : match.start()])[0])
        end = seen = _HEXADECIMAL.match(text, match.end()).end()
        if end - start > _LONGEST_IPV6:
            continue
        while end > start and (text[end - 1] == "." or text[end - 2 : end] in (": ", ".:")):
            end -= 1
        if text[end - 1] == ":" and text[end - 2] != ":":
            end -= 1
        if reading.stands_alone(start, end) and _is_ipv6(text[start:end]):
            found.append((start, end))
    return found


def _is_ipv6(written: str) -> bool:
    try:
        address = ipaddress.IPv6Address(written)
    except ValueError:
        return False
    groups = [group for group in written.split(":") if group]
    # `a::b` is a name in some program; what is written short starts as real networks do.
    telling = len(groups) > 3 or re.match(r"(?:[23][0-9a-f]{3}|f[cde][0-9a-f]{2}):", written, re.I)
    return bool(telling) and not address.is_loopback and not address.is_unspecified
