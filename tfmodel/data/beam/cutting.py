"""Which row goes to which split: `splits`' rules, where no worker can sort all ranks.

The rank at a place in the sorted order is found digit by digit: rows are counted by the first
bits of their rank, then, where the place falls, by the next. Memory: the counts of one digit for
each bound that is sought.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsSingleton, TaggedOutput

from tfmodel.data.account import dropped_line
from tfmodel.data.beam.reading import DROPPED, Item
from tfmodel.data.beam.tally import Tally, Tallying, kept_strata
from tfmodel.data.parts.fates import SPLITS
from tfmodel.data.ranks import sample_rank, split_rank
from tfmodel.data.rows import Row
from tfmodel.data.settings import DataSettings
from tfmodel.data.split_counts import hash_bounds, sample_counts, stratified_counts, time_start
from tfmodel.data.targets import TARGETS, Target

_BITS = 8  # of a digit
_NEVER = 2**64  # a bound above every rank
_ALL = ""  # the one stratum where there are none
Bounds = dict[str, list[int]]


# --- the rank at a place --------------------------------------------------------------------


def ranks_at(label: str, ranks: beam.PCollection, places: beam.PCollection) -> beam.PCollection:
    """Find the ranks at some places of each stratum's sorted ranks.

    Args:
        label: names the steps.
        ranks: (stratum, rank) of each row; ranks are unsigned, 64 bits.
        places: one dict: places by stratum, from 0.

    Returns:
        One dict: for each stratum and place the rank there, 2**64 beyond the last, and how many
        lower ranks there are.
    """
    state = places | f"{label}: begin" >> beam.Map(_begin)
    for shift in range(64 - _BITS, -1, -_BITS):
        counts = (
            ranks
            | f"{label}: digit {shift}" >> beam.FlatMap(_digit, AsSingleton(state), shift=shift)
            | f"{label}: count {shift}" >> beam.CombinePerKey(sum)
            | f"{label}: counts {shift}" >> beam.combiners.ToDict()
        )
        state = state | f"{label}: next {shift}" >> beam.Map(_next, AsSingleton(counts))
    return state | f"{label}: end" >> beam.Map(_end)


def _begin(places: Mapping[str, list[int]]) -> dict:
    """Give (first bits of the rank, place, place among the ranks of these bits) of each bound."""
    return {stratum: [(0, place, place) for place in wanted] for stratum, wanted in places.items()}


def _digit(item: tuple[str, int], state: Mapping, *, shift: int) -> Iterator[tuple]:
    stratum, rank = item
    if any(bits == rank >> (shift + _BITS) for bits, _, _ in state.get(stratum, ())):
        yield (stratum, rank >> shift), 1


def _next(state: Mapping, counts: Mapping[tuple[str, int], int]) -> dict:
    found: dict[str, list] = collections.defaultdict(list)
    for stratum, bounds in state.items():
        for bits, place, left in bounds:
            first = None if bits is None else bits << _BITS
            for longer in () if first is None else range(first, first + 2**_BITS):
                rows = counts.get((stratum, longer), 0)
                if left < rows:
                    found[stratum].append((longer, place, left))
                    break
                left -= rows
            else:
                found[stratum].append((None, place, left))
    return dict(found)


def _end(state: Mapping) -> dict[str, list[tuple[int, int]]]:
    return {
        stratum: [(_NEVER if rank is None else rank, place - left) for rank, place, left in bounds]
        for stratum, bounds in state.items()
    }


def _bounds(found: Mapping[str, list[tuple[int, int]]]) -> Bounds:
    return {stratum: [rank for rank, _ in bounds] for stratum, bounds in found.items()}


# --- splits ---------------------------------------------------------------------------------


def split(
    items: beam.PCollection,
    kept: beam.PCollection,
    *,
    settings: DataSettings,
    target: Target,
    shares: Mapping[str, float],
    seed: int,
    places_of: Callable[[Tally], dict[str, list[int]]] | None = None,
    bounds_of: Callable[[dict], Bounds] | None = None,
) -> beam.PCollection:
    """Give each row its split: outputs (split, row), and tallies of `split` and stratum.

    Args:
        items: rows that are kept.
        kept: one tally, of `kept` by role and stratum.
        settings: the `data:` section.
        target: the kind of label.
        shares: what is split off train.
        seed: of the ranks.
        places_of: gives, by stratum, the places at which splits end; by the shares by default.
        bounds_of: gives the bounds of what `ranks_at` finds there; the ranks by default.
    """
    by_rank = Ranked(settings, target.name, seed)
    ranks = items | "split: ranks" >> beam.FlatMap(by_rank.of_train)
    if not shares or settings.split in ("hash", "group"):
        bounds = kept | "split: bounds" >> beam.Map(lambda _: {})
    elif settings.split == "time":
        bounds = _time_bounds(ranks, kept, shares)
    else:
        places_of = places_of or functools.partial(
            _stratified_places, shares=dict(shares), seed=seed
        )
        places = kept | "split: places" >> beam.Map(places_of)
        found = ranks_at("split", ranks, places)
        bounds = found | "split: bounds" >> beam.Map(bounds_of or _bounds)
    return items | "split" >> beam.ParDo(
        AssignSplit(by_rank, list(shares), hash_bounds(shares).tolist()), AsSingleton(bounds)
    ).with_outputs("tally", main="rows")


class Ranked:
    """Gives the stratum and rank of a row of train; by time all are one stratum."""

    def __init__(self, settings: DataSettings, target: str, seed: int):
        self.settings = settings
        self.target = target
        self.seed = seed

    def __call__(self, item: Item) -> tuple[str, int]:
        """Give the two of any row."""
        row = Row(*item[2])
        rank = split_rank(row, self.settings, role=item[1], seed=self.seed)
        by_time = self.settings.split == "time"
        return _ALL if by_time else TARGETS[self.target].stratum(row.label), rank

    def of_train(self, item: Item) -> Iterator[tuple[str, int]]:
        """Give the two, if the row is from train."""
        if item[1] == "train":
            yield self(item)


def _stratified_places(kept: Tally, shares: dict[str, float], seed: int) -> dict[str, list[int]]:
    sizes = kept.of("kept", "train")
    counts = stratified_counts(sizes, shares, seed=seed)
    places: dict[str, list[int]] = {stratum: [] for stratum in sizes}
    for stratum, found in places.items():
        end = 0
        for name in shares:
            end += counts[name].get(stratum, 0)
            found.append(end)
    return places


def _time_bounds(
    ranks: beam.PCollection, kept: beam.PCollection, shares: Mapping[str, float]
) -> beam.PCollection:
    """Find the moments from which rows go to each split: test, then dev, the latest first."""
    before = kept | "time: rows" >> beam.Map(_rows_of_train)
    for name in shares:
        places = before | f"time: {name}" >> beam.Map(_time_place, name, dict(shares))
        found = ranks_at(f"time of {name}", ranks, places)
        before = before | f"time: before {name}" >> beam.Map(_with_bound, AsSingleton(found))
    return before | "time: bounds" >> beam.Map(lambda found: {_ALL: found["bounds"]})


def _rows_of_train(kept: Tally) -> dict:
    rows = sum(kept.of("kept", "train").values())
    return {"rows": rows, "left": rows, "bounds": []}


def _time_place(before: dict, name: str, shares: dict[str, float]) -> dict[str, list[int]]:
    return {_ALL: [time_start(before["left"], before["rows"], name, shares)]}


def _with_bound(before: dict, found: dict) -> dict:
    ((bound, lower),) = found[_ALL]
    return {"rows": before["rows"], "left": lower, "bounds": [*before["bounds"], bound]}


class AssignSplit(Tallying):
    """Gives (split, row); tallies `split` by split and stratum.

    Args:
        by_rank: gives a row's stratum and rank.
        names: of the splits that are split off train.
        ends: where the share of each ends, for splits by hash and group.
    """

    def __init__(self, by_rank: Ranked, names: list[str], ends: list[float]):
        self._by_rank = by_rank
        self._names = names
        self._ends = ends

    def process(self, item: Item, bounds: Bounds) -> Iterator[tuple[str, Item]]:
        """Place a row."""
        name = item[1]
        if name == "train":
            name = [*self._names, "train"][self._place(item, bounds)]
        stratum = TARGETS[self._by_rank.target].stratum(item[2][2])
        self.tally.counts["split", name, stratum] += 1
        yield name, item

    def _place(self, item: Item, bounds: Bounds) -> int:
        stratum, rank = self._by_rank(item)
        if not self._names:
            return 0
        if self._by_rank.settings.split == "time":
            return sum(rank < bound for bound in bounds[stratum])
        if self._by_rank.settings.split == "stratified":
            return sum(rank >= bound for bound in bounds[stratum])
        return int(np.searchsorted(self._ends, float(rank), side="right"))


# --- max_rows -------------------------------------------------------------------------------


def draw(
    rows: beam.PCollection,
    tally: beam.PCollection,
    *,
    count: int,
    target: Target,
    seed: int,
    reason: str,
) -> beam.PCollection:
    """Keep `count` rows of the split train; outputs (split, row), lines and tallies.

    Why the others are dropped is `reason`, one of `NOT_DRAWN`.
    """
    rank = SampleRanked(target.name, seed)
    ranks = rows | "sample: ranks" >> beam.FlatMap(rank.of_train)
    places = tally | "sample: places" >> beam.Map(_sample_places, count, seed, target.name)
    bounds = ranks_at("sample", ranks, places) | "sample: bounds" >> beam.Map(_bounds)
    keep = beam.ParDo(KeepSample(rank, reason), AsSingleton(bounds))
    return rows | "sample" >> keep.with_outputs(DROPPED, "tally", main="rows")


class SampleRanked:
    """Gives the stratum and the rank by which `max_rows` draws."""

    def __init__(self, target: str, seed: int):
        self._target = target
        self._seed = seed

    def __call__(self, item: Item) -> tuple[str, int]:
        """Give the two of any row."""
        row = Row(*item[2])
        return TARGETS[self._target].stratum(row.label), sample_rank(row, seed=self._seed)

    def of_train(self, row: tuple[str, Item]) -> Iterator[tuple[str, int]]:
        """Give the two, if the row is in the split train."""
        if row[0] == "train":
            yield self(row[1])


def _sample_places(tally: Tally, count: int, seed: int, target: str) -> dict[str, list[int]]:
    sizes = kept_strata(tally, "split", SPLITS).get("train", {})
    are_classes = target == "class"
    drawn = sample_counts(sizes, count=count, seed=seed, are_classes=are_classes) or sizes
    return {stratum: [drawn.get(stratum, 0)] for stratum in sizes}


class KeepSample(Tallying):
    """Keeps the rows of train below their stratum's bound, and all others.

    Args:
        rank: gives a row's stratum and rank.
        reason: why the others are dropped.
    """

    def __init__(self, rank: SampleRanked, reason: str):
        self._rank = rank
        self._reason = reason

    def process(self, row: tuple[str, Item], bounds: Bounds) -> Iterator[Any]:
        """Keep a row, or not."""
        name, (order, role, values) = row
        if name == "train":
            stratum, rank = self._rank(row[1])
            if rank >= bounds[stratum][0]:
                self.tally.counts["dropped", role, self._reason] += 1
                line = dropped_line(Row(*values), role, self._reason)
                yield TaggedOutput(DROPPED, (order, role, line))
                return
        yield row
