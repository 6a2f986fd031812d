"""The stage `corpus`: raw text in, clean documents without copies out.

On what rows are prepared by: numbered parts on disk, workers, sorting on disk. What is more: parts
are made twice, first clean, then without the lines that other documents have.
"""

from __future__ import annotations

import collections
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tfmodel import __version__
from tfmodel.config import ConfigError
from tfmodel.data.account import log_account, sum_cleaned
from tfmodel.data.cleaning.filters import check_filters
from tfmodel.data.corpus.cleaning import document_steps
from tfmodel.data.corpus.corpus import Corpus, load_corpus
from tfmodel.data.corpus.lines import KINDS, judge_lines
from tfmodel.data.corpus.reading import CutLong, in_words_of_corpus, places_of
from tfmodel.data.corpus.settings import CorpusSettings
from tfmodel.data.dedupe import drop_duplicates
from tfmodel.data.mistakes import all_stand_elsewhere, no_row_left
from tfmodel.data.near_duplicates import drop_near_duplicates
from tfmodel.data.parts import Parts, strata_of
from tfmodel.data.parts.fates import Fates, ids_of
from tfmodel.data.parts.reading import read_parts
from tfmodel.data.parts.tallies import kept_and_dropped, raw_and_dropped
from tfmodel.data.parts.workers import Workers
from tfmodel.data.parts.writing import write_parts
from tfmodel.data.prepare import count_workers, working
from tfmodel.data.privacy import check_privacy
from tfmodel.data.progress import bar
from tfmodel.data.reading.inputs import check_may_be_replaced
from tfmodel.data.reading.places import Place
from tfmodel.data.reading.readers import find_format
from tfmodel.data.splits import sample, split_off_dev
from tfmodel.data.targets import TARGETS
from tfmodel.run_folder import fingerprint, write_aside

_log = logging.getLogger(__name__)
_LARGEST_DEV_SHARE = 0.1


def prepare_corpus(
    settings: CorpusSettings,
    folder: Path,
    *,
    seed: int,
    locate: Callable[[str], Path] = Path,
) -> Corpus:
    """Read, clean and deduplicate documents into a TFDS builder folder.

    Every raw document ends in the split train or dev or, with the reason, in `dropped.jsonl`. The
    folder appears whole or not at all; one that is there is replaced. What was interrupted goes on
    where it was, from `.NAME.work` beside the folder. Equal settings, files and seeds give equal
    folders, whatever the number of workers.

    Args:
        settings: the `corpus:` section.
        folder: where the corpus goes.
        seed: of the split and of `max_documents`.
        locate: turns a source as the config names it into a local path.

    Returns:
        The corpus, opened.

    Raises:
        ConfigError: a file or setting does not fit; the message says which and what to do.
        OSError: the disk is full.
    """
    folder = Path(folder)
    with in_words_of_corpus():
        places = places_of(settings.as_rows(), locate)
        check_may_be_replaced(folder, places.values())
        check_filters(settings.cleaning)
        if settings.privacy is not None:
            check_privacy(settings.privacy)
        settings = settings.settled(find_format(places["train"], settings.as_rows()))
        with working(folder) as work:
            totals = _Preparation(settings, work, seed).write(places, folder)
    log_account(totals)
    return load_corpus(folder)


