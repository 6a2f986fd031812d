"""Sort more records than memory holds: spread over files by the first bits of their key.

Every key is an unsigned 64-bit integer. Memory is bounded by `memory_bytes`, whatever the number
of records; the disk holds each record once, and those of an uneven bucket once more.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_BITS = 6  # 64 files at a time: few enough to keep open, and one more level for each 64 times
_FILES = 2**_BITS
MEMORY_BYTES = 64 * 2**20


class Buckets:
    """Records that are added in any order and come back sorted by key.

    Records of one key come back in the order they were added.

    Args:
        folder: of its own for the files; what is there, of a process that was killed, goes.
            Removed by `close`.
        dtype: of the records; must have a field `key`, uint64.
        memory_bytes: how much is sorted at a time.

    Attributes:
        count: how many records were added.
    """

    def __init__(self, folder: Path, dtype: np.dtype, *, memory_bytes: int = MEMORY_BYTES):
        self._folder = folder
        self._dtype = np.dtype(dtype)
        self._memory_bytes = memory_bytes
        self._held: list[np.ndarray] = []
        self._held_bytes = 0
        self._is_on_disk = False
        self.count = 0
        # Files are appended to: records of a killed process would count a second time.
        shutil.rmtree(folder, ignore_errors=True)

    def add(self, records: np.ndarray) -> None:
        """Add records, (n,) of the dtype."""
        if len(records):
            self._held.append(records)
            self._held_bytes += records.nbytes
            self.count += len(records)
        if self._held_bytes > self._memory_bytes:
            self._spill()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Give all records in sorted chunks; records of one key stand in one chunk.

        The exception are keys with more records than memory holds: they fill chunks of their own.
        """
        if not self._is_on_disk:
            if self._held:
                yield self._sorted(np.concatenate(self._held))
            return
        self._spill()
        yield from self._walk(self._folder, shift=64 - _BITS)

    def close(self) -> None:
        """Remove the files."""
        self._held = []
        shutil.rmtree(self._folder, ignore_errors=True)

    def _spill(self) -> None:
        if self._held:
            _spread(np.concatenate(self._held), self._folder, shift=64 - _BITS)
        self._held, self._held_bytes, self._is_on_disk = [], 0, True

    def _walk(self, folder: Path, *, shift: int) -> Iterator[np.ndarray]:
        for number in range(_FILES):
            path = folder / f"{number:02d}"
            if not path.exists():
                continue
            if path.stat().st_size <= self._memory_bytes:
                yield self._sorted(np.fromfile(path, self._dtype))
            elif shift == 0:
                yield from self._blocks(path)  # of one key, in the order they were added
            else:
                finer = max(0, shift - _BITS)
                below = path.with_suffix(".finer")
                shutil.rmtree(below, ignore_errors=True)  # of a walk that was left half way
                for block in self._blocks(path):
                    _spread(block, below, shift=finer)
                yield from self._walk(below, shift=finer)
                shutil.rmtree(below)

    def _blocks(self, path: Path) -> Iterator[np.ndarray]:
        count = max(1, self._memory_bytes // self._dtype.itemsize)
        with open(path, "rb") as file:
            while len(block := np.fromfile(file, self._dtype, count)):
                yield block

    def _sorted(self, records: np.ndarray) -> np.ndarray:
        return records[np.argsort(records["key"], kind="stable")]


def _spread(records: np.ndarray, folder: Path, *, shift: int) -> None:
    """Append each record to the file that the bits of its key from `shift` on name."""
    folder.mkdir(parents=True, exist_ok=True)
    number = ((records["key"] >> np.uint64(shift)) & np.uint64(_FILES - 1)).astype(np.uint8)
    order = np.argsort(number, kind="stable")
    ends = np.searchsorted(number[order], np.arange(_FILES + 1))
    records = records[order]
    for each in np.flatnonzero(np.diff(ends)):
        with open(folder / f"{each:02d}", "ab") as file:
            records[ends[each] : ends[each + 1]].tofile(file)
