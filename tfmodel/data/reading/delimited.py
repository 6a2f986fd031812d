"""The rows of CSV, TSV and their kin."""

from __future__ import annotations

from collections.abc import Iterator

from tfmodel.data.reading.archives import DataFile
from tfmodel.data.reading.dialect import Dialect
from tfmodel.data.reading.encoding import read_lines
from tfmodel.data.reading.fields import Fields, wanted_columns
from tfmodel.data.reading.records import plain_records, quoted_records
from tfmodel.data.rows import Reject, Row


def read_delimited(
    file: DataFile, name: str, *, encoding: str, dialect: Dialect, fields: Fields, facts: dict
) -> Iterator[Row | Reject]:
    """Read the rows of a file.

    Args:
        file: the file.
        name: what origins call it.
        encoding: its encoding.
        dialect: how it is cut into fields.
        fields: the columns that are wanted.
        facts: receives `blank_lines`.
    """
    settings = fields.settings
    indices = [dialect.columns.index(column) for column in wanted_columns(settings)]
    count = len(dialect.columns)
    lines = read_lines(file, encoding)
    if dialect.quoting:
        records = quoted_records(lines, dialect.delimiter, count)
    else:
        rest_in_last = settings.columns is not None and not settings.extra_columns
        records = plain_records(lines, dialect.delimiter, count if rest_in_last else 0)
    header_next = dialect.has_header
    for number, cells, raw in records:
        if cells is not None and not any(cell.strip() for cell in cells):
            facts["blank_lines"] += 1
            continue
        if header_next:
            header_next = False
            continue
        origin = f"{name}:{number}"
        if cells is None:
            yield Reject("malformed", origin, raw, "a quote is opened and not closed as it should")
            continue
        while len(cells) > count and (settings.extra_columns or not cells[-1].strip()):
            cells.pop()  # spreadsheets write empty cells at the end
        if len(cells) != count:
            detail = f"{len(cells)} fields where {count} were expected"
            yield Reject("wrong_field_count", origin, raw, detail)
            continue
        yield fields.to_row([cells[index] for index in indices], origin, raw)
