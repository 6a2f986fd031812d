"""Rows on their way to a dataset: cleaned, in numbered parts on disk, each made once.

A part holds what became of some thousand raw rows. It appears whole or not at all, so that work
which was interrupted goes on with the parts that are missing.

A row's id is its part's number and its place among the part's rows. Parts are numbered test
first, then dev, then train: of two rows that are the same, the one with the lower id stays.
"""

from __future__ import annotations

import collections
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfmodel.data.rows import Row
from tfmodel.run_folder import read_json, write_json

PART_ROWS = 20_000
INDEX = np.dtype(
    [
        ("digest", "<u8"),  # of the text (and pair): equal texts, equal digests
        ("digest_rest", "<u8"),
        ("label_hash", "<u8"),
        ("split_rank", "<u8"),  # see `tfmodel.data.ranks`
        ("sample_rank", "<u8"),
        ("offset", "<u8"),  # where the row stands in the part's file of rows
        ("bytes", "<u4"),
        ("stratum", "<u4"),  # index into the part's own list of strata
    ]
)
ROWS_FILE, INDEX_FILE, BANDS_FILE = "rows.jsonl", "index.npy", "bands.npy"
DROPPED_FILE, SUMMARY_FILE = "dropped.jsonl", "summary.json"


class Parts:
    """The parts in a folder.

    Args:
        folder: where they are; `open` makes it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._roles: list[str] = []  # all that is held in memory of every part

    def begin(self, key: str) -> int:
        """Make the folder ready for work that the key identifies.

        Returns:
            How many raw rows the parts of this very work hold; those of other work are removed.
        """
        path = self.folder / "key.json"
        if not path.exists() or read_json(path) != key:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            write_json(path, key)
        for left in self.folder.glob("raw-*"):  # by a process that was killed
            left.unlink(missing_ok=True)
        return sum(read_json(part / SUMMARY_FILE)["raw"] for part in self.folder.glob("part-*"))

    def path(self, number: int) -> Path:
        """Where a part is, or will be."""
        return self.folder / f"part-{number:06d}"

    def summary(self, number: int) -> dict:
        """Counts of a part: role, raw, dropped by reason, cleaning, strata, names."""
        return read_json(self.path(number) / SUMMARY_FILE)

    def numbers(self) -> range:
        """All parts."""
        return range(sum(1 for _ in self.folder.glob("part-*")))

    def numbers_of(self, role: str) -> list[int]:
        """The parts of the rows of one role."""
        return [number for number, each in enumerate(self.roles()) if each == role]

    def roles(self) -> list[str]:
        """The role of each part."""
        for number in self.numbers()[len(self._roles) :]:
            self._roles.append(self.summary(number)["role"])
        return self._roles

    def index(self, number: int) -> np.ndarray:
        """The index of a part's rows, (rows,) of `INDEX`."""
        return np.load(self.path(number) / INDEX_FILE)

    def bands(self, number: int) -> np.ndarray:
        """The bands of a part's rows, uint64 (rows, bands)."""
        return np.load(self.path(number) / BANDS_FILE)

    def rows(self, number: int) -> Iterator[Row]:
        """The rows of a part, in order."""
        with open(self.path(number) / ROWS_FILE, "rb") as file:
            for line in file:
                yield Row(*json.loads(line))

    def dropped(self, number: int) -> Iterator[str]:
        """Lines for the rows that did not come into the part."""
        with open(self.path(number) / DROPPED_FILE, encoding="utf-8", newline="\n") as file:
            yield from file


class RowReader:
    """Rows by their ids, in any order; reads each from disk. Keeps a few files open."""

    def __init__(self, parts: Parts):
        self._parts = parts
        self._open: collections.OrderedDict[int, tuple[Any, np.ndarray]] = collections.OrderedDict()

    def __call__(self, row_id: int) -> Row:
        """Read a row."""
        number, place = divmod(int(row_id), PART_ROWS)
        if number not in self._open:
            if len(self._open) >= 32:
                self._open.popitem(last=False)[1][0].close()
            file = open(self._parts.path(number) / ROWS_FILE, "rb")  # noqa: SIM115
            index = np.load(self._parts.path(number) / INDEX_FILE)
            self._open[number] = file, index[["offset", "bytes"]].copy()
        self._open.move_to_end(number)
        file, index = self._open[number]
        file.seek(int(index["offset"][place]))
        return Row(*json.loads(file.read(int(index["bytes"][place]))))

    def close(self) -> None:
        """Close the files."""
        while self._open:
            self._open.popitem()[1][0].close()


def strata_of(parts: Parts) -> dict[str, int]:
    """Number the strata of all parts, in the order of their names."""
    names = {name for number in parts.numbers() for name in parts.summary(number)["strata"]}
    return {name: code for code, name in enumerate(sorted(names))}


def with_codes(index: np.ndarray, summary: Mapping, codes: Mapping[str, int]) -> np.ndarray:
    """Translate a part's own numbers of strata into those of all parts."""
    table = np.array([codes[name] for name in summary["strata"]] or [0], np.int64)
    return table[index["stratum"]]
