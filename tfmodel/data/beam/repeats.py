"""Equal and nearly equal texts: the rules are those of `dedupe` and `near_duplicates`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindows

from tfmodel.data.account import dropped_line
from tfmodel.data.beam.reading import DROPPED, Item
from tfmodel.data.beam.tally import TALLY, Tallying
from tfmodel.data.dedupe import reasons_of_equal
from tfmodel.data.near_duplicates import candidates, describe_pair, reasons_of_similar
from tfmodel.data.parts.fates import SPLITS
from tfmodel.data.ranks import label_hash, text_digest
from tfmodel.data.rows import Row, compared_text
from tfmodel.data.similarity import bands_of, shingles, similarity

_TEXTS_AT_A_TIME = 256


def keyed_by_text(item: Item) -> tuple[bytes, Item]:
    """Key a row by its text: equal texts, equal keys."""
    return text_digest(Row(*item[2])), item


class KeepFirst(Tallying):
    """Keeps the first of the rows with equal text; the others go to `DROPPED`."""

    def process(self, group: tuple[bytes, Iterable[Item]]) -> Iterator[Any]:
        """Decide for the rows of one text; runs through them twice and holds one."""
        _, items = group
        first = min(items, key=lambda item: item[0])
        yield first
        kept = Row(*first[2])
        for order, role, values in items:
            if order == first[0]:
                continue
            row = Row(*values)
            codes = SPLITS.index(first[1]), SPLITS.index(role)
            reason = str(reasons_of_equal(*codes, label_hash(kept) == label_hash(row)))
            self.tally.counts["dropped", role, reason] += 1
            if reason == "conflicting_label":
                self.tally.counts["conflicts",] += 1
                self.tally.show(("conflict",), order, conflict(kept, row))
            yield TaggedOutput(DROPPED, (order, role, dropped_line(row, role, reason, kept.origin)))


def conflict(kept: Row, gone: Row) -> dict:
    """Show one text with two labels, as the account does."""
    return {
        "text": kept.text[:200],
        "kept": [kept.label, kept.origin],
        "dropped": [gone.label, gone.origin],
    }


# --- near duplicates ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Likeness:
    """By what texts are alike: functions of a module, so that they travel.

    Attributes:
        bands_of: (texts, threshold) -> the bands by which candidates are found.
        runs_of: (text) -> what similarity compares; keeps the latest.
        similarity: (runs, runs, least) -> in [0, 1].
    """

    bands_of: Callable[[Sequence[str], float], np.ndarray]
    runs_of: Callable[[str], Any]
    similarity: Callable[..., float]


@lru_cache(maxsize=4_096)
def _shingles(text: str) -> set[bytes]:
    return shingles(text)


OF_ROWS = Likeness(bands_of, _shingles, similarity)


def drop_near(
    items: beam.PCollection, threshold: float, likeness: Likeness = OF_ROWS
) -> tuple[beam.PCollection, beam.PCollection, beam.PCollection]:
    """Drop near duplicates; give the rows that stay, lines of the others, and tallies."""
    pairs = (
        items
        | "near: bands" >> beam.ParDo(Bands(threshold, likeness))
        | "near: rows of a band" >> beam.GroupByKey()
        | "near: candidates" >> beam.FlatMap(pairs_of_band)
        | "near: each pair once" >> beam.Distinct()
    )
    rows = items | "near: rows by order" >> beam.Map(lambda item: (item[0], item))
    with_first = (
        (rows, pairs)
        | "near: rows and pairs" >> beam.Flatten()
        | "near: join first" >> beam.GroupByKey()
        | "near: send first" >> beam.FlatMap(_send_to_later)
    )
    judged = (
        {"rows": rows, "others": with_first}
        | "near: join later" >> beam.CoGroupByKey()
        | "near: judge"
        >> beam.ParDo(JudgeSimilar(threshold, likeness)).with_outputs(DROPPED, TALLY, main="kept")
    )
    return judged.kept, judged[DROPPED], judged[TALLY]


class Bands(beam.DoFn):
    """Gives (band, order) for each band of each row.

    Args:
        threshold: similarity from which two texts are near duplicates.
        likeness: by what they are alike.
    """

    def __init__(self, threshold: float, likeness: Likeness = OF_ROWS):
        self._threshold = threshold
        self._likeness = likeness

    def start_bundle(self) -> None:
        """Begin."""
        self._texts: list[str] = []
        self._orders: list[int] = []

    def process(self, item: Item) -> Iterator[tuple[bytes, int]]:
        """Take a row; hash some at a time."""
        self._texts.append(compared_text(Row(*item[2])))
        self._orders.append(item[0])
        if len(self._texts) == _TEXTS_AT_A_TIME:
            yield from self._flush()

    def finish_bundle(self) -> Iterator[Any]:
        """Hash the rest."""
        for found in self._flush():
            yield GlobalWindows.windowed_value(found)

    def _flush(self) -> Iterator[tuple[bytes, int]]:
        if self._texts:
            for order, bands in zip(
                self._orders, self._likeness.bands_of(self._texts, self._threshold), strict=True
            ):
                for band in bands:
                    yield band.tobytes(), order
        self._texts, self._orders = [], []


def pairs_of_band(group: tuple[bytes, Iterable[int]]) -> Iterator[tuple[int, int]]:
    """Pair the rows that share a band: 8 bytes a row are held."""
    orders = np.sort(np.fromiter(group[1], np.int64))
    first, later = candidates(np.zeros(len(orders), np.uint64), orders)
    yield from zip(first.tolist(), later.tolist(), strict=True)


def _send_to_later(group: tuple[int, Iterable[Item | int]]) -> Iterator[tuple[int, Item]]:
    """Give a row to all the later ones it may be like, however many; runs through them twice."""
    _, joined = group
    item = next(each for each in joined if not isinstance(each, int))
    for each in joined:
        if isinstance(each, int):
            yield each, item


class JudgeSimilar(Tallying):
    """Compares a row with the earlier ones it shares a band with; keeps it, or says why not.

    Args:
        threshold: similarity from which two texts are near duplicates.
        likeness: by what they are alike.
    """

    def __init__(self, threshold: float, likeness: Likeness = OF_ROWS):
        self._threshold = threshold
        self._likeness = likeness

    def process(self, group: tuple[int, dict]) -> Iterator[Any]:
        """Decide for a row; the candidates of one row are few, two for each band at most."""
        order, joined = group
        (item,) = joined["rows"]
        others = sorted(joined["others"], key=lambda other: other[0])
        self.tally.counts["near_pairs",] += len(others)
        _, role, values = item
        row = Row(*values)
        found: dict[str, Row] = {}
        for other in others:
            earlier = Row(*other[2])
            if self._alike(earlier, row) < self._threshold:
                continue
            codes = SPLITS.index(other[1]), SPLITS.index(role)
            reason = str(reasons_of_similar(*codes, label_hash(earlier) == label_hash(row)))
            found.setdefault(reason, earlier)
            self.tally.counts["near_conflicts",] += not reason
            key, place = ("near_same" if reason else "near",), (order, other[0])
            if self.tally.wants(key, place):
                self.tally.show(key, place, describe_pair(earlier, row))
        # Of several reasons a leak counts, of leaks that into test: the last by name.
        reason = max(found, default="")
        if not reason:
            yield item
            return
        self.tally.counts["dropped", role, reason] += 1
        line = dropped_line(row, role, reason, found[reason].origin)
        yield TaggedOutput(DROPPED, (order, role, line))

    def _alike(self, one: Row, other: Row) -> float:
        runs_of = self._likeness.runs_of
        runs = runs_of(compared_text(one)), runs_of(compared_text(other))
        return self._likeness.similarity(*runs, least=self._threshold)
