"""Secrets: keys by the marks their makers gave them, private key blocks, assigned passwords."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from tfmodel.data.privacy.findings import PLACEHOLDERS
from tfmodel.data.privacy.reading import Reading

# A mark, which is looked for first and is fast, and the form of what begins with it.
KEYS = {
    "aws": ("AKIA", r"AKIA[0-9A-Z]{16}"),
    "aws, for a time": ("ASIA", r"ASIA[0-9A-Z]{16}"),
    **{
        f"github, {mark}": (mark, rf"{mark}[A-Za-z0-9]{{36,255}}")
        for mark in ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")
    },
    "github, of a repository": ("github_pat_", r"github_pat_[A-Za-z0-9_]{22,255}"),
    "gitlab": ("glpat-", r"glpat-[A-Za-z0-9_-]{20,64}"),
    "slack": ("xox", r"xox[abeoprs]-[A-Za-z0-9-]{10,250}"),
    "slack, a hook": (
        "hooks.slack.com/",
        r"(?<=hooks\.slack\.com/)services/[A-Za-z0-9]{5,20}/[A-Za-z0-9]{5,20}/[A-Za-z0-9]{10,50}",
    ),
    "google": ("AIza", r"AIza[0-9A-Za-z_-]{35}"),
    "stripe": ("k_live_", r"[rsp]k_live_[0-9A-Za-z]{10,250}"),
    "openai, anthropic": ("sk-", r"sk-[A-Za-z0-9_-]{20,250}"),
    "hugging face": ("hf_", r"hf_[A-Za-z0-9]{30,64}"),
    "npm": ("npm_", r"npm_[A-Za-z0-9]{36}"),
    "pypi": ("pypi-", r"pypi-AgE[A-Za-z0-9_-]{50,250}"),
    "sendgrid": ("SG.", r"SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,64}"),
    "twilio": ("SK", r"SK[0-9a-f]{32}"),
    "json web token": (
        "eyJ",
        r"eyJ[A-Za-z0-9_-]{8,4096}\.eyJ[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{0,4096}",
    ),
}
_KEYS = [(mark, re.compile(form)) for mark, form in KEYS.values()]
_BLOCK_MARK = "-----BEGIN"
# Marks by a sign that is rare in texts, so that most are done with after a few looks.
_MARKS = [
    (sign, [mark for mark in [*(each for each, _ in _KEYS), _BLOCK_MARK] if sign in mark])
    for sign in ("_", "-", "AKIA", "ASIA", "xox", "hooks.slack.com/", "AIza", "SG.", "SK", "eyJ")
]

_BLOCK = re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----")
_BLOCK_END = re.compile(r"-----END [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----")
_BLOCK_LINES = re.compile(r"(?:\s{0,4}[A-Za-z0-9+/=]{40,120}){0,400}")
_LONGEST_BLOCK = 32_768

# user:password of a URL; after the sign that is rare in texts.
_IN_URL = re.compile(r"://([^\s/@:?#\[\]]{0,64}:[^\s/@?#]{1,128})@")

_NAMES = (
    *("password", "passwd", "passphrase", "pwd", "secret", "token", "api_key", "api-key", "apikey"),
    *("access_key", "access-key", "accesskey", "auth_key", "credential", "authorization"),
    *("密码", "口令"),
)
_ASSIGNED = re.compile(
    r"(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|auth_key|"
    r"credentials?|authorization|密码|口令)[a-z0-9_-]{0,16}[\"']?[ \t]{0,4}"
    # Before a space 是 tells less: 椭圆曲线密码是 secp256k1.
    r"(?:(?::=|=>|[:=：]|\bis\b)[ \t]{0,4}|[是为為](?![ \t]))(?:bearer |basic )?[\"']?"
    # No Han, Kana or Hangul, nor their signs: what they are written of is text.
    r"([^\s\"'<>,;\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]{8,200})",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b[Bb]earer[ \t]{1,4}([A-Za-z0-9._~+/-]{16,512}={0,2})")
_BITS = 3.0
# What words are put together of: 100-percent, ERC-20-compatible, ISO27001-certified, 10%discount.
_COMPOUND = re.compile(
    r"(?:(?:[A-Za-z]+[0-9]{0,5}|[0-9]{1,5}[a-z]{0,2}|)%?[-\u2010-\u2014])+[a-z]{3,}[.:!?)]*|"
    r"[0-9]{1,3}%-?[a-z]+[.:!?)]*"
)
# A call or an item in code: `self.tokenizer.encode2(text)`, `(length=128`.
_CODE = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*[(\[].*|\([A-Za-z_]\w*=.*", re.DOTALL)


def find(reading: Reading) -> list[tuple[int, int]]:
    """Find keys, tokens, private key blocks, and values assigned to a name such as password.

    Source: the forms that the makers publish and secret scanners use; an assigned value counts
    where it is 8 characters or more of letters and digits mixed, 3 bits of entropy a character.
    """
    text, found = reading.text, []
    for mark, form in _KEYS:
        if mark in text:
            found += [
                match.span() for match in form.finditer(text) if reading.stands_alone(*match.span())
            ]
    if _BLOCK_MARK in text:
        found += _blocks(text)
    if "earer" in text:
        found += [match.span(1) for match in _BEARER.finditer(text) if _looks_drawn(match[1])]
    if "://" in text:
        found += [match.span(1) for match in _IN_URL.finditer(text)]
    return found + [match.span(1) for match in _assigned(text) if _looks_drawn(match[1])]


def has_mark(text: str) -> bool:
    """Tell whether a key's mark is in a text; a key may be of letters alone."""
    for sign, marks in _MARKS:
        if sign in text:
            for mark in marks:
                if mark in text:
                    return True
    return False


def _assigned(text: str) -> Iterator[re.Match]:
    """Where something is assigned to one of the names."""
    lower = text.lower()
    if len(lower) != len(text):  # some letters have a longer lower case
        yield from _ASSIGNED.finditer(text)
        return
    for name in _NAMES:
        place = lower.find(name)
        while place >= 0:
            if match := _ASSIGNED.match(text, place):
                yield match
            place = lower.find(name, place + 1)


def _blocks(text: str) -> list[tuple[int, int]]:
    """Private key blocks; of one that never ends, its lines."""
    found, seen = [], 0
    for begin in _BLOCK.finditer(text):
        if begin.start() < seen:
            continue
        end = _BLOCK_END.search(text, begin.end(), begin.end() + _LONGEST_BLOCK)
        seen = end.end() if end else _BLOCK_LINES.match(text, begin.end()).end()
        found.append((begin.start(), seen))
    return found


def _looks_drawn(value: str) -> bool:
    """Tell a drawn value from a word, a name, a path or code."""
    if value.startswith(tuple(PLACEHOLDERS.values())) or "://" in value:
        return False
    if _COMPOUND.fullmatch(value) or _CODE.fullmatch(value):
        return False
    mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    return mixed and _entropy(value) >= min(_BITS, math.log2(len(value)) - 0.5)


def _entropy(value: str) -> float:
    """Bits a character, by how often each stands in the value."""
    shares = [count / len(value) for count in Counter(value).values()]
    return -sum(share * math.log2(share) for share in shares)
