"""A thread beside the training, in which what is watched is written."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence

from tfmodel.train.watch.tracker import Tracker

_log = logging.getLogger(__name__)

_WAITING = 10_000  # calls; a tracker slower than the training then holds it up, not the memory
_FLUSH_TIMEOUT_SECONDS = 10.0


class Background:
    """Calls of every tracker, in order, while the training goes on.

    A tracker that raises is left out from then on, with a warning.

    Args:
        trackers: already started.
    """

    def __init__(self, trackers: Sequence[Tracker]):
        self._trackers = list(trackers)
        self._calls: queue.Queue[Callable[[Tracker], None] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._work, name="watch", daemon=True)
        self._thread.start()

    def call(self, method: str, *arguments) -> None:
        """Have `method` of each tracker called, soon."""
        self._calls.put(lambda tracker: getattr(tracker, method)(*arguments))

    def flush(self) -> None:
        """Have everything so far flushed, and wait for it for ten seconds at most."""
        self.call("flush")
        done = threading.Event()
        self._calls.put(lambda tracker: done.set())
        if self._trackers:
            done.wait(_FLUSH_TIMEOUT_SECONDS)

    def end(self) -> None:
        """Wait until all is written."""
        self._calls.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            for tracker in list(self._trackers):
                try:
                    call(tracker)
                except Exception as error:
                    self._trackers.remove(tracker)
                    _log.warning(
                        "%s shows nothing more of this training: %s: %s",
                        type(tracker).__name__,
                        type(error).__name__,
                        error,
                    )
