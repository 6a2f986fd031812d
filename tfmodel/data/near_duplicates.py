"""Near duplicates: texts that share most of their short runs of characters.

MinHash finds the candidates, in bands that are sorted on disk; the texts themselves then decide.
A row goes if one with a lower id is that similar: of a chain of copies the first stays.

Source: Broder 1997 (resemblance, MinHash); Leskovec, Rajaraman and Ullman 2014, chapter 3 (bands).
We deviate in two things: candidates are compared exactly, so nothing is dropped by an estimate;
and of the rows that share a band each is compared with the first and with the one before it, not
with all: the work stays linear.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfmodel.data.dedupe import first_of_runs, leak_reasons
from tfmodel.data.parts import Parts, RowReader
from tfmodel.data.parts.buckets import Buckets
from tfmodel.data.parts.fates import Fates, ids_of
from tfmodel.data.parts.workers import Workers
from tfmodel.data.progress import bar
from tfmodel.data.rows import Row

_BAND = np.dtype([("key", "<u8"), ("id", "<u8")])
_PAIR = np.dtype([("key", "<u8"), ("first", "<u8"), ("later", "<u8")])
_PAIRS_A_JOB = 20_000
_EXAMPLES = {"examples": 20, "same_label_examples": 5}
_SHOWN_CHARACTERS = 200


def drop_near_duplicates(
    parts: Parts,
    fates: Fates,
    folder: Path,
    *,
    threshold: float,
    workers: Workers,
    job: str = "compare_pairs",
) -> dict:
    """Drop rows that are near duplicates of an earlier one with the same label, or leak.

    Reasons: `near_duplicate`; `near_in_test`, `near_in_dev` whatever the labels. Near duplicates
    inside a part that differ in their labels both stay: one word can turn a label.

    Args:
        parts: all parts, with bands.
        fates: tells who is dropped already, receives the others.
        folder: a folder of its own for sorting.
        threshold: similarity in (0, 1] from which a row goes.
        workers: compare the candidates.
        job: by what; it is called as `compare_pairs` is.

    Returns:
        `pairs` compared, `conflicts` (rows like another of another label), `examples` of these,
        and `same_label_examples` of pairs of which one row went.
    """
    bands = Buckets(folder / "bands", _BAND)
    for number in parts.numbers():
        values = parts.bands(number)
        kept = fates.kept(number, len(values))
        records = np.empty((int(kept.sum()), values.shape[1]), _BAND)
        records["key"] = values[kept]
        records["id"] = ids_of(number, len(values))[kept][:, np.newaxis]
        bands.add(records.reshape(-1))
    found = {"pairs": 0, "conflicts": 0, "examples": [], "same_label_examples": []}
    finder = _Finder(parts, fates, folder, threshold, workers, job, found)
    finder.search(bands)
    finder.reader.close()
    bands.close()
    return found


class _Finder:
    def __init__(
        self,
        parts: Parts,
        fates: Fates,
        folder: Path,
        threshold: float,
        workers: Workers,
        job: str,
        found: dict,
    ):
        self.parts = parts
        self.fates = fates
        self.folder = folder
        self.threshold = threshold
        self.workers = workers
        self.job = job
        self.found = found
        self.reader = RowReader(parts)
        self._jobs = 0

    def search(self, bands: Buckets) -> None:
        """Compare each row that shares a band with the first of it and with the one before."""
        last = len(self.parts.numbers()) * 1.0
        pairs = Buckets(self.folder / "pairs", _PAIR)
        for chunk in bands:
            chunk = chunk[np.lexsort((chunk["id"], chunk["key"]))]
            first, later = candidates(chunk["key"], chunk["id"])
            records = np.empty(len(later), _PAIR)
            records["first"], records["later"] = first, later
            records["key"] = spread_over_keys(later, last)
            pairs.add(records)
        jobs = []
        with bar(pairs.count, "comparing", unit=" pairs") as shown:
            for chunk in pairs:
                records = chunk[np.lexsort((chunk["first"], chunk["later"]))]
                records = records[first_of_runs(records["first"], records["later"])]
                for job in _cut_between_rows(records["later"]):
                    jobs.append(self._compare(records[job]))
                shown.update(len(chunk))
        pairs.close()
        self.workers.finish()
        for job in jobs:
            self._judge(job)

    def _compare(self, pairs: np.ndarray) -> Path:
        self._jobs += 1
        # Beside the parts: what was compared before a kill is compared for good, like them.
        path = self.parts.folder / f"compare-{self._jobs:06d}.npy"
        self.found["pairs"] += len(pairs)
        if not path.with_suffix(".answers.npy").exists():
            with open(path, "wb") as file:
                np.save(file, np.stack([pairs["first"], pairs["later"]], axis=1))
            self.workers.submit(self.job, str(self.parts.folder), str(path), self.threshold)
        return path

    def _judge(self, path: Path) -> None:
        pairs, answers = np.load(path), np.load(path.with_suffix(".answers.npy"))
        similar = answers[:, 0] >= self.threshold
        pairs, same_label = pairs[similar], answers[similar, 1] == 1
        first, later = pairs[:, 0], pairs[:, 1]
        reasons = reasons_of_similar(
            self.fates.role_codes(first), self.fates.role_codes(later), same_label
        )
        for reason in np.unique(reasons[reasons != ""]):
            # The lowest id is named as the one that stays: pairs are sorted, the last write wins.
            chosen = np.flatnonzero(reasons == reason)[::-1]
            self.fates.drop(later[chosen], str(reason), first[chosen])
        differ = reasons == ""
        self.found["conflicts"] += int(differ.sum())
        for name, chosen in (("examples", differ), ("same_label_examples", ~differ)):
            for place in np.flatnonzero(chosen)[: _EXAMPLES[name] - len(self.found[name])]:
                pair = (self.reader(first[place]), self.reader(later[place]))
                self.found[name].append(describe_pair(*pair))


def candidates(keys: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pair each row that shares a band with the first row of the band and with the one before.

    Args:
        keys: of bands, sorted; (n,).
        ids: of rows, sorted inside a band; (n,).

    Returns:
        Ids of the earlier and of the later row of each pair.
    """
    starts = first_of_runs(keys)
    is_first = np.zeros(len(keys), bool)
    is_first[starts] = True
    later = np.flatnonzero(~is_first)
    first = starts[np.cumsum(is_first) - 1][later]
    others = later[first != later - 1]
    return (
        np.concatenate([ids[first], ids[others - 1]]),
        np.concatenate([ids[later], ids[others]]),
    )


