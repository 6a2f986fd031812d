"""The stage `data`: labelled files in, one clean, split dataset folder out.

Nothing here holds more than a part's rows in memory: rows go to numbered parts on disk, what is
compared is sorted on disk, and the dataset is written part by part.
"""

from __future__ import annotations

import collections
import errno
import itertools
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.data.account import ACCOUNT_FILE, DROPPED_FILE, dropped_line, make_account, sum_cleaned
from tfmodel.data.cleaning import chosen_steps
from tfmodel.data.dataset import Dataset, load_dataset
from tfmodel.data.dataset_writer import DatasetWriter
from tfmodel.data.dedupe import drop_duplicates
from tfmodel.data.fates import PRECEDENCE, REASONS, SPLITS, Fates
from tfmodel.data.figures import SplitFigures
from tfmodel.data.filters import check_filters
from tfmodel.data.folders import open_tfds, tfds_split
from tfmodel.data.labels import check_labels_known, check_several_classes, first_few, sort_labels
from tfmodel.data.mistakes import all_stand_elsewhere, no_row_left
from tfmodel.data.near_duplicates import drop_near_duplicates, require_datasketch
from tfmodel.data.part_maker import write_raw
from tfmodel.data.parts import PART_ROWS, Parts, RowReader, strata_of, with_codes
from tfmodel.data.places import Place, find_place
from tfmodel.data.progress import bar, while_reading
from tfmodel.data.readers import Source, find_format, open_source
from tfmodel.data.rows import Reject, Row
from tfmodel.data.settings import DETECT, DataSettings
from tfmodel.data.splits import sample, split_off
from tfmodel.data.targets import TARGETS, Target
from tfmodel.data.workers import Workers
from tfmodel.run_folder import fingerprint, write_aside

_log = logging.getLogger(__name__)

_CONFLICTS_SHOWN = 20


def prepare(
    settings: DataSettings,
    folder: Path,
    *,
    seed: int,
    locate: Callable[[str], Path] = Path,
) -> Dataset:
    """Read, clean, deduplicate and split rows into a TFDS builder folder.

    Every raw row ends in a split or, with the reason, in `dropped.jsonl`. The folder appears
    whole or not at all; one that is there is replaced. What was interrupted goes on where it
    was, from `.NAME.work` beside the folder.

    Args:
        settings: the `data:` section.
        folder: where the dataset goes.
        seed: of the splits and of `max_rows`; equal seeds give equal folders.
        locate: turns a source as the config names it into a local path.

    Returns:
        The dataset, read back.

    Raises:
        ConfigError: a file or setting does not fit; the message says which and what to do.
    """
    folder = Path(folder)
    work = folder.absolute().with_name(f".{folder.name}.work")
    places = _locate_all(settings, locate)
    _check_may_be_replaced(folder, places.values())
    check_filters(settings.cleaning)
    if settings.near_duplicates is not None:
        require_datasketch()
    try:
        totals = _Preparation(settings, work, seed).write(places, folder)
    except ConfigError:
        shutil.rmtree(work, ignore_errors=True)  # with another config nothing of it is of use
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(
                error.errno,
                f"expected room on the disk for the rows, twice their size. Received: "
                f"{os.strerror(error.errno)}, in {work}. Free some and start the same command "
                f"again: it continues; or remove that folder",
            ) from error
        raise
    shutil.rmtree(work, ignore_errors=True)
    _log_account(totals)
    return load_dataset(folder)


