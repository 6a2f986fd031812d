"""Raw rows to a part: cleaned, counted, digested. A pure function, so that processes share it."""

from __future__ import annotations

import collections
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfmodel.data.account import count_cleaned, dropped_line
from tfmodel.data.cleaning import chosen_steps
from tfmodel.data.filters import reason_to_drop
from tfmodel.data.parts import (
    BANDS_FILE,
    DROPPED_FILE,
    INDEX,
    INDEX_FILE,
    ROWS_FILE,
    SUMMARY_FILE,
)
from tfmodel.data.ranks import sample_rank, split_rank, text_digest, time_rank
from tfmodel.data.rows import BadLabel, Reject, Row, encodable
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
    maker = _Maker(role, TARGETS[target], DataSettings.model_validate(settings), seed)
    with write_aside(Path(folder), replace=True) as aside:
        aside.mkdir()
        maker.make(_read_raw(Path(raw)), aside)
    Path(raw).unlink()


class _Maker:
    def __init__(self, role: str, target: Target, settings: DataSettings, seed: int):
        self.role = role
        self.target = target
        self.settings = settings
        self.seed = seed
        self.steps = chosen_steps(settings.cleaning)
        self.raw = 0
        self.dropped: collections.Counter[str] = collections.Counter()
        self.cleaned: dict[str, dict[str, Any]] = {}
        self.strata: dict[str, int] = {}
        self.names: dict[str, list] = {}  # of classes: how many rows, and where the first stands
        self.index: list[tuple] = []
        self.has_pairs = False

    def make(self, raw: Iterable[Row | Reject], folder: Path) -> None:
        texts: list[str] = []
        with (
            open(folder / ROWS_FILE, "wb") as rows,
            open(folder / DROPPED_FILE, "w", encoding="utf-8", newline="\n") as dropped,
        ):
            for row in raw:
                self.raw += 1
                row.text, row.origin = encodable(row.text), encodable(row.origin)
                reason, detail = self._clean(row)
                if reason:
                    self.dropped[reason] += 1
                    dropped.write(dropped_line(row, self.role, reason, detail))
                    continue
                texts.append(row.text if row.text_pair is None else f"{row.text}\n{row.text_pair}")
                self._keep(row, rows)
        np.save(folder / INDEX_FILE, np.array(self.index, INDEX))
        if self.settings.near_duplicates is not None:
            from tfmodel.data.near_duplicates import bands_of

            np.save(folder / BANDS_FILE, bands_of(texts, self.settings.near_duplicates))
        summary = {
            "role": self.role,
            "raw": self.raw,
            "dropped": self.dropped,
            "cleaning": self.cleaned,
            "strata": list(self.strata),
            "names": self.names,
            "has_pairs": self.has_pairs,
        }
        write_json(folder / SUMMARY_FILE, summary)

    def _clean(self, row: Row | Reject) -> tuple[str, str]:
        """Clean a row in place; give the reason for which it cannot be kept, if there is one."""
        if isinstance(row, Reject):
            return row.reason, row.detail
        row.group = None if row.group is None else encodable(row.group)
        before, pair_before = row.text, row.text_pair
        problem = None
        try:
            changed = self.target.clean(row, self.steps)
        except BadLabel as error:
            changed, problem = (), error
        if changed:
            seen = (before, row.text)
            if before == row.text and row.text_pair is not None:
                seen = (pair_before or "", row.text_pair)
            count_cleaned(self.cleaned, changed, *seen, row.origin)
        texts = [row.text] if row.text_pair is None else [row.text, row.text_pair]
        if not all(text.strip() for text in texts):
            return "empty_text", ""
        if problem is not None:
            return problem.reason, problem.detail
        if self.target.is_empty(row.label):
            return "empty_label", ""
        if max(map(len, texts)) > self.settings.max_characters:
            return "too_long", ""
        if self.settings.split == "time" and self.role == "train":
            try:
                time_rank(row.group or "")
            except ValueError:
                return "bad_time", f"{(row.group or '')[:80]!r} is no number, date or time"
        return reason_to_drop(" ".join(texts), self.settings.cleaning), ""

    def _keep(self, row: Row, rows: Any) -> None:
        written = json.dumps(
            [row.text, row.text_pair, row.label, row.origin, row.group], ensure_ascii=False
        )
        line = f"{written}\n".encode()
        stratum = self.target.stratum(row.label)
        label = json.dumps(row.label, ensure_ascii=False, sort_keys=True)
        digest = text_digest(row)
        self.index.append(
            (
                int.from_bytes(digest[:8], "big"),
                int.from_bytes(digest[8:], "big"),
                int.from_bytes(hashlib.blake2b(label.encode(), digest_size=8).digest(), "big"),
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
