"""The steps that documents take in a Beam pipeline and rows do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import TaggedOutput

from tfmodel.data.account import dropped_line
from tfmodel.data.beam.pipeline import Job, count_kept, keep_first, read_and_clean, split, write
from tfmodel.data.beam.reading import DROPPED, FACTS, CleanRow, Item, ReadFile
from tfmodel.data.beam.repeats import Likeness, drop_near
from tfmodel.data.beam.tally import TALLY, Tally, Tallying
from tfmodel.data.corpus.cleaning import DocumentCleaner, document_steps
from tfmodel.data.corpus.jobs import judge_what_is_left
from tfmodel.data.corpus.lines import KINDS, digests_of_lines, shown_line, without_lines
from tfmodel.data.corpus.prepare import dev_documents
from tfmodel.data.corpus.reading import CutLong
from tfmodel.data.corpus.settings import CorpusSettings
from tfmodel.data.corpus.similarity import RunsCache, bands_of, similarity
from tfmodel.data.rows import Row
from tfmodel.data.split_counts import last_of_dev

_cached_runs = RunsCache(lambda text: text)


def _runs_of(text: str) -> np.ndarray:
    return _cached_runs(text)


_OF_DOCUMENTS = Likeness(bands_of, _runs_of, similarity)


def build(pipeline: beam.Pipeline, job: Job, settings: CorpusSettings) -> None:
    """Put all steps into a pipeline."""
    steps = document_steps(settings.cleaning)
    cut = CutLong(settings.max_characters, settings.privacy, steps)
    read, clean = read_and_clean(
        pipeline,
        job,
        ReadFile(job.settings, job.formats, cut),
        CleanDocument(job, settings),
    )
    equal = keep_first("equal", clean.rows)
    rows, lines = equal.rows, [clean[DROPPED], equal[DROPPED]]
    tallies = [clean[TALLY], equal[TALLY]]
    if settings.near_duplicates is not None:
        rows, near_lines, near_tally = drop_near(rows, settings.near_duplicates, _OF_DOCUMENTS)
        lines.append(near_lines)
        tallies.append(near_tally)
    finished = drop_lines(rows, settings)
    again = keep_first("equal now", finished.rows)
    lines += [finished[DROPPED], again[DROPPED]]
    tallies += [finished[TALLY], again[TALLY]]
    kept = count_kept(job, again.rows, tallies)
    dev = _DevPlaces(settings)
    rows, split_tallies, further = split(job, again.rows, kept, dev, dev.bounds)
    write(pipeline, job, rows, kept, [*lines, *further], split_tallies, read[FACTS])


class _DevPlaces:
    def __init__(self, settings: CorpusSettings):
        self._settings = settings

    def __call__(self, kept: Tally) -> dict[str, list[int]]:
        documents = sum(kept.of("kept", "train").values())
        return {"": [0, dev_documents(documents, self._settings), documents - 1]}

    def bounds(self, found: dict[str, list[tuple[int, int]]]) -> dict[str, list[int]]:
        """Give the rank from which documents stay in train."""
        ranks = (rank for rank, _ in found[""])
        return {"": [last_of_dev(*ranks, train=self._settings.train) + 1]}


class CleanDocument(CleanRow):
    """Cleans a document of `ReadFile`; gives it, or to `DROPPED` its line.

    Args:
        job: what is done.
        settings: the `corpus:` section.
    """

    def __init__(self, job: Job, settings: CorpusSettings):
        super().__init__(job.settings, job.target, _Cleaners(settings))

    def process(self, item: Item) -> Iterator[Any]:
        """Clean a document; tally what private was replaced."""
        yield from super().process(item)
        private = self._cleaners[item[1]].private
        for kind, count in private.items():
            self.tally.counts["private", kind] += count
        private.clear()


class _Cleaners:
    def __init__(self, settings: CorpusSettings):
        self._settings = settings

    def __call__(self, role: str) -> DocumentCleaner:
        return DocumentCleaner(self._settings)


# --- lines ----------------------------------------------------------------------------------


def drop_lines(rows: beam.PCollection, settings: CorpusSettings) -> beam.PCollection:
    """Take the lines out that other documents have; outputs: rows, lines, tallies."""
    verdicts = (
        rows
        | "lines: of each" >> beam.FlatMap(_lines_of)
        | "lines: documents of a line" >> beam.GroupByKey()
        | "lines: judge" >> beam.FlatMap(_judge_line, settings)
    )
    by_order = rows | "lines: rows by order" >> beam.Map(lambda item: (item[0], item))
    return (
        {"rows": by_order, "lines": verdicts}
        | "lines: join" >> beam.CoGroupByKey()
        | "lines: take out"
        >> beam.ParDo(FinishDocument(settings)).with_outputs(DROPPED, TALLY, main="rows")
    )


def _lines_of(item: Item) -> Iterator[tuple[int, tuple[int, int, int]]]:
    """Give (digest, (order, number, length)) of each line, the digest signed as encoders want."""
    order, _, values = item
    for line in digests_of_lines(values[0], 0):
        digest = int(line["digest"]) - 2**63
        yield digest, (order, int(line["line"]), int(line["characters"]))


def _judge_line(
    group: tuple[int, Iterable[tuple[int, int, int]]], settings: CorpusSettings
) -> Iterator[tuple[int, tuple[int, int, int]]]:
    """Give (order, (number, kind, documents)) of the lines that go; runs through them twice.

    The documents are counted for the first of them alone, which shows the line; else 0.
    """
    _, found = group
    rule = settings.lines
    orders = np.unique(np.fromiter((order for order, _, _ in found), np.int64))
    is_shared = rule.shared is not None and len(orders) >= rule.shared
    if not is_shared and (rule.repeated is None or len(orders) == 1):
        return
    first, shown = int(orders[0]), None
    if is_shared:
        shown = min((order, line) for order, line, _ in found)
    for order, line, characters in found:
        if is_shared:
            documents = len(orders) if (order, line) == shown else 0
            yield order, (line, KINDS.index("shared"), documents)
        elif order != first and characters >= (rule.repeated or 0):
            yield order, (line, KINDS.index("repeated"), 0)


class FinishDocument(Tallying):
    """Takes lines out of a document and judges what is left.

    Args:
        settings: the `corpus:` section.
    """

    def __init__(self, settings: CorpusSettings):
        self._settings = settings

    def process(self, group: tuple[int, dict]) -> Iterator[Any]:
        """Finish a document."""
        order, joined = group
        ((_, role, values),) = joined["rows"]
        verdicts = {line: KINDS[kind] for line, kind, _ in joined["lines"]}
        if not verdicts:
            yield order, role, values
            return
        row = Row(*values)
        lines = row.text.split("\n")
        for line, _, documents in joined["lines"]:
            if documents:
                digest = int(digests_of_lines(lines[line], 0)["digest"][0])
                example = {"line": shown_line(lines[line]), "documents": documents}
                self.tally.show(("line",), (-documents, digest), example)
        row.text, removed = without_lines(row.text, verdicts)
        for kind, count in removed.items():
            self.tally.counts["lines", kind] += count
        cleaned = judge_what_is_left(row.text, self._settings.cleaning)
        if cleaned.reason:
            self.tally.counts["dropped", role, cleaned.reason] += 1
            line = dropped_line(row, role, cleaned.reason, cleaned.detail)
            yield TaggedOutput(DROPPED, (order, role, line))
            return
        yield order, role, [row.text, *values[1:]]
