"""Which fields of JSON Lines are a text and the entities of it, or words and their tags."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

from tfmodel.data.reading.archives import DataFile
from tfmodel.data.reading.encoding import read_lines
from tfmodel.data.targets.tagged_words import OUTSIDE

_ROWS_LOOKED_AT = 200
_STARTS = ("start", "start_offset", "begin", "start_pos", "from")
_ENDS = ("end", "end_offset", "stop", "end_pos", "to")
_LABELS = ("label", "type", "tag", "entity", "category", "entity_group")


def guess_spans(file: DataFile, encoding: str) -> dict[str, Any] | None:
    """Guess what of a `data:` section reads the entities of a file.

    Args:
        file: JSON Lines.
        encoding: its encoding.

    Returns:
        `text` and `label`, and `spans` where their fields have other names than ours; None where
        no field looks like entities.
    """
    rows = []
    for line in itertools.islice(read_lines(file, encoding), _ROWS_LOOKED_AT):
        try:
            row = json.loads(line) if line.strip() else None
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    columns: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    full = {name: values for name, values in columns.items() if len(values) == len(rows)}
    for name, values in full.items():
        fields = _fields_of_spans(values)
        text = _longest_text(full)
        if fields is not None and text is not None:
            own = {
                key: field
                for key, field in zip(("start", "end", "label"), fields, strict=True)
                if key != field
            }
            return {"text": text, "label": name, **({"spans": own} if own else {})}
    for name, values in full.items():
        for words, others in full.items():
            if words != name and _are_tags(values, others):
                return {"text": words, "label": name}
    return None


def _fields_of_spans(values: Sequence[Any]) -> tuple[str, str, str] | None:
    """The names of start, end and label, where values are lists of spans; ours for triples."""
    if not all(isinstance(value, list) for value in values):
        return None
    spans = [span for value in values for span in value]
    if not spans:
        return None
    if all(isinstance(span, list) and _is_triple(span) for span in spans):
        return "start", "end", "label"
    if not all(isinstance(span, dict) for span in spans):
        return None
    found = [
        next((name for name in names if all(name in span for span in spans)), None)
        for names in (_STARTS, _ENDS, _LABELS)
    ]
    if None in found:
        return None
    start, end, label = found
    if all(_is_triple([span[start], span[end], span[label]]) for span in spans):
        return start, end, label
    return None


def _is_triple(span: Sequence[Any]) -> bool:
    return (
        len(span) == 3
        and all(isinstance(place, int) and not isinstance(place, bool) for place in span[:2])
        and isinstance(span[2], str)
    )


def _longest_text(columns: dict[str, list[Any]]) -> str | None:
    texts = {
        name: sum(map(len, values))
        for name, values in columns.items()
        if all(isinstance(value, str) for value in values)
    }
    return max(texts, key=texts.get) if texts else None


def _are_tags(tags: Sequence[Any], words: Sequence[Any]) -> bool:
    """Whether each row has a list of tags, O among them, and as long a list of words."""
    pairs = [*zip(tags, words, strict=True)]
    return (
        all(isinstance(a, list) and isinstance(b, list) and len(a) == len(b) for a, b in pairs)
        and all(isinstance(each, str) for pair in pairs for side in pair for each in side)
        and any(OUTSIDE in row for row in tags)
    )
