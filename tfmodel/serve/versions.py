"""One model: the versions in its base folder, which of them live, and who is using them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Literal

import numpy as np

from tfmodel.export.places import is_version
from tfmodel.serve.admission import PARITY_FILE, admit
from tfmodel.serve.batching import Batcher
from tfmodel.serve.errors import ServingError, invalid
from tfmodel.serve.metrics import Metrics
from tfmodel.serve.servable import Servable, Signature
from tfmodel.serve.settings import ServeSettings

_log = logging.getLogger(__name__)
_ENDED_KEPT = 20

State = Literal["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]
Fingerprint = tuple[tuple[str, int, int], ...]


@dataclasses.dataclass(frozen=True)
class Policy:
    """Which of the versions in the base folder are served.

    Attributes:
        newest: this many, the highest numbers.
        specific: these; empty: as `newest` says.
    """

    newest: int = 1
    specific: frozenset[int] = frozenset()

    def wants(self, ready: list[int]) -> set[int]:
        """Of these numbers, the ones to serve."""
        if self.specific:
            return {*ready} & self.specific
        return {*sorted(ready)[-self.newest :]}


ALL_VERSIONS = Policy(newest=2**31)


class Version:
    """A version that is loaded: it answers, and is unloaded when nobody asks it any more.

    Args:
        model: the model's name, for metrics.
        number: the version.
        servable: what `admit` gave.
        settings: batches and limits.
        metrics: where batches are noted.
    """

    def __init__(
        self,
        model: str,
        number: int,
        servable: Servable,
        settings: ServeSettings,
        metrics: Metrics,
    ):
        self.number = number
        self.servable = servable
        self.users = 0
        self._settings = settings
        self._metrics = metrics
        self._model = model
        self._batcher = Batcher(
            servable.run,
            **servable.batching.over(settings),
            note=lambda *figures: metrics.batch(model, *figures),
        )

    @property
    def waiting_rows(self) -> int:
        """Rows that wait to be computed."""
        return self._batcher.waiting_rows

    def submit(
        self,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        *,
        deadline: float,
        api: str = "Predict",
    ) -> Future:
        """Ask; the future gives every output by name.

        Args:
            signature: what is asked for.
            inputs: by name.
            deadline: of `time.monotonic`.
            api: what metrics call it.

        Raises:
            ServingError: too many rows, inputs of unequal length, or no room in the queue.
        """
        together, rows, lengths = None, 1, None
        if signature.is_batchable:
            sizes = {len(value) for value in inputs.values()}
            if len(sizes) != 1:
                raise invalid(
                    "Batching session Run() input tensors must have equal 0th-dimension size"
                )
            (rows,) = sizes
            together = (signature.name, *(value.shape[1:] for value in inputs.values()))
            lengths = _lengths(inputs)
        if rows > self._settings.max_rows:
            raise invalid(
                f"Task size {rows} is larger than maximum input batch size "
                f"{self._settings.max_rows}"
            )
        if rows == 0:
            together = None
        started = time.monotonic()
        future = self._batcher.submit(
            signature.name,
            inputs,
            rows=rows,
            lengths=lengths,
            together=together,
            deadline=deadline,
        )

        def note(done: Future) -> None:
            if not done.cancelled() and done.exception() is None:
                self._metrics.computed(self._model, api, time.monotonic() - started)

        future.add_done_callback(note)
        return future

    def close(self) -> None:
        """Answer what waits, and give the memory back."""
        self._batcher.close()
        self.servable.close()


def _lengths(inputs: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Bytes of text in each row; None where there is no text."""
    texts = [value for value in inputs.values() if value.dtype == object and value.ndim == 1]
    if not texts:
        return None
    return np.sum([np.fromiter(map(len, column), np.int64, len(column)) for column in texts], 0)


@dataclasses.dataclass
class _Entry:
    """What is known of a version, loaded or not."""

    state: State
    code: str = "OK"
    message: str = ""
    version: Version | None = None
    fingerprint: Fingerprint = ()


