"""Values of JSON and of tables: fields by path, and the text that a value stands for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MISSING: Any = object()


def find_value(item: Any, path: str) -> Any:
    """Find a field by name or by path (`review.text`, `spans.0`); `MISSING` where there is none."""
    if isinstance(item, Mapping) and path in item:
        return item[path]
    value = item
    for part in path.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return MISSING
    return value


def flatten(item: Mapping, prefix: str = "") -> dict[str, Any]:
    """Give an object's leaves by their paths: `{"a": {"b": 1}}` -> `{"a.b": 1}`."""
    leaves: dict[str, Any] = {}
    for key, value in item.items():
        if isinstance(value, Mapping):
            leaves.update(flatten(value, f"{prefix}{key}."))
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def as_text(value: Any) -> str | None:
    """Write a JSON value as the text it stands for; None for a list or an object."""
    if isinstance(value, str):
        return value
    if value is None or value != value:  # NaN is how tables of pandas say that nothing is there
        return ""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return None
