r"""CSV, TSV and their kin: what separates the fields, whether quotes quote, and the rows.

A line ends in `\n` or `\r\n`; a quoted field may hold newlines. A stray quote that would swallow
the rows after it costs its own line alone.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tfmodel.config import ConfigError
from tfmodel.data.columns import missing_column
from tfmodel.data.encoding import read_lines
from tfmodel.data.rows import Reject, Row
from tfmodel.data.settings import DataSettings

DELIMITERS = (",", "\t", ";", "|")
_NAMES = {"\t": "tab", " ": "space"}
_QUOTED_BY_CUSTOM = (",", ";")
_HEAD_LINES = 1_000
_QUOTING_SAMPLE_CHARACTERS = 64_000_000
# A field longer than this comes of a quote that was never closed; csv's own limit is 131,072.
_LONGEST_FIELD = 2**24


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a file is cut into fields; `columns` are the header's, or the config's for no header."""

    delimiter: str
    quoting: bool
    columns: tuple[str, ...]
    has_header: bool


def delimiter_name(delimiter: str) -> str:
    """Name a delimiter as a config can hold it."""
    return _NAMES.get(delimiter, delimiter)


def head_of(path: Path, encoding: str, lines: int = _HEAD_LINES) -> list[str]:
    """Give the first lines that are not blank.

    Raises:
        ConfigError: there is none.
    """
    with_text = (line for line in read_lines(path, encoding) if line.strip())
    head = list(itertools.islice(with_text, lines))
    if not head:
        raise ConfigError(
            f"{path}: expected rows of text. Received: an empty file. "
            f"Check that it was written to the end and that the path is the one meant."
        )
    return head


def find_dialect(path: Path, encoding: str, settings: DataSettings) -> Dialect:
    """Find out how a file is delimited; what the settings say is taken as said.

    Raises:
        ConfigError: a wanted column is not there, or the file is empty.
    """
    head = head_of(path, encoding)
    delimiter = _choose_delimiter(path, head, settings)
    header = cut(head[0], delimiter)
    if settings.columns is None:
        columns, has_header = header, True
        _check_columns(path, header, delimiter, head, settings)
    else:
        columns, has_header = settings.columns, header == settings.columns
    quoting = settings.quoting
    if quoting == "auto":
        quoting = find_quoting(_sample(path, encoding), delimiter, len(columns))
    return Dialect(delimiter, bool(quoting), tuple(columns), has_header)


def find_quoting(lines: Sequence[str], delimiter: str, columns: int) -> bool:
    """Find out whether quotes hold fields together, by which reading leaves fewer odd lines.

    Where both readings cut the lines alike, quotes are taken for quoting in a CSV; elsewhere only
    if they show it, by doubled quotes inside or by standing around a field of nearly every line.
    """
    opening = delimiter + '"'
    opened = [line for line in lines if line.startswith('"') or opening in line]
    if not opened:
        return delimiter in _QUOTED_BY_CUSTOM
    plain_odd = sum(line.count(delimiter) + 1 < columns for line in lines)
    if delimiter != " ":
        plain_odd += sum(line.count(delimiter) + 1 > columns for line in lines)
    quoted_odd = _odd_lines_if_quoted(lines, delimiter, columns)
    if quoted_odd != plain_odd or delimiter in _QUOTED_BY_CUSTOM:
        return quoted_odd <= plain_odd
    if quoted_odd:
        return False
    return any('""' in line for line in opened) or len(opened) >= 0.9 * len(lines)


def likely_delimiter(head: Sequence[str]) -> str | None:
    """Name the delimiter that cuts most lines into the same number of fields, at least two."""
    best, best_share = None, 0.5
    for delimiter in DELIMITERS:
        counts = collections.Counter(len(cut(line, delimiter)) for line in head)
        fields, lines = counts.most_common(1)[0]
        share = lines / len(head)
        if fields > 1 and share > best_share:
            best, best_share = delimiter, share
    return best


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


def wrong_delimiter(path: Path, encoding: str, dialect: Dialect, first: Reject) -> ConfigError:
    """Word the error for a file most of whose rows have the wrong number of fields."""
    likely = likely_delimiter(head_of(path, encoding))
    received = first.detail or first.reason
    if likely is not None and likely != dialect.delimiter:
        fix = f"The likely delimiter is {_say(likely)}: add `delimiter: {_as_yaml(likely)}`"
    else:
        fix = "Check `delimiter:`, `columns:` and `quoting:`"
    return ConfigError(
        f"{path}: expected {len(dialect.columns)} fields a row ({', '.join(dialect.columns)}), "
        f"cut at {_say(dialect.delimiter)}. Received: most rows differ, the first at "
        f"{first.origin} ({received}). {fix} under `data:`."
    )


