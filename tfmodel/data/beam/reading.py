"""Files to clean rows: each file is read by one worker, its rows are cleaned by any.

A row on its way is `(order, role, [text, text_pair, label, origin, group])`: plain values, which
every runner encodes. The order is the place it would have in the parts of `prepare`.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from tfmodel.data.account import cleaning_example, dropped_line
from tfmodel.data.beam.tally import Tallying
from tfmodel.data.cleaning.row_cleaning import Cleaned, RowCleaner
from tfmodel.data.parts.fates import PRECEDENCE
from tfmodel.data.reading.archives import DataFile
from tfmodel.data.reading.inputs import origin_names
from tfmodel.data.reading.places import Place
from tfmodel.data.reading.readers import files_of, open_source
from tfmodel.data.rows import Reject, Row
from tfmodel.data.settings import DETECT, DataSettings
from tfmodel.data.targets import Target

Item = tuple[int, str, list]
FACTS, DROPPED = "facts", "dropped"  # tags of outputs
_ROLE_BITS, _FILE_BITS = 60, 40
_OF_THE_WHOLE = ("path", "name", "as", "format", "target")


def order_of(role: str, file: int, row: int) -> int:
    """Place a row among all: of two that are alike the lower one stays."""
    return PRECEDENCE.index(role) << _ROLE_BITS | file << _FILE_BITS | row


def file_jobs(
    places: Mapping[str, Place], formats: Mapping[str, str]
) -> tuple[list[tuple[str, int, Place, str]], dict[str, dict]]:
    """List the files to read, each for one worker.

    Returns:
        (role, number, place, name in origins) of each, and by role what is known of the whole
        before it is read.
    """
    jobs, facts = [], {}
    for role, name in origin_names(places).items():
        place = places[role]
        files = () if formats[role] in ("tfds", "folder") else files_of(place)
        facts[role] = {"path": str(place), "name": name, "as": role, "format": formats[role]}
        if len(files) < 2:
            jobs.append((role, 0, place, name))
            continue
        facts[role]["files"] = len(files)
        for number, file in enumerate(files):
            jobs.append((role, number, Place(file.path), _name_below(place, file)))
    return jobs, facts


def _name_below(place: Place, file: DataFile) -> str:
    return str(file.path.relative_to(place.path))


class ReadFile(beam.DoFn):
    """Reads a file of `file_jobs`; gives (order, role, values), and facts for the account.

    Args:
        settings: the `data:` section.
        formats: of the files, by role.
        cut: what becomes of the rows that a file gives, before they are cleaned.
    """

    def __init__(
        self,
        settings: DataSettings,
        formats: Mapping[str, str],
        cut: Callable[[Iterable[Row | Reject]], Iterable[Row | Reject]] | None = None,
    ):
        self._settings = settings
        self._formats = dict(formats)
        self._cut = cut

    def process(self, job: tuple[str, int, Place, str]) -> Iterator[Any]:
        """Read a file."""
        role, number, place, name = job
        settings = self._settings.model_copy(update={"format": self._formats[role]})
        source = open_source(place, settings, role=role, name=name)
        rows = source.rows if self._cut is None else self._cut(source.rows)
        for place_in_file, row in enumerate(rows):
            if isinstance(row, Row):
                values = [row.text, row.text_pair, row.label, row.origin, row.group]
            else:
                values = [row.text, row.origin, row.reason, row.detail]
            yield order_of(role, number, place_in_file), role, values
        facts = {key: value for key, value in source.facts.items() if key not in _OF_THE_WHOLE}
        found = Facts()
        found.files[number] = facts | {"target": source.target.name}
        found.encodings[facts.get("encoding", "")] += 1
        found.guessed = settings.encoding == DETECT
        yield TaggedOutput(FACTS, (role, found))


class Facts:
    """How the files of a role were read: counts are added, the rest is what the first file has."""

    def __init__(self) -> None:
        self.files: dict[int, dict[str, Any]] = {}
        self.encodings: collections.Counter[str] = collections.Counter()
        self.guessed = False

    def merge(self, other: Facts) -> None:
        """Add those of other files."""
        self.guessed = self.guessed or other.guessed
        self.encodings.update(other.encodings)
        (number, merged), *others = sorted({**self.files, **other.files}.items())
        merged = dict(merged)
        for _, facts in others:
            for key, value in facts.items():
                counts = isinstance(value, int) and not isinstance(value, bool)
                merged[key] = merged.get(key, 0) + value if counts else merged.get(key, value)
        self.files = {number: merged}

    def summary(self) -> dict[str, Any]:
        """Give the facts as `account.json` has them."""
        (facts,) = self.files.values()
        several = {"encodings": dict(sorted(self.encodings.items()))}
        return {
            **facts,
            **(several if len(self.encodings) > 1 else {}),
            "encoding_guessed": self.guessed,
        }


class CleanRow(Tallying):
    """Cleans a row of `ReadFile`; gives it, or to `DROPPED` its line.

    Args:
        settings: the `data:` section.
        target: the kind of label.
        cleaner: (role) -> what cleans a row in place and tells whether it can be kept; a
            `RowCleaner` by default.
    """

    def __init__(
        self,
        settings: DataSettings,
        target: Target,
        cleaner: Callable[[str], Callable[[Row | Reject], Cleaned]] | None = None,
    ):
        self._settings = settings
        self._target = target.name
        self._cleaner = cleaner

    def setup(self) -> None:
        """Make what cannot travel."""
        from tfmodel.data.targets import TARGETS

        target = TARGETS[self._target]
        self._names, self._stratum = target.names, target.stratum
        self._cleaners = {
            role: self._cleaner(role) if self._cleaner else RowCleaner(role, target, self._settings)
            for role in PRECEDENCE
        }

    def process(self, item: Item) -> Iterator[Any]:
        """Clean a row."""
        order, role, values = item
        row: Row | Reject
        if len(values) == 5:
            row = Row(*values)
        else:
            text, origin, reason, detail = values
            row = Reject(reason, origin, text, detail)
        counts = self.tally.counts
        cleaned = self._cleaners[role](row)
        counts["raw", role] += 1
        for step in cleaned.steps:
            counts["cleaned", step] += 1
            if self.tally.wants(("cleaning", step), order):
                if (example := cleaning_example(cleaned, step, row.origin)) is not None:
                    self.tally.show(("cleaning", step), order, example)
        if cleaned.reason or isinstance(row, Reject):
            counts["dropped", role, cleaned.reason] += 1
            line = dropped_line(row, role, cleaned.reason, cleaned.detail)
            yield TaggedOutput(DROPPED, (order, role, line))
            return
        for name in self._names(row.label):
            counts["name", role, name] += 1
            self.tally.show(("origin", role, name), order, row.origin)
        counts["raw_stratum", role, self._stratum(row.label)] += 1
        counts["pairs",] += row.text_pair is not None
        yield order, role, [row.text, row.text_pair, row.label, row.origin, row.group]
