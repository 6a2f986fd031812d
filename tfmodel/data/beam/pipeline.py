"""The steps and what flows between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import apache_beam as beam
from apache_beam.pvalue import AsList, AsSingleton

from tfmodel.data.beam import cutting, repeats, writing
from tfmodel.data.beam.reading import DROPPED, FACTS, CleanRow, Facts, Item, ReadFile, file_jobs
from tfmodel.data.beam.tally import TALLY, Tally, Tallying, kept_strata, total, total_by_key
from tfmodel.data.figures import SplitFigures
from tfmodel.data.labels import check_several_classes, class_names
from tfmodel.data.mistakes import all_stand_elsewhere, no_row_left, of_documents
from tfmodel.data.parts.fates import REASONS, SPLITS
from tfmodel.data.reading.places import Place
from tfmodel.data.settings import DataSettings
from tfmodel.data.split_counts import shares_to_split_off
from tfmodel.data.targets import TARGETS, Target


@dataclasses.dataclass(frozen=True)
class Job:
    """What is to be done.

    Attributes:
        settings: the `data:` section.
        places: where the rows are, by role.
        formats: of the files, by role.
        target: the kind of label.
        seed: of splits and samples.
        folder: an existing folder for shards, pieces and the summary; every worker sees it.
    """

    settings: DataSettings
    places: Mapping[str, Place]
    formats: Mapping[str, str]
    target: Target
    seed: int
    folder: str


def build(pipeline: beam.Pipeline, job: Job) -> None:
    """Put all steps into a pipeline."""
    read, clean = read_and_clean(
        pipeline,
        job,
        ReadFile(job.settings, job.formats),
        CleanRow(job.settings, job.target),
    )
    kept_rows, kept, lines = _drop_repeats(job, clean)
    rows, tallies, further_lines = split(job, kept_rows, kept)
    write(pipeline, job, rows, kept, [*lines, *further_lines], tallies, read[FACTS])


def write(
    pipeline: beam.Pipeline,
    job: Job,
    rows: beam.PCollection,
    kept: beam.PCollection,
    lines: list[beam.PCollection],
    tallies: list[beam.PCollection],
    facts: beam.PCollection,
) -> None:
    """Put the last steps into a pipeline: shards, pieces of dropped rows, the summary.

    Args:
        pipeline: where to.
        job: what is done.
        rows: (split, row) of all that are kept.
        kept: one tally, of all before the splits.
        lines: (order, role, line) of dropped rows.
        tallies: of the splits.
        facts: how files were read.
    """
    measured = rows | "measure" >> beam.ParDo(writing.Measure(job.target.name)).with_outputs(
        TALLY, main="none"
    )
    left = total("left", measured[TALLY])
    names = left | "names" >> beam.Map(
        _names, job.target.name, AsSingleton(kept), job.settings.none_label
    )
    plan = left | "plan" >> beam.Map(writing.plan_shards)
    encoded = rows | "encode" >> beam.ParDo(
        writing.Encode(job.target.name), AsSingleton(names), AsSingleton(plan), AsSingleton(kept)
    ).with_outputs(TALLY, writing.FIGURES, main="examples")
    shards = (
        encoded.examples
        | "rows of a shard" >> beam.GroupByKey()
        | "write shards" >> beam.ParDo(writing.WriteShard(job.folder))
    )
    pieces = (
        lines
        | "all dropped" >> beam.Flatten()
        | "piece of each" >> beam.Map(writing.keyed_by_piece)
        | "rows of a piece" >> beam.GroupByKey()
        | "write pieces" >> beam.Map(writing.write_piece, job.folder)
    )
    later = total("later", *tallies, encoded[TALLY])
    facts = total_by_key("facts", facts, Facts)
    figures = total_by_key("figures", encoded[writing.FIGURES], SplitFigures)
    (
        pipeline
        | "end" >> beam.Create([None])
        | "write summary"
        >> beam.Map(
            writing.write_summary,
            job.folder,
            kept=AsSingleton(kept),
            later=AsSingleton(later),
            facts=AsSingleton(facts),
            figures=AsSingleton(figures),
            names=AsSingleton(names),
            shards=AsList(shards),
            pieces=AsList(pieces),
        )
    )


def read_and_clean(
    pipeline: beam.Pipeline, job: Job, read_file: beam.DoFn, clean_row: beam.DoFn
) -> tuple:
    """Give what reading and what cleaning give, each with its further outputs."""
    jobs, _ = file_jobs(job.places, job.formats)
    read = (
        pipeline
        | "files" >> beam.Create(jobs)
        | "a worker each" >> beam.Reshuffle()
        | "read" >> beam.ParDo(read_file).with_outputs(FACTS, main="rows")
    )
    # One worker reads a file, but all of them clean its rows.
    clean = (
        read.rows
        | "spread rows" >> beam.Reshuffle()
        | "clean" >> beam.ParDo(clean_row).with_outputs(DROPPED, TALLY, main="rows")
    )
    return read, clean


def _drop_repeats(job: Job, clean) -> tuple[beam.PCollection, beam.PCollection, list]:
    """Give the rows that are kept, one tally of all so far, and lines of dropped rows."""
    equal = keep_first("equal", clean.rows)
    rows, lines, tallies = (
        equal.rows,
        [clean[DROPPED], equal[DROPPED]],
        [clean[TALLY], equal[TALLY]],
    )
    if job.settings.near_duplicates is not None:
        rows, near_lines, near_tally = repeats.drop_near(rows, job.settings.near_duplicates)
        lines.append(near_lines)
        tallies.append(near_tally)
    return rows, count_kept(job, rows, tallies), lines


def keep_first(label: str, rows: beam.PCollection) -> beam.PCollection:
    """Keep the first of the rows with equal text; outputs rows, lines of the others and tallies."""
    return (
        rows
        | f"{label}: text of each" >> beam.Map(repeats.keyed_by_text)
        | f"{label}: rows of a text" >> beam.GroupByKey()
        | f"{label}: first of each text"
        >> beam.ParDo(repeats.KeepFirst()).with_outputs(DROPPED, TALLY, main="rows")
    )


def count_kept(
    job: Job, rows: beam.PCollection, tallies: list[beam.PCollection]
) -> beam.PCollection:
    """Give one tally of all so far, once it is checked."""
    counted = rows | "count kept" >> beam.ParDo(_CountKept(job.target.name)).with_outputs(
        TALLY, main="none"
    )
    names = {role: str(place) for role, place in job.places.items()}
    return total("kept", *tallies, counted[TALLY]) | "check" >> beam.Map(
        _check, names, job.settings, job.target.name
    )


def split(
    job: Job,
    rows: beam.PCollection,
    kept: beam.PCollection,
    places_of: Callable[[Tally], dict[str, list[int]]] | None = None,
    bounds_of: Callable[[dict], cutting.Bounds] | None = None,
) -> tuple:
    """Give (split, row), tallies and lines of dropped rows."""
    shares = shares_to_split_off(job.settings, job.places)
    chosen = {"target": job.target, "seed": job.seed}
    found = cutting.split(
        rows,
        kept,
        settings=job.settings,
        shares=shares,
        places_of=places_of,
        bounds_of=bounds_of,
        **chosen,
    )
    if job.settings.max_rows is None:
        return found.rows, [found[TALLY]], []
    tally = total("split", found[TALLY])
    reason = "max_documents" if of_documents(job.settings) else "max_rows"
    count = job.settings.max_rows
    drawn = cutting.draw(found.rows, tally, count=count, reason=reason, **chosen)
    return drawn.rows, [found[TALLY], drawn[TALLY]], [drawn[DROPPED]]


class _CountKept(Tallying):
    def __init__(self, target: str):
        self._target = target

    def process(self, item: Item) -> Iterator[None]:
        stratum = TARGETS[self._target].stratum(item[2][2])
        self.tally.counts["kept", item[1], stratum] += 1
        yield from ()


def _check(kept: Tally, places: Mapping[str, str], settings: DataSettings, target: str) -> Tally:
    """Refuse what nothing can be made of; give the tally."""
    for role, place in places.items():
        dropped = kept.of("dropped", role)
        later = {reason: rows for reason, rows in dropped.items() if reason in REASONS}
        early = {reason: rows for reason, rows in dropped.items() if reason not in REASONS}
        if kept.counts["raw", role] == sum(early.values()):
            raise no_row_left(place, kept.counts["raw", role], _by_size(early), settings)
        if not kept.of("kept", role):
            raise all_stand_elsewhere(role, _by_size(later))
    if target == "class":
        check_several_classes(kept.of("raw_stratum", "train"), settings)
    return kept


def _by_size(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda each: -each[1]))


def _names(left: Tally, target: str, kept: Tally, none_label: str | None) -> list[str]:
    named = {role: kept.of("name", role) for role in SPLITS}
    origins = {
        role: {name: kept.examples("origin", role, name)[0] for name in found}
        for role, found in named.items()
    }
    in_splits = kept_strata(left, "left", SPLITS)
    raw_train = kept.of("raw_stratum", "train")
    return class_names(target, in_splits, raw_train, named, origins, none_label)
