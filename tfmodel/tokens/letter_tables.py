"""What letters are without their accents, and in lower case, by Hugging Face's tables.

Those of its tokenizers (0.23) have been made at different times: the decompositions and the marks
are of a Unicode before 10, the lower case is of a later one than Python's own.
"""

from __future__ import annotations

import functools
import unicodedata

# Marks and compatibility letters that Unicode has added since, and two marks that it no longer has.
_NOT_TAKEN_APART = """
5c8-5c9 7fd 897-89f 8ca-8d3 9fe afa-aff b53-b55 c04 c3c cf3 d00 d3b-d3c d81 eba ece 1715 180f
1abf-1af0 1cf7 1df6-1dfa 32ff a7f2-a7f4 a82c a8ff ab69 10781-10785 10787-107b0 107b2-107ba
10d24-10d27 10d69-10d6d 10eab-10eac 10ecb-10ecf 10ef0-10eff 10f46-10f50 10f82-10f85 11070
11073-11074 110c2 11145-11146 111c9 111ce-111cf 11241 1133b 113b8-113c0 113c2 113c5 113c7-113ca
113cc-113d0 113d2 113e1-113e2 1145e 1182c-1183a 11930-11935 11937-11938 1193b-1193e 11940
11942-11943 119d1-119d7 119da-119e0 119e4 11a01-11a0a 11a33-11a39 11a3b-11a3e 11a47 11a51-11a5b
11a8a-11a99 11b60-11b67 11d31-11d36 11d3a 11d3c-11d3d 11d3f-11d45 11d47 11d8a-11d8e 11d90-11d91
11d93-11d97 11df0 11ef3-11ef6 11f00-11f01 11f03 11f34-11f3a 11f3e-11f42 11f5a 13440 13447-13455
1611e-1612f 16f4f 16f7f-16f87 16fe4 16ff0-16ff1 1cf00-1cf2d 1cf30-1cf46 1d127-1d128 1d250-1d252
1d25b-1d25c 1d25f 1d280-1d281 1e030-1e06d 1e08f 1e130-1e136 1e2ae 1e2ec-1e2ef 1e4ec-1e4ef
1e5ee-1e5ef 1e6e3 1e6e6 1e6ee-1e6ef 1e6f5 1f16c 1fbf0-1fbf9
"""
_FORMER_MARKS = "\u1cf2\u1cf3"
# First and last capital letter, and the small one of the first.
_YOUNG_CAPITALS = """
1c89-1c89:1c8a 2c2f-2c2f:2c5f a7c0-a7c0:a7c1 a7cb-a7cb:264 a7cc-a7cc:a7cd a7ce-a7ce:a7cf
a7d0-a7d0:a7d1 a7d2-a7d2:a7d3 a7d4-a7d4:a7d5 a7d6-a7d6:a7d7 a7d8-a7d8:a7d9 a7da-a7da:a7db
a7dc-a7dc:19b 10570-1057a:10597 1057c-1058a:105a3 1058c-10592:105b3 10594-10595:105bb
10d50-10d65:10d70 16ea0-16eb8:16ebb
"""


@functools.cache
def lower_case() -> dict[str, str]:
    """The small letters of all capitals, each for itself."""
    table = {each: each.lower() for each in _characters() if each.lower() != each}
    for item in _YOUNG_CAPITALS.split():
        (first, last), small = _bounds(item.partition(":")[0]), int(item.partition(":")[2], 16)
        table |= {chr(code): chr(small + code - first) for code in range(first, last + 1)}
    return table


@functools.cache
def without_accents(*, lowercase: bool) -> dict[str, str]:
    """What `NFKD` and then `StripAccents` make of characters that they change.

    Args:
        lowercase: and then `Lowercase`.
    """
    small = lower_case() if lowercase else {}
    kept = {
        chr(code)
        for item in _NOT_TAKEN_APART.split()
        for code in range(_bounds(item)[0], _bounds(item)[1] + 1)
    }
    table = {}
    for character in _characters():
        letters = character
        if character in _FORMER_MARKS:
            letters = ""
        elif character not in kept:
            letters = unicodedata.normalize("NFKD", character)
            letters = "".join(each for each in letters if unicodedata.category(each)[0] != "M")
        written = "".join(small.get(each, each) for each in letters)
        if written != character:
            table[character] = written
    return table


def _characters() -> list[str]:
    return [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]


def _bounds(item: str) -> tuple[int, int]:
    first, _, last = item.partition("-")
    return int(first, 16), int(last or first, 16)
