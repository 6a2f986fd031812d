"""A row's label, of whatever kind, as a few words."""

import itertools
import json
from typing import Any

_CHARACTERS = 120


def label_in_words(label: Any) -> str:
    """`["joy", "love"]` as `joy, love`, a span as `PER 0–5`, a tag as `Ann B-PER`; cut if long."""
    words = _words(label)
    return words if len(words) <= _CHARACTERS else words[: _CHARACTERS - 1] + "…"


def _words(label: Any) -> str:
    if label is None:
        return ""
    if isinstance(label, str):
        return label
    if isinstance(label, float | int):
        return f"{label:g}"
    if isinstance(label, dict) and isinstance(label.get("tags"), list):
        return _tagged_words(label)
    if isinstance(label, list):
        return ", ".join(map(_part, label)) or "none"
    return json.dumps(label, ensure_ascii=False)


def _tagged_words(label: dict[str, Any]) -> str:
    words = label.get("words")
    words = words if isinstance(words, list) else []
    pairs = itertools.zip_longest(words, label["tags"], fillvalue="")
    return ", ".join(f"{word} {tag}".strip() for word, tag in pairs if tag != "O") or "none"


def _part(part: Any) -> str:
    if isinstance(part, dict) and {"start", "end", "label"} <= set(part):
        return f"{part['label']} {part['start']}–{part['end']}"
    if isinstance(part, dict) and "text" in part:
        return str(part["text"])
    return part if isinstance(part, str) else json.dumps(part, ensure_ascii=False)