class _Preparation:
    """One dataset in the making."""

    def __init__(self, settings: DataSettings, work: Path, seed: int):
        self.settings = settings
        self.seed = seed
        self.work = work
        self.parts = Parts(work / "parts")
        self.facts: dict[str, dict] = {}
        self.notes: list[str] = []
        count = settings.workers
        self.worker_count = len(os.sched_getaffinity(0)) if count is None else count

    def write(self, places: Mapping[str, Place], folder: Path) -> dict:
        """Do it all; give the account."""
        files = {role: place.fingerprint() for role, place in places.items()}
        chosen = self.settings.model_dump(mode="json", exclude={"workers"})
        done = self.parts.begin(fingerprint({"files": files, "seed": self.seed, **chosen}))
        if done:
            _log.info("going on: %s rows were read and cleaned before", f"{done * PART_ROWS:,}")
        self._read_all(places)
        roles = [self.parts.summary(number)["role"] for number in self.parts.numbers()]
        for role, place in places.items():
            self._check_rows_left(role, place)
        fates = Fates(self.work, roles)
        strata = strata_of(self.parts, SPLITS)
        raw_counts = self._counts(SPLITS, strata)
        if self.target.name == "class":
            check_several_classes(_positive(raw_counts["train"]), self.settings)
        near = self._drop_duplicates(fates)
        self._split(places, fates, strata)
        counts = self._counts_by_split(fates, strata)
        if self.settings.max_rows is not None:
            self._sample(fates, strata)
            counts = self._counts_by_split(fates, strata)
        names = self._class_names(counts, raw_counts)
        with write_aside(folder, replace=True) as aside:
            aside.mkdir(parents=True, exist_ok=True)
            account = self._write_rows(aside, fates, names)
            account |= {"cleaning": sum_cleaned(self.parts, chosen_steps(self.settings.cleaning))}
            account |= {"notes": self.notes, "conflicts": self._conflicts(fates)}
            settings = self.settings.model_dump(mode="json", exclude={"workers"})
            account |= {"near_duplicates": near, "seed": self.seed, "settings": settings}
            self.writer.finish(account)
        return account

    # --- reading ----------------------------------------------------------------------------

    def _read_all(self, places: Mapping[str, Place]) -> None:
        names = {role: place.name for role, place in places.items()}
        for role, place in places.items():
            if sum(other.name == place.name for other in set(places.values())) > 1:
                names[role] = f"{place.path.parent.name}/{place.name}"
        number = 0
        targets = set()
        for role in (role for role in PRECEDENCE if role in places):
            source = open_source(places[role], self.settings, role=role, name=names[role])
            number = self._read(source, places[role].paths, role, number)
            self.facts[role] = source.facts
            self.facts[role]["encoding_guessed"] = self.settings.encoding == DETECT
            targets.add(source.target.name)
        if len(targets) > 1:
            raise ConfigError(
                f"data: expected files of one kind of label. Received: {', '.join(sorted(targets))}"
                f". Say which is meant by `target:` under `data:`."
            )
        self.target: Target = TARGETS[targets.pop()]

    def _read(self, source: Source, paths: Sequence[Path], role: str, number: int) -> int:
        """Make the parts of a file that are missing; give the number after them."""
        settings = self.settings.model_dump(mode="json")
        target = source.target.name
        rows = while_reading(source.rows, source.facts["name"], paths)
        batches = _in_batches(rows, PART_ROWS)
        first, second = next(batches, []), next(batches, None)
        # One part is made sooner than a process is started.
        with Workers(0 if second is None else self.worker_count) as workers:
            waiting = [first] if second is None else [first, second]
            for batch in itertools.chain(waiting, batches):
                if not self.parts.path(number).exists():
                    raw = self.parts.folder / f"raw-{number:06d}"
                    write_raw(raw, batch)
                    part = str(self.parts.path(number))
                    workers.submit("make_part", str(raw), part, role, target, settings, self.seed)
                number += 1
            workers.finish()
        return number

    def _check_rows_left(self, role: str, place: Place) -> None:
        raw, dropped = self._sum_raw(role)
        if raw == sum(dropped.values()):
            raise no_row_left(place, raw, dict(dropped.most_common()), self.settings)

    def _numbers(self, *roles: str) -> list[int]:
        numbers = self.parts.numbers()
        return [number for number in numbers if self.parts.summary(number)["role"] in roles]

    def _sum_raw(self, role: str) -> tuple[int, collections.Counter[str]]:
        raw, dropped = 0, collections.Counter()
        for number in self._numbers(role):
            summary = self.parts.summary(number)
            raw += summary["raw"]
            dropped.update(summary["dropped"])
        return raw, dropped

    # --- deciding ---------------------------------------------------------------------------

    def _drop_duplicates(self, fates: Fates) -> dict | None:
        drop_duplicates(self.parts, fates, self.work / "digests")
        near = None
        if self.settings.near_duplicates is not None:
            _log.info("looking for near duplicates")
            several = len(self.parts.numbers()) > 1
            with Workers(self.worker_count if several else 0) as workers:
                near = drop_near_duplicates(
                    self.parts,
                    fates,
                    self.work,
                    threshold=self.settings.near_duplicates,
                    workers=workers,
                )
            near["threshold"] = self.settings.near_duplicates
        for role in self.facts:
            kept, dropped = 0, collections.Counter()
            for number in self._numbers(role):
                reasons, _, _ = fates.of_part(number, len(self.parts.index(number)))
                kept += int((reasons == 0).sum())
                dropped.update(_reason_counts(reasons))
            if not kept:
                raise all_stand_elsewhere(role, dict(dropped.most_common()))
        return near

    def _split(self, places: Mapping[str, Place], fates: Fates, strata: Mapping[str, int]) -> None:
        from tfmodel.data.fates import ids_of

        for number in self.parts.numbers():
            ids = ids_of(number, len(self.parts.index(number)))
            fates.assign(ids, fates.roles[number])
        settings = self.settings
        missing = {}
        if "dev" not in places and "test" not in places:
            missing["test"] = settings.test_share
        if "dev" not in places:
            missing["dev"] = settings.dev_share
        shares = {name: share for name, share in missing.items() if share > 0}
        if not shares:
            return
        split_off(
            self.parts,
            fates,
            self.work / "ranks",
            method=settings.split,
            shares=shares,
            strata=strata,
            seed=self.seed,
        )
        if self.target.name == "class" and settings.split == "stratified":
            self._note_tiny_classes(self._counts_by_split(fates, strata), shares)

    def _sample(self, fates: Fates, strata: Mapping[str, int]) -> None:
        folder, count = self.work / "sample", self.settings.max_rows
        sample(self.parts, fates, folder, count=count, strata=strata, seed=self.seed)

    def _class_names(
        self,
        counts: Mapping[str, Mapping[str, int]],
        raw_counts: Mapping[str, Mapping[str, int]],
    ) -> list[str]:
        origins: dict[str, dict[str, str]] = {}
        named: dict[str, collections.Counter[str]] = {}
        for role in self.facts:
            origins[role], named[role] = {}, collections.Counter()
            for number in self._numbers(role):
                for name, (rows, origin) in self.parts.summary(number)["names"].items():
                    named[role][name] += rows
                    origins[role].setdefault(name, origin)
        if self.target.name == "class":
            check_labels_known(counts, _positive(raw_counts["train"]), origins)
            return sort_labels(name for name, rows in counts["train"].items() if rows)
        check_labels_known(named, named["train"], origins)
        return sort_labels(named["train"])

    def _note_tiny_classes(
        self, counts: Mapping[str, Mapping[str, int]], shares: Iterable[str]
    ) -> None:
        everywhere = collections.Counter()
        for split in counts.values():
            everywhere.update(split)
        everywhere = _positive(everywhere)
        single = sort_labels(label for label, count in everywhere.items() if count == 1)
        if single:
            self.notes.append(
                f"{len(single)} of {len(everywhere)} classes have a single row, which stays in "
                f"train: {first_few(single)}."
            )
        for name in shares:
            present = set(_positive(counts[name]))
            absent = sort_labels(set(everywhere) - present - set(single))
            if absent:
                self.notes.append(
                    f"{len(absent)} of {len(everywhere)} classes have too few rows to stand in "
                    f"{name}: {first_few(absent)}."
                )
        for note in self.notes:
            _log.warning("%s", note)

    def _counts(self, roles: Sequence[str], strata: Mapping[str, int]) -> dict[str, dict[str, int]]:
        """Rows of each stratum by the role of the file, before anything was dropped."""
        counts = {role: np.zeros(len(strata), np.int64) for role in roles}
        for number in self.parts.numbers():
            summary = self.parts.summary(number)
            codes = with_codes(self.parts.index(number), summary, strata)
            counts[summary["role"]] += np.bincount(codes, minlength=len(strata))
        return {
            role: {name: int(found[code]) for name, code in strata.items()}
            for role, found in counts.items()
        }

    def _counts_by_split(
        self, fates: Fates, strata: Mapping[str, int]
    ) -> dict[str, dict[str, int]]:
        counts = np.zeros((1 + len(SPLITS), len(strata)), np.int64)
        for number in self.parts.numbers():
            index = self.parts.index(number)
            codes = with_codes(index, self.parts.summary(number), strata)
            reasons, splits, _ = fates.of_part(number, len(index))
            np.add.at(counts, (splits[reasons == 0], codes[reasons == 0]), 1)
        return {
            name: {label: int(counts[1 + place, code]) for label, code in strata.items()}
            for place, name in enumerate(SPLITS)
            if counts[1 + place].any()
        }

    # --- writing ----------------------------------------------------------------------------

    def _write_rows(self, folder: Path, fates: Fates, names: Sequence[str]) -> dict:
        sizes = self._sizes(fates)
        has_pairs = any(self.parts.summary(number)["has_pairs"] for number in self.parts.numbers())
        self.writer = DatasetWriter(
            folder, sizes, target=self.target, names=names, has_pairs=has_pairs
        )
        labels = {name: collections.Counter() for name in sizes}
        figures = {name: SplitFigures() for name in sizes}
        dropped = {role: self._sum_raw(role)[1] for role in self.facts}
        raw = {role: self._sum_raw(role)[0] for role in self.facts}
        reader = RowReader(self.parts)
        path = folder / DROPPED_FILE
        with self.writer, open(path, "w", encoding="utf-8", newline="\n") as left_out:
            for role, row, split, reason, other in self._walk(fates, left_out):
                if reason:
                    dropped[role][reason] += 1
                    detail = "" if reason == "max_rows" else reader(other).origin
                    left_out.write(dropped_line(row, role, reason, detail))
                else:
                    self.writer.write(split, row)
                    labels[split].update(self.target.names(row.label))
                    figures[split].add(row)
        reader.close()
        splits = {
            name: {
                "rows": rows,
                "labels": {label: labels[name][label] for label in names},
                **figures[name].summary(),
            }
            for name, (rows, _) in sizes.items()
        }
        return make_account(self.facts, raw, dropped, splits)

    def _walk(self, fates: Fates, left_out: Any) -> Iterator[tuple[str, Row, str, str, int]]:
        """Give every row with its fate, train's files first; copy what parts have left out."""
        numbers = [number for role in SPLITS for number in self._numbers(role)]
        total = sum(len(self.parts.index(number)) for number in numbers)
        with bar(total, "writing", unit=" rows") as shown:
            for number in numbers:
                left_out.writelines(self.parts.dropped(number))
                rows = len(self.parts.index(number))
                reasons, splits, others = fates.of_part(number, rows)
                each = zip(
                    self.parts.rows(number),
                    splits.tolist(),
                    reasons.tolist(),
                    others.tolist(),
                    strict=True,
                )
                for row, split, reason, other in each:
                    name = SPLITS[split - 1] if split else ""
                    yield fates.roles[number], row, name, REASONS[reason], other
                shown.update(rows)

    def _sizes(self, fates: Fates) -> dict[str, tuple[int, int]]:
        rows = collections.Counter()
        size = collections.Counter()
        for number in self.parts.numbers():
            index = self.parts.index(number)
            reasons, splits, _ = fates.of_part(number, len(index))
            for place, name in enumerate(SPLITS):
                chosen = (reasons == 0) & (splits == 1 + place)
                rows[name] += int(chosen.sum())
                size[name] += int(index["bytes"][chosen].sum())
        return {name: (rows[name], size[name]) for name in SPLITS if rows[name]}

    def _conflicts(self, fates: Fates) -> dict[str, Any]:
        """Texts that stand in the data with different labels: how many rows, and the first."""
        code = REASONS.index("conflicting_label")
        found: dict[str, Any] = {"rows": 0, "examples": []}
        reader = RowReader(self.parts)
        for number in self.parts.numbers():
            reasons, _, others = fates.of_part(number, len(self.parts.index(number)))
            for place in np.flatnonzero(reasons == code):
                found["rows"] += 1
                if len(found["examples"]) < _CONFLICTS_SHOWN:
                    kept, gone = reader(others[place]), reader(number * PART_ROWS + int(place))
                    found["examples"].append(
                        {
                            "text": kept.text[:200],
                            "kept": [kept.label, kept.origin],
                            "dropped": [gone.label, gone.origin],
                        }
                    )
        reader.close()
        return found


