"""Which column of a table is the text, which the label, and whether there is a header."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path

from tfmodel.config import ConfigError

_LABEL_NAMES = {
    "label", "labels", "category", "class", "target", "intent", "topic", "sentiment", "tag", "y",
    "polarity", "gold_label", "answer_type", "emotion", "genre", "type", "stars", "rating",
}  # fmt: skip
_NUMBER_NAMES = {
    "score", "similarity", "similarity_score", "relatedness", "relatedness_score", "grade", "value",
    "rating", "stars", "label", "labels", "target", "y",
}  # fmt: skip
_TEXT_NAMES = {
    "text", "sentence", "review", "content", "message", "body", "question", "comment", "utterance",
    "tweet", "title", "headline", "document", "article", "description", "query", "news", "text_a",
    "review_text", "review_body", "sms", "post", "abstract", "premise", "sentence1",
}  # fmt: skip
_PAIR_NAMES = [
    ("premise", "hypothesis"), ("question", "sentence"), ("question", "passage"),
    ("question", "context"), ("question", "answer"), ("query", "document"), ("query", "passage"),
    ("text", "text_pair"), ("text", "hypothesis"), ("claim", "evidence"), ("source", "target"),
]  # fmt: skip
_PAIR_SUFFIX = re.compile(r"(.*?)[ _-]?#?(1|2|a|b|one|two|left|right)(?:[ _-]?string)?")
_TRUTHS = {"true", "false", "yes", "no", "t", "f", "y", "n"}
_FIRST = {"1", "a", "one", "left"}
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_NUMBER = re.compile(r"\s*[-+]?\d+([.,]\d+)?\s*")
_FRACTION = re.compile(r"[-+]?\d+\.\d*[1-9]\d*")


@dataclasses.dataclass(frozen=True)
class Table:
    """Names of columns, and rows of as many strings."""

    names: list[str]
    rows: list[list[str]]


@dataclasses.dataclass(frozen=True)
class ColumnRoles:
    """Names of the columns that play a role."""

    text: str
    text_pair: str | None
    label: str


@dataclasses.dataclass(frozen=True)
class _Column:
    """What is known of a column; shares are of the rows that are not empty."""

    name: str
    filled: float  # share of all rows
    distinct: int
    rows: int
    mean_characters: float
    prose: float  # share with a space or a Chinese, Japanese or Korean character
    numeric: float
    fractions: bool  # a number that is not whole
    truth: bool  # yes and no, true and false


def guess_roles(table: Table) -> ColumnRoles | None:
    """Guess the roles of the columns; None where no two of them look like text and label."""
    columns = [_describe(table, index) for index in range(len(table.names))]
    prose = [column.name for column in columns if column.prose > 0.3]
    paired = any(_named_as_pair(*names) for names in itertools.permutations(prose[:20], 2))
    labels = [(score, c) for c in columns if (score := _label_score(c, paired)) is not None]
    if not labels:
        return None
    label = max(labels, key=lambda pair: pair[0])[1]
    texts = [(score, c) for c in columns if (score := _text_score(c)) and c != label]
    if not texts:
        return None
    texts.sort(key=lambda pair: -pair[0])
    text = texts[0][1]
    first, second = _find_pair(text, [column for _, column in texts[1:]], table.names)
    return ColumnRoles(first, second, label.name)


def has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Tell whether the first row names the columns.

    It does where its cells are short and distinct, and none of them is a value that the column
    below repeats (a label), a number, or prose.
    """
    if len(rows) < 2:
        return True
    first = [cell.strip() for cell in rows[0]]
    if len(set(first)) < len(first) or any(_NUMBER.fullmatch(cell) for cell in first):
        return False
    for index, cell in enumerate(first):
        if len(cell) > 40 or len(cell.split()) > 4 or cell.endswith((".", "?", "!", "。")):
            return False
        below = [row[index].strip() for row in rows[1:]]
        if cell and below.count(cell) > 1 + len(below) // 1_000:
            return False
    return True


