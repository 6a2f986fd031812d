"""A row's label, of whatever kind, as a few words."""

import json
from typing import Any

_CHARACTERS = 120


def label_in_words(label: Any) -> str:
    """`["joy", "love"]` as `joy, love`, a span as `PER 0–5`, tags as they are; cut where long."""
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
        return " ".join(map(str, label["tags"]))
    if isinstance(label, list):
        return ", ".join(map(_part, label)) or "none"
    return json.dumps(label, ensure_ascii=False)


def _part(part: Any) -> str:
    if isinstance(part, dict) and {"start", "end", "label"} <= set(part):
        return f"{part['label']} {part['start']}–{part['end']}"
    if isinstance(part, dict) and "text" in part:
        return str(part["text"])
    return part if isinstance(part, str) else json.dumps(part, ensure_ascii=False)