def reasons_of_similar(first_role: Any, role: Any, same_label: Any) -> np.ndarray:
    """Say why rows go that are like an earlier one; empty: both stay.

    Args:
        first_role: role of the earlier row, an index into `SPLITS`; arrays of any shape.
        role: role of the later row.
        same_label: whether their labels are equal.
    """
    return leak_reasons("near_in_", first_role, role, np.where(same_label, "near_duplicate", ""))


def _cut_between_rows(later: np.ndarray) -> Iterator[slice]:
    """Cut pairs, sorted by their later row, into jobs; all pairs of a row are in one."""
    start = 0
    while start < len(later):
        last = later[min(start + _PAIRS_A_JOB, len(later)) - 1]
        end = int(np.searchsorted(later, last, side="right"))
        yield slice(start, end)
        start = end


def spread_over_keys(ids: np.ndarray, parts: float) -> np.ndarray:
    """Turn ids into sort keys that fill 64 bits evenly, in the ids' order."""
    from tfmodel.data.parts import PART_ROWS

    step = int(2**64 // max(1, int(parts) * PART_ROWS))
    return ids * np.uint64(step)


def describe_pair(one: Row, other: Row) -> list[dict]:
    """Show two rows where they begin to differ."""
    texts = [
        row.text if row.text_pair is None else f"{row.text} | {row.text_pair}"
        for row in (one, other)
    ]
    same = len(os.path.commonprefix(texts))
    start = max(0, same - _SHOWN_CHARACTERS // 4)
    return [
        {
            "text": text[start : start + _SHOWN_CHARACTERS],
            "label": row.label,
            "origin": row.origin,
        }
        for text, row in zip(texts, (one, other), strict=True)
    ]
