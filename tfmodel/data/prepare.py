"""The stage `data`: labelled files in, one clean, split dataset folder out.

Nothing here holds more than a part's rows in memory: rows go to numbered parts on disk, what is
compared is sorted on disk, and the dataset is written part by part.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from tfmodel import __version__
from tfmodel.config import ConfigError
from tfmodel.data.account import log_account, sum_cleaned
from tfmodel.data.cleaning import chosen_steps
from tfmodel.data.cleaning.filters import check_filters
from tfmodel.data.dataset import Dataset, load_dataset
from tfmodel.data.dedupe import drop_duplicates
from tfmodel.data.labels import about_tiny_classes, check_several_classes, class_names
from tfmodel.data.mistakes import all_stand_elsewhere, no_row_left
from tfmodel.data.near_duplicates import drop_near_duplicates
from tfmodel.data.parts import Parts, strata_of
from tfmodel.data.parts.fates import Fates, ids_of
from tfmodel.data.parts.reading import read_parts
from tfmodel.data.parts.tallies import (
    kept_and_dropped,
    names_by_role,
    positive,
    raw_and_dropped,
    strata_by_role,
    strata_by_split,
)
from tfmodel.data.parts.workers import Workers
from tfmodel.data.parts.writing import write_parts
from tfmodel.data.reading.inputs import check_may_be_replaced, locate_all
from tfmodel.data.reading.places import Place
from tfmodel.data.settings import DataSettings
from tfmodel.data.similarity import require_datasketch
from tfmodel.data.split_counts import shares_to_split_off
from tfmodel.data.splits import sample, split_off
from tfmodel.run_folder import fingerprint, word_full_disk, write_aside

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
    places = locate_all(settings, locate)
    check_may_be_replaced(folder, places.values())
    check_filters(settings.cleaning)
    if settings.near_duplicates is not None:
        require_datasketch()
    with working(folder) as work:
        totals = _Preparation(settings, work, seed).write(places, folder)
    log_account(totals)
    return load_dataset(folder)


@contextlib.contextmanager
def working(folder: Path) -> Iterator[Path]:
    """Give a folder to work in, `.NAME.work` beside another, for as long as the work takes.

    It goes when the work is done, or a mistake makes it useless; else it stays, so that the work
    goes on there.

    Raises:
        ConfigError: another process works there.
        OSError: the disk is full.
    """
    work = folder.absolute().with_name(f".{folder.name}.work")
    with _alone_in(work):
        try:
            yield work
        except ConfigError:
            shutil.rmtree(work, ignore_errors=True)  # with another config nothing of it is of use
            raise
        except Exception as error:
            full = word_full_disk(error, folder.absolute())
            if full is None:
                raise
            _log.warning("%s holds what was done so far: the same command goes on from there", work)
            raise full from error
        shutil.rmtree(work, ignore_errors=True)


def count_workers(wanted: int | None) -> int:
    """Say how many processes work: as many as are wanted, or one a core."""
    return len(os.sched_getaffinity(0)) if wanted is None else wanted


@contextlib.contextmanager
def _alone_in(work: Path) -> Iterator[None]:
    """Keep others out of the work folder: two at once would count each other's rows."""
    work.mkdir(parents=True, exist_ok=True)
    lock = os.open(work, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    f"{work}: expected a dataset that nobody else is preparing. Received: one in "
                    f"the making. Wait until it is done, or name another folder."
                ) from None
        yield
    finally:
        os.close(lock)


class _Preparation:
    """One dataset in the making: what its steps know of each other."""

    def __init__(self, settings: DataSettings, work: Path, seed: int):
        self.settings = settings
        self.seed = seed
        self.work = work
        self.parts = Parts(work / "parts")
        self.worker_count = count_workers(settings.workers)

    def write(self, places: Mapping[str, Place], folder: Path) -> dict:
        """Do it all; give the account."""
        files = {role: place.fingerprint() for role, place in places.items()}
        chosen = self.settings.model_dump(mode="json", exclude={"workers"})
        # Another version may clean in another way: what it left half made is made anew.
        key = {"version": __version__, "files": files, "seed": self.seed, **chosen}
        done = self.parts.begin(fingerprint(key))
        if done:
            _log.info("going on: %s rows were read and cleaned before", f"{done:,}")
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
        self.strata = strata_of(self.parts)
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
        shares = shares_to_split_off(settings, places)
        chosen = {"strata": self.strata, "seed": self.seed}
        notes = []
        if shares:
            place = self.work / "ranks"
            method = settings.split
            split_off(self.parts, self.fates, place, method=method, shares=shares, **chosen)
            if self.target.name == "class" and method == "stratified":
                counts = strata_by_split(self.parts, self.fates, self.strata)
                notes = about_tiny_classes(counts, shares)
                for note in notes:
                    _log.warning("%s", note)
        if settings.max_rows is not None:
            count = settings.max_rows
            chosen["are_classes"] = self.target.name == "class"
            sample(self.parts, self.fates, self.work / "sample", count=count, **chosen)
        return notes

    def _class_names(self) -> list[str]:
        counts, origins = names_by_role(self.parts)
        kept = strata_by_split(self.parts, self.fates, self.strata)
        return class_names(
            self.target.name, kept, self.raw_train, counts, origins, self.settings.none_label
        )
