"""A user's list of synonyms: one file, three forms."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from tfmodel.config import ConfigError

Synonyms = Mapping[str, tuple[str, ...]]
_FORMS = (
    'expected JSON {"word": ["other", …]}, TSV lines word<TAB>other<TAB>…, or text lines of words '
    "of one meaning with commas between them"
)


def read_synonyms(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Read a list of synonyms.

    Args:
        path: UTF-8. `.json`: an object from each word to a list of words. `.tsv`: a word, then
            what may stand in its place. Anything else: words of one meaning on a line, commas
            between them, each of which may stand for each other. Empty lines and lines that
            start with `#` are left out.

    Returns:
        From each word, in lower case, to others; what stands for a word is not taken to work
        the other way round, except in a text file.

    Raises:
        ConfigError: no file, not UTF-8, another form, or no synonym in it.
    """
    path = Path(path).expanduser()
    try:
        content = path.read_text("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        received = "a folder" if path.is_dir() else "a path where there is none"
        raise _wrong(path, f"expected a file of synonyms. Received: {received}") from None
    except UnicodeDecodeError as error:
        raise _wrong(
            path, f"expected UTF-8 text. Received: byte {error.start} that is not"
        ) from None
    read = {".json": _read_json, ".tsv": _read_tsv}.get(path.suffix.lower(), _read_groups)
    found: dict[str, dict[str, None]] = {}
    for word, others in read(path, content):
        key = word.strip().lower()
        kept = (other.strip() for other in others)
        found.setdefault(key, {}).update(
            (other, None) for other in kept if other and other.lower() != key
        )
    synonyms = {word: tuple(others) for word, others in found.items() if word and others}
    if not synonyms:
        raise _wrong(path, f"{_FORMS}. Received: no word with another beside it")
    return synonyms


def _read_json(path: Path, content: str) -> Iterable[tuple[str, list[str]]]:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _wrong(path, f"expected JSON. Received: {error}") from None
    if not isinstance(values, dict):
        raise _wrong(path, f"{_FORMS}. Received: a JSON {type(values).__name__}")
    for word, others in values.items():
        if not isinstance(others, list) or not all(isinstance(each, str) for each in others):
            raise _wrong(
                path, f"expected a list of words for {word!r}. Received: {str(others)[:60]!r}"
            )
        yield word, others


def _read_tsv(path: Path, content: str) -> Iterable[tuple[str, list[str]]]:
    for number, line in _lines(content):
        word, *others = line.split("\t")
        if not word.strip() or not others:
            raise _wrong(
                path,
                f"line {number}: expected word<TAB>other. Received: {line[:60]!r}",
            )
        yield word, others


def _read_groups(path: Path, content: str) -> Iterable[tuple[str, list[str]]]:
    for number, line in _lines(content):
        words = [word for word in line.replace("，", ",").split(",") if word.strip()]
        if len(words) < 2:
            raise _wrong(
                path,
                f"line {number}: expected words of one meaning with commas between them. "
                f"Received: {line[:60]!r}",
            )
        for word in words:
            yield word, words


def _lines(content: str) -> Iterable[tuple[int, str]]:
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            yield number, line


def _wrong(path: Path, problem: str) -> ConfigError:
    return ConfigError(f"{path}: {problem}. Name another file by data.augment.synonyms.")
