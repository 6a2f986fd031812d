"""Cleaning: pure functions from text to text; doing it twice changes nothing more."""

from __future__ import annotations

from collections.abc import Sequence

from tfmodel.data.cleaning.document_steps import DOCUMENT_STEPS
from tfmodel.data.cleaning.settings import CleaningSettings
from tfmodel.data.cleaning.span_moves import Span, span_mover
from tfmodel.data.cleaning.steps import STEPS

# The texts of real sets need three at most.
_MOST_ROUNDS = 50
_ALL_STEPS = {**STEPS, **DOCUMENT_STEPS}


def chosen_steps(settings: CleaningSettings) -> list[str]:
    """Name the steps that are switched on, in the order they run."""
    chosen = {
        "mojibake": settings.mojibake,
        "control_characters": settings.control_characters,
        "html": settings.html,
        "html_entities": settings.html or settings.html_entities,
        "unicode": settings.unicode in (True, "NFC"),
        "unicode_nfkc": settings.unicode == "NFKC",
        "whitespace": settings.whitespace,
    }
    return [name for name in STEPS if chosen[name]]


def clean(text: str, steps: Sequence[str] = ("control_characters", "unicode", "whitespace")) -> str:
    """Clean a text.

    Args:
        text: any string.
        steps: names of `STEPS` or `DOCUMENT_STEPS`, in the order they run.

    Returns:
        The text after every step, which `clean` leaves as it is.
    """
    return clean_and_tell(text, steps)[0]


def clean_and_tell(text: str, steps: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Clean a text as `clean` does; also name the steps that changed it."""
    trail = trace(text, steps)
    if not trail:
        return text, ()
    return trail[-1][1], tuple(dict.fromkeys(name for name, _ in trail))


def trace(text: str, steps: Sequence[str]) -> list[tuple[str, str]]:
    """Clean a text; list each change: the step's name and the text after it.

    One step may make work for another: a zero-width character taken out of `&am p;` leaves an
    entity. So the steps run until none changes anything. That ends: but for mojibake, each step
    of rows that changes a text lowers (ASCII and whitespace characters in its NFKD form; characters
    in that form; whitespace characters other than spaces; 1 if not normalized), compared in order;
    steps of documents only take away.
    A text that made work for all rounds, as one built for that may, stays as it came: that, too,
    is the same when cleaned again.
    """
    trail: list[tuple[str, str]] = []
    for _ in range(_MOST_ROUNDS):
        before = text
        for name in steps:
            cleaned = _ALL_STEPS[name](text)
            if cleaned != text:
                text = cleaned
                trail.append((name, text))
        if text == before:
            return trail
    return []


def clean_label(label: str) -> str:
    """Clean a label, the same way whatever the settings: labels are compared and printed."""
    return clean(label)


def clean_with_spans(
    text: str, spans: Sequence[Span], steps: Sequence[str]
) -> tuple[str, list[Span | None], tuple[str, ...]]:
    """Clean a text as `clean_and_tell` does, and move spans along.

    Args:
        text: any string.
        spans: half-open offsets in characters of `text`, in any order, overlapping or not.
        steps: names of `STEPS`, in the order they run.

    Returns:
        The cleaned text; for each span its place there, where the text is what cleaning the
        span's own text gives, or None where there is no such place: nothing is left of it, it
        cuts a character or an entity in two, or it is outside the text; and the names of the steps
        that changed the text.
    """
    moved = list(spans)
    cleaned = text
    trail = trace(text, steps)
    for name, after in trail:
        move = span_mover(name, cleaned, after)
        moved = [move(*span) for span in moved]
        cleaned = after
    placed = [
        _checked(text, span, cleaned, place, steps)
        for span, place in zip(spans, moved, strict=True)
    ]
    return cleaned, placed, tuple(dict.fromkeys(name for name, _ in trail))


def _checked(text: str, span: Span, cleaned: str, place: Span, steps: Sequence[str]) -> Span | None:
    """Draw a place in to the characters that the span's own text keeps; None where they differ."""
    if not 0 <= span[0] < span[1] <= len(text):
        return None
    wanted = clean(text[span[0] : span[1]], steps)
    start, end = place
    if "whitespace" in steps:
        while start < end and cleaned[start].isspace():
            start += 1
        while start < end and cleaned[end - 1].isspace():
            end -= 1
    return (start, end) if wanted and cleaned[start:end] == wanted else None
