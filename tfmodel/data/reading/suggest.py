"""Look at a data file and write the `data:` section that reads it: `tfmodel init FILE`."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
import re
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.data.cleaning import clean, clean_label
from tfmodel.data.reading import sample_table
from tfmodel.data.reading.encoding import guess_encoding
from tfmodel.data.reading.guess_spans import guess_spans
from tfmodel.data.reading.places import Place, find_place
from tfmodel.data.reading.readers import find_format, open_source
from tfmodel.data.rows import Reject
from tfmodel.data.settings import DETECT, DataSettings

_ROWS_COUNTED = 200_000
_ROWS_A_CLASS = 3  # at least, on average, where whole numbers are the names of classes
_WITHOUT_CLASSES = {
    "wikiextractor": "documents without labels",
}
_ANSWERED, _UNANSWERED = "answered", "unanswered"
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORDS = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+|[^\w\s]")
# WordPiece cuts rare words up; measured on English news and questions it is 1.1 to 1.3.
_TOKENS_PER_WORD = 1.3


@dataclasses.dataclass(frozen=True)
class Look:
    """What a look at a data file tells.

    Attributes:
        settings: the `data:` section, only keys that are needed.
        notes: sentences for the comments above it.
        rows: rows that can be read (of the first 200,000).
        labels: rows by label, the most frequent first.
        numbers: the lowest, the mean and the highest, where labels are numbers to be learned as
            such; else None.
        median_words: words and marks in the median text, both texts of a pair together; a
            Chinese character counts as one.
        percentile_95_words: 95 of 100 texts have no more.
        max_length: tokens that hold 95 of 100 texts, a multiple of 32 in [32, 512].
        unanswerable: how many questions have no answer, where rows are questions; else None.
        spans: whether labels are those of spans, of which a row may have any number.
    """

    settings: dict[str, Any]
    notes: list[str]
    rows: int
    labels: dict[str, int]
    numbers: tuple[float, float, float] | None
    median_words: int
    percentile_95_words: int
    max_length: int
    unanswerable: int | None = None
    spans: bool = False


def suggest(path: str | Path) -> tuple[dict[str, Any], list[str]]:
    """Suggest the `data:` section for a file nobody described, and notes on what was seen.

    Raises:
        ConfigError: the file cannot be read, or no column looks like a text or like a label.
    """
    look = look_at(path)
    return look.settings, look.notes


def look_at(path: str | Path) -> Look:
    """Look at a data file: format, delimiter, header, encoding, columns, lengths.

    The same file always gives the same answer.

    Raises:
        ConfigError: the file cannot be read, or no column looks like a text or like a label.
    """
    settings: dict[str, Any] = {"train": str(path)}
    notes: list[str] = []
    place = find_place(str(path))
    kind = find_format(place, DataSettings(train=str(path), encoding=DETECT))
    if kind in _WITHOUT_CLASSES:
        raise ConfigError(
            f"{path}: expected rows of a text and a class. Received: {_WITHOUT_CLASSES[kind]} "
            f"(format {kind}), which need no guess: write `data:` and below it `train: {path}`."
        )
    if kind == "squad":
        settings |= {"format": kind}
        return _measure(place, settings, notes)
    if kind in _DESCRIBE_FOLDER:
        _DESCRIBE_FOLDER[kind](place.path, settings, notes)
        return _measure(place, settings, notes)
    file = place.data_files()[0]
    if kind == "parquet":
        sample_table.describe_parquet(file, settings, notes)
        return _measure(place, settings, notes)
    encoding = guess_encoding(file)
    if encoding != "utf-8":
        settings["encoding"] = encoding
        notes.append(f"The encoding is a guess: {encoding}. Check the accents in the report.")
    if kind == "conll":
        settings |= {"format": kind, "target": "spans"}
        notes.append("Words with tags are read as texts with entities; a word a line.")
    elif kind == "jsonl" and (found := guess_spans(file, encoding)) is not None:
        settings |= {**found, "target": "spans"}
    elif kind == "json":
        sample_table.describe_json(file, encoding, settings, notes, records=place.split)
    elif kind == "jsonl":
        sample_table.describe_json_lines(file, encoding, settings, notes)
    else:
        sample_table.describe_delimited(file, encoding, settings, notes)
    return _measure(place, settings, notes)


def _describe_class_folders(path: Path, settings: dict[str, Any], notes: list[str]) -> None:
    if path.is_dir() and _has_other_encodings(path):
        settings["encoding"] = DETECT
        notes.append("Some files are not UTF-8: the encoding of each file is guessed.")


_DESCRIBE_FOLDER = {"folder": _describe_class_folders, "tfds": sample_table.describe_tfds}


def _has_other_encodings(path: Path) -> bool:
    files = sorted(file for file in path.glob("*/*.txt") if not file.name.startswith("."))
    return any(guess_encoding(file) != "utf-8" for file in files)


# --- figures --------------------------------------------------------------------------------


def _measure(path: Place, settings: dict[str, Any], notes: list[str]) -> Look:
    """Read the file by the suggestion: it must work, and it gives the figures."""
    source = open_source(path, DataSettings(**settings), role="train")
    spans = settings.get("target") == "spans"
    labels: collections.Counter[str] = collections.Counter()
    words: list[int] = []
    unreadable = 0
    has_questions = source.target.name == "answers"
    for row in itertools.islice(source.rows, _ROWS_COUNTED):
        if isinstance(row, Reject):
            unreadable += 1
            continue
        text = clean(f"{row.text} {row.text_pair or ''}")
        if spans and text:
            labels.update(clean_label(span["label"]) for span in row.label)
            words.append(len(_WORDS.findall(text)))
            continue
        if has_questions:
            label = _ANSWERED if row.label["answers"] else _UNANSWERED
        else:
            label = clean_label(row.label or "") if not spans else ""
        if text and label:
            labels[label] += 1
            words.append(len(_WORDS.findall(text)))
    if not words or (spans and not labels):
        raise ConfigError(
            f"{path}: expected rows with a text and a label. Received: none that has both. "
            f"Check that the file was written to the end."
        )
    words.sort()
    median, high = words[len(words) // 2], words[min(int(len(words) * 0.95), len(words) - 1)]
    longest = max(32, min(512, 32 * math.ceil((_TOKENS_PER_WORD * high + 3) / 32)))
    numbers = None if spans else _numbers(labels)
    unanswerable = labels.pop(_UNANSWERED, 0) if has_questions else None
    first = [
        _describe_rows(
            labels, numbers, len(words), median, high, spans=spans, unanswerable=unanswerable
        )
    ]
    if unreadable:
        first.append(f"{unreadable:,} rows cannot be read; dropped.jsonl will hold them.")
    beside = [] if path.files or path.member else _files_beside(path.path)
    if beside:
        first.append(f"Beside it: {', '.join(beside)}; name them by dev: and test: to use them.")
    return Look(
        settings=settings,
        notes=first + notes,
        rows=len(words),
        labels={} if has_questions else dict(labels.most_common()),
        numbers=numbers,
        median_words=median,
        percentile_95_words=high,
        max_length=longest,
        unanswerable=unanswerable,
        spans=spans,
    )


def _numbers(labels: collections.Counter[str]) -> tuple[float, float, float] | None:
    """The lowest, the mean and the highest of labels that are no names of classes.

    Whole numbers that repeat are: stars, or ids of classes.
    """
    counts: collections.Counter[float] = collections.Counter()
    try:
        for label, count in labels.items():
            counts[float(label if "_" not in label else "no")] += count
    except ValueError:
        return None
    if not all(map(math.isfinite, counts)):
        return None
    rows = labels.total()
    if all(map(float.is_integer, counts)) and len(counts) * _ROWS_A_CLASS <= rows:
        return None
    mean = sum(number * count for number, count in counts.items()) / rows
    return min(counts), mean, max(counts)


def _describe_rows(
    labels: collections.Counter[str],
    numbers: tuple[float, float, float] | None,
    rows: int,
    median: int,
    high: int,
    *,
    spans: bool = False,
    unanswerable: int | None = None,
) -> str:
    counted = f"{rows:,}" if rows < _ROWS_COUNTED else f"the first {rows:,}"
    if unanswerable is not None:
        return (
            f"{counted} questions about contexts, {unanswerable:,} without an answer. Half of "
            f"them have, both together, up to {median:,} words, 95 of 100 up to {high:,}."
        )
    most, least = labels.most_common()[0], labels.most_common()[-1]
    answers = (
        f"{len(labels):,} classes, from {most[0]} ({most[1]:,} rows) to {least[0]} ({least[1]:,})"
        if numbers is None
        else f"a number each, from {numbers[0]:g} to {numbers[2]:g}"
    )
    if spans:
        answers = f"with {labels.total():,} entities of {len(labels):,} kinds"
    return (
        f"{counted} rows, {answers}. Half of the texts have up to {median:,} words, 95 of 100 up "
        f"to {high:,}."
    )


def _files_beside(path: Path) -> list[str]:
    if "train" not in path.name.lower():
        return []
    wanted = re.compile(r"(^|[^a-z])(dev|valid|validation|val|test)([^a-z]|$)")
    return sorted(
        other.name
        for other in path.parent.iterdir()
        if other.suffix == path.suffix and wanted.search(other.name.lower()) and other != path
    )
