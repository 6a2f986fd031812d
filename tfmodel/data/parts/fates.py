"""What becomes of every row: kept in a split, or dropped for a reason, for the sake of another."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfmodel.data.parts import PART_ROWS

SPLITS = ("train", "dev", "test")
# A text that stands in several splits stays in the first of these: what is measured on must not
# have been trained on, and published test files stay as whole as they can.
PRECEDENCE = ("test", "dev", "train")
REASONS = (
    "",
    "duplicate",
    "conflicting_label",
    "also_in_test",
    "also_in_dev",
    "near_duplicate",
    "near_in_test",
    "near_in_dev",
    "max_rows",
    "max_documents",
)
NOT_DRAWN = ("max_rows", "max_documents")  # by the sample of rows, or of documents
_CODES = {reason: code for code, reason in enumerate(REASONS)}


class Fates:
    """A byte for the reason, a byte for the split and the other row's id, for every row id.

    They lie in files, so that memory does not grow with the rows.

    Args:
        folder: an existing folder for the files; what is there is begun anew.
        roles: the role of each part, by number.
    """

    def __init__(self, folder: Path, roles: list[str]):
        self.roles = roles
        self._role_codes = np.array([SPLITS.index(role) for role in roles] or [0], np.uint8)
        size = max(1, len(roles) * PART_ROWS)
        self._reasons = np.memmap(folder / "reasons", np.uint8, "w+", shape=size)
        self._splits = np.memmap(folder / "splits", np.uint8, "w+", shape=size)
        self._others = np.memmap(folder / "others", np.uint64, "w+", shape=size)

    def drop(self, ids: np.ndarray, reason: str, others: np.ndarray | None = None) -> None:
        """Drop rows, for a reason and, where there is one, for another row that stays."""
        places = ids.astype(np.int64)
        self._reasons[places] = _CODES[reason]
        if others is not None:
            self._others[places] = others

    def assign(self, ids: np.ndarray, split: str) -> None:
        """Put rows into a split."""
        self._splits[ids.astype(np.int64)] = 1 + SPLITS.index(split)

    def is_in_train(self, ids: np.ndarray) -> np.ndarray:
        """Tell which rows are kept and in train so far: from its file, and not split off it."""
        places = ids.astype(np.int64)
        return (self._reasons[places] == 0) & (self._splits[places] <= 1)

    def role_codes(self, ids: np.ndarray) -> np.ndarray:
        """Tell the roles of the files that rows came from, as indices into `SPLITS`."""
        return self._role_codes[(ids // PART_ROWS).astype(np.int64)]

    def kept(self, number: int, rows: int) -> np.ndarray:
        """Tell which rows of a part are not dropped, bool (rows,)."""
        return self._reasons[_slice(number, rows)] == 0

    def of_part(self, number: int, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give reasons and splits, as codes, and other rows' ids of a part; (rows,) each."""
        where = _slice(number, rows)
        return (
            np.array(self._reasons[where]),
            np.array(self._splits[where]),
            np.array(self._others[where]),
        )


def ids_of(number: int, rows: int) -> np.ndarray:
    """Give the ids of a part's rows, uint64 (rows,)."""
    return np.arange(rows, dtype=np.uint64) + np.uint64(number * PART_ROWS)


def _slice(number: int, rows: int) -> slice:
    return slice(number * PART_ROWS, number * PART_ROWS + rows)