class Model:
    """A base folder that is watched.

    A version goes live once `admit` takes it, and takes the place of older ones only then; one
    that goes is unloaded when the last request to it is answered. So there is no moment without a
    version to ask.

    Args:
        name: what clients call it.
        base: the folder with the version folders.
        settings: batches and limits.
        metrics: where requests are noted.
        policy: which versions are served.
        labels: label to version; a version with a label is served whatever the policy says.
    """

    def __init__(
        self,
        name: str,
        base: Path,
        settings: ServeSettings,
        metrics: Metrics,
        *,
        policy: Policy | None = None,
        labels: Mapping[str, int] | None = None,
    ):
        self.name = name
        self.base = base
        self.policy = policy or Policy()
        self.labels = dict(labels or {})
        self._settings = settings
        self._metrics = metrics
        self._entries: dict[int, _Entry] = {}
        self._is_closed = False
        self._lock = threading.Lock()  # of what requests read
        self._polling = threading.Lock()  # one look at the folder at a time

    # --- requests ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def use(self, number: int | None = None, label: str = "") -> Iterator[Version]:
        """A version to ask, which is not unloaded meanwhile.

        Args:
            number: the version; None: the highest that is live.
            label: its label, in place of a number.

        Raises:
            ServingError: NOT_FOUND, there is none; INVALID_ARGUMENT, no such label.
        """
        with self._lock:
            if label:
                if label not in self.labels:
                    raise invalid("Unrecognized servable version label")
                number = self.labels[label]
            live = self._live()
            wanted = max(live, default=None) if number is None else number
            version = live.get(wanted)
            if version is None:
                asked = (
                    f"Latest({self.name})" if number is None else f"Specific({self.name}, {number})"
                )
                raise ServingError("NOT_FOUND", f"Servable not found for request: {asked}")
            version.users += 1
        try:
            yield version
        finally:
            with self._lock:
                version.users -= 1

    def _live(self) -> dict[int, Version]:
        return {
            number: entry.version
            for number, entry in self._entries.items()
            if entry.state == "AVAILABLE" and entry.version is not None
        }

    @property
    def live(self) -> list[int]:
        """The versions that answer, ascending."""
        with self._lock:
            return sorted(self._live())

    @property
    def waiting_rows(self) -> int:
        """Rows that wait in the queues of all versions."""
        with self._lock:
            loaded = [each.version for each in self._entries.values() if each.version is not None]
        return sum(version.waiting_rows for version in loaded)

    def states(self) -> dict[int, tuple[State, str, str]]:
        """Every version that is known: its state, code and message, the highest first."""
        with self._lock:
            return {
                number: (entry.state, entry.code, entry.message)
                for number, entry in sorted(self._entries.items(), reverse=True)
            }

    # --- the folder -------------------------------------------------------------------------

    def poll(self, *, at_rest: bool = True) -> None:
        """Look at the folder: load what is new, then unload what is no longer wanted.

        Args:
            at_rest: whether a version whose files have just changed is left for the next look:
                it may be half there.
        """
        with self._polling:
            if self._is_closed:
                return
            found = self._folders()
            if found is not None:
                self._forget(found)
                if at_rest:
                    found = self._at_rest(found)
                for number in self._to_load(found):
                    self._load(number, found[number])
                self._retire(found)
            self._unload_idle()

    def close(self) -> None:
        """Answer what is open, unload everything, and look no more."""
        with self._polling:
            self._is_closed = True
            with self._lock:
                for entry in self._entries.values():
                    entry.state = "UNLOADING" if entry.version is not None else entry.state
            patience = time.monotonic() + self._settings.stop_seconds
            while self._unload_idle() and time.monotonic() < patience:
                time.sleep(0.02)

    def _folders(self) -> dict[int, Path] | None:
        """Number to version folder; None where the base folder cannot be read just now."""
        try:
            entries = sorted(self.base.iterdir(), key=lambda path: path.name)
        except OSError:
            return None
        return {int(path.name): path for path in entries if is_version(path.name) and path.is_dir()}

    def _at_rest(self, found: Mapping[int, Path]) -> dict[int, Path]:
        """The versions that are loaded already, or of which nothing is being written just now."""
        with self._lock:
            loaded = {*self._live()}
        now = time.time()
        return {
            number: folder
            for number, folder in found.items()
            if number in loaded or not 0 <= now - _written(folder) < self._settings.poll_seconds
        }

    def _wanted(self, found: Mapping[int, Path]) -> set[int]:
        """Numbers to serve: of those in the folder, the refused left out."""
        refused = {
            number
            for number, entry in self._entries.items()
            if entry.state == "END" and entry.code != "OK" and number in found
        }
        usable = [number for number in found if number not in refused]
        return self.policy.wants(usable) | ({*self.labels.values()} & {*usable})

    def _to_load(self, found: Mapping[int, Path]) -> Iterator[int]:
        """The next version to load, the highest first, until all that are wanted are there."""
        while True:
            with self._lock:
                loaded = {*self._live()}
                missing = self._wanted(found) - loaded
            if not missing:
                return
            yield max(missing)

    def _forget(self, found: Mapping[int, Path]) -> None:
        """A refused version gets another chance when its files change."""
        with self._lock:
            for number, entry in [*self._entries.items()]:
                if entry.state != "END" or entry.code == "OK":
                    continue
                if number not in found or _fingerprint(found[number]) != entry.fingerprint:
                    del self._entries[number]
            ended = [n for n, entry in self._entries.items() if entry.state == "END"]
            for number in sorted(ended)[:-_ENDED_KEPT]:
                del self._entries[number]

    def _load(self, number: int, folder: Path) -> None:
        fingerprint = _fingerprint(folder)
        with self._lock:
            older = self._entries.get(number)
            if older is not None and older.version is not None:
                if older.fingerprint == fingerprint:  # it was leaving, and is wanted again
                    older.state = "AVAILABLE"
                    return
            entry = _Entry("LOADING", fingerprint=fingerprint)
            self._entries[number] = entry
        if older is not None and older.version is not None:
            self._wait_and_close(older)
        _log.info("%s: version %d: loading", self.name, number)
        started = time.monotonic()
        try:
            note = functools.partial(self._metrics.warm_up, self.name, number)
            servable = admit(folder, target=self._settings.target, note=note)
            if _fingerprint(folder) != fingerprint:
                servable.close()
                raise ServingError("ABORTED", "Its files changed while it was loaded.")
            version = Version(self.name, number, servable, self._settings, self._metrics)
        except Exception as error:
            code, message = "INTERNAL", f"It cannot be loaded ({type(error).__name__})."
            if isinstance(error, ServingError):
                code, message = error.code, error.message
            with self._lock:
                entry.state, entry.code, entry.message = "END", code, message
            _log.warning("%s: version %d: refused. %s", self.name, number, message)
            return
        with self._lock:
            entry.version, entry.state = version, "AVAILABLE"
        self._metrics.set(":tfmodel:serving:version_available", self.name, str(number), to=1)
        seconds = time.monotonic() - started
        _log.info("%s: version %d: live after %.1f s", self.name, number, seconds)

    def _retire(self, found: Mapping[int, Path]) -> None:
        with self._lock:
            wanted = self._wanted(found)
            for number, entry in self._entries.items():
                if entry.state == "AVAILABLE" and number not in wanted:
                    entry.state = "UNLOADING"
                    self._metrics.set(
                        ":tfmodel:serving:version_available", self.name, str(number), to=None
                    )
                    _log.info("%s: version %d: unloading", self.name, number)

    def _unload_idle(self) -> bool:
        """Unload what nobody uses; whether something is still in use."""
        with self._lock:
            leaving = [each for each in self._entries.values() if each.state == "UNLOADING"]
            idle = [entry for entry in leaving if entry.version.users == 0]
        for entry in idle:
            self._close(entry)
        return len(idle) < len(leaving)

    def _wait_and_close(self, entry: _Entry) -> None:
        while entry.version.users:
            time.sleep(0.02)
        self._close(entry)

    def _close(self, entry: _Entry) -> None:
        entry.version.close()
        with self._lock:
            entry.version, entry.state = None, "END"


def _written(folder: Path) -> float:
    """When a file of a version was last written: seconds as `time.time` has them."""
    latest = 0.0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            latest = max(latest, path.stat().st_mtime, path.stat().st_ctime)
    return latest


def _fingerprint(folder: Path) -> Fingerprint:
    """Sizes and times of a version's files and of its verdict, to see that they have changed."""
    found = []
    for path in (folder.parent.parent / PARITY_FILE, *sorted(folder.rglob("*"))):
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((str(path), status.st_size, status.st_ctime_ns))
    return tuple(found)
