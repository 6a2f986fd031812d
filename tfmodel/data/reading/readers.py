"""One call for every format: a place and settings in, a stream of rows out."""

from __future__ import annotations

import collections
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.data.mistakes import empty_file
from tfmodel.data.reading import conll, documents, folders, jsonlines, squad
from tfmodel.data.reading import dialect as dialects
from tfmodel.data.reading.archives import DataFile
from tfmodel.data.reading.delimited import read_delimited
from tfmodel.data.reading.encoding import guess_encoding, read_lines
from tfmodel.data.reading.fields import Fields, wanted_columns
from tfmodel.data.reading.formats import find_format, is_blank
from tfmodel.data.reading.parquet import read_parquet
from tfmodel.data.reading.places import Place, settings_at
from tfmodel.data.rows import Reject, Row
from tfmodel.data.settings import DETECT, DataSettings
from tfmodel.data.targets import Target, find_target

__all__ = ["Source", "find_format", "open_source"]

_log = logging.getLogger(__name__)

# Half of this many rows unreadable: the settings are wrong, not the rows.
_ROWS_BEFORE_JUDGING = 1_000
# What is said if most of a file's rows cannot be read, given the first of them.
_Complaint = Callable[[Reject], ConfigError]


@dataclass
class Source:
    """An opened file, folder or set of files.

    `facts` says how it is read (format, encoding, delimiter ...), complete once `rows` is
    exhausted; `rows` can be run through once, always in the same order. `target` says what its
    labels are.
    """

    path: Path
    facts: dict[str, Any]
    rows: Iterator[Row | Reject]
    target: Target


def open_source(
    place: Path | Place,
    settings: DataSettings,
    *,
    role: str,
    name: str = "",
    split: str | None = None,
) -> Source:
    """Open a file, a folder or several files of rows.

    Args:
        place: where they are.
        settings: how to read them.
        role: train, dev or test; a TFDS folder gives the split of that name.
        name: what the rows' origins call it; the place's own name by default. Of several files
            each has its own.
        split: of a TFDS folder: another split, or part of one (`train[:10%]`).

    Raises:
        ConfigError: there is no such file, it is empty, of another format or encoding, or lacks
            a wanted column; also later, while the rows are read.
    """
    place = place if isinstance(place, Place) else Place(place)
    name = name or place.name
    settings = settings_at(place, settings)
    if role != "train":  # its rows are not split: no column has to order them
        settings = settings.model_copy(update={"group": None, "time": None})
    kind = find_format(place, settings)
    target = find_target(settings, kind)
    fields = Fields(settings, target)
    facts: dict[str, Any] = {
        "path": str(place), "name": name, "as": role, "format": kind, "target": target.name,
    }  # fmt: skip
    if kind == "tfds":
        split = split or place.split
        rows = folders.read_tfds(place.path, name, fields, role=role, split=split, facts=facts)
    elif kind == "folder":
        facts["encoding"] = settings.encoding
        rows = folders.read_folder(place.path, fields=fields, facts=facts)
    else:
        rows = _read_files(kind, place, name, fields, facts)
    return Source(place.path, facts, rows, target)


def _read_files(
    kind: str, place: Place, name: str, fields: Fields, facts: dict
) -> Iterator[Row | Reject]:
    files = files_of(place)
    if len(files) == 1:
        return _read_or_skip(kind, files[0], name, fields, facts)
    facts["files"] = len(files)
    return _read_in_turn(kind, place.path, files, fields, facts)


def files_of(place: Place) -> tuple[DataFile, ...]:
    """Give the files of a place that are read one after another."""
    if place.path.is_dir() and not place.files:  # of WikiExtractor's
        found = sorted(path for path in place.path.rglob("*") if path.is_file())
        return tuple(DataFile(path) for path in found if not path.name.startswith("."))
    return place.data_files()


def _read_in_turn(
    kind: str, folder: Path, files: tuple[DataFile, ...], fields: Fields, facts: dict
) -> Iterator[Row | Reject]:
    encodings: collections.Counter[str] = collections.Counter()
    for file in files:
        own: dict[str, Any] = {}
        name = str(file.path.relative_to(folder))
        try:
            yield from _read_or_skip(kind, file, name, fields, own)
        finally:
            encodings[own.get("encoding", "")] += 1
            for key, value in own.items():
                counts = isinstance(value, int) and not isinstance(value, bool)
                facts[key] = facts.get(key, 0) + value if counts else facts.get(key, value)
    if len(encodings) > 1:
        facts["encodings"] = dict(sorted(encodings.items()))


def _read_or_skip(
    kind: str, file: DataFile, name: str, fields: Fields, facts: dict
) -> Iterator[Row | Reject]:
    """Read a file; where a corpus wants that, go on after one that cannot be read to its end."""
    if not getattr(fields.settings, "skip_damaged", False):
        return _read_file(kind, file, name, fields, facts)
    return _skipping(kind, file, name, fields, facts)


def _skipping(
    kind: str, file: DataFile, name: str, fields: Fields, facts: dict
) -> Iterator[Row | Reject]:
    try:
        yield from _read_file(kind, file, name, fields, facts)
    except ConfigError as error:
        _log.warning("what follows is left out. %s", error)
        facts["damaged_files"] = 1
        yield Reject("damaged_file", name, "", str(error))


def _read_file(
    kind: str, file: DataFile, name: str, fields: Fields, facts: dict
) -> Iterator[Row | Reject]:
    if kind == "parquet":
        return read_parquet(file, name, fields=fields, facts=facts)
    encoding = fields.settings.encoding
    if encoding == DETECT:
        encoding = guess_encoding(file)
        _log.info("%s: encoding taken to be %s", file, encoding)
    if is_blank(file, encoding):
        raise empty_file(file)
    facts |= {"encoding": encoding, "blank_lines": 0}
    rows, complain = _OPENERS[kind](file, name, encoding, fields, facts)
    return _stop_if_mostly_unreadable(rows, complain)


