"""Raw rows to a part: cleaned, counted, digested. A pure function, so that processes share it."""

from __future__ import annotations

import collections
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmodel.data.account import count_cleaned, dropped_line
from tfmodel.data.cleaning.row_cleaning import Cleaned, RowCleaner
from tfmodel.data.parts import (
    BANDS_FILE,
    DROPPED_FILE,
    INDEX,
    INDEX_FILE,
    ROWS_FILE,
    SUMMARY_FILE,
)
from tfmodel.data.ranks import label_hash, sample_rank, split_rank, text_digest
from tfmodel.data.rows import Reject, Row, compared_text, row_line
from tfmodel.data.settings import DataSettings
from tfmodel.data.targets import TARGETS, Target
from tfmodel.run_folder import write_aside, write_json


def write_raw(path: Path, raw: Iterable[Row | Reject]) -> None:
    """Write raw rows for a worker."""
    with open(path, "w", encoding="ascii") as file:
        for row in raw:
            if isinstance(row, Row):
                values = [row.text, row.text_pair, row.label, row.origin, row.group]
            else:
                values = [row.text, row.origin, row.reason, row.detail]
            file.write(json.dumps(values) + "\n")


def _read_raw(path: Path) -> Iterator[Row | Reject]:
    with open(path, encoding="ascii") as file:
        for line in file:
            values = json.loads(line)
            if len(values) == 5:
                yield Row(*values)
            else:
                text, origin, reason, detail = values
                yield Reject(reason, origin, text, detail)


def make_part(raw: str, folder: str, role: str, target: str, settings: dict, seed: int) -> None:
    """Make a part of the raw rows in a file, and remove the file: a worker's job.

    Args:
        raw: the file, from `write_raw`.
        folder: where the part goes.
        role: train, dev or test.
        target: name of the kind of label.
        settings: the `data:` section as JSON.
        seed: of the ranks.
    """
    chosen = DataSettings.model_validate(settings)
    maker = PartMaker(role, TARGETS[target], chosen, seed)
    maker.make_of_file(Path(raw), Path(folder), RowCleaner(role, TARGETS[target], chosen))


class PartMaker:
    """Makes one part.

    Args:
        role: train, dev or test.
        target: the kind of label.
        settings: the `data:` section.
        seed: of the ranks.
        bands_of: (texts, threshold) -> the bands by which near duplicates are found.

    Attributes:
        further: what else the part's summary says.
    """

    def __init__(
        self,
        role: str,
        target: Target,
        settings: DataSettings,
        seed: int,
        bands_of: Callable[[Sequence[str], float], np.ndarray] | None = None,
    ):
        self.role = role
        self.target = target
        self.settings = settings
        self.seed = seed
        self.further: dict[str, Any] = {}
        self.raw = 0
        self._bands_of = bands_of
        self.dropped: collections.Counter[str] = collections.Counter()
        self.cleaned: dict[str, dict[str, Any]] = {}
        self.strata: dict[str, int] = {}
        self.names: dict[str, list] = {}  # of classes: how many rows, and where the first stands
        self.index: list[tuple] = []
        self.has_pairs = False

    def make_of_file(
        self, raw: Path, folder: Path, clean: Callable[[Row | Reject], Cleaned]
    ) -> None:
        """Make the part of the raw rows in a file, and remove the file."""
        with write_aside(folder, replace=True) as aside:
            aside.mkdir()
            self.make(_read_raw(raw), aside, clean)
        raw.unlink(missing_ok=True)

    def make(
        self, raw: Iterable[Row | Reject], folder: Path, clean: Callable[[Row | Reject], Cleaned]
    ) -> None:
        """Make the part.

        Args:
            raw: the rows.
            folder: an existing folder.
            clean: cleans a row in place and tells whether it can be kept.
        """
        texts: list[str] = []
        with (
            open(folder / ROWS_FILE, "wb") as rows,
            open(folder / DROPPED_FILE, "w", encoding="utf-8", newline="\n") as dropped,
        ):
            for row in raw:
                self.raw += 1
                cleaned = clean(row)
                count_cleaned(self.cleaned, cleaned, row.origin)
                if cleaned.reason:
                    self.dropped[cleaned.reason] += 1
                    dropped.write(dropped_line(row, self.role, cleaned.reason, cleaned.detail))
                    continue
                if self.settings.near_duplicates is not None:
                    texts.append(compared_text(row))
                self._keep(row, rows)
        np.save(folder / INDEX_FILE, np.array(self.index, INDEX))
        if self.settings.near_duplicates is not None:
            from tfmodel.data.similarity import bands_of

            found = (self._bands_of or bands_of)(texts, self.settings.near_duplicates)
            np.save(folder / BANDS_FILE, found)
        summary = {
            "role": self.role,
            "raw": self.raw,
            "dropped": self.dropped,
            "cleaning": self.cleaned,
            "strata": list(self.strata),
            "names": self.names,
            "has_pairs": self.has_pairs,
            **self.further,
        }
        write_json(folder / SUMMARY_FILE, summary)

    def _keep(self, row: Row, rows: Any) -> None:
        line = row_line(row)
        stratum = self.target.stratum(row.label)
        digest = text_digest(row)
        self.index.append(
            (
                int.from_bytes(digest[:8], "big"),
                int.from_bytes(digest[8:], "big"),
                label_hash(row),
                split_rank(row, self.settings, role=self.role, seed=self.seed),
                0 if self.settings.max_rows is None else sample_rank(row, seed=self.seed),
                rows.tell(),
                len(line),
                self.strata.setdefault(stratum, len(self.strata)),
            )
        )
        rows.write(line)
        for name in self.target.names(row.label):
            self.names.setdefault(name, [0, row.origin])[0] += 1
        self.has_pairs = self.has_pairs or row.text_pair is not None
