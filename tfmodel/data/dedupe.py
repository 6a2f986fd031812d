"""Exact duplicates, inside a split and between splits, by digests that are sorted on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tfmodel.data.parts import Parts
from tfmodel.data.parts.buckets import Buckets
from tfmodel.data.parts.fates import SPLITS, Fates, ids_of

_RECORD = np.dtype([("key", "<u8"), ("rest", "<u8"), ("id", "<u8"), ("label_hash", "<u8")])


def drop_duplicates(parts: Parts, fates: Fates, folder: Path) -> None:
    """Keep one row of those with equal text (and pair).

    Inside a split the first one stays, whatever its label: nobody can tell which of two labels
    is right, and the first is at least the same one in every run. Between splits test keeps the
    row, then dev, then train. Reasons: `duplicate`; `conflicting_label`; `also_in_test`,
    `also_in_dev`.

    Args:
        parts: all parts.
        fates: receives who is dropped, and for which row.
        folder: a folder of its own for sorting.
    """
    buckets = Buckets(folder, _RECORD)
    for number in parts.numbers():
        index = parts.index(number)
        records = np.empty(len(index), _RECORD)
        records["key"], records["rest"] = index["digest"], index["digest_rest"]
        records["id"], records["label_hash"] = ids_of(number, len(index)), index["label_hash"]
        buckets.add(records)
    before = np.empty(0, _RECORD)  # the first row of the text that the last chunk ended with
    for chunk in buckets:
        records = np.concatenate([before, chunk])
        records = records[np.lexsort((records["id"], records["rest"], records["key"]))]
        starts = first_of_runs(records["key"], records["rest"])
        firsts = records[starts]
        _drop_all_but_first(records, firsts, starts, fates)
        before = firsts[-1:]
    buckets.close()


def first_of_runs(*columns: np.ndarray) -> np.ndarray:
    """Give the places where any of the sorted columns changes; the first place is one."""
    changes = np.zeros(max(0, len(columns[0]) - 1), bool)
    for column in columns:
        changes |= column[1:] != column[:-1]
    return np.concatenate([[0], np.flatnonzero(changes) + 1])


def _drop_all_but_first(
    records: np.ndarray, firsts: np.ndarray, starts: np.ndarray, fates: Fates
) -> None:
    group = np.zeros(len(records), np.int64)
    group[starts[1:]] = 1
    first = firsts[np.cumsum(group)]
    is_later = first["id"] != records["id"]
    first, later = first[is_later], records[is_later]
    reasons = reasons_of_equal(
        fates.role_codes(first["id"]),
        fates.role_codes(later["id"]),
        first["label_hash"] == later["label_hash"],
    )
    for reason in np.unique(reasons):
        chosen = reasons == reason
        fates.drop(later["id"][chosen], str(reason), first["id"][chosen])


def reasons_of_equal(first_role: Any, role: Any, same_label: Any) -> np.ndarray:
    """Say why rows go whose text another row has, too.

    Args:
        first_role: role of the row that stays, an index into `SPLITS`; arrays of any shape.
        role: role of the row that goes.
        same_label: whether their labels are equal.
    """
    return leak_reasons(
        "also_in_", first_role, role, np.where(same_label, "duplicate", "conflicting_label")
    )


def leak_reasons(prefix: str, first_role: Any, role: Any, reasons: np.ndarray) -> np.ndarray:
    """Replace the reasons of rows that stand in a part where the first row of the text is not."""
    for code, name in enumerate(SPLITS):
        reasons = np.where(
            np.equal(first_role, code) & np.not_equal(role, code), f"{prefix}{name}", reasons
        )
    return reasons
