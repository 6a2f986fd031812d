"""Full-width digits and signs, as Chinese and Japanese texts have them."""

from __future__ import annotations

import re

_TELLING = re.compile("[\uff10-\uff19\uff20]")  # a digit or an @
_NARROW = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20, 0xA0: 0x20}


def narrowed(text: str) -> str:
    """Give a text with full-width ASCII characters made plain, every character in its place."""
    if text.isascii() or not _TELLING.search(text):
        return text
    return text.translate(_NARROW)
