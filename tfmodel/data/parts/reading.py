"""Files to parts: every file is read once, in order; workers make the parts."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tfmodel.data.parts import PART_ROWS, Parts
from tfmodel.data.parts.fates import PRECEDENCE
from tfmodel.data.parts.making import write_raw
from tfmodel.data.parts.workers import Workers
from tfmodel.data.progress import while_reading
from tfmodel.data.reading.inputs import only_target, origin_names
from tfmodel.data.reading.places import Place
from tfmodel.data.reading.readers import open_source
from tfmodel.data.rows import Reject, Row
from tfmodel.data.settings import DETECT, DataSettings
from tfmodel.data.targets import Target


def read_parts(
    places: Mapping[str, Place],
    settings: DataSettings,
    parts: Parts,
    *,
    seed: int,
    worker_count: int,
    job: str = "make_part",
    chosen: Mapping[str, Any] | None = None,
    cut: Callable[[Iterable[Row | Reject]], Iterable[Row | Reject]] | None = None,
) -> tuple[dict[str, dict], Target]:
    """Read all files and make the parts that are not there yet.

    Args:
        places: where the rows are, by role.
        settings: how to read and clean them.
        parts: receives them.
        seed: of the rows' ranks.
        worker_count: processes that make parts; 0: this one.
        job: what makes a part; it is called as `make_part` is.
        chosen: settings for the job, as JSON; none: `settings`.
        cut: what becomes of the rows that a file gives, before they are cleaned.

    Returns:
        How each file was read, by role, and what its labels are.

    Raises:
        ConfigError: a file cannot be read as the settings say, or labels are of two kinds.
    """
    names = origin_names(places)
    number = 0
    facts: dict[str, dict] = {}
    targets: list[Target] = []
    for role in (role for role in PRECEDENCE if role in places):
        source = open_source(places[role], settings, role=role, name=names[role])
        rows = source.rows if cut is None else cut(source.rows)
        rows = while_reading(rows, names[role], places[role].paths)
        arguments = (role, source.target.name, chosen or settings.model_dump(mode="json"), seed)
        for_role = _PartJobs(job, arguments)
        number = for_role.submit_all(rows, parts, number, worker_count)
        facts[role] = source.facts | {"encoding_guessed": settings.encoding == DETECT}
        targets.append(source.target)
    return facts, only_target(targets)


class _PartJobs:
    def __init__(self, job: str, arguments: tuple):
        self._job = job
        self._arguments = arguments

    def submit_all(
        self, rows: Iterable[Row | Reject], parts: Parts, number: int, worker_count: int
    ) -> int:
        """Make the parts of a file that are missing; give the number after them."""
        batches = in_batches(rows)
        first, second = next(batches, []), next(batches, None)
        # One part is made sooner than a process is started.
        with Workers(0 if second is None else worker_count) as workers:
            waiting = [first] if second is None else [first, second]
            for batch in itertools.chain(waiting, batches):
                if not parts.path(number).exists():
                    # The worker of a process that was killed may still remove its own.
                    raw = parts.folder / f"raw-{number:06d}-{os.getpid()}"
                    write_raw(raw, batch)
                    workers.submit(self._job, str(raw), str(parts.path(number)), *self._arguments)
                number += 1
            workers.finish()
        return number


def in_batches(
    rows: Iterable[Row | Reject], *, most_rows: int = PART_ROWS, most_characters: int = 2**23
) -> Iterator[list[Row | Reject]]:
    """Give rows in lists, for a part each, that end by their number or by the length of texts."""
    batch: list[Row | Reject] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += len(row.text)
        if len(batch) == most_rows or characters >= most_characters:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
