r"""Lines into fields, with quotes that quote or without; both stream.

A line ends in `\n` or `\r\n`; a quoted field may hold newlines. A stray quote that would swallow
the rows after it costs its own line alone.
"""

from __future__ import annotations

import collections
import csv
from collections.abc import Iterable, Iterator

# A field longer than this comes of a quote that was never closed; csv's own limit is 131,072.
_LONGEST_FIELD = 2**24


def cut(line: str, delimiter: str) -> list[str]:
    """Cut one line into fields, stripped."""
    try:
        fields = next(csv.reader([line.replace("\r", "")], delimiter=delimiter), [])
    except csv.Error:
        fields = line.split(delimiter)
    return [field.strip() for field in fields]


def cut_lines(
    lines: Iterable[str], delimiter: str, *, quoting: bool, columns: int
) -> tuple[list[list[str]], int]:
    """Cut lines into rows of `columns` fields; also count those of another width."""
    if quoting:
        records = quoted_records(lines, delimiter, columns)
    else:
        records = plain_records(lines, delimiter, 0)
    rows: list[list[str]] = []
    missed = 0
    for _, fields, raw in records:
        if fields is not None and len(fields) == columns:
            rows.append(fields)
        elif raw.strip():
            missed += 1
    return rows, missed


def odd_lines_if_quoted(lines: Iterable[str], delimiter: str, columns: int) -> int:
    """Count the lines that look wrong once quotes quote: stray quotes, rows of another width."""
    odd = 0
    for _, fields, raw in quoted_records(lines, delimiter, columns):
        parts = raw.split("\n")
        if fields is None or len(fields) != columns:
            odd += 1
        elif '"' in raw and not _well_quoted(raw, delimiter):
            odd += 1
        elif len(parts) > 1 and all(part.count(delimiter) + 1 == columns for part in parts):
            odd += len(parts)  # each line is a row of its own: two stray quotes, not one field
    return odd


def quoted_records(
    lines: Iterable[str], delimiter: str, columns: int
) -> Iterator[tuple[int, list[str] | None, str]]:
    """Give (line number, fields, raw text) a record; no fields where a quote is astray."""
    feeder = _Feeder(lines)
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(feeder, delimiter=delimiter)
    while True:
        feeder.record = []
        start = feeder.number + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error:
            fields = None
        if fields is not None and len(feeder.record) > 1 and len(fields) != columns:
            fields = fields if _well_quoted("".join(feeder.record), delimiter) else None
        if fields is None:
            feeder.take_back_all_but_first()
        yield start, fields, "".join(feeder.record).rstrip("\r\n")


def _well_quoted(record: str, delimiter: str) -> bool:
    """Whether each quote of a record opens or closes a field, or is doubled inside one."""
    try:
        list(csv.reader([record.replace("\r", "")], delimiter=delimiter, strict=True))
    except csv.Error:
        return False
    return True


def plain_records(
    lines: Iterable[str], delimiter: str, most_fields: int
) -> Iterator[tuple[int, list[str], str]]:
    """Give (line number, fields, raw text) a line; the last of `most_fields` keeps the rest."""
    for number, line in enumerate(lines, start=1):
        line = line.rstrip("\r\n")
        yield number, line.split(delimiter, most_fields - 1), line


class _Feeder:
    """Gives lines to `csv.reader`, remembers those of the record and takes lines back."""

    def __init__(self, lines: Iterable[str]):
        self._lines = iter(lines)
        self._returned: collections.deque[str] = collections.deque()
        self.record: list[str] = []
        self.number = 0

    def __iter__(self) -> _Feeder:
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._lines)
        self.number += 1
        self.record.append(line)
        if "\r" in line and line.find("\r", 0, -2) >= 0:
            line = line[:-2].replace("\r", " ") + line[-2:]  # csv takes a lone \r for a line end
        # Python 3.10's csv refuses these.
        return line.replace("\0", "") if "\0" in line else line

    def take_back_all_but_first(self) -> None:
        self._returned.extendleft(reversed(self.record[1:]))
        self.number -= len(self.record) - 1
        del self.record[1:]
