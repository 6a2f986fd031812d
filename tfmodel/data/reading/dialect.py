"""What separates the fields of a file, whether its quotes quote, and what its columns are."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tfmodel.config import ConfigError
from tfmodel.data.mistakes import (
    column_names,
    empty_file,
    missing_column,
    of_documents,
    quoted,
)
from tfmodel.data.reading.archives import DataFile
from tfmodel.data.reading.encoding import read_lines
from tfmodel.data.reading.fields import wanted_columns
from tfmodel.data.reading.records import cut, odd_lines_if_quoted
from tfmodel.data.rows import Reject
from tfmodel.data.settings import DataSettings

DELIMITERS = (",", "\t", ";", "|")
_QUOTED_BY_CUSTOM = (",", ";")
_NAMES = {"\t": "tab", " ": "space"}
_HEAD_LINES = 1_000
_QUOTING_SAMPLE_CHARACTERS = 64_000_000


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


def head_of(path: Path | DataFile, encoding: str, lines: int = _HEAD_LINES) -> list[str]:
    """Give the first lines that are not blank.

    Raises:
        ConfigError: there is none, or they end as nothing ends them any more.
    """
    with_text = (line for line in read_lines(path, encoding) if line.strip())
    head = list(itertools.islice(with_text, lines))
    if not head:
        raise empty_file(path)
    if len(head) == 1 and head[0].rstrip("\r\n").count("\r") > 1:
        raise ConfigError(
            f"{path}: expected lines that end in LF or CR LF. Received: lines that end in CR "
            f"alone, as on an old Mac. Convert it: tr '\\r' '\\n' < FILE > NEW_FILE"
        )
    return head


def find_dialect(path: Path | DataFile, encoding: str, settings: DataSettings) -> Dialect:
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
        quoting = find_quoting(_Sample(path, encoding), delimiter, len(columns))
    return Dialect(delimiter, bool(quoting), tuple(columns), has_header)


def find_quoting(lines: Iterable[str], delimiter: str, columns: int) -> bool:
    """Find out whether quotes hold fields together, by which reading leaves fewer odd lines.

    Where both readings cut the lines alike, quotes are taken for quoting in a CSV; elsewhere only
    if they show it, by doubled quotes inside or by standing around a field of nearly every line.

    Args:
        lines: gone through twice.
        delimiter: the character between fields.
        columns: how many fields a row has.
    """
    opening = delimiter + '"'
    count = opened = doubled = plain_odd = 0
    for line in lines:
        count += 1
        fields = line.count(delimiter) + 1
        plain_odd += fields < columns or (fields > columns and delimiter != " ")
        if '"' in line and (line.startswith('"') or opening in line):
            opened += 1
            doubled += '""' in line
    if not opened:
        return delimiter in _QUOTED_BY_CUSTOM
    quoted_odd = odd_lines_if_quoted(lines, delimiter, columns)
    if quoted_odd != plain_odd or delimiter in _QUOTED_BY_CUSTOM:
        return quoted_odd <= plain_odd
    if quoted_odd:
        return False
    return doubled > 0 or opened >= 0.9 * count


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


def wrong_delimiter(
    path: Path | DataFile, encoding: str, dialect: Dialect, first: Reject, settings: DataSettings
) -> ConfigError:
    """Word the error for a file most of whose rows have the wrong number of fields."""
    likely = likely_delimiter(head_of(path, encoding))
    received = first.detail or first.reason
    if likely is not None and likely != dialect.delimiter:
        fix = _say_delimiter(likely, settings)
    elif of_documents(settings):
        fix = "Check `format:`"
    else:
        fix = "Check `delimiter:`, `columns:` and `quoting:`"
    return ConfigError(
        f"{path}: expected {len(dialect.columns)} fields a row "
        f"({column_names(dialect.columns, settings)}), cut at {_say(dialect.delimiter)}. "
        f"Received: most rows differ, the first at {first.origin} ({received}). {fix} "
        f"under `data:`."
    )


def _choose_delimiter(path: Path | DataFile, head: list[str], settings: DataSettings) -> str:
    if settings.delimiter is not None:
        return settings.delimiter
    is_tsv = path.suffix.lower() in (".tsv", ".tab") and settings.format == "auto"
    if settings.format == "tsv" or is_tsv:
        return "\t"
    if settings.columns is None:
        wanted = wanted_columns(settings)
        for delimiter in DELIMITERS:
            if set(wanted) <= set(cut(head[0], delimiter)):
                return delimiter
        return likely_delimiter(head) or ","
    count = len(settings.columns)

    def lines_that_fit(delimiter: str) -> int:
        widths = [len(cut(line, delimiter)) for line in head]
        if settings.extra_columns:
            return sum(width >= count for width in widths)
        return widths.count(count)

    return max(DELIMITERS, key=lines_that_fit)  # the first of equals


def _check_columns(
    path: Path | DataFile,
    header: list[str],
    delimiter: str,
    head: list[str],
    settings: DataSettings,
) -> None:
    wanted = wanted_columns(settings)
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
                    f"{_say(delimiter)}. Received the header: {_header_of(head[0], settings)}. "
                    f"{_say_delimiter(other, settings)} under `data:`."
                )
        raise missing_column(path, name, header, settings, has_header=True)


class _Sample:
    """The first lines of a file that are not blank, read anew each time."""

    def __init__(self, file: Path | DataFile, encoding: str):
        self._file, self._encoding = file, encoding

    def __iter__(self) -> Iterator[str]:
        characters = 0
        for line in read_lines(self._file, self._encoding):
            if line.strip():
                yield line
                characters += len(line)
            if characters > _QUOTING_SAMPLE_CHARACTERS:
                return


def _header_of(line: str, settings: DataSettings) -> str:
    shown = line.strip()
    return quoted(shown, settings) if getattr(settings, "hides_texts", False) else shown[:200]


def _say_delimiter(likely: str, settings: DataSettings) -> str:
    found = f"The likely delimiter is {_say(likely)}:"
    if not of_documents(settings):
        return f"{found} add `delimiter: {_as_yaml(likely)}`"
    kinds = {"\t": "tsv", ",": "csv"}
    if likely in kinds:
        return f"{found} write `format: {kinds[likely]}`"
    return f"{found} save the file with commas or tabs, and name its kind by `format:`"


def _say(delimiter: str) -> str:
    return f"'{_NAMES[delimiter]}'" if delimiter in _NAMES else f"'{delimiter}'"


def _as_yaml(delimiter: str) -> str:
    return _NAMES.get(delimiter, f'"{delimiter}"')