def _locate_all(settings: DataSettings, locate: Callable[[str], Path]) -> dict[str, Place]:
    """Find every source before any is read; a TFDS folder also gives the splits not named."""
    sources = {name: getattr(settings, name) for name in SPLITS}
    places = {
        name: find_place(source, locate) for name, source in sources.items() if source is not None
    }
    formats = {name: find_format(place, settings) for name, place in places.items()}
    for name, place in places.items():
        for other in SPLITS[: SPLITS.index(name)]:
            # A TFDS folder has a split for each role, unless both name the same one.
            by_role = formats[name] == "tfds" and place.split is None
            if other in places and not by_role and _is_same(place, places[other]):
                raise ConfigError(
                    f"data.{name}: expected other rows than those of data.{other}. Received: "
                    f"{place} for both. Remove `{name}:` to have it split off train."
                )
    if formats["train"] == "tfds" and places["train"].split is None:
        builder = open_tfds(places["train"].path)
        for name in ("dev", "test"):
            if name not in places and tfds_split(builder, name):
                places[name] = places["train"]
                _log.info("%s: its own %s split is used", places["train"], name)
    return {name: places[name] for name in SPLITS if name in places}


def _is_same(one: Place, other: Place) -> bool:
    return one.path.samefile(other.path) and (one.member, one.split, one.files) == (
        other.member,
        other.split,
        other.files,
    )


