"""What readers give: rows, and what could not be one."""

from __future__ import annotations

import dataclasses
import json
from typing import Any


@dataclasses.dataclass(slots=True)
class Row:
    """One labelled text, or pair of texts.

    Attributes:
        text: the text.
        text_pair: the second text of a pair.
        label: what the target says a label is (`tfmodel.data.targets`): a class's name ...
        origin: where it stood: `train.csv:12` (the line where the row starts) or
            `business/001.txt`.
        group: value of the column that keeps rows together or in order, where one is named.
    """

    text: str
    text_pair: str | None
    label: Any
    origin: str
    group: str | None = None


@dataclasses.dataclass(slots=True)
class Reject:
    """A raw row that cannot be read as one: `reason` is one word, `detail` a sentence."""

    reason: str
    origin: str
    text: str
    detail: str = ""


class BadLabel(ValueError):
    """A label that is not what the target says: `reason` is one word, `detail` a sentence."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def compared_text(row: Row) -> str:
    """Give all of a row that near duplicates share: of a pair both texts, on two lines."""
    return row.text if row.text_pair is None else f"{row.text}\n{row.text_pair}"


def row_line(row: Row) -> bytes:
    """Write a row as a line of JSON: `Row(*json.loads(line))` reads it."""
    values = [row.text, row.text_pair, row.label, row.origin, row.group]
    return f"{json.dumps(values, ensure_ascii=False)}\n".encode()


def encodable(text: str) -> str:
    r"""Replace lone surrogates, which no file can hold, by U+FFFD; pairs become one character.

    JSON can write them (`"\ud800"`), so every reader's text passes here.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
