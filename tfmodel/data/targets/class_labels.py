"""Labels of a whole text: one class, several classes, a number, another text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tfmodel.data.cleaning import clean_and_tell, clean_label
from tfmodel.data.reading.json_values import as_text
from tfmodel.data.rows import BadLabel, Row, encodable
from tfmodel.data.settings import DataSettings

_LARGEST_NUMBER = 1e16
"""The squares of a batch of larger ones are beyond float32, in which all is computed."""


def parse_class(row: Row, settings: DataSettings) -> str:
    """Write the label as a text; an empty one is found later, with the empty texts."""
    text = as_text(row.label)
    if text is None:
        detail = f"{settings.label} holds a {type(row.label).__name__}, not a text"
        raise BadLabel("not_text", detail)
    return text


def clean_class(row: Row, steps: Sequence[str]) -> tuple[str, ...]:
    """Clean texts and label; the label the same way whatever the settings."""
    row.label = clean_label(encodable(row.label))
    return clean_texts(row, steps)


def parse_classes(row: Row, settings: DataSettings) -> list[str]:
    """Read several classes from a list, or from a string cut at the separator."""
    if isinstance(row.label, list):
        parts = [as_text(part) for part in row.label]
        if None in parts:
            raise BadLabel("not_text", f"{settings.label} holds a list of more than texts")
        if not parts:
            return []  # said to have none
    else:
        parts = parse_class(row, settings).split(settings.label_separator)
    names = list(dict.fromkeys(part.strip() for part in parts if part and part.strip()))
    if not names:
        raise BadLabel("empty_label")
    return names


def clean_classes(row: Row, steps: Sequence[str]) -> tuple[str, ...]:
    """Clean texts and the name of each class."""
    changed = clean_texts(row, steps)
    cleaned = dict.fromkeys(clean_label(encodable(name)) for name in row.label)
    cleaned.pop("", None)
    if row.label and not cleaned:
        raise BadLabel("empty_label")
    row.label = list(cleaned)
    return changed


def parse_number(row: Row, settings: DataSettings) -> float:
    """Read a finite number, of at most 1e16 either way."""
    text = (parse_class(row, settings) or "").strip()
    if not text:
        raise BadLabel("empty_label")
    try:
        number = float(text) if "_" not in text else math.nan
    except ValueError:
        number = math.nan
    if isinstance(row.label, bool) or not math.isfinite(number):
        raise BadLabel("bad_number", f"{settings.label} holds {text[:80]!r}, not a finite number")
    if abs(number) > _LARGEST_NUMBER:
        detail = f"{settings.label} holds {text[:80]!r}, beyond {_LARGEST_NUMBER:g} either way"
        raise BadLabel("bad_number", detail)
    return number


def clean_texts(row: Row, steps: Sequence[str]) -> tuple[str, ...]:
    """Clean the text, and the second one if there is one."""
    row.text, changed = clean_and_tell(encodable(row.text), steps)
    if row.text_pair is not None:
        row.text_pair, pair_changed = clean_and_tell(encodable(row.text_pair), steps)
        changed = tuple(dict.fromkeys(changed + pair_changed))
    return changed


def clean_label_text(row: Row, steps: Sequence[str]) -> tuple[str, ...]:
    """Clean the texts of a row, and the label as one of them."""
    changed = clean_texts(row, steps)
    row.label, label_changed = clean_and_tell(encodable(row.label), steps)
    return tuple(dict.fromkeys(changed + label_changed))
