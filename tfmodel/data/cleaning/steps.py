"""The steps of cleaning: functions from text to text."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable

from tfmodel.data.cleaning.markup import remove_tags

# Control characters, but for the whitespace among them (tab, newlines, U+0085); zero-width
# characters, direction marks, soft hyphen, byte order mark; surrogates. Joiners (U+200C, U+200D)
# are among them: BERT's own tokenizers drop every one of these.
INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
# As html.unescape takes them, after any number of escaped ampersands: `&amp;amp;lt;`. Those go at
# once, not one a round: a long chain would take time in the square of its length.
ENTITY = re.compile(
    "&(?:(?:amp|#38|#x26);)*((?:#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)?)"
)
LINE = re.compile("[^\n]+")


def fix_mojibake(text: str) -> str:
    """Undo wrong decoding (`cafÃ©` becomes `café`), line by line; by ftfy's `fix_encoding`."""
    return text if text.isascii() else LINE.sub(fixed_line, text)


def fixed_line(line: re.Match[str]) -> str:
    """Undo wrong decoding in a match of `LINE`."""
    from ftfy import fix_encoding
    from ftfy.badness import is_bad

    # What is not bad stays anyhow; asked first, that takes half the time.
    return fix_encoding(line[0]) if not line[0].isascii() and is_bad(line[0]) else line[0]


def remove_control_characters(text: str) -> str:
    """Remove control, zero-width and byte order mark characters; tabs and newlines stay."""
    return text if text.isprintable() else INVISIBLE.sub("", text)


def unescape_html(text: str) -> str:
    """Turn HTML entities into characters, doubly escaped ones (`&amp;lt;`) too."""
    return ENTITY.sub(unescaped, text) if "&" in text else text


def unescaped(entity: re.Match[str]) -> str:
    """Turn a match of `ENTITY` into what it stands for."""
    return html.unescape("&" + entity[1])


def normalize_unicode(text: str) -> str:
    """Compose characters (NFC): `e` + combining acute becomes `é`."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def unify_unicode(text: str) -> str:
    """Compose characters and drop their variants (NFKC): `ﬁ` becomes `fi`, `Ａ` `A`, `²` `2`."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def collapse_whitespace(text: str) -> str:
    """Turn each run of Unicode whitespace into one space and strip both ends."""
    return " ".join(text.split())


# In the order they run. Mojibake first, for its bytes hide among the control characters; entities
# after tags, though `&lt;b&gt;` is a tag in the next round.
STEPS: dict[str, Callable[[str], str]] = {
    "mojibake": fix_mojibake,
    "control_characters": remove_control_characters,
    "html": remove_tags,
    "html_entities": unescape_html,
    "unicode": normalize_unicode,
    "unicode_nfkc": unify_unicode,
    "whitespace": collapse_whitespace,
}
