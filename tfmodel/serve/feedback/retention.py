"""Deletes what is past its time, beside what a server writes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from tfmodel.serve.feedback.settings import FeedbackSettings
from tfmodel.serve.feedback.store import Store

_EVERY_SECONDS = 3600.0
_AGAIN_SECONDS = 60.0

_log = logging.getLogger(__name__)


class Retention:
    """Once an hour what is too old or too much goes, a portion a step, so that nothing waits long.

    Where the database fails, it is tried again in a minute.

    Args:
        store: where it is deleted.
        settings: for how long requests are kept, and how many rows.
    """

    def __init__(self, store: Store, settings: FeedbackSettings):
        self._store = store
        self._settings = settings
        self._portions: Iterator[int] | None = None
        self._gone = 0
        self._next = 0.0

    @property
    def is_at_work(self) -> bool:
        """Whether there is more to delete now."""
        return self._portions is not None

    def step(self) -> None:
        """Delete a portion, if it is time; raises what the database does."""
        portions, self._portions = self._portions, None
        if portions is None:
            if time.monotonic() < self._next:
                return
            days, rows = self._settings.days, self._settings.rows
            portions = self._store.prune(now=time.time(), days=days, rows=rows)
            self._gone = 0
        self._next = time.monotonic() + _AGAIN_SECONDS
        gone = next(portions, None)
        if gone is not None:
            self._gone += gone
            self._portions = portions
            return
        self._next = time.monotonic() + _EVERY_SECONDS
        if self._gone:
            _log.info("feedback: %d requests are past their time, and deleted", self._gone)
