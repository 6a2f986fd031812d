"""From the values of a raw row to a `Row`: the same for every format that has columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tfmodel.data.reading.json_values import as_text
from tfmodel.data.rows import Reject, Row
from tfmodel.data.settings import DataSettings
from tfmodel.data.targets import Target, parse_row


def wanted_columns(settings: DataSettings) -> list[str]:
    """Name the columns that are read: text, its pair, the label, and what orders the rows."""
    order = settings.order_column()
    return settings.wanted() + ([order] if order is not None else [])


@dataclass(frozen=True)
class Fields:
    """Makes rows of the values of `wanted_columns`, in that order."""

    settings: DataSettings
    target: Target

    def to_row(self, values: Sequence[Any], origin: str, raw: str = "") -> Row | Reject:
        """Make a row.

        Args:
            values: what stands in the wanted columns, as JSON values.
            origin: where the row stands.
            raw: the row as the file has it, for the account; default its text.
        """
        settings = self.settings
        texts = 1 if settings.text_pair is None else 2
        text = values[0]
        has_words = self.target.name in ("tags", "spans") and isinstance(text, list)
        if not isinstance(text, str) and not has_words:
            text = as_text(text)
        pair = as_text(values[1]) if texts == 2 else None
        if text is None or (texts == 2 and pair is None):
            place = 0 if text is None else 1
            name = settings.wanted()[place]
            detail = f"{name} holds a {type(values[place]).__name__}, not a text"
            return Reject("not_text", origin, raw or str(values[place]), detail)
        label = values[texts] if settings.target != "none" else None
        group = None
        if settings.order_column() is not None:
            group = values[-1] if isinstance(values[-1], str) else as_text(values[-1]) or ""
        return parse_row(Row(text, pair, label, origin, group), settings, self.target, raw=raw)
