"""Which format a file or folder has: by its settings, its name, and a look inside."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path

from tfmodel.config import ConfigError
from tfmodel.data.reading.archives import DataFile, data_members, is_zip, open_bytes
from tfmodel.data.reading.conll import looks_like_conll
from tfmodel.data.reading.dialect import DELIMITERS
from tfmodel.data.reading.documents import DOCUMENT_START
from tfmodel.data.reading.encoding import guess_encoding, open_text, unreadable, wrong_encoding
from tfmodel.data.reading.folders import has_class_folders
from tfmodel.data.reading.places import Place, settings_at
from tfmodel.data.reading.records import cut
from tfmodel.data.settings import DETECT, DataSettings

_SUFFIXES = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".conll": "conll", ".iob": "conll", ".iob2": "conll", ".bio": "conll", ".bioes": "conll",
}  # fmt: skip
_FOLDER_FORMATS = ("folder", "tfds", "wikiextractor")
# First bytes of what is often named where text is meant.
_NOT_TEXT = {
    b"BZh": ("a bzip2 file", "Unpack it: bunzip2 --keep FILE"),
    b"\xfd7zXZ": ("an xz file", "Unpack it: xz --decompress --keep FILE"),
    b"7z\xbc\xaf": ("a 7z archive", "Unpack it"),
    b"Rar!": ("a RAR archive", "Unpack it"),
    b"\xd0\xcf\x11\xe0": ("an old Office document", "Save it as CSV"),
    b"%PDF": ("a PDF", "Save its texts as CSV or JSON Lines"),
    b"SQLite f": ("an SQLite database", "Save the table as CSV"),
    b"\x89HDF": ("an HDF5 file", "Save the table as CSV"),
    b"ARROW1": ("an Arrow file", "Save it as Parquet"),
}
_PARQUET = b"PAR1"
_WRITE_PARQUET = "Write `format: parquet` or `format: auto` under `data:`"
_LOOK_CHARACTERS = 2**16
_SQUAD = re.compile(r'"(?:paragraphs|qas)"\s*:')
_JSON = re.compile(r'[\[{]\s*(?:["{}\[\]]|$)')


def find_format(place: Path | Place, settings: DataSettings) -> str:
    """Tell the format: what the settings say, or by the name and a look inside.

    Raises:
        ConfigError: there is nothing there, or not what the settings say.
    """
    place = place if isinstance(place, Place) else Place(place)
    settings = settings_at(place, settings)
    if place.files:
        return _format_of_first(place.files, settings)
    if not place.path.exists():
        raise ConfigError(
            f"{place}: expected a file or folder of labelled rows. Received: a path where there "
            f"is none.{_nearest_file(place.path)} Check data.train, data.dev and data.test."
        )
    if place.path.is_dir():
        return _format_of_folder(place.path, settings)
    if place.member is None and settings.format in ("auto", "folder"):
        try:
            if is_zip(place.path) and has_class_folders(data_members(place.path)):
                return "folder"
        except OSError as error:
            raise unreadable(place.path, error) from None
    if settings.format in ("folder", "tfds"):
        raise ConfigError(
            f"{place}: expected a folder (data.format is {settings.format}). Received: a file. "
            f"Write `format: auto` under `data:`, or name the folder."
        )
    return _format_of_file(DataFile(place.path, place.member), settings)


def _format_of_first(files: Sequence[Path], settings: DataSettings) -> str:
    """Tell the format of several files by the first, or where a corpus goes on, the first whole."""
    last = len(files) - 1 if getattr(settings, "skip_damaged", False) else 0
    for number, path in enumerate(files):
        try:
            file = DataFile(path)
            kind = _format_of_file(file, settings)
            if number < last and is_blank(file, "latin-1"):
                continue
            return kind
        except ConfigError:
            if number == last:
                raise
    raise AssertionError("unreachable")


def is_blank(file: DataFile, encoding: str) -> bool:
    """Whether nothing but space stands in a file."""
    start = look_at_start(file, encoding)
    return len(start) < _LOOK_CHARACTERS and not start.strip("\ufeff \t\r\n")


def look_at_start(file: DataFile, encoding: str) -> str:
    """Give the first characters of a file; of one that is damaged further on, whole lines before.

    Raises:
        ConfigError: it cannot be read or decoded.
    """
    start = ""
    try:
        with open_text(file, encoding) as opened:
            while len(start) < _LOOK_CHARACTERS:
                line = opened.readline(_LOOK_CHARACTERS - len(start))
                if not line:
                    break
                start += line
            return start
    except ConfigError:
        if start:
            return start  # reading it says what is wrong
        raise
    except UnicodeError as error:
        raise wrong_encoding(file, encoding, error) from None
    except OSError as error:
        raise unreadable(file, error) from None


def _format_of_folder(path: Path, settings: DataSettings) -> str:
    if settings.format in _FOLDER_FORMATS:
        return settings.format
    if settings.format != "auto":
        raise ConfigError(
            f"{path}: expected a {settings.format} file. Received: a folder. Name a file in it, "
            f"or several by {path}/*; or write `format: folder` under `data:` for one folder per "
            f"class."
        )
    if (path / "dataset_info.json").exists() and (path / "features.json").exists():
        return "tfds"
    try:
        some_file = next((entry for entry in path.rglob("*") if entry.is_file()), None)
        if some_file is not None:
            with open(some_file, "rb") as opened:
                if opened.read(len(DOCUMENT_START)) == DOCUMENT_START.encode():
                    return "wikiextractor"
    except OSError as error:
        raise unreadable(path, error) from None
    return "folder"


def _format_of_file(file: DataFile, settings: DataSettings) -> str:
    try:
        with open_bytes(file) as opened:
            start = opened.read(512)
    except OSError as error:
        raise unreadable(file, error) from None
    except ConfigError:
        if settings.format != "auto" and getattr(settings, "skip_damaged", False):
            return settings.format  # reading it says what is wrong, and goes on
        raise
    if start.startswith(_PARQUET) and settings.format in ("auto", "parquet"):
        return "parquet"
    for magic, (what, fix) in {**_NOT_TEXT, _PARQUET: ("a Parquet file", _WRITE_PARQUET)}.items():
        if start.startswith(magic):
            raise _not_text(file, what, fix)
    if start[257:262] == b"ustar":
        raise _not_text(file, "a tar archive", "Unpack it: tar --extract --file FILE")
    if settings.format == "parquet" or (settings.format == "auto" and file.suffix == ".parquet"):
        raise ConfigError(
            f"{file}: expected a Parquet file. Received: a file that does not start as one. "
            f"Download it again, or say by `format:` under `data:` what it is."
        )
    if settings.format != "auto":
        return settings.format
    if settings.pattern is not None:
        return "regex"
    return _SUFFIXES.get(file.suffix) or _look_inside(file, settings)


def _not_text(file: DataFile, what: str, fix: str) -> ConfigError:
    return ConfigError(f"{file}: expected a file of text. Received: {what}. {fix} and name that.")


def _look_inside(file: DataFile, settings: DataSettings) -> str:
    encoding = guess_encoding(file) if settings.encoding == DETECT else settings.encoding
    start = look_at_start(file, encoding)
    text = start.lstrip("\ufeff \t\r\n")
    if text.startswith(DOCUMENT_START):
        return "wikiextractor"
    if not text:
        return "csv"  # which says that the file is empty
    kind = _json_kind(text, settings, is_whole=len(start) < _LOOK_CHARACTERS)
    if kind or file.suffix == ".json":
        return kind or ("json" if text.startswith("[") else "jsonl")
    head = list(itertools.islice((line for line in text.split("\n") if line.strip()), 200))
    if settings.delimiter is not None or settings.target not in ("auto", "tags", "spans", "none"):
        return "csv"
    if settings.target != "none" and looks_like_conll(head[:-1] or head):
        return "conll"
    named = settings.columns or any(settings.text in cut(head[0], each) for each in DELIMITERS)
    return "text" if settings.target == "none" and not named else "csv"


def _json_kind(text: str, settings: DataSettings, *, is_whole: bool) -> str | None:
    """Tell JSON Lines from an array or objects over several lines; None where it is no JSON."""
    if not text.startswith(("{", "[")):
        return None
    if settings.target in ("auto", "answers") and _SQUAD.search(text):
        return "squad"
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) > 1 or is_whole:
        try:
            value = json.loads(lines[0])
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            return "jsonl" if settings.records is None and len(lines) > 1 else "json"
        if isinstance(value, list) and len(lines) > 1 and lines[1].startswith("["):
            return "jsonl"
    return "json" if settings.records is not None or _JSON.match(text) else None


def _nearest_file(path: Path) -> str:
    import difflib

    try:
        beside = [entry.name for entry in itertools.islice(path.parent.iterdir(), 10_000)]
    except OSError:
        return f" The folder {path.parent} is not there either."
    near = difflib.get_close_matches(path.name, beside, n=1)
    return f" Did you mean {path.with_name(near[0])}?" if near else ""
