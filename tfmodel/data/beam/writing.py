"""Rows to the shards of a TFDS folder, dropped rows to pieces of a file, counts to a summary.

A worker writes a whole file aside and renames it, so that one that is tried again does no harm.
"""

from __future__ import annotations

import collections
import itertools
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindows

from tfmodel.data.beam.reading import Facts, Item
from tfmodel.data.beam.tally import Tally, Tallying
from tfmodel.data.dataset_writer import RowSerializer, rows_per_shard, shard_name
from tfmodel.data.figures import SplitFigures
from tfmodel.data.parts.fates import SPLITS
from tfmodel.data.rows import Row, row_line
from tfmodel.data.targets import TARGETS
from tfmodel.run_folder import write_json

FIGURES = "figures"  # tag of an output
SUMMARY_FILE = "summary.json"
PIECES = "dropped-"
_BLOCK_BITS = 12  # rows of so many orders go to a shard together: 4,096
_PIECE_BITS = 16
Plan = dict[str, tuple[int, dict[int, int]]]


class Measure(Tallying):
    """Tallies rows that are kept for good: `left` by stratum, `rows` and `bytes` by block.

    Args:
        target: the kind of label.
    """

    def __init__(self, target: str):
        self._target = target

    def process(self, row: tuple[str, Item]) -> Iterator[Any]:
        """Count a row."""
        split, (order, _, values) = row
        counts, block = self.tally.counts, order >> _BLOCK_BITS
        counts["left", split, TARGETS[self._target].stratum(values[2])] += 1
        counts["rows", split, block] += 1
        counts["bytes", split, block] += len(row_line(Row(*values)))
        yield from ()


def plan_shards(left: Tally) -> Plan:
    """Give for each split how many shards there are, and the shard of each block of rows.

    Blocks go to shards in order and whole, so that rows stand in the order in which they were
    read; shards are as many and as long as `prepare` makes them, but for the length of a block.
    """
    plan: Plan = {}
    for split in SPLITS:
        rows = left.of("rows", split)
        if not rows:
            continue
        size = sum(left.of("bytes", split).values())
        ends = list(itertools.accumulate(rows_per_shard(sum(rows.values()), total_bytes=size)))
        shards: dict[int, int] = {}
        begun, shard = 0, 0
        for block in sorted(rows):
            while begun >= ends[shard]:
                shard += 1
            shards[block] = shard
            begun += rows[block]
        # A block of very long rows may be longer than a shard: those in between are left out.
        numbers = {old: new for new, old in enumerate(sorted(set(shards.values())))}
        plan[split] = len(numbers), {block: numbers[shard] for block, shard in shards.items()}
    return plan


class Encode(Tallying):
    """Gives ((split, shard, shards), (order, example)); figures by split; tallies `label`.

    Args:
        target: the kind of label.
    """

    def __init__(self, target: str):
        self._target = target

    def start_bundle(self) -> None:
        """Begin."""
        super().start_bundle()
        self._figures = collections.defaultdict(SplitFigures)
        self._serialize: RowSerializer | None = None

    def process(
        self, row: tuple[str, Item], names: Sequence[str], plan: Plan, kept: Tally
    ) -> Iterator[Any]:
        """Encode a row."""
        split, (order, _, values) = row
        target, read = TARGETS[self._target], Row(*values)
        if self._serialize is None:
            self._serialize = RowSerializer(target, names, has_pairs(kept))
        shards, shard_of = plan[split]
        for name in target.names(read.label):
            self.tally.counts["label", split, name] += 1
        self._figures[split].add(read)
        yield (split, shard_of[order >> _BLOCK_BITS], shards), (order, self._serialize(read))

    def finish_bundle(self) -> Iterator[Any]:
        """Give tally and figures."""
        yield from super().finish_bundle()
        for found in self._figures.items():
            yield TaggedOutput(FIGURES, GlobalWindows.windowed_value(found))


def has_pairs(kept: Tally) -> bool:
    """Tell whether any row has a second text."""
    return kept.counts["pairs",] > 0


