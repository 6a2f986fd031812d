"""What waits to be written: so many requests, so many bytes, and no more."""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from tfmodel.serve.feedback.asked import AskedRow
from tfmodel.serve.feedback.corrections import Correction


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request that was answered, as it came.

    Attributes:
        columns: of the table of requests.
        size: bytes of what is held until it is written.
        read: gives its rows; raises NoTexts.
        late: gives further columns, which take time to learn; None: there are none.
    """

    columns: dict[str, Any]
    size: int
    read: Callable[[], Sequence[AskedRow]]
    late: Callable[[], dict[str, Any]] | None = None


@dataclasses.dataclass(frozen=True)
class Said:
    """A correction, and who waits to hear that it is kept."""

    correction: Correction
    future: Future


class Waiting:
    """A queue of two kinds: requests, which are refused where it is full, and corrections.

    Args:
        most: requests, those being written included.
        most_bytes: of these.
        batch: how many are taken at once.
    """

    def __init__(self, most: int, most_bytes: int, batch: int):
        self._most, self._most_bytes, self._batch = most, most_bytes, batch
        self._items: collections.deque[Asked | Said] = collections.deque()
        self._count = self._bytes = 0
        self._changed = threading.Condition()
        self._urgent = 0
        self.is_closed = False

    def offer(self, asked: Asked) -> bool:
        """Whether there is room for a request; it then is in the queue."""
        with self._changed:
            fits = self._count < self._most and self._bytes + asked.size <= self._most_bytes
            if self.is_closed or not fits:
                return False
            self._count += 1
            self._bytes += asked.size
            self._items.append(asked)
            # Who writes is woken for the first and for a batch: each time, an answer waits for it.
            if len(self._items) in (1, self._batch):
                self._changed.notify()
            return True

    def put(self, said: Said) -> bool:
        """Put a correction into the queue; False: the queue is closed."""
        with self._changed:
            if self.is_closed:
                return False
            self._urgent += 1
            self._items.append(said)
            self._changed.notify()
            return True

    def take(self, seconds: float, gather_seconds: float = 0.0) -> list[Asked | Said]:
        """What has come, a batch at most.

        Args:
            seconds: to wait for something.
            gather_seconds: to wait for a whole batch then; a correction does not wait.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._items or self.is_closed, seconds)
            if self._items:
                self._changed.wait_for(self._is_due, gather_seconds)
            taken = [self._items.popleft() for _ in range(min(self._batch, len(self._items)))]
            self._urgent -= sum(isinstance(each, Said) for each in taken)
            return taken

    def _is_due(self) -> bool:
        return bool(self._urgent) or self.is_closed or len(self._items) >= self._batch

    def rest(self, seconds: float) -> None:
        """Wait, until a correction comes or the queue is closed."""
        with self._changed:
            was_closed = self.is_closed
            self._changed.wait_for(lambda: self._urgent or self.is_closed != was_closed, seconds)

    def release(self, asked: Asked) -> None:
        """Make room: a request is written, or given up."""
        with self._changed:
            self._count -= 1
            self._bytes -= asked.size

    def close(self) -> None:
        """Take nothing more; what is there can still be taken."""
        with self._changed:
            self.is_closed = True
            self._changed.notify_all()

    @property
    def count(self) -> int:
        """Requests that are not written yet."""
        return self._count
