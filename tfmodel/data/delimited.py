"""The rows of CSV, TSV and their kin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tfmodel.data.dialect import Dialect
from tfmodel.data.encoding import read_lines
from tfmodel.data.records import plain_records, quoted_records
from tfmodel.data.rows import Reject, Row
from tfmodel.data.settings import DataSettings


def read_delimited(
    path: Path, name: str, *, encoding: str, dialect: Dialect, settings: DataSettings, facts: dict
) -> Iterator[Row | Reject]:
    """Read the rows of a file.

    Args:
        path: the file.
        name: what origins call it.
        encoding: its encoding.
        dialect: how it is cut into fields.
        settings: name the columns that are wanted.
        facts: receives `blank_lines`.
    """
    indices = [dialect.columns.index(column) for column in settings.wanted()]
    count = len(dialect.columns)
    lines = read_lines(path, encoding)
    if dialect.quoting:
        records = quoted_records(lines, dialect.delimiter, count)
    else:
        rest_in_last = settings.columns is not None
        records = plain_records(lines, dialect.delimiter, count if rest_in_last else 0)
    header_next = dialect.has_header
    for number, fields, raw in records:
        if fields is not None and not any(field.strip() for field in fields):
            facts["blank_lines"] += 1
            continue
        if header_next:
            header_next = False
            continue
        origin = f"{name}:{number}"
        if fields is None:
            yield Reject("malformed", origin, raw, "a quote is opened and not closed as it should")
            continue
        while len(fields) > count and not fields[-1].strip():
            fields.pop()  # spreadsheets write empty cells at the end
        if len(fields) != count:
            detail = f"{len(fields)} fields where {count} were expected"
            yield Reject("wrong_field_count", origin, raw, detail)
            continue
        values = [fields[index] for index in indices]
        pair = values[1] if settings.text_pair is not None else None
        yield Row(values[0], pair, values[-1], origin)
