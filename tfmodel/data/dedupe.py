"""Exact duplicates, inside a split and between splits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

from tfmodel.data.rows import Row

# A text that stands in several splits stays in the first of these: what is measured on must not
# have been trained on, and published test files stay as whole as they can.
PRECEDENCE = ("test", "dev", "train")


def text_digest(row: Row, *, salt: str = "") -> bytes:
    """Digest a row's text and pair, 16 bytes, the same on every machine; labels do not count."""
    pair = "" if row.text_pair is None else row.text_pair
    content = f"{len(row.text)}:{row.text}{pair}"
    return hashlib.blake2b(content.encode(), digest_size=16, key=salt.encode()[:64]).digest()


def drop_duplicates(
    rows: Mapping[str, list[Row]], on_drop: Callable[[str, str, Row, str], None]
) -> dict[str, list[Row]]:
    """Keep one row of those with equal text (and pair).

    Inside a split the first one stays, whatever its label: nobody can tell which of two labels
    is right, and the first is at least the same one in every run.

    Args:
        rows: cleaned rows by split: train, dev, test.
        on_drop: called with split, reason, row and the origin of the row kept. Reasons:
            `duplicate`; `conflicting_label`; `also_in_test`, `also_in_dev`.

    Returns:
        The rows kept, by split, in their order.
    """
    seen: dict[bytes, tuple[str, Row]] = {}
    kept: dict[str, list[Row]] = {}
    for split in sorted(rows, key=PRECEDENCE.index):
        kept[split] = []
        for row in rows[split]:
            digest = text_digest(row)
            first_split, first = seen.setdefault(digest, (split, row))
            if first is row:
                kept[split].append(row)
            elif first_split != split:
                on_drop(split, f"also_in_{first_split}", row, first.origin)
            elif first.label == row.label:
                on_drop(split, "duplicate", row, first.origin)
            else:
                on_drop(split, "conflicting_label", row, first.origin)
    return {split: kept[split] for split in rows}
