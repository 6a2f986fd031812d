"""What readers give: rows, and what could not be one."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(slots=True)
class Row:
    """One labelled text, or pair of texts.

    `origin` says where it stood: `train.csv:12` (the line where the row starts) or
    `business/001.txt`.
    """

    text: str
    text_pair: str | None
    label: str | None
    origin: str


@dataclasses.dataclass(slots=True)
class Reject:
    """A raw row that cannot be read as one: `reason` is one word, `detail` a sentence."""

    reason: str
    origin: str
    text: str
    detail: str = ""


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
