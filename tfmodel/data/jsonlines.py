"""JSON Lines: one object a line; fields by name or by path (`review.text`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.data.encoding import read_lines
from tfmodel.data.mistakes import missing_column
from tfmodel.data.rows import Reject, Row
from tfmodel.data.settings import DataSettings

_MISSING = object()
_ARRAY_TO_LINES = (
    "python -c 'import json,sys; [print(json.dumps(row)) for row in json.load(sys.stdin)]'"
)


def read_json_lines(
    path: Path, name: str, *, encoding: str, settings: DataSettings, facts: dict
) -> Iterator[Row | Reject]:
    """Read the rows of a file; a broken line is a `Reject`, but for the first.

    Args:
        path: the file.
        name: what origins call it.
        encoding: its encoding.
        settings: name the fields that are wanted.
        facts: receives `blank_lines`.

    Raises:
        ConfigError: the first line is not an object, or lacks a wanted field.
    """
    wanted = settings.wanted()
    is_first = True
    for number, line in enumerate(read_lines(path, encoding), start=1):
        if not line.strip():
            facts["blank_lines"] += 1
            continue
        item, problem = parse_line(line)
        if is_first and problem:
            raise _not_json_lines(path, number, line, problem)
        result = _to_row(item, problem, wanted, f"{name}:{number}", line)
        if is_first and isinstance(result, Reject) and result.reason == "missing_field":
            raise missing_column(path, result.detail, list(flatten(item)), settings)
        is_first = False
        yield result


def parse_line(line: str) -> tuple[dict, str]:
    """Give the object of a line, or an empty one and what is wrong with it."""
    try:
        item = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {}, f"not JSON: {error}"
    if not isinstance(item, dict):
        return {}, f"a JSON object {{...}} was expected, this is a {type(item).__name__}"
    return item, ""


def flatten(item: dict, prefix: str = "") -> dict[str, Any]:
    """Give an object's leaves by their paths: `{"a": {"b": 1}}` -> `{"a.b": 1}`."""
    leaves: dict[str, Any] = {}
    for key, value in item.items():
        if isinstance(value, dict):
            leaves.update(flatten(value, f"{prefix}{key}."))
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def as_text(value: Any) -> str | None:
    """Write a JSON value as the text it stands for; None for a list or an object."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return None


def not_json_lines(path: Path, encoding: str, first: Reject) -> ConfigError:
    """Word the error for a file most of whose lines fail."""
    return ConfigError(
        f"{path}: expected JSON Lines, one object a line. Received: most lines are not, the first "
        f"at {first.origin} ({first.reason}: {first.detail[:200]}). Check `format:` and the names "
        f"of the fields under `data:`."
    )


def _to_row(item: dict, problem: str, wanted: list[str], origin: str, line: str) -> Row | Reject:
    if problem:
        return Reject("malformed", origin, line.rstrip("\r\n"), problem)
    values = []
    for name in wanted:
        value = _find(item, name)
        if value is _MISSING:
            return Reject("missing_field", origin, line.rstrip("\r\n"), name)
        text = as_text(value)
        if text is None:
            detail = f"{name} holds a {type(value).__name__}, not a text"
            return Reject("not_text", origin, line.rstrip("\r\n"), detail)
        values.append(text)
    return Row(values[0], values[1] if len(values) == 3 else None, values[-1], origin)


def _find(item: dict, name: str) -> Any:
    if name in item:
        return item[name]
    value: Any = item
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return _MISSING
        value = value[part]
    return value


def _not_json_lines(path: Path, number: int, line: str, problem: str) -> ConfigError:
    fix = "Check `format:` under `data:`"
    if line.lstrip().startswith("["):
        fix = f"A JSON array becomes JSON Lines by: {_ARRAY_TO_LINES} < FILE > FILE.jsonl"
    elif line.lstrip().startswith("{"):
        fix = "Each object must stand on one line of its own"
    return ConfigError(
        f"{path}: expected JSON Lines, one object a line. Received on line {number}: "
        f"{line.strip()[:80]!r} ({problem[:120]}). {fix}."
    )