def unclear_columns(path: Path, table: Table) -> ConfigError:
    """Word the error for a table without a clear text and a clear label."""
    seen = []
    for index, name in enumerate(table.names[:20]):
        values = [row[index] for row in table.rows]
        seen.append(f"{name or '(no name)'} ({len(set(values)):,} distinct values)")
    return ConfigError(
        f"{path}: expected one column of texts and one of labels that repeat. Received "
        f"{len(table.rows):,} rows of: {', '.join(seen)}. Name the columns yourself, by `text:` "
        f"and `label:` under `data:`."
    )


# --- columns --------------------------------------------------------------------------------


def _describe(table: Table, index: int) -> _Column:
    values = [row[index].strip() for row in table.rows]
    filled = [value for value in values if value]
    total = max(len(filled), 1)
    return _Column(
        name=table.names[index],
        filled=len(filled) / max(len(values), 1),
        distinct=len(collections.Counter(filled)),
        rows=len(filled),
        mean_characters=sum(map(len, filled)) / total,
        prose=sum(" " in value or bool(_CJK.search(value)) for value in filled) / total,
        truth={value.lower() for value in filled} <= _TRUTHS,
        numeric=sum(bool(_NUMBER.fullmatch(value)) for value in filled) / total,
        fractions=any(_FRACTION.fullmatch(value) for value in filled),
    )


def _label_score(column: _Column, paired: bool) -> float | None:
    """Say how much a column looks like labels: values that repeat, few and short ones first.

    Numbers that are not whole need not repeat where their name says what they are; beside a pair
    of texts a score is the likeliest label.
    """
    if column.distinct < 2 or column.mean_characters > 100:
        return None
    repeats = column.rows / column.distinct
    named = column.numeric > 0.99 and column.fractions and column.name.lower() in _NUMBER_NAMES
    if (repeats < 1.5 or column.distinct > 5_000) and not named:
        return None
    score = min(math.log10(repeats), 2.5) - column.mean_characters / 40 + 2 * column.filled
    score -= column.numeric > 0.9 and column.distinct > 20 and not named  # years, counts
    score -= 0.8 * column.truth  # "verified" beside the topic that is meant
    if named and column.name.lower() not in _LABEL_NAMES:
        score += 4 if paired else 2
    if column.name.lower() in _LABEL_NAMES:
        score += 4 if column.name.lower() in ("label", "labels", "gold_label", "target") else 3
    return score


def _text_score(column: _Column) -> float:
    """Say how much a column looks like texts: prose that is long and seldom repeats."""
    if column.rows == 0 or column.numeric > 0.9:
        return 0.0
    score = math.log1p(column.mean_characters) * (0.1 + column.prose) * column.filled
    score *= column.distinct / column.rows
    if column.name.lower() in _TEXT_NAMES:
        score += 2
    return score


def _find_pair(
    text: _Column, others: Sequence[_Column], order: Sequence[str]
) -> tuple[str, str | None]:
    """Find the second text of a pair: by the names, or, without names, by their likeness."""
    prose = [c for c in others if c.prose > 0.3 and c.distinct > 0.1 * c.rows and c.filled > 0.9]
    for other in prose:
        pair = sorted((text.name, other.name), key=order.index)
        if _named_as_pair(pair[0], pair[1]) or _named_as_pair(pair[1], pair[0]):
            ordered = pair if _named_as_pair(pair[0], pair[1]) else pair[::-1]
            return ordered[0], ordered[1]
        nameless = text.name.startswith("column_") and other.name.startswith("column_")
        if nameless and other.mean_characters > text.mean_characters / 4:
            return pair[0], pair[1]
    return text.name, None


def _named_as_pair(first: str, second: str) -> bool:
    first, second = first.lower(), second.lower()
    if (first, second) in _PAIR_NAMES:
        return True
    one, two = _PAIR_SUFFIX.fullmatch(first), _PAIR_SUFFIX.fullmatch(second)
    return bool(
        one and two and one[1] == two[1] and one[2] != two[2]
        and one[2] in _FIRST and two[2] not in _FIRST
    )  # fmt: skip
