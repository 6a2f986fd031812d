"""A look at the first rows of a file as a table: which keys of `data:` read it, and why."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.data.mistakes import header_alone
from tfmodel.data.reading.archives import DataFile
from tfmodel.data.reading.dialect import DELIMITERS, delimiter_name, find_quoting, head_of
from tfmodel.data.reading.encoding import read_lines
from tfmodel.data.reading.guess_answers import guess_answers
from tfmodel.data.reading.guess_columns import (
    ColumnRoles,
    Table,
    guess_roles,
    has_header,
    unclear_columns,
)
from tfmodel.data.reading.json_stream import JsonStream
from tfmodel.data.reading.json_values import as_text, flatten
from tfmodel.data.reading.jsonlines import parse_line
from tfmodel.data.reading.records import cut, cut_lines

_ROWS_LOOKED_AT = 20_000
# What the array of rows is called, where an object holds several.
_RECORDS = ("train", "data", "rows", "records", "examples", "items")


def describe_tfds(path: Path, settings: dict[str, Any], notes: list[str]) -> None:
    """Describe a TFDS folder by its plain features."""
    from tfmodel.data.reading.folders import open_tfds, tfds_split

    builder = open_tfds(path)
    split = tfds_split(builder, "train") or next(iter(builder.info.splits))
    examples = builder.as_dataset(split=split, shuffle_files=False).take(_ROWS_LOOKED_AT)
    # Sorted: tfds gives them in another order in every process.
    names = sorted(name for name, each in builder.info.features.items() if each.shape == ())
    rows = []
    for example in examples.as_numpy_iterator():
        values = (example[name] for name in names)
        rows.append(
            [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]
        )
    _settle(path, Table(names, rows), settings, notes)


def describe_json_lines(
    file: DataFile, encoding: str, settings: dict[str, Any], notes: list[str]
) -> None:
    """Describe a file of one object a line."""
    lines = (line for line in read_lines(file, encoding) if line.strip())
    items = (parse_line(line)[0] for line in itertools.islice(lines, _ROWS_LOOKED_AT))
    _settle_items(file, items, settings, notes)


def describe_json(
    file: DataFile,
    encoding: str,
    settings: dict[str, Any],
    notes: list[str],
    *,
    records: str | None = None,
) -> None:
    """Describe a file of JSON: where its rows are, unless that is known, and what they hold."""
    if records is None:
        records = _find_records(file, encoding)
        if records is not None:
            settings["records"] = records
    stream = JsonStream(file, encoding)
    try:
        if records is not None:
            stream.enter(records)
        values = [value for _, value, _, _ in itertools.islice(stream.values(), _ROWS_LOOKED_AT)]
    finally:
        stream.close()
    width = max((len(value) for value in values if isinstance(value, list)), default=0)
    if width == 0:
        _settle_items(file, (v for v in values if isinstance(v, dict)), settings, notes)
        return
    names = [f"column_{number}" for number in range(1, width + 1)]
    lists = [value for value in values if isinstance(value, list) and len(value) == width]
    rows = [[as_text(cell) or "" for cell in value] for value in lists]
    _name_columns(file, names, rows, settings, notes)


def _find_records(file: DataFile, encoding: str) -> str | None:
    """Name the field that holds the rows of the whole file; None where its values are rows."""
    stream = JsonStream(file, encoding)
    try:
        if stream.peek() != "{":
            return None
        first = next(value for _, value, _, _ in stream.values())
        if stream.peek():
            return None  # one object after another: each is a row
    finally:
        stream.close()
    arrays = [
        name
        for name, value in (flatten(first) if isinstance(first, dict) else {}).items()
        if isinstance(value, list) and value and isinstance(value[0], dict | list)
    ]
    known = [name for name in _RECORDS if name in arrays]
    return next(iter(known or arrays), None)


def describe_parquet(file: DataFile, settings: dict[str, Any], notes: list[str]) -> None:
    """Describe a Parquet file by its first rows."""
    from tfmodel.data.reading.parquet import first_rows

    _settle_items(file, first_rows(file, _ROWS_LOOKED_AT), settings, notes)


def _settle_items(
    file: DataFile, items: Iterable[Mapping], settings: dict[str, Any], notes: list[str]
) -> None:
    items = list(items)
    if (found := guess_answers(items)) is not None:
        settings |= found
        return
    leaves = [{name: as_text(value) for name, value in flatten(item).items()} for item in items]
    names = list(dict.fromkeys(name for item in leaves for name in item))
    rows = [[item.get(name) or "" for name in names] for item in leaves]
    _settle(file, Table(names, rows), settings, notes)


def describe_delimited(
    path: DataFile, encoding: str, settings: dict[str, Any], notes: list[str]
) -> None:
    """Describe a CSV, a TSV, or lines of a label and a text."""
    head_of(path, encoding, lines=1)  # an empty file is an error
    lines = list(itertools.islice(read_lines(path, encoding), _ROWS_LOOKED_AT))
    best = _best_cut(path, lines)
    if best is None:
        if not _describe_label_first(lines, settings, notes):
            raise ConfigError(
                f"{path}: expected a CSV, TSV or JSON Lines file, a folder per class, or lines of "
                f"a label and a text. Received lines that none of these fits: "
                f"{lines[0].strip()[:120]!r}. Write `format: regex` and a `pattern:` with the "
                f"groups (?P<label>...) and (?P<text>...) under `data:`."
            )
        return
    delimiter, rows = best
    if len(rows) < 2:
        raise header_alone(path)
    if has_header(rows):
        names = [name.strip() for name in rows[0]]
        if found := guess_answers([dict(zip(names, row, strict=True)) for row in rows[1:]]):
            settings |= found
        else:
            _settle(path, Table(names, rows[1:]), settings, notes)
    else:
        names = [f"column_{number}" for number in range(1, len(rows[0]) + 1)]
        _name_columns(path, names, rows, settings, notes)
    if delimiter != ("\t" if path.suffix.lower() in (".tsv", ".tab") else ","):
        settings["delimiter"] = delimiter_name(delimiter)


def _name_columns(
    file: DataFile,
    names: list[str],
    rows: list[list[str]],
    settings: dict[str, Any],
    notes: list[str],
) -> None:
    roles = _settle(file, Table(names, rows), settings, notes)
    named = {roles.text: "text", roles.text_pair: "text_pair", roles.label: "label"}
    settings["columns"] = [named.get(name, name) for name in names]
    settings |= {key: key for key in ("text", "text_pair", "label") if key in settings}
    notes.append("The file has no header: the columns are named by their looks.")


def _best_cut(path: DataFile, lines: list[str]) -> tuple[str, list[list[str]]] | None:
    """Find the delimiter that cuts the lines into most rows of one width; None if none does."""
    best, best_share = None, 0.7
    is_tsv = path.suffix.lower() in (".tsv", ".tab")
    for delimiter in sorted(DELIMITERS, key=lambda each: is_tsv and each != "\t"):
        widths = collections.Counter(line.count(delimiter) + 1 for line in lines)
        rows = None
        for width in {len(cut(lines[0], delimiter)), widths.most_common(1)[0][0]}:
            if width < 2:
                continue
            quoting = find_quoting(lines, delimiter, width)
            found, missed = cut_lines(lines, delimiter, quoting=quoting, columns=width)
            share = len(found) / max(len(found) + missed, 1)
            if share > best_share:
                best_share, rows = share, found
        if rows:
            best = delimiter, rows
    return best


def _describe_label_first(lines: list[str], settings: dict[str, Any], notes: list[str]) -> bool:
    """Whether each line is a label, a space and a text, as in `4 What is the capital ...`."""
    pairs = [line.strip().split(" ", 1) for line in lines if line.strip()]
    labels = {pair[0] for pair in pairs}
    most = max(len(pairs) / 10, min(len(pairs) / 3, 10))  # first words of prose repeat less
    if any(len(pair) < 2 for pair in pairs) or not 2 <= len(labels) <= most:
        return False
    settings |= {"delimiter": "space", "quoting": False, "columns": ["label", "text"]}
    notes.append("Each line is taken as a label, a space and the text.")
    return True


def _settle(
    path: Path | DataFile, table: Table, settings: dict[str, Any], notes: list[str]
) -> ColumnRoles:
    roles = guess_roles(table)
    if roles is None:
        raise unclear_columns(path, table)
    settings["text"] = roles.text
    if roles.text_pair is not None:
        settings["text_pair"] = roles.text_pair
        notes.append("Two columns of text: each row is taken as a pair of texts.")
    settings["label"] = roles.label
    used = (roles.text, roles.text_pair, roles.label)
    unused = [name for name in table.names if name not in used and name]
    if unused:
        notes.append(f"Columns not used: {', '.join(unused)}.")
    return roles
