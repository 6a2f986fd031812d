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
_LEAST_SHARE = 0.9
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
    columns = {
        name: [row.get(name) for row in rows] for name in dict.fromkeys(itertools.chain(*rows))
    }
    text = _longest_text(columns)
    for name, values in columns.items():
        fields = _fields_of_spans(values)
        if fields is not None and text is not None:
            own = {
                key: field
                for key, field in zip(("start", "end", "label"), fields, strict=True)
                if key != field
            }
            return {"text": text, "label": name, **({"spans": own} if own else {})}
    for name, values in columns.items():
        for words, others in columns.items():
            if words != name and _are_tags(values, others):
                return {"text": words, "label": name}
    return None


def _fields_of_spans(values: Sequence[Any]) -> tuple[str, str, str] | None:
    """The names of start, end and label, where values are lists of spans; ours for triples."""
    lists = [value for value in values if isinstance(value, list)]
    spans = [span for value in lists for span in value]
    if not spans or not _most(len(lists), values):
        return None
    if _most(sum(isinstance(span, list) and _is_triple(span) for span in spans), spans):
        return "start", "end", "label"
    objects = [span for span in spans if isinstance(span, dict)]
    start, end, label = (
        max(names, key=lambda name: sum(name in span for span in objects))
        for names in (_STARTS, _ENDS, _LABELS)
    )
    whole = sum(_is_triple([span.get(start), span.get(end), span.get(label)]) for span in objects)
    return (start, end, label) if _most(whole, spans) else None


def _most(count: int, of: Sequence[Any]) -> bool:
    """A mistake in a few rows does not hide what a file holds: reading it counts them."""
    return count >= _LEAST_SHARE * len(of)


def _is_triple(span: Sequence[Any]) -> bool:
    return (
        len(span) == 3
        and all(isinstance(place, int) and not isinstance(place, bool) for place in span[:2])
        and isinstance(span[2], str)
    )


def _longest_text(columns: dict[str, list[Any]]) -> str | None:
    texts = {name: [v for v in values if isinstance(v, str)] for name, values in columns.items()}
    sizes = {
        name: sum(map(len, found))
        for name, found in texts.items()
        if _most(len(found), columns[name])
    }
    return max(sizes, key=sizes.get) if sizes else None


def _are_tags(tags: Sequence[Any], words: Sequence[Any]) -> bool:
    """Whether rows have a list of tags, O among them, and as long a list of words."""
    pairs = [
        (a, b)
        for a, b in zip(tags, words, strict=True)
        if isinstance(a, list)
        and isinstance(b, list)
        and len(a) == len(b)
        and all(isinstance(each, str) for each in (*a, *b))
    ]
    return _most(len(pairs), tags) and any(OUTSIDE in row for row, _ in pairs)