def _check_may_be_replaced(folder: Path, places: Iterable[Place]) -> None:
    """Refuse to replace what is not a dataset of ours, or what is about to be read."""
    if folder.exists() and not (folder / ACCOUNT_FILE).exists():
        if not folder.is_dir() or any(folder.iterdir()):
            raise ConfigError(
                f"{folder}: expected a new folder, or a dataset that tfmodel wrote, to put the "
                f"dataset in. Received: something else, which would be lost. Name another folder."
            )
    for place in places:
        if any(path.resolve().is_relative_to(folder.resolve()) for path in place.paths):
            raise ConfigError(
                f"{folder}: expected a folder apart from the files that are read. Received: "
                f"{place} inside it, which would be lost. Name another folder."
            )


def _positive(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def _reason_counts(reasons: np.ndarray) -> dict[str, int]:
    counts = np.bincount(reasons, minlength=len(REASONS))
    return {name: int(counts[code]) for code, name in enumerate(REASONS) if code and counts[code]}


def _in_batches(rows: Iterable[Row | Reject], size: int) -> Iterator[list[Row | Reject]]:
    rows = iter(rows)
    while batch := list(itertools.islice(rows, size)):
        yield batch


def _log_account(totals: Mapping) -> None:
    for file in totals["files"]:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in file["dropped"].items())
        _log.info(
            "%s: %s raw rows = %s kept + %s dropped%s",
            file["name"],
            f"{file['raw']:,}",
            f"{file['kept']:,}",
            f"{sum(file['dropped'].values()):,}",
            f" ({reasons})" if reasons else "",
        )
    sizes = ", ".join(f"{name} {part['rows']:,}" for name, part in totals["splits"].items())
    _log.info("splits: %s", sizes)