# --- delimiter and columns ------------------------------------------------------------------


def _choose_delimiter(path: Path, head: list[str], settings: DataSettings) -> str:
    if settings.delimiter is not None:
        return settings.delimiter
    is_tsv = path.suffix.lower() in (".tsv", ".tab") and settings.format == "auto"
    if settings.format == "tsv" or is_tsv:
        return "\t"
    if settings.columns is None:
        wanted = settings.wanted()
        for delimiter in DELIMITERS:
            if set(wanted) <= set(cut(head[0], delimiter)):
                return delimiter
        return likely_delimiter(head) or ","
    count = len(settings.columns)

    def lines_that_fit(delimiter: str) -> int:
        return sum(len(cut(line, delimiter)) == count for line in head)

    return max(DELIMITERS, key=lines_that_fit)  # the first of equals


def _check_columns(
    path: Path, header: list[str], delimiter: str, head: list[str], settings: DataSettings
) -> None:
    wanted = settings.wanted()
    for name in wanted:
        if header.count(name) > 1:
            raise ConfigError(
                f"{path}: expected one column {name!r}. Received: {header.count(name)} of them. "
                f"Rename one in the file's header."
            )
        if name in header:
            continue
        for other in DELIMITERS:
            if other != delimiter and set(wanted) <= set(cut(head[0], other)):
                raise ConfigError(
                    f"{path}: expected the columns {', '.join(wanted)}, cut at "
                    f"{_say(delimiter)}. Received the header: {head[0].strip()[:200]}. The likely "
                    f"delimiter is {_say(other)}: write `delimiter: {_as_yaml(other)}` under "
                    f"`data:`."
                )
        raise missing_column(path, name, header, settings, has_header=True)


def cut(line: str, delimiter: str) -> list[str]:
    """Cut one line into fields, stripped."""
    try:
        fields = next(csv.reader([line.replace("\r", "")], delimiter=delimiter), [])
    except csv.Error:
        fields = line.split(delimiter)
    return [field.strip() for field in fields]


def _say(delimiter: str) -> str:
    return f"'{_NAMES[delimiter]}'" if delimiter in _NAMES else f"'{delimiter}'"


def _as_yaml(delimiter: str) -> str:
    return _NAMES.get(delimiter, f'"{delimiter}"')


# --- quoting --------------------------------------------------------------------------------


def _sample(path: Path, encoding: str) -> list[str]:
    sample, characters = [], 0
    for line in read_lines(path, encoding):
        if line.strip():
            sample.append(line)
            characters += len(line)
        if characters > _QUOTING_SAMPLE_CHARACTERS:
            break
    return sample


def _odd_lines_if_quoted(lines: Sequence[str], delimiter: str, columns: int) -> int:
    feeder = _Feeder(lines)
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(feeder, delimiter=delimiter, strict=True)
    odd = 0
    while True:
        feeder.record = []
        try:
            fields = next(reader)
        except StopIteration:
            return odd
        except csv.Error:
            odd += len(feeder.record)
            continue
        taken = len(feeder.record)
        if len(fields) != columns:
            odd += taken
        elif taken > 1 and all(line.count(delimiter) + 1 == columns for line in feeder.record):
            odd += taken  # each line is a row of its own: two stray quotes, not one field


# --- records --------------------------------------------------------------------------------


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
            fields = fields if _well_quoted(feeder.record, delimiter) else None
        if fields is None:
            feeder.take_back_all_but_first()
        yield start, fields, "".join(feeder.record).rstrip("\r\n")


def _well_quoted(record: list[str], delimiter: str) -> bool:
    try:
        return len(list(csv.reader(record, delimiter=delimiter, strict=True))) == 1
    except csv.Error:
        return False


def plain_records(
    lines: Iterable[str], delimiter: str, most_fields: int
) -> Iterator[tuple[int, list[str], str]]:
    """Give (line number, fields, raw text) a line; the last of `most_fields` keeps the rest."""
    for number, line in enumerate(lines, start=1):
        line = line.rstrip("\r\n")
        yield number, line.split(delimiter, most_fields - 1), line