class WriteShard(beam.DoFn):
    """Writes the examples of a shard, in order; gives (split, shard, rows, bytes).

    A shard is held in memory: about 64 MB.

    Args:
        folder: where to; every worker sees it.
    """

    def __init__(self, folder: str):
        self._folder = folder

    def process(self, group: tuple[tuple[str, int, int], Iterable]) -> Iterator[tuple]:
        """Write one."""
        import tensorflow as tf

        (split, shard, shards), examples = group
        path = Path(self._folder) / shard_name(split, shard, shards)
        aside = path.with_name(f".{uuid.uuid4().hex}")
        rows = size = 0
        with tf.io.TFRecordWriter(str(aside)) as writer:
            for _, example in sorted(examples):
                writer.write(example)
                rows += 1
                size += len(example)
        os.replace(aside, path)
        yield split, shard, rows, size


# --- dropped rows ---------------------------------------------------------------------------


def keyed_by_piece(dropped: tuple[int, str, str]) -> tuple[tuple[int, int], tuple[int, str]]:
    """Key the line of a dropped row by the piece of the file it goes to."""
    order, role, line = dropped
    return (SPLITS.index(role), order >> _PIECE_BITS), (order, line)


def write_piece(group: tuple[tuple[int, int], Iterable[tuple[int, str]]], folder: str) -> str:
    """Write a piece of `dropped.jsonl`; give its name, by which pieces are in order."""
    (role, piece), lines = group
    name = f"{PIECES}{role}-{piece:016x}"
    aside = Path(folder) / f".{uuid.uuid4().hex}"
    with open(aside, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(line for _, line in sorted(lines))
    os.replace(aside, Path(folder) / name)
    return name


# --- the summary ----------------------------------------------------------------------------


def write_summary(
    _: Any,
    folder: str,
    *,
    kept: Tally,
    later: Tally,
    facts: Mapping[str, Facts],
    figures: Mapping[str, SplitFigures],
    names: Sequence[str],
    shards: Sequence[tuple[str, int, int, int]],
    pieces: Sequence[str],
) -> None:
    """Write all that the account and the metadata are made of, as JSON.

    Args:
        folder: where to.
        kept: tallies of cleaning and duplicates.
        later: tallies of what came after.
        facts: how files were read, by role.
        figures: of the rows of each split.
        names: of the classes.
        shards: (split, shard, rows, bytes) of each.
        pieces: of `dropped.jsonl`.
    """
    found = {name: sorted(each[1:] for each in shards if each[0] == name) for name in SPLITS}
    found = {name: each for name, each in found.items() if each}
    dropped = {role: collections.Counter(kept.of("dropped", role)) for role in facts}
    for role, counts in dropped.items():
        counts.update(later.of("dropped", role))
    summary = {
        "facts": {role: each.summary() for role, each in facts.items()},
        "raw": kept.of("raw"),
        "dropped": dropped,
        **_examples(kept),
        "private": dict(sorted(kept.of("private").items())),
        "lines": kept.of("lines"),
        "line_examples": kept.examples("line"),
        "names": list(names),
        "has_pairs": has_pairs(kept),
        "strata": {name: later.of("split", name) for name in SPLITS},
        "splits": {},
        "shards": {},
        "pieces": sorted(pieces),
    }
    for name, each in found.items():
        lengths = [rows for _, rows, _ in each]
        labels = later.of("label", name)
        summary["splits"][name] = {
            "rows": sum(lengths),
            "labels": {label: labels.get(label, 0) for label in names},
            **figures[name].summary(),
        }
        summary["shards"][name] = [lengths, sum(size for *_, size in each)]
    write_json(Path(folder) / SUMMARY_FILE, summary)


def _examples(kept: Tally) -> dict[str, Any]:
    return {
        "cleaning": {
            step: {"rows": rows, "examples": kept.examples("cleaning", step)}
            for step, rows in kept.of("cleaned").items()
        },
        "conflicts": {"rows": kept.counts["conflicts",], "examples": kept.examples("conflict")},
        "near_duplicates": {
            "pairs": kept.counts["near_pairs",],
            "conflicts": kept.counts["near_conflicts",],
            "examples": kept.examples("near"),
            "same_label_examples": kept.examples("near_same"),
        },
    }