# --- one for each format of a file ----------------------------------------------------------

_Opened = tuple[Iterator[Row | Reject], _Complaint]


def _open_delimited(
    file: DataFile, name: str, encoding: str, fields: Fields, facts: dict
) -> _Opened:
    dialect = dialects.find_dialect(file, encoding, fields.settings)
    facts |= {
        "delimiter": dialects.delimiter_name(dialect.delimiter),
        "quoting": dialect.quoting,
        "header": dialect.has_header,
        "columns": list(dialect.columns),
    }
    rows = read_delimited(
        file, name, encoding=encoding, dialect=dialect, fields=fields, facts=facts
    )

    def complain(first: Reject) -> ConfigError:
        if first.reason == "wrong_field_count" or first.reason == "malformed":
            return dialects.wrong_delimiter(file, encoding, dialect, first, fields.settings)
        return _wrong_labels(file, first)

    return rows, complain


def _open_by_pattern(
    file: DataFile, name: str, encoding: str, fields: Fields, facts: dict
) -> _Opened:
    rows = _read_by_pattern(file, name, encoding, fields, facts)
    return rows, lambda first: _pattern_does_not_fit(file, fields.settings, first)


def _open_json_lines(
    file: DataFile, name: str, encoding: str, fields: Fields, facts: dict
) -> _Opened:
    rows = jsonlines.read_json_lines(file, name, encoding=encoding, fields=fields, facts=facts)
    return rows, lambda first: jsonlines.not_json(file, first, fields.settings)


def _open_json(file: DataFile, name: str, encoding: str, fields: Fields, facts: dict) -> _Opened:
    del facts["blank_lines"]
    rows = jsonlines.read_json(file, name, encoding=encoding, fields=fields)
    return rows, lambda first: jsonlines.not_json(file, first, fields.settings)


def _open_conll(file: DataFile, name: str, encoding: str, fields: Fields, facts: dict) -> _Opened:
    rows = conll.read_conll(file, name, encoding=encoding, fields=fields, facts=facts)
    return rows, lambda first: conll.not_conll(file, first)


def _open_squad(file: DataFile, name: str, encoding: str, fields: Fields, facts: dict) -> _Opened:
    del facts["blank_lines"]
    rows = squad.read_squad(file, name, encoding=encoding, fields=fields, facts=facts)
    return rows, lambda first: squad.not_squad(file, first)


def _open_texts(file: DataFile, name: str, encoding: str, fields: Fields, facts: dict) -> _Opened:
    unit = getattr(fields.settings, "documents", "line")  # of a corpus
    if unit == "line":
        rows = documents.read_texts(file, name, encoding=encoding, facts=facts)
    else:
        facts["documents"] = unit
        rows = documents.read_blocks(
            file, name, encoding=encoding, facts=facts, whole=unit == "file"
        )
    return rows, lambda first: _wrong_labels(file, first)


def _open_documents(
    file: DataFile, name: str, encoding: str, fields: Fields, facts: dict
) -> _Opened:
    rows = documents.read_wikiextractor(file, name, encoding=encoding, facts=facts)
    return rows, lambda first: documents.not_documents(file, first, fields.settings)


_OPENERS: dict[str, Callable[[DataFile, str, str, Fields, dict], _Opened]] = {
    "csv": _open_delimited,
    "tsv": _open_delimited,
    "regex": _open_by_pattern,
    "jsonl": _open_json_lines,
    "json": _open_json,
    "conll": _open_conll,
    "squad": _open_squad,
    "text": _open_texts,
    "wikiextractor": _open_documents,
}


def _read_by_pattern(
    file: DataFile, name: str, encoding: str, fields: Fields, facts: dict
) -> Iterator[Row | Reject]:
    pattern = re.compile(fields.settings.pattern or "")
    wanted = wanted_columns(fields.settings)
    for number, line in enumerate(read_lines(file, encoding), start=1):
        line = line.rstrip("\r\n")
        if not line.strip():
            facts["blank_lines"] += 1
            continue
        match = pattern.fullmatch(line)
        if match is None:
            yield Reject("malformed", f"{name}:{number}", line, "the pattern does not match")
            continue
        yield fields.to_row([match[each] or "" for each in wanted], f"{name}:{number}", line)


def _pattern_does_not_fit(file: DataFile, settings: DataSettings, first: Reject) -> ConfigError:
    return ConfigError(
        f"{file}: expected lines that data.pattern matches from end to end: {settings.pattern}. "
        f"Received: most do not match, the first at {first.origin}: {first.text[:120]!r}. "
        f"Correct `pattern:` under `data:`."
    )


def _wrong_labels(file: DataFile, first: Reject) -> ConfigError:
    return ConfigError(
        f"{file}: expected labels as data.target says. Received: most rows have others, the first "
        f"at {first.origin} ({first.reason}: {first.detail[:200]}). Check `label:` and `target:` "
        f"under `data:`."
    )


def _stop_if_mostly_unreadable(
    rows: Iterator[Row | Reject], complain: _Complaint
) -> Iterator[Row | Reject]:
    first: Reject | None = None
    rejects = raw = 0
    for raw, row in enumerate(rows, start=1):
        # A missing label is the row's own matter, as a missing text is.
        if isinstance(row, Reject) and row.reason != "empty_label":
            first = first or row
            rejects += 1
        if raw == _ROWS_BEFORE_JUDGING and first and rejects > raw / 2:
            raise complain(first)
        yield row
    if first and rejects > raw / 2:
        raise complain(first)
