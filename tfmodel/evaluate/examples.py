"""Rows of a part as they are shown beside what was answered."""

from collections.abc import Mapping, Sequence
from typing import Any

EXAMPLE_CHARACTERS = 1000  # of a text shown as an example; a row may be a megabyte long

Columns = Mapping[str, Sequence[str] | None]
"""`texts`, `text_pairs` and `origins` of the rows, each None where there are none."""

_SINGULAR = {"texts": "text", "text_pairs": "text_pair", "origins": "origin"}


def check_columns(columns: Columns, *, rows: int) -> None:
    """Refuse a column that is not as long as there are rows.

    Raises:
        ValueError: one is not.
    """
    for name, column in columns.items():
        if column is not None and len(column) != rows:
            raise ValueError(
                f"{name} must hold one entry per row, {rows}. Received: {len(column)}."
            )


def shown_row(columns: Columns, row: int) -> dict[str, Any]:
    """What is known of a row: `text`, `text_pair` and `origin`, as far as there are such."""
    return {
        _SINGULAR[name]: str(column[row]) if name == "origins" else shorten(column[row])
        for name, column in columns.items()
        if column is not None
    }


def shorten(text: str) -> str:
    """As much of a text as is shown."""
    text = str(text)
    return text if len(text) <= EXAMPLE_CHARACTERS else text[:EXAMPLE_CHARACTERS] + "…"
