"""HTTP of clients that are slow, or say nothing at all: they keep no connection for long."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP, with a time in which the head of each request must have come.

    The body's time is kept by the application, the time between requests by uvicorn.

    Args:
        head_seconds: from the connection, or from a request's first byte, to the end of its head.
        options: of uvicorn.
    """

    def __init__(self, *, head_seconds: float, **options: Any):
        super().__init__(**options)
        self._head_seconds = head_seconds
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start the time of the first request."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Start the time of a request that begins."""
        if self._head_timer is None and not self._is_answering:
            self._await_head()
        super().data_received(data)
        if self._is_answering:
            self._forget_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time."""
        self._forget_head()
        super().connection_lost(exc)

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_head(self) -> None:
        self._forget_head()
        self._head_timer = self.loop.call_later(self._head_seconds, self._give_up)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self._is_answering and not self.transport.is_closing():
            self.transport.close()
