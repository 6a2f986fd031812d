"""JSON: one object a line, or an array of them, or one after another; fields by name or path."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.data.mistakes import missing_column, of_documents, quoted
from tfmodel.data.reading.archives import DataFile
from tfmodel.data.reading.encoding import read_lines
from tfmodel.data.reading.fields import Fields, wanted_columns
from tfmodel.data.reading.json_stream import JsonStream
from tfmodel.data.reading.json_values import MISSING, find_value, flatten
from tfmodel.data.rows import Reject, Row
from tfmodel.data.settings import DataSettings

__all__ = ["flatten", "not_json", "parse_line", "read_json", "read_json_lines", "to_item"]


def read_json_lines(
    file: DataFile, name: str, *, encoding: str, fields: Fields, facts: dict
) -> Iterator[Row | Reject]:
    """Read one object a line; a broken line is a `Reject`, but for the first.

    Args:
        file: the file.
        name: what origins call it.
        encoding: its encoding.
        fields: the fields that are wanted.
        facts: receives `blank_lines`.

    Raises:
        ConfigError: the first line is not an object, or lacks a wanted field.
    """
    is_first = True
    for number, line in enumerate(read_lines(file, encoding), start=1):
        if not line.strip():
            facts["blank_lines"] += 1
            continue
        value, problem = _parse(line)
        item, problem = to_item(value, problem, fields.settings)
        if is_first and problem:
            raise _not_json_lines(file, number, line, problem, fields.settings)
        if is_first:
            _check_fields(file, item, fields)
        is_first = False
        yield _to_row(item, problem, f"{name}:{number}", line.rstrip("\r\n"), fields)


def read_json(
    file: DataFile, name: str, *, encoding: str, fields: Fields
) -> Iterator[Row | Reject]:
    """Read the objects of an array, at `data.records` if that is named, or one after another.

    Origins are `name:records[place]`, counted from 0 as `jq` does, or the line of an object that
    stands in no array.

    Args:
        file: the file.
        name: what origins call it.
        encoding: its encoding.
        fields: the fields that are wanted.

    Raises:
        ConfigError: there is no such array, the first value is no object or lacks a wanted
            field, or the file ends too early.
    """
    records = fields.settings.records
    stream = JsonStream(file, encoding, fields.settings)
    try:
        if records is not None:
            stream.enter(records)
        in_array = stream.peek() == "["
        if records is not None and not in_array:
            raise ConfigError(
                f"{file}: expected an array of rows in the field {records} (data.records). "
                f"Received: a value that begins with {stream.peek()!r}. Name the field that holds "
                f"the array by `records:` under `data:`."
            )
        for place, (line, value, raw, problem) in enumerate(stream.values()):
            item, problem = to_item(value, problem, fields.settings)
            if place == 0 and problem:
                raise _not_json(file, line, raw, problem, fields.settings)
            if place == 0:
                _check_fields(file, item, fields)
            origin = f"{name}:{records or ''}[{place}]" if in_array else f"{name}:{line}"
            yield _to_row(item, problem, origin, raw, fields)
    finally:
        stream.close()


def parse_line(line: str) -> tuple[dict, str]:
    """Give the object of a line, or an empty one and what is wrong with it."""
    return to_item(*_parse(line), None)


def to_item(value: Any, problem: str, settings: DataSettings | None) -> tuple[dict, str]:
    """Give a row as an object; the places of a list are named by the columns of the settings.

    Returns:
        The object, or an empty one and what is wrong with it.
    """
    if problem:
        return {}, problem
    if isinstance(value, dict):
        return value, ""
    if not isinstance(value, list):
        kind = "null" if value is None else type(value).__name__
        return {}, f"a JSON object {{...}} was expected, this is a {kind}"
    columns = settings.columns if settings else None
    if settings is not None and of_documents(settings):
        return {}, "a JSON object {...} was expected, this is a list"
    if settings is None or columns is None:
        return {}, "a JSON object {...} was expected, this is a list: name its places by `columns:`"
    if len(value) != len(columns) and not (settings.extra_columns and len(value) > len(columns)):
        return {}, f"a list of {len(value)} values where {len(columns)} were expected"
    return dict(zip(columns, value, strict=False)), ""


def not_json(file: DataFile, first: Reject, settings: DataSettings) -> ConfigError:
    """Word the error for a file most of whose rows fail."""
    keys = "`format:`" if of_documents(settings) else "`format:`, `target:`"
    return ConfigError(
        f"{file}: expected JSON, one object a row. Received: most rows are not, the first at "
        f"{first.origin} ({first.reason}: {first.detail[:200]}). Check {keys} and the "
        f"names of the fields under `data:`."
    )


def _parse(line: str) -> tuple[Any, str]:
    try:
        return json.loads(line), ""
    except (ValueError, RecursionError) as error:
        return None, f"not JSON: {error}"


def _to_row(item: Mapping, problem: str, origin: str, raw: str, fields: Fields) -> Row | Reject:
    if problem:
        return Reject("malformed", origin, raw, problem)
    values = []
    for name in wanted_columns(fields.settings):
        value = find_value(item, name)
        if value is MISSING:
            return Reject("missing_field", origin, raw, name)
        values.append(value)
    if fields.target.name == "answers":
        values = _with_start(item, values, fields.settings)
    return fields.to_row(values, origin, raw)


def _with_start(item: Mapping, values: list, settings: DataSettings) -> list:
    """The values with an answer's start, where it stands in a field of its own beside its text."""
    place = settings.wanted().index(settings.label)
    start = item.get("answer_start", item.get(settings.spans.start))
    if isinstance(values[place], str) and values[place].strip() and start is not None:
        values[place] = {"text": values[place], "answer_start": start}
    return values


def _check_fields(file: DataFile, item: Mapping, fields: Fields) -> None:
    for name in wanted_columns(fields.settings):
        if find_value(item, name) is MISSING:
            leaves = flatten(item)
            arrays = [key for key, value in leaves.items() if isinstance(value, list) and value]
            raise missing_column(file, name, list(leaves), fields.settings, arrays=arrays)


def _not_json_lines(
    file: DataFile, number: int, line: str, problem: str, settings: DataSettings
) -> ConfigError:
    fix = "Check `format:` under `data:`"
    if line.lstrip()[:1] in ("[", "{"):
        fix = "An array, or objects over several lines, are `format: json` under `data:`"
    return ConfigError(
        f"{file}: expected JSON Lines, one object a line. Received on line {number}: "
        f"{quoted(line.strip(), settings)} ({problem[:120]}). {fix}."
    )


def _not_json(
    file: DataFile, line: int, raw: str, problem: str, settings: DataSettings
) -> ConfigError:
    keys = "`format:` and `records:`"
    if not of_documents(settings):
        keys = "`format:`, `records:` and `columns:`"
    return ConfigError(
        f"{file}: expected JSON objects, in an array or one after another. Received on line "
        f"{line}: {quoted(raw, settings)} ({problem[:120]}). Check {keys} under `data:`."
    )
