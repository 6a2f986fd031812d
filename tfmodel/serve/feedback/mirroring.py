"""Asks the version on trial what the one in service was asked, beside the answers to clients."""

from __future__ import annotations

import collections
import dataclasses
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfmodel.serve.errors import ServingError
from tfmodel.serve.feedback.asked import AskedRow, NoTexts, task_of_answer
from tfmodel.serve.feedback.facts import KnownModels
from tfmodel.serve.feedback.scrubbing import Scrubber
from tfmodel.serve.feedback.settings import FeedbackSettings
from tfmodel.serve.metrics import Metrics

_COPIES = ":tfmodel:serving:mirrored_requests"
_MOST = 100
_MOST_BYTES = 2**24
_BUSY_SECONDS = 0.02
_PATIENCE_SECONDS = 10.0
_ANSWERS_OF_TASK = {
    "classify": "classes",
    "multilabel": "sets",
    "tag": "spans",
    "span": "span",
}
"""Those whose answers agree or not row by row; of the others a comparison needs all rows."""
_PASSING = ("NOT_FOUND", "UNAVAILABLE", "RESOURCE_EXHAUSTED")
"""Failures that say nothing of a version: it is no longer served, or the server is full."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Trial:
    """How a request can be asked once more, of the version in service and of the one on trial.

    Attributes:
        versions: gives the number of each, the one in service first; None where nothing is on
            trial. It may take time.
        ask: a version's number to the rows of its answer; raises ServingError.
        is_busy: whether clients wait for answers just now, so that a copy had better wait.
    """

    versions: Callable[[], tuple[int, int] | None]
    ask: Callable[[int], Sequence[AskedRow]]
    is_busy: Callable[[], bool] = lambda: False


@dataclasses.dataclass(frozen=True)
class _Copy:
    request_id: str
    model: str
    size: int
    read: Callable[[], Sequence[AskedRow]]
    trial: Trial


class Mirror:
    """Compares answers of two versions to what clients ask, off the way of their answers.

    A copy of a request that was answered and recorded waits in a queue of its own, which takes no
    more than it has room for. A thread asks both versions each copy, one after the other and each
    first as often, so that their times can be compared; one request at a time, and none while
    clients wait. What the client was answered is compared with the answer of the version on trial
    as they are, in memory; what goes to the database has nothing private in it.

    Args:
        settings: the share of requests, and what is replaced.
        metrics: where copies are counted.
        known: what the models say of themselves.
        scrubber: replaces what is private.
        keep: takes rows of the table of copies.
    """

    def __init__(
        self,
        settings: FeedbackSettings,
        metrics: Metrics,
        *,
        known: KnownModels,
        scrubber: Scrubber,
        keep: Callable[[list[dict[str, Any]]], None],
    ):
        self._settings = settings
        self._metrics = metrics
        self._known = known
        self._scrubber = scrubber
        self._keep = keep
        self._waiting: collections.deque[_Copy] = collections.deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._turn = 0

    def offer(
        self,
        request_id: str,
        model: str,
        trial: Trial,
        *,
        size: int,
        read: Callable[[], Sequence[AskedRow]],
    ) -> None:
        """Put a copy of a request into the queue, if it is drawn and there is room.

        Args:
            request_id: under which it is recorded.
            model: whom it asked.
            trial: how it is asked once more.
            size: bytes that it holds.
            read: gives its rows, with what the client was answered.
        """
        if random.random() >= self._settings.mirror:
            return
        with self._changed:
            fits = len(self._waiting) < _MOST and self._bytes + size <= _MOST_BYTES
            if fits and not self._is_closed:
                self._waiting.append(_Copy(request_id, model, size, read, trial))
                self._bytes += size
                self._changed.notify()
                return
        self._count(model, "dropped")

    def start(self) -> None:
        """Begin to ask."""
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End after the copy that is being asked; those that wait are dropped."""
        with self._changed:
            self._is_closed = True
            dropped, self._waiting = [*self._waiting], collections.deque()
            self._changed.notify_all()
        for copy in dropped:
            self._count(copy.model, "dropped")
        if self._thread is not None:
            self._thread.join(seconds)
            self._thread = None

    def _count(self, model: str, outcome: str) -> None:
        self._metrics.count(_COPIES, model, outcome)

    # --- the thread that asks ---------------------------------------------------------------

    def _run(self) -> None:
        while (copy := self._next()) is not None:
            try:
                outcome = self._compared(copy)
            except NoTexts:
                outcome = "no_text"
            except Exception as error:  # what a stranger's model answers may have any form
                _log.debug("mirror: a copy cannot be compared (%s)", type(error).__name__)
                outcome = "unreadable"
            self._count(copy.model, outcome)

    def _next(self) -> _Copy | None:
        with self._changed:
            while not self._waiting and not self._is_closed:
                self._changed.wait()
            if self._is_closed:
                return None
            copy = self._waiting.popleft()
            self._bytes -= copy.size
            return copy

    def _compared(self, copy: _Copy) -> str:
        """Ask, compare and keep; what became of the copy, in a word."""
        pair = copy.trial.versions()
        if pair is None:
            return "no_trial"
        rows = copy.read()
        most = self._settings.max_characters
        if any(len(row.text) > most or len(row.text_pair or "") > most for row in rows):
            raise NoTexts
        old, new = pair
        self._turn += 1
        found: dict[int, Sequence[AskedRow]] = {}
        seconds: dict[int, float] = {}
        problem: str | None = None
        for number in pair if self._turn % 2 else (new, old):
            if not self._is_quiet(copy.trial):
                return "dropped"
            started = time.perf_counter()
            try:
                found[number] = copy.trial.ask(number)
            except ServingError as error:
                if number == old or error.code in _PASSING:
                    return "dropped"
                problem = error.code
            seconds[number] = time.perf_counter() - started
        answered = found.get(new, ())
        if problem is None and len(answered) != len(rows):
            problem = "INTERNAL"
        facts = self._known.facts(copy.model, new)
        shared = {
            "request_id": copy.request_id,
            "time": time.time(),
            "model": copy.model,
            "task": task_of_answer(rows[0].answer) if facts is None else facts.task,
            "old": old,
            "new": new,
            "old_seconds": seconds[old],
            "new_seconds": seconds[new],
            "problem": problem,
            "answer": None,
            "agrees": None,
        }
        kept = [shared | {"row": number} for number in range(len(rows))]
        if problem is None:
            for columns, before, after in zip(kept, rows, answered, strict=True):
                columns |= self._of_row(shared["task"], before, after, has_labels=facts is not None)
        self._keep(kept)
        return "compared" if problem is None else "failed"

    def _is_quiet(self, trial: Trial) -> bool:
        """Wait until no client waits; False: that takes too long, or the server stops."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while trial.is_busy():
            with self._changed:
                if self._is_closed or time.monotonic() > deadline:
                    return False
                self._changed.wait(_BUSY_SECONDS)
        return True

    def _of_row(
        self, task: str | None, before: AskedRow, after: AskedRow, *, has_labels: bool
    ) -> dict[str, Any]:
        row = dataclasses.replace(after, text=before.text, text_pair=before.text_pair)
        stored = self._scrubber.row(row, has_labels=has_labels, has_vectors=task == "embed")
        return {
            "answer": None if stored.answer is None else json.dumps(stored.answer),
            "agrees": _agreement(task, before.answer, after.answer),
        }


def _agreement(
    task: str | None, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None
) -> float | None:
    """How far two answers agree; None where one of them is none, or it takes all rows to say."""
    kind = _ANSWERS_OF_TASK.get(task or "")
    if kind is None or task_of_answer(old) != task or task_of_answer(new) != task:
        return None
    from tfmodel.serve.rollout.answers import agreement

    return float(agreement(kind, [old], [new]).rows[0])
