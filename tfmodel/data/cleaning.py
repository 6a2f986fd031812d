"""Cleaning: pure functions from text to text; doing it twice changes nothing more."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Sequence

from tfmodel.data.settings import CleaningSettings

# Control characters, but for the whitespace among them (tab, newlines, U+0085); zero-width
# characters, direction marks, soft hyphen, byte order mark; surrogates. Joiners (U+200C, U+200D)
# are among them: BERT's own tokenizers drop every one of these.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def remove_control_characters(text: str) -> str:
    """Remove control, zero-width and byte order mark characters; tabs and newlines stay."""
    return _INVISIBLE.sub("", text)


def unescape_html(text: str) -> str:
    """Turn HTML entities into characters, doubly escaped ones (`&amp;lt;`) too."""
    while "&" in text and (unescaped := html.unescape(text)) != text:
        text = unescaped
    return text


def normalize_unicode(text: str) -> str:
    """Compose characters (NFC): `e` + combining acute becomes `é`."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def collapse_whitespace(text: str) -> str:
    """Turn each run of Unicode whitespace into one space and strip both ends."""
    return " ".join(text.split())


# In the order they run; the names are those of CleaningSettings.
STEPS: dict[str, Callable[[str], str]] = {
    "control_characters": remove_control_characters,
    "html_entities": unescape_html,
    "unicode": normalize_unicode,
    "whitespace": collapse_whitespace,
}


def chosen_steps(settings: CleaningSettings) -> list[str]:
    """Name the steps that are switched on, in the order they run."""
    return [name for name in STEPS if getattr(settings, name)]


def clean(text: str, steps: Sequence[str] = ("control_characters", "unicode", "whitespace")) -> str:
    """Clean a text.

    Args:
        text: any string.
        steps: names of `STEPS`, in the order they run.

    Returns:
        The text after every step, which `clean` leaves as it is.
    """
    return clean_and_tell(text, steps)[0]


def clean_and_tell(text: str, steps: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Clean a text as `clean` does; also name the steps that changed it."""
    changed: list[str] = []
    while True:
        before = text
        for name in steps:
            cleaned = STEPS[name](text)
            if cleaned != text:
                text = cleaned
                if name not in changed:
                    changed.append(name)
        # One step may make work for another: a zero-width character taken out of `&am p;` leaves
        # an entity. So until nothing changes; most texts pass once or twice.
        if text == before:
            return text, tuple(changed)


def clean_label(label: str) -> str:
    """Clean a label, the same way whatever the settings: labels are compared and printed."""
    return clean(label)
