"""Counts, and the first few examples, over rows that many workers see."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

TALLY = "tally"  # tag of the output that tallies go to
_SHOWN = {"origin": 1, "cleaning": 3, "near_same": 5, "near": 20, "conflict": 20, "line": 20}


class Tally:
    """Counts by key; of each kind of example the ones with the lowest order.

    A key is a tuple whose first item says what is counted: `("dropped", "train", "duplicate")`.
    """

    def __init__(self) -> None:
        self.counts: collections.Counter[tuple] = collections.Counter()
        self._shown: dict[tuple, list[tuple[Any, Any]]] = {}

    def wants(self, key: tuple, order: Any) -> bool:
        """Tell whether an example of this order would be kept."""
        shown = self._shown.get(key, ())
        return len(shown) < _SHOWN[key[0]] or order < shown[-1][0]

    def show(self, key: tuple, order: Any, example: Any) -> None:
        """Keep an example, if it is one of the first."""
        if self.wants(key, order):
            shown = [*self._shown.get(key, ()), (order, example)]
            shown.sort(key=lambda each: each[0])
            self._shown[key] = shown[: _SHOWN[key[0]]]

    def merge(self, other: Tally) -> None:
        """Add what another one has found."""
        self.counts.update(other.counts)
        for key, shown in other._shown.items():
            for order, example in shown:
                self.show(key, order, example)

    def of(self, *start: str) -> dict[str, int]:
        """Give the counts whose key has these items and one more, by that one."""
        places = len(start)
        return {
            key[places]: count
            for key, count in self.counts.items()
            if len(key) == places + 1 and key[:places] == start
        }

    def examples(self, *key: str) -> list:
        """Give the examples of a key, in order."""
        return [example for _, example in self._shown.get(key, ())]


class Tallying(beam.DoFn):
    """A DoFn that tallies: what a bundle has found goes out once, when the bundle ends."""

    def start_bundle(self) -> None:
        """Begin."""
        self.tally = Tally()

    def finish_bundle(self) -> Iterator[beam.pvalue.TaggedOutput]:
        """Give the tally."""
        yield beam.pvalue.TaggedOutput(TALLY, GlobalWindows.windowed_value(self.tally))


class _Sum(beam.CombineFn):
    """Adds up things that have a `merge`."""

    def __init__(self, kind: type):
        self._kind = kind

    def create_accumulator(self) -> Any:
        return self._kind()

    def add_input(self, total: Any, found: Any) -> Any:
        total.merge(found)
        return total

    def merge_accumulators(self, totals: Iterable[Any]) -> Any:
        merged = self._kind()
        for total in totals:
            merged.merge(total)
        return merged

    def extract_output(self, total: Any) -> Any:
        return total


def total(label: str, *tallies: beam.PCollection) -> beam.PCollection:
    """Add up tallies; gives a PCollection of one."""
    found = tallies | f"{label}: tallies" >> beam.Flatten()
    return found | f"{label}: total" >> beam.CombineGlobally(_Sum(Tally))


def total_by_key(label: str, found: beam.PCollection, kind: type) -> beam.PCollection:
    """Add up things of a kind by their key; gives a PCollection of one dict."""
    sums = found | f"{label}: by key" >> beam.CombinePerKey(_Sum(kind))
    return sums | f"{label}: all" >> beam.combiners.ToDict()


def kept_strata(tally: Tally, name: str, splits: Iterable[str]) -> Mapping[str, dict[str, int]]:
    """Give the rows of each stratum by split; without splits that are empty."""
    counts = {split: tally.of(name, split) for split in splits}
    return {split: found for split, found in counts.items() if found}
