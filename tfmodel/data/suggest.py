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
from tfmodel.data import jsonlines
from tfmodel.data.cleaning import clean, clean_label
from tfmodel.data.dialect import DELIMITERS, delimiter_name, find_quoting, head_of
from tfmodel.data.encoding import guess_encoding, read_lines
from tfmodel.data.guess_columns import (
    ColumnRoles,
    Table,
    guess_roles,
    has_header,
    unclear_columns,
)
from tfmodel.data.json_values import as_text
from tfmodel.data.mistakes import header_alone
from tfmodel.data.readers import find_format, open_source
from tfmodel.data.records import cut, cut_lines
from tfmodel.data.rows import Reject
from tfmodel.data.settings import DETECT, DataSettings

_ROWS_LOOKED_AT = 20_000
_ROWS_COUNTED = 200_000
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
        median_words: words and marks in the median text, both texts of a pair together; a
            Chinese character counts as one.
        percentile_95_words: 95 of 100 texts have no more.
        max_length: tokens that hold 95 of 100 texts, a multiple of 32 in [32, 512].
    """

    settings: dict[str, Any]
    notes: list[str]
    rows: int
    labels: dict[str, int]
    median_words: int
    percentile_95_words: int
    max_length: int


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
    path = Path(path)
    settings: dict[str, Any] = {"train": str(path)}
    notes: list[str] = []
    kind = find_format(path, DataSettings(train=str(path), encoding=DETECT))
    encoding = "utf-8" if kind in ("tfds", "folder") else guess_encoding(path)
    if encoding != "utf-8":
        settings["encoding"] = encoding
        notes.append(f"The encoding is a guess: {encoding}. Check the accents in the report.")
    if kind == "folder":
        if _has_other_encodings(path):
            settings["encoding"] = DETECT
            notes.append("Some files are not UTF-8: the encoding of each file is guessed.")
    elif kind == "tfds":
        _describe_tfds(path, settings, notes)
    elif kind == "jsonl":
        _describe_json_lines(path, encoding, settings, notes)
    else:
        _describe_delimited(path, encoding, settings, notes)
    return _measure(path, settings, notes)


def _has_other_encodings(path: Path) -> bool:
    files = sorted(file for file in path.glob("*/*.txt") if not file.name.startswith("."))
    return any(guess_encoding(file) != "utf-8" for file in files)


# --- the table ------------------------------------------------------------------------------


def _describe_tfds(path: Path, settings: dict[str, Any], notes: list[str]) -> None:
    from tfmodel.data.folders import open_tfds, tfds_split

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


def _describe_json_lines(
    path: Path, encoding: str, settings: dict[str, Any], notes: list[str]
) -> None:
    items = []
    lines = (line for line in read_lines(path, encoding) if line.strip())
    for line in itertools.islice(lines, _ROWS_LOOKED_AT):
        leaves = jsonlines.flatten(jsonlines.parse_line(line)[0])
        items.append({name: as_text(value) for name, value in leaves.items()})
    names = list(dict.fromkeys(name for item in items for name in item))
    rows = [[item.get(name) or "" for name in names] for item in items]
    _settle(path, Table(names, rows), settings, notes)


def _describe_delimited(
    path: Path, encoding: str, settings: dict[str, Any], notes: list[str]
) -> None:
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
        table = Table([name.strip() for name in rows[0]], rows[1:])
        _settle(path, table, settings, notes)
    else:
        names = [f"column_{number}" for number in range(1, len(rows[0]) + 1)]
        roles = _settle(path, Table(names, rows), settings, notes)
        named = {roles.text: "text", roles.text_pair: "text_pair", roles.label: "label"}
        settings["columns"] = [named.get(name, name) for name in names]
        settings |= {key: key for key in ("text", "text_pair", "label") if key in settings}
        notes.append("The file has no header: the columns are named by their looks.")
    if delimiter != ("\t" if path.suffix.lower() in (".tsv", ".tab") else ","):
        settings["delimiter"] = delimiter_name(delimiter)


def _best_cut(path: Path, lines: list[str]) -> tuple[str, list[list[str]]] | None:
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


def _settle(path: Path, table: Table, settings: dict[str, Any], notes: list[str]) -> ColumnRoles:
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


# --- figures --------------------------------------------------------------------------------


def _measure(path: Path, settings: dict[str, Any], notes: list[str]) -> Look:
    """Read the file by the suggestion: it must work, and it gives the figures."""
    source = open_source(path, DataSettings(**settings), role="train")
    labels: collections.Counter[str] = collections.Counter()
    words: list[int] = []
    unreadable = 0
    for row in itertools.islice(source.rows, _ROWS_COUNTED):
        if isinstance(row, Reject):
            unreadable += 1
            continue
        text = clean(f"{row.text} {row.text_pair or ''}")
        label = clean_label(row.label or "")
        if text and label:
            labels[label] += 1
            words.append(len(_WORDS.findall(text)))
    if not words:
        raise ConfigError(
            f"{path}: expected rows with a text and a label. Received: none that has both. "
            f"Check that the file was written to the end."
        )
    words.sort()
    median, high = words[len(words) // 2], words[min(int(len(words) * 0.95), len(words) - 1)]
    longest = max(32, min(512, 32 * math.ceil((_TOKENS_PER_WORD * high + 3) / 32)))
    first = [_describe_rows(labels, len(words), median, high)]
    if unreadable:
        first.append(f"{unreadable:,} rows cannot be read; dropped.jsonl will hold them.")
    beside = _files_beside(path)
    if beside:
        first.append(f"Beside it: {', '.join(beside)}; name them by dev: and test: to use them.")
    return Look(
        settings, first + notes, len(words), dict(labels.most_common()), median, high, longest
    )


def _describe_rows(labels: collections.Counter[str], rows: int, median: int, high: int) -> str:
    most, least = labels.most_common()[0], labels.most_common()[-1]
    counted = f"{rows:,}" if rows < _ROWS_COUNTED else f"the first {rows:,}"
    return (
        f"{counted} rows, {len(labels):,} classes, from {most[0]} ({most[1]:,} rows) to "
        f"{least[0]} ({least[1]:,}). Half of the texts have up to {median:,} words, 95 of 100 up "
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
