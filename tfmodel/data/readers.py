"""One call for every format: a path and settings in, a stream of rows out."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.data import dialect as dialects
from tfmodel.data import folders, jsonlines
from tfmodel.data.delimited import read_delimited
from tfmodel.data.encoding import guess_encoding, read_lines, unreadable
from tfmodel.data.rows import Reject, Row
from tfmodel.data.settings import DETECT, DataSettings

_log = logging.getLogger(__name__)

_SUFFIXES = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".json": "jsonl",
}  # fmt: skip
# First bytes of what is often named where text is meant.
_NOT_TEXT = {
    b"PK\x03\x04": ("a zip archive, or a spreadsheet (.xlsx)", "Unpack it, or save it as CSV"),
    b"\x1f\x8b": ("a gzip file", "Unpack it: gunzip --keep FILE"),
    b"\x28\xb5\x2f\xfd": ("a zstd file", "Unpack it: zstd -d FILE"),
    b"PAR1": ("a Parquet file", "Save it as CSV or JSON Lines"),
    b"\xd0\xcf\x11\xe0": ("an old Office document", "Save it as CSV"),
    b"%PDF": ("a PDF", "Save its texts as CSV or JSON Lines"),
}
# Half of this many rows unreadable: the settings are wrong, not the rows.
_ROWS_BEFORE_JUDGING = 1_000


@dataclasses.dataclass
class Source:
    """An opened file or folder.

    `facts` says how it is read (format, encoding, delimiter ...), complete once `rows` is
    exhausted; `rows` can be run through once.
    """

    path: Path
    facts: dict[str, Any]
    rows: Iterator[Row | Reject]


def open_source(path: Path, settings: DataSettings, *, role: str, name: str = "") -> Source:
    """Open a file or folder of labelled rows.

    Args:
        path: where it is.
        settings: how to read it.
        role: train, dev or test; a TFDS folder gives the split of that name.
        name: what the rows' origins call it; the path's own name by default.

    Raises:
        ConfigError: there is no such file, it is empty, of another format or encoding, or lacks
            a wanted column; also later, while the rows are read.
    """
    name = name or path.name
    kind = find_format(path, settings)
    facts: dict[str, Any] = {"path": str(path), "name": name, "as": role, "format": kind}
    if kind == "tfds":
        return Source(path, facts, folders.read_tfds(path, name, settings, role=role, facts=facts))
    if kind == "folder":
        facts["encoding"] = settings.encoding
        return Source(path, facts, folders.read_folder(path, settings=settings, facts=facts))
    encoding = settings.encoding
    if encoding == DETECT:
        encoding = guess_encoding(path)
        _log.info("%s: encoding taken to be %s", path, encoding)
    facts |= {"encoding": encoding, "blank_lines": 0}
    rows, complain = _open_file(kind, path, name, encoding, settings, facts)
    return Source(path, facts, _stop_if_mostly_unreadable(rows, complain))


def find_format(path: Path, settings: DataSettings) -> str:
    """Tell the format: what the settings say, or by the path's suffix and a look inside.

    Raises:
        ConfigError: the path is not there, or is not what the settings say.
    """
    if not path.exists():
        near = _nearest_file(path)
        raise ConfigError(
            f"{path}: expected a file or folder of labelled rows. Received: a path where there is "
            f"none.{near} Check data.train, data.dev and data.test."
        )
    if path.is_dir():
        is_tfds = (path / "dataset_info.json").exists() and (path / "features.json").exists()
        if settings.format == "auto":
            return "tfds" if is_tfds else "folder"
        if settings.format in ("folder", "tfds"):
            return settings.format
        raise ConfigError(
            f"{path}: expected a {settings.format} file. Received: a folder. Name a file in it, "
            f"or write `format: folder` under `data:` for one folder per class."
        )
    if settings.format in ("folder", "tfds"):
        raise ConfigError(
            f"{path}: expected a folder (data.format is {settings.format}). Received: a file. "
            f"Write `format: auto` under `data:`, or name the folder."
        )
    _refuse_binary(path)
    if settings.format != "auto":
        return settings.format
    if settings.pattern is not None:
        return "regex"
    return _SUFFIXES.get(path.suffix.lower()) or _look_inside(path, settings)


def _look_inside(path: Path, settings: DataSettings) -> str:
    encoding = guess_encoding(path) if settings.encoding == DETECT else settings.encoding
    first = dialects.head_of(path, encoding, lines=1)[0]
    if first.lstrip().startswith("{") and not jsonlines.parse_line(first)[1]:
        return "jsonl"
    return "csv"


def _open_file(
    kind: str, path: Path, name: str, encoding: str, settings: DataSettings, facts: dict
) -> tuple[Iterator[Row | Reject], Callable[[Reject], ConfigError]]:
    """Give the rows, and what to say if most of them cannot be read."""
    if kind == "regex":
        rows = _read_by_pattern(path, name, encoding=encoding, settings=settings, facts=facts)
        return rows, lambda first: _pattern_does_not_fit(path, settings, first)
    if kind == "jsonl":
        dialects.head_of(path, encoding, lines=1)  # an empty file is an error
        rows = jsonlines.read_json_lines(
            path, name, encoding=encoding, settings=settings, facts=facts
        )
        return rows, lambda first: jsonlines.not_json_lines(path, encoding, first)
    dialect = dialects.find_dialect(path, encoding, settings)
    facts |= {
        "delimiter": dialects.delimiter_name(dialect.delimiter),
        "quoting": dialect.quoting,
        "header": dialect.has_header,
        "columns": list(dialect.columns),
    }
    rows = read_delimited(
        path, name, encoding=encoding, dialect=dialect, settings=settings, facts=facts
    )
    return rows, lambda first: dialects.wrong_delimiter(path, encoding, dialect, first)


def _read_by_pattern(
    path: Path, name: str, *, encoding: str, settings: DataSettings, facts: dict
) -> Iterator[Row | Reject]:
    dialects.head_of(path, encoding, lines=1)
    pattern = re.compile(settings.pattern or "")
    for number, line in enumerate(read_lines(path, encoding), start=1):
        line = line.rstrip("\r\n")
        if not line.strip():
            facts["blank_lines"] += 1
            continue
        match = pattern.fullmatch(line)
        if match is None:
            yield Reject("malformed", f"{name}:{number}", line, "the pattern does not match")
            continue
        pair = match[settings.text_pair] or "" if settings.text_pair is not None else None
        text, label = match[settings.text] or "", match[settings.label] or ""
        yield Row(text, pair, label, f"{name}:{number}")


def _pattern_does_not_fit(path: Path, settings: DataSettings, first: Reject) -> ConfigError:
    return ConfigError(
        f"{path}: expected lines that data.pattern matches from end to end: {settings.pattern}. "
        f"Received: most do not match, the first at {first.origin}: {first.text[:120]!r}. "
        f"Correct `pattern:` under `data:`."
    )


def _stop_if_mostly_unreadable(
    rows: Iterator[Row | Reject], complain: Callable[[Reject], ConfigError]
) -> Iterator[Row | Reject]:
    first: Reject | None = None
    rejects = raw = 0
    for raw, row in enumerate(rows, start=1):
        if isinstance(row, Reject):
            first = first or row
            rejects += 1
        if raw == _ROWS_BEFORE_JUDGING and first and rejects > raw / 2:
            raise complain(first)
        yield row
    if first and rejects > raw / 2:
        raise complain(first)


def _refuse_binary(path: Path) -> None:
    try:
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError as error:
        raise unreadable(path, error) from None
    for magic, (what, fix) in _NOT_TEXT.items():
        if start.startswith(magic):
            raise ConfigError(
                f"{path}: expected a file of text. Received: {what}. {fix} and name that."
            )


def _nearest_file(path: Path) -> str:
    import difflib

    try:
        beside = [entry.name for entry in itertools.islice(path.parent.iterdir(), 10_000)]
    except OSError:
        return f" The folder {path.parent} is not there either."
    near = difflib.get_close_matches(path.name, beside, n=1)
    return f" Did you mean {path.with_name(near[0])}?" if near else ""
