"""The stage `data`: labelled files in, one clean, split dataset folder out.

Nothing here holds more than a part's rows in memory: rows go to numbered parts on disk, what is
compared is sorted on disk, and the dataset is written part by part.
"""

from __future__ import annotations

import collections
import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tfmodel.config import ConfigError
from tfmodel.data.account import ACCOUNT_FILE, sum_cleaned
from tfmodel.data.cleaning import chosen_steps
from tfmodel.data.dataset import Dataset, load_dataset
from tfmodel.data.dedupe import drop_duplicates
from tfmodel.data.fates import SPLITS, Fates, ids_of
from tfmodel.data.filters import check_filters
from tfmodel.data.folders import open_tfds, tfds_split
from tfmodel.data.labels import check_labels_known, check_several_classes, first_few, sort_labels
from tfmodel.data.mistakes import all_stand_elsewhere, no_row_left
from tfmodel.data.near_duplicates import drop_near_duplicates, require_datasketch
from tfmodel.data.parts import PART_ROWS, Parts, strata_of
from tfmodel.data.places import Place, find_place
from tfmodel.data.read_parts import read_parts
from tfmodel.data.readers import find_format
from tfmodel.data.settings import DataSettings
from tfmodel.data.splits import sample, split_off
from tfmodel.data.tallies import (
    kept_and_dropped,
    names_by_role,
    positive,
    raw_and_dropped,
    strata_by_role,
    strata_by_split,
)
from tfmodel.data.workers import Workers
from tfmodel.data.write_parts import write_parts
from tfmodel.run_folder import fingerprint, write_aside

_log = logging.getLogger(__name__)


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
    """One dataset in the making: what its steps know of each other."""

    def __init__(self, settings: DataSettings, work: Path, seed: int):
        self.settings = settings
        self.seed = seed
        self.work = work
        self.parts = Parts(work / "parts")
        count = settings.workers
        self.worker_count = len(os.sched_getaffinity(0)) if count is None else count

    def write(self, places: Mapping[str, Place], folder: Path) -> dict:
        """Do it all; give the account."""
        files = {role: place.fingerprint() for role, place in places.items()}
        chosen = self.settings.model_dump(mode="json", exclude={"workers"})
        done = self.parts.begin(fingerprint({"files": files, "seed": self.seed, **chosen}))
        if done:
            _log.info("going on: %s rows were read and cleaned before", f"{done * PART_ROWS:,}")
        facts, self.target = read_parts(
            places,
            self.settings,
            self.parts,
            seed=self.seed,
            worker_count=self.worker_count,
        )
        for role, place in places.items():
            raw, dropped = raw_and_dropped(self.parts, role)
            if raw == sum(dropped.values()):
                raise no_row_left(place, raw, dict(dropped.most_common()), self.settings)
        self.strata = strata_of(self.parts, SPLITS)
        self.raw_train = positive(strata_by_role(self.parts, self.strata)["train"])
        if self.target.name == "class":
            check_several_classes(self.raw_train, self.settings)
        self.fates = Fates(self.work, self.parts.roles())
        near = self._drop_duplicates(places)
        notes = self._split(places)
        further = {
            "cleaning": sum_cleaned(self.parts, chosen_steps(self.settings.cleaning)),
            "notes": notes,
            "near_duplicates": near,
            "seed": self.seed,
            "settings": chosen,
        }
        with write_aside(folder, replace=True) as aside:
            aside.mkdir(parents=True, exist_ok=True)
            return write_parts(
                aside,
                self.parts,
                self.fates,
                facts=facts,
                target=self.target,
                names=self._class_names(),
                further=further,
            )

    def _drop_duplicates(self, roles: Iterable[str]) -> dict | None:
        drop_duplicates(self.parts, self.fates, self.work / "digests")
        near, threshold = None, self.settings.near_duplicates
        if threshold is not None:
            _log.info("looking for near duplicates")
            several = len(self.parts.numbers()) > 1
            with Workers(self.worker_count if several else 0) as workers:
                near = drop_near_duplicates(
                    self.parts, self.fates, self.work, threshold=threshold, workers=workers
                )
            near["threshold"] = threshold
        for role in roles:
            kept, dropped = kept_and_dropped(self.parts, self.fates, role)
            if not kept:
                raise all_stand_elsewhere(role, dict(dropped.most_common()))
        return near

    def _split(self, places: Mapping[str, Place]) -> list[str]:
        """Give every row its split; give what is worth a note."""
        for number in self.parts.numbers():
            ids = ids_of(number, len(self.parts.index(number)))
            self.fates.assign(ids, self.fates.roles[number])
        settings = self.settings
        missing = {}
        if "dev" not in places and "test" not in places:
            missing["test"] = settings.test_share
        if "dev" not in places:
            missing["dev"] = settings.dev_share
        shares = {name: share for name, share in missing.items() if share > 0}
        chosen = {"strata": self.strata, "seed": self.seed}
        notes = []
        if shares:
            place = self.work / "ranks"
            method = settings.split
            split_off(self.parts, self.fates, place, method=method, shares=shares, **chosen)
            if self.target.name == "class" and method == "stratified":
                counts = strata_by_split(self.parts, self.fates, self.strata)
                notes = _about_tiny_classes(counts, shares)
        if settings.max_rows is not None:
            count = settings.max_rows
            sample(self.parts, self.fates, self.work / "sample", count=count, **chosen)
        return notes

    def _class_names(self) -> list[str]:
        counts, origins = names_by_role(self.parts)
        if self.target.name == "class":
            kept = strata_by_split(self.parts, self.fates, self.strata)
            check_labels_known(kept, self.raw_train, origins)
            return sort_labels(positive(kept["train"]))
        train = counts.get("train", {})
        check_labels_known({"train": {}, **counts}, train, origins)
        return sort_labels(train)


def _about_tiny_classes(
    counts: Mapping[str, Mapping[str, int]], shares: Iterable[str]
) -> list[str]:
    notes = []
    everywhere: collections.Counter[str] = collections.Counter()
    for split in counts.values():
        everywhere.update(positive(split))
    single = sort_labels(label for label, count in everywhere.items() if count == 1)
    if single:
        notes.append(
            f"{len(single)} of {len(everywhere)} classes have a single row, which stays in train: "
            f"{first_few(single)}."
        )
    for name in shares:
        absent = sort_labels(set(everywhere) - set(positive(counts[name])) - set(single))
        if absent:
            notes.append(
                f"{len(absent)} of {len(everywhere)} classes have too few rows to stand in {name}: "
                f"{first_few(absent)}."
            )
    for note in notes:
        _log.warning("%s", note)
    return notes


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