class _Preparation:
    """One corpus in the making: what its steps know of each other."""

    def __init__(self, settings: CorpusSettings, work: Path, seed: int):
        self.settings = settings
        self.rows = settings.as_rows()
        self.seed = seed
        self.work = work
        self.cleaned = Parts(work / "cleaned")
        self.finished = Parts(work / "finished")
        self.worker_count = count_workers(settings.workers)

    def write(self, places: Mapping[str, Place], folder: Path) -> dict:
        """Do it all; give the account."""
        chosen = self.settings.model_dump(mode="json", exclude={"workers"})
        files = {role: place.fingerprint() for role, place in places.items()}
        # Another version may clean in another way: what it left half made is made anew.
        key = fingerprint({"version": __version__, "files": files, "seed": self.seed, **chosen})
        done = self.cleaned.begin(key)
        self.finished.begin(key)
        if done:
            _log.info("going on: %s documents were read and cleaned before", f"{done:,}")
        facts, _ = read_parts(
            places,
            self.rows,
            self.cleaned,
            seed=self.seed,
            worker_count=self.worker_count,
            job="make_document_part",
            chosen=self.settings.model_dump(mode="json"),
            cut=CutLong(
                self.settings.max_characters,
                self.settings.privacy,
                document_steps(self.settings.cleaning),
            ),
        )
        for role, place in places.items():
            raw, dropped = raw_and_dropped(self.cleaned, role)
            if raw == sum(dropped.values()):
                raise no_row_left(place, raw, dict(dropped.most_common()), self.rows)
        near = self._drop_documents()
        shared = self._drop_lines()
        fates = self._split(places)
        further = {
            "cleaning": sum_cleaned(self.finished, document_steps(self.settings.cleaning)),
            "private": _sum_of(self.finished, "private"),
            "lines": account_of_lines(_sum_of(self.finished, "lines"), shared),
            "near_duplicates": near,
            "notes": [],
            "seed": self.seed,
            "settings": chosen,
        }
        with write_aside(folder, replace=True) as aside:
            aside.mkdir(parents=True, exist_ok=True)
            return write_parts(
                aside,
                self.finished,
                fates,
                facts=facts,
                target=TARGETS["none"],
                names=[],
                further=further,
            )

    def _drop_documents(self) -> dict | None:
        """Drop equal documents, then near ones."""
        place = self.work / "documents"
        place.mkdir(exist_ok=True)
        self.fates = Fates(place, self.cleaned.roles())
        drop_duplicates(self.cleaned, self.fates, place / "digests")
        threshold = self.settings.near_duplicates
        if threshold is None:
            return None
        _log.info("looking for near duplicates")
        with self._workers() as workers:
            near = drop_near_duplicates(
                self.cleaned,
                self.fates,
                place,
                threshold=threshold,
                workers=workers,
                job="compare_documents",
            )
        return near | {"threshold": threshold}

    def _drop_lines(self) -> list[dict[str, Any]]:
        """Make the parts anew, without lines that others have; give the first of these."""
        place = self.work / "lines"
        place.mkdir(exist_ok=True)
        verdicts, examples = judge_lines(self.cleaned, self.fates, place, self.settings.lines)
        settings = self.settings.model_dump(mode="json")
        total = len(self.cleaned.numbers())
        with self._workers() as workers, bar(total, "taking lines out", unit=" parts") as shown:
            for number, verdict in verdicts:
                if not self.finished.path(number).exists():
                    path = place / f"part-{number:06d}.npz"
                    verdict.write(path)
                    workers.submit(
                        "finish_document_part",
                        str(self.cleaned.folder),
                        number,
                        str(path),
                        str(self.finished.path(number)),
                        settings,
                        self.seed,
                    )
                shown.update(1)
            workers.finish()
        return examples

    def _split(self, places: Mapping[str, Place]) -> Fates:
        """Drop documents that are equal now, and give the others their splits."""
        place = self.work / "splits"
        place.mkdir(exist_ok=True)
        fates = Fates(place, self.finished.roles())
        drop_duplicates(self.finished, fates, place / "digests")
        kept = 0
        for role, found in places.items():
            kept, dropped = kept_and_dropped(self.finished, fates, role)
            raw, early = raw_and_dropped(self.finished, role)
            if not kept:
                if raw > sum(early.values()):
                    raise all_stand_elsewhere(role, dict(dropped.most_common()))
                raise no_row_left(found, raw, dict(early.most_common()), self.rows)
        for number in self.finished.numbers():
            ids = ids_of(number, len(self.finished.index(number)))
            fates.assign(ids, fates.roles[number])
        chosen: Any = {"strata": strata_of(self.finished), "seed": self.seed}
        if "dev" not in places:
            count = dev_documents(kept, self.settings)
            source = self.settings.train
            split_off_dev(
                self.finished, fates, place / "ranks", count=count, train=source, **chosen
            )
        if self.settings.max_documents is not None:
            count = self.settings.max_documents
            chosen["reason"] = "max_documents"
            sample(self.finished, fates, place / "sample", count=count, **chosen)
        return fates

    def _workers(self) -> Workers:
        return Workers(self.worker_count if len(self.cleaned.numbers()) > 1 else 0)


def account_of_lines(
    counts: Mapping[str, int], shared: list[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Say how many lines and characters were taken out, as the account does.

    Args:
        counts: of lines, and of characters as `shared characters`, by kind.
        shared: the shared lines that most documents have.
    """
    found: dict[str, dict[str, Any]] = {
        kind: {"lines": counts.get(kind, 0), "characters": counts.get(f"{kind} characters", 0)}
        for kind in KINDS
    }
    found["shared"]["examples"] = shared
    return found


def dev_documents(documents: int, settings: CorpusSettings) -> int:
    """Say how many of the documents go to dev.

    Raises:
        ConfigError: there are too few.
    """
    if documents < 2:
        raise ConfigError(
            f"{settings.train}: expected two documents at least, one for dev. Received: "
            f"{documents}, once what is too short or a copy was left out. Add text, or set "
            f"corpus.documents to what a document is in your files."
        )
    wanted = max(round(documents * settings.dev_share), settings.min_dev_documents)
    most = max(round(documents * _LARGEST_DEV_SHARE), round(documents * settings.dev_share), 1)
    return min(wanted, most)


def _sum_of(parts: Parts, name: str) -> dict[str, int]:
    total: collections.Counter[str] = collections.Counter()
    for number in parts.numbers():
        total.update(parts.summary(number)[name])
    return dict(sorted(total.items()))
