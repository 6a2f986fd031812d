"""What the rows of a split are like: how long their texts, how spread their numbers."""

from __future__ import annotations

import bisect
import collections
import itertools
import math
from typing import Any

from tfmodel.data.rows import Row

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_BINS = 10
_MOST_DISTINCT = 20


class SplitFigures:
    """Takes the rows of a split one after another; memory grows with distinct lengths alone."""

    def __init__(self) -> None:
        self._lengths: dict[str, collections.Counter[int]] = {}
        self._numbers: collections.Counter[float] = collections.Counter()
        self._unlabelled = 0

    def add(self, row: Row) -> None:
        """Count a row that is kept."""
        for name, text in (("text", row.text), ("text_pair", row.text_pair)):
            if text is not None:
                self._lengths.setdefault(name, collections.Counter())[len(text)] += 1
        if isinstance(row.label, float):
            self._numbers[_rounded(row.label)] += 1
        elif isinstance(row.label, list) and not row.label:
            self._unlabelled += 1

    def merge(self, other: SplitFigures) -> None:
        """Add the rows that another one has taken."""
        for name, counts in other._lengths.items():
            self._lengths.setdefault(name, collections.Counter()).update(counts)
        self._numbers.update(other._numbers)
        self._unlabelled += other._unlabelled

    def summary(self) -> dict[str, Any]:
        """Give the figures, as `account.json` has them.

        Returns:
            `characters`: of `text` (and `text_pair`), `shortest` and `longest`, and `shares`: a
            share of the texts -> the length that they do not exceed. Where there are such rows:
            `unlabelled`, those whose list of classes, spans or answers is empty; `numbers`, with
            `least`, `mean`, `most` (all of four digits) and `bins`: [from, to, rows].
        """
        found: dict[str, Any] = {
            "characters": {name: _lengths(counts) for name, counts in self._lengths.items()}
        }
        if self._unlabelled:
            found["unlabelled"] = self._unlabelled
        if self._numbers:
            found["numbers"] = {
                "least": min(self._numbers),
                "mean": _rounded(_mean(self._numbers)),
                "most": max(self._numbers),
                "bins": _bins(self._numbers),
            }
        return found


def _lengths(counts: collections.Counter[int]) -> dict[str, Any]:
    lengths = sorted(counts)
    up_to = list(itertools.accumulate(counts[length] for length in lengths))
    shares = {}
    for share in SHARES:
        place = next(place for place, rows in enumerate(up_to) if rows >= share * up_to[-1])
        shares[str(share)] = lengths[place]
    return {"shortest": lengths[0], "longest": lengths[-1], "shares": shares}


def _rounded(number: float) -> float:
    """Keep four digits, so that a million measurements are not a million counters."""
    rounded = float(f"{number:.4g}")
    return rounded if math.isfinite(rounded) else number


def _mean(numbers: collections.Counter[float]) -> float:
    rows = numbers.total()
    # A sum of all may be beyond the largest float.
    mean = math.fsum(number / rows * count for number, count in numbers.items())
    return min(max(mean, min(numbers)), max(numbers))


def _bins(numbers: collections.Counter[float]) -> list[list[float]]:
    """Cut the range into equal bins; few distinct numbers have one each."""
    if len(numbers) <= _MOST_DISTINCT:
        return [[number, number, numbers[number]] for number in sorted(numbers)]
    least, most = min(numbers), max(numbers)
    edges = [least * (1 - step / _BINS) + most * (step / _BINS) for step in range(_BINS + 1)]
    edges[-1] = most
    rows = [0] * _BINS
    for number, count in numbers.items():
        rows[min(_BINS, bisect.bisect_right(edges, number)) - 1] += count
    return [[edges[place], edges[place + 1], rows[place]] for place in range(_BINS)]
