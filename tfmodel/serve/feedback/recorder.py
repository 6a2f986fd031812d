"""Records requests beside the answers to them, and takes corrections; one thread writes all."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import functools
import json
import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.serve.errors import ServingError, invalid
from tfmodel.serve.feedback import asked as languages
from tfmodel.serve.feedback.asked import AskedRow, NoTexts, task_of_answer
from tfmodel.serve.feedback.corrections import (
    Correction,
    parse_correction,
    settled,
    task_of,
    unknown_request,
)
from tfmodel.serve.feedback.facts import SCORED_PAIRS, KnownModels
from tfmodel.serve.feedback.mirroring import Mirror, Trial
from tfmodel.serve.feedback.retention import Retention
from tfmodel.serve.feedback.scrubbing import Scrubber, StoredRow
from tfmodel.serve.feedback.settings import FeedbackSettings
from tfmodel.serve.feedback.store import (
    Acknowledged,
    FoundRow,
    Store,
    StoredRequest,
    row_key,
    text_key,
)
from tfmodel.serve.feedback.tables import is_of_values, kind_of, open_engine, shown
from tfmodel.serve.feedback.waiting import Asked, Said, Waiting
from tfmodel.serve.metrics import Metrics
from tfmodel.serve.tensors import parse_object

_REQUESTS = ":tfmodel:serving:feedback_requests"
_CORRECTIONS = ":tfmodel:serving:feedback_corrections"
_AT_ONCE = 100
_MOST_CORRECTIONS = 64
_MOST_COPIES = 10_000
_MOST_UNNAMED = 20
_READ_AT_ONCE = 2**16
_IDLE_SECONDS = 1.0
# With a transaction for each request, up to a fifth fewer are answered.
_GATHER_SECONDS = 0.2
_LONGEST_REST = 5.0
_TELL_SECONDS = 60.0

_log = logging.getLogger(__name__)


class Recorder:
    """Keeps a sample of requests with their answers, and corrections, in a database.

    What is asked of it while an answer is on its way is to put a note into a queue. A thread reads
    the notes, replaces what is private and writes. Where it cannot keep up, or the database is
    away, notes wait, and what finds no room is counted and not recorded.

    Args:
        settings: where, what and how long.
        metrics: where it is counted.
        known: what the models say of themselves.
        models: the names of the models; where there is one, corrections need not name it.
        has_others: whether there may be more models than these.

    Raises:
        ConfigError: no database of this kind, or the extras `feedback` or `privacy` are not
            installed.
    """

    def __init__(
        self,
        settings: FeedbackSettings,
        metrics: Metrics,
        *,
        known: KnownModels,
        models: Callable[[], Sequence[str]],
        has_others: bool = False,
    ):
        self.settings = settings
        self._engine = open_engine(settings.database, wait_seconds=settings.wait_seconds)
        self._store = Store(self._engine)
        self._scrubber = Scrubber(settings.privacy)
        self._metrics = metrics
        self._known = known
        self._models = models
        self._has_others = has_others
        self._waiting = Waiting(settings.queue, settings.queue_bytes, _AT_ONCE)
        # Who waits for the database takes no more threads than this from those who ask the model.
        self._room = threading.Semaphore(_MOST_CORRECTIONS)
        self._thread: threading.Thread | None = None
        self._pending: list[tuple[Asked, StoredRequest]] = []
        self._copies: collections.deque[dict[str, Any]] = collections.deque(maxlen=_MOST_COPIES)
        self._unwritten: list[dict[str, Any]] = []
        self._mirror: Mirror | None = None
        if settings.mirror:
            keep, scrubber = self._copies.extend, self._scrubber
            self._mirror = Mirror(settings, metrics, known=known, scrubber=scrubber, keep=keep)
        self._has_tables = self._is_away = self._is_hopeless = False
        self._last = 0.0
        self._retention = Retention(self._store, settings)
        self._unnamed: set[str] = set()
        self._lost, self._told_lost = 0, 0.0

    # --- answers ----------------------------------------------------------------------------

    def by_rest(
        self,
        request: Mapping[str, Any],
        answer: Mapping[str, Any],
        *,
        size: int,
        signature: str,
        **columns: Any,
    ) -> str | None:
        """Record a request that was answered over REST, perhaps.

        Args:
            request: the object of the body; not to be changed from now on.
            answer: the object of the answer; likewise.
            size: bytes of both as they are sent.
            signature: what was asked for; empty: the default.
            **columns: `model`, `version`, `version_label` and `seconds`; `trial`, as `offer`.

        Returns:
            The id to correct it by; None where it is not recorded.
        """
        return self.offer(
            lambda: languages.rows_of_json(request, answer),
            size=size,
            signature=signature or languages.DEFAULT_SIGNATURE,
            door="REST",
            **columns,
        )

    def by_grpc(
        self, request: Any, response: Any, *, seconds: float, trial: Trial | None = None
    ) -> str | None:
        """Record a request to predict, classify or regress and its response; see `by_rest`."""
        spec = response.model_spec
        version = spec.version.value if spec.HasField("version") else None
        return self.offer(
            lambda: languages.rows_of_messages(request, response),
            size=request.ByteSize() + response.ByteSize(),
            model=request.model_spec.name,
            version=version,
            version_label=request.model_spec.version_label or None,
            signature=request.model_spec.signature_name or languages.DEFAULT_SIGNATURE,
            door="gRPC",
            seconds=seconds,
            trial=trial,
        )

    def offer(
        self,
        read: Callable[[], Sequence[AskedRow]],
        *,
        size: int,
        late: Callable[[], dict[str, Any]] | None = None,
        trial: Trial | None = None,
        **columns: Any,
    ) -> str | None:
        """Put a note of a request into the queue, if it is drawn and there is room.

        Args:
            read: gives its rows; called by the thread that writes.
            size: bytes that it holds.
            late: gives further columns, likewise.
            trial: how a version on trial can be asked the same; None: there is none.
            **columns: `model`, `version`, `version_label`, `signature`, `door` and `seconds`.

        Returns:
            Its id.
        """
        if random.random() >= self.settings.sample:
            return None
        request_id = uuid.uuid4().hex
        columns |= {
            "id": request_id,
            "time": time.time(),
            "sample": self.settings.sample,
        }
        if self._waiting.offer(Asked(columns, size, read, late)):
            if trial is not None and self._mirror is not None:
                self._mirror.offer(request_id, columns["model"], trial, size=size, read=read)
            return request_id
        self._lose(columns["model"], "queue_full")
        return None

    def _lose(self, model: str, outcome: str, count: int = 1) -> None:
        """Count what is not recorded, and say so now and then."""
        self._metrics.count(_REQUESTS, model, outcome, by=count)
        self._lost += count
        if time.monotonic() - self._told_lost > _TELL_SECONDS:
            self._told_lost = time.monotonic()
            _log.warning("feedback: %d requests were not recorded (%s)", self._lost, outcome)
            self._lost = 0

    # --- corrections ------------------------------------------------------------------------

    def correct(self, content: Mapping[str, Any]) -> Future:
        """Store a correction.

        Args:
            content: the object of the body.

        Returns:
            The future `Acknowledged`, there once the database has it for good.

        Raises:
            ServingError: INVALID_ARGUMENT, or the server is stopping.
        """
        try:
            correction = parse_correction(content, max_characters=self.settings.max_characters)
        except ServingError:
            self._metrics.count(_CORRECTIONS, "refused")
            raise
        if not self._room.acquire(blocking=False):
            raise self._away()
        said = Said(correction, Future())
        said.future.add_done_callback(lambda _: self._room.release())
        if not self._waiting.put(said):
            said.future.cancel()
            raise ServingError("UNAVAILABLE", "The server is stopping.")
        return said.future

    async def answer(self, body: bytes) -> bytes:
        """Store the correction in a body, and wait until the database has it.

        Returns:
            The body of the answer.

        Raises:
            ServingError: as `correct`; UNAVAILABLE: the database does not take it now.
        """
        # A large body is read beside, so that others are answered meanwhile.
        begin = functools.partial(self._begin, body)
        if len(body) > _READ_AT_ONCE:
            future = await asyncio.get_running_loop().run_in_executor(None, begin)
        else:
            future = begin()
        try:
            found = await asyncio.wait_for(asyncio.wrap_future(future), self._patience)
        except asyncio.TimeoutError:
            raise self._away() from None
        return _written(found)

    def answer_now(self, body: bytes) -> bytes:
        """As `answer`, for a thread that can wait."""
        future = self._begin(body)
        try:
            found = future.result(self._patience)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise self._away() from None
        return _written(found)

    def _begin(self, body: bytes) -> Future:
        return self.correct(parse_object(body))

    @property
    def _patience(self) -> float:
        """Seconds for a correction to be stored, or refused: what waits before it, and itself."""
        return 2 * self.settings.wait_seconds + 1

    def _away(self) -> ServingError:
        self._metrics.count(_CORRECTIONS, "unavailable")
        return ServingError("UNAVAILABLE", "The feedback cannot be stored now. Send it again.")

    # --- the thread that writes -------------------------------------------------------------

    def start(self) -> None:
        """Begin to write."""
        self._thread = threading.Thread(target=self._run, name="feedback", daemon=True)
        self._thread.start()
        if self._mirror is not None:
            self._mirror.start()
        if self.settings.privacy is None:
            _log.warning("feedback: private data is stored as it comes")
        _log.info("feedback: recorded in %s", shown(self._engine))

    def stop(self, seconds: float) -> None:
        """Write what waits, and end; what cannot be written in this time is lost, and said so."""
        if self._mirror is not None:
            self._mirror.stop(seconds)
        self._last = time.monotonic() + seconds
        self._waiting.close()
        if self._thread is None:
            return
        self._thread.join(seconds)
        self._thread = None
        if left := self._waiting.count:
            _log.warning("feedback: %d requests were not recorded (stopped)", left)
        self._engine.dispose()

    def _run(self) -> None:
        self._is_done(self._retention.step)  # whether it is there is said at once
        rest = 0.1
        while True:
            is_idle = not self._pending and not self._retention.is_at_work
            items = self._waiting.take(_IDLE_SECONDS if is_idle else 0, _GATHER_SECONDS)
            self._pending += self._read(each for each in items if isinstance(each, Asked))
            said = [each for each in items if isinstance(each, Said)]
            is_written = self._is_done(self._write_pending) if self._pending else True
            if is_written and (self._copies or self._unwritten):
                is_written = self._is_done(self._write_copies)
            for each in said:
                self._settle(each, is_written)
            if self._waiting.is_closed and not items:
                is_done = is_written and not self._copies
                if is_done or self._is_hopeless or time.monotonic() > self._last:
                    return
            if is_written:
                rest = 0.1
                self._is_done(self._retention.step)
            else:
                self._waiting.rest(rest)
                rest = min(2 * rest, _LONGEST_REST)

    def _is_done(self, write: Callable[[], None]) -> bool:
        """As `_guarded`; whatever else goes wrong is said, and does not end the thread."""
        try:
            return self._guarded(write)
        except Exception as error:
            if not self._is_away:
                _log.error("feedback: writing failed (%s); requests wait", type(error).__name__)
            self._is_away = True
            return False

    def _guarded(self, write: Callable[[], None]) -> bool:
        """Whether the database took it; where not, it is said once."""
        import sqlalchemy as sa

        try:
            if not self._has_tables:
                self._store.make_tables()
                self._has_tables = True
            write()
        except (sa.exc.SQLAlchemyError, OSError, ConfigError) as error:
            if not self._is_away:
                why = f"{shown(self._engine)} cannot be written now ({kind_of(error)})"
                if isinstance(error, ConfigError):
                    why = str(error)
                _log.warning("feedback: %s; requests wait", why)
            self._is_away = True
            self._is_hopeless = isinstance(error, ConfigError)
            self._has_tables = False
            return False
        if self._is_away:
            _log.info("feedback: %s can be written again", shown(self._engine))
        self._is_away = self._is_hopeless = False
        return True

    def _read(self, notes: Any) -> list[tuple[Asked, StoredRequest]]:
        """Requests as they are stored, from notes of them."""
        found = []
        for note in notes:
            try:
                found.append((note, self._stored(note)))
            except NoTexts:
                self._metrics.count(_REQUESTS, note.columns["model"], "no_text")
                self._waiting.release(note)
            except Exception as error:  # what a stranger's model answers may have any form
                _log.debug("feedback: a request cannot be read (%s)", type(error).__name__)
                self._lose(note.columns["model"], "unreadable")
                self._waiting.release(note)
        return found

    def _stored(self, note: Asked) -> StoredRequest:
        most = self.settings.max_characters
        rows = note.read()
        if any(len(row.text) > most or len(row.text_pair or "") > most for row in rows):
            raise NoTexts
        columns = note.columns | (note.late() if note.late is not None else {})
        facts = self._known.facts(columns["model"], columns["version"])
        self._tell_unnamed(columns["model"])
        known = task_of_answer(rows[0].answer) if rows else None
        columns["task"] = known if facts is None else facts.task
        has = {"has_labels": facts is not None, "has_vectors": columns["task"] == "embed"}
        stored = [self._scrubber.row(row, **has) for row in rows]
        return StoredRequest(columns, stored)

    def _tell_unnamed(self, model: str) -> None:
        """Say once of a model that none of the folders is its own; a name may be mistaken."""
        names = self._models()
        if not self._has_others or not names or model in {*names, *self._unnamed}:
            return
        if len(self._unnamed) >= _MOST_UNNAMED:
            return
        self._unnamed.add(model)
        _log.warning(
            "feedback: the model %s answers, and no folder is known for it, so that its labels "
            "are not checked. The folder of %s may be meant: say so by --name",
            model,
            ", ".join(names),
        )

    def _write_copies(self) -> None:
        while self._copies and len(self._unwritten) < _AT_ONCE:
            self._unwritten.append(self._copies.popleft())
        try:
            self._store.write_copies(self._unwritten)
        except Exception as error:
            if not is_of_values(error):
                raise
            _log.warning("feedback: %d copies were not kept (refused)", len(self._unwritten))
        self._unwritten = []

    def _write_pending(self) -> None:
        written, refused = self._pending, []
        try:
            self._store.write([request for _, request in self._pending])
        except Exception as error:
            if not is_of_values(error):
                raise
            written, refused = self._one_by_one()
        for note, _ in written:
            self._metrics.count(_REQUESTS, note.columns["model"], "recorded")
        for note, _ in refused:
            self._lose(note.columns["model"], "refused")
        for note, _ in self._pending:
            self._waiting.release(note)
        self._pending = []

    def _one_by_one(self) -> tuple[list, list]:
        """Write each by itself: those that are there already, and those that cannot be, aside."""
        written, refused = [], []
        for each in self._pending:
            try:
                self._store.write_alone(each[1])
                written.append(each)
            except Exception as error:
                if not is_of_values(error):
                    raise
                refused.append(each)
        return written, refused

    # --- corrections, in that thread --------------------------------------------------------

    def _settle(self, said: Said, is_written: bool) -> None:
        """Store a correction and say so; not before the request that it may be about."""
        if not said.future.set_running_or_notify_cancel():
            return
        outcome: list[Acknowledged] = []
        try:
            if is_written and self._guarded(lambda: outcome.append(self._store_one(said))):
                self._metrics.count(_CORRECTIONS, "stored" if outcome[0].is_new else "repeated")
                said.future.set_result(outcome[0])
            else:
                said.future.set_exception(self._away())
        except ServingError as error:
            self._metrics.count(_CORRECTIONS, "refused")
            said.future.set_exception(error)
        except Exception as error:  # nobody waits in vain
            _log.error("feedback: a correction failed (%s)", type(error).__name__)
            said.future.set_exception(
                ServingError("INTERNAL", f"The server failed ({type(error).__name__}).")
            )

    def _store_one(self, said: Said) -> Acknowledged:
        import sqlalchemy as sa

        correction, now = said.correction, time.time()

        def settle(found: FoundRow | None) -> tuple[dict[str, Any], str]:
            return self._columns(correction, found)

        which = (correction.request_id, correction.row)
        try:
            return self._store.correct(*which, settle, feedback_id=correction.feedback_id, time=now)
        except sa.exc.DataError:  # sent again, it would be refused again
            raise invalid("The database cannot hold this correction.") from None

    def _columns(
        self, correction: Correction, found: FoundRow | None
    ) -> tuple[dict[str, Any], str]:
        """Columns of the table of corrections, and the key of the row."""
        if found is None:
            return self._columns_of_text(correction)
        facts = self._known.facts(found.model, found.version)
        task = task_of(correction, facts, found.row.answer)
        label, problem = settled(correction, found.row, facts, self._scrubber)
        columns = {
            "request_id": correction.request_id,
            "row": found.number,
            "model": found.model,
            "version": found.version,
            "task": task,
            "label": label,
            "problem": problem,
        }
        return columns, row_key(correction.request_id, found.number)

    def _columns_of_text(self, correction: Correction) -> tuple[dict[str, Any], str]:
        if correction.text is None:
            raise unknown_request()
        model = self._model(correction.model)
        facts = self._known.facts(model)
        is_scored_pair = facts is not None and facts.task == SCORED_PAIRS
        has_pairs = correction.text_pair is not None
        if facts is not None and not is_scored_pair and facts.has_pairs != has_pairs:
            wanted = "text and text_pair" if facts.has_pairs else "text alone"
            raise invalid(f"Expected {wanted}, as this model takes them.")
        row: StoredRow = self._scrubber.row(AskedRow(correction.text, correction.text_pair, None))
        task = task_of(correction, facts, None)
        label, problem = settled(correction, row, facts, self._scrubber)
        columns = {
            "request_id": correction.request_id,
            "model": model,
            "task": task,
            "label": label,
            "problem": problem,
            "text": row.text.text,
            "text_pair": None if row.text_pair is None else row.text_pair.text,
        }
        return columns, text_key(model, row)

    def _model(self, name: str | None) -> str:
        """The model that a text is for."""
        names = self._models()
        if name is None and len(names) == 1:
            return names[0]
        if name is None:
            raise invalid("model: expected the name of the model that the text is for.")
        if not self._has_others and name not in names:
            raise invalid("model: this server has none of this name.")
        return name


def _written(found: Acknowledged) -> bytes:
    answer: dict[str, Any] = {"feedback_id": found.feedback_id, "stored": found.is_new}
    if found.problem is not None:
        answer["problem"] = found.problem
    return json.dumps(answer).encode()
