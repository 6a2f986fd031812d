"""HTTP of clients that are slow, say nothing or do not listen: they keep no connection for long."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP, with a time for the head of each request to come, and for answers to be read.

    The body's time is kept by the application, the time between requests by uvicorn. An answer is
    handed to the connection at once and whole, whether or not the client takes it; so who does not
    read is let go here, with what was kept for it.

    Args:
        seconds: from the connection, or from a request's first byte, to the end of its head; and
            for the client to take what waits to be sent.
        options: of uvicorn.
    """

    def __init__(self, *, seconds: float, **options: Any):
        super().__init__(**options)
        self._seconds = seconds
        self._head_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start the time of the first request."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=1)  # so that it is told as soon as anything waits
        self._await_head()

    def pause_writing(self) -> None:
        """Start the time of an answer that the client does not take at once."""
        super().pause_writing()
        self._forget_answer()
        self._answer_timer = self.loop.call_later(self._seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop it: all is sent."""
        self._forget_answer()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Start the time of a request that begins."""
        if self._head_timer is None and not self._is_answering:
            self._await_head()
        super().data_received(data)
        if self._is_answering:
            self._forget_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the times."""
        self._forget_head()
        self._forget_answer()
        super().connection_lost(exc)

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_head(self) -> None:
        self._forget_head()
        self._head_timer = self.loop.call_later(self._seconds, self._give_up)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _forget_answer(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self._is_answering and not self.transport.is_closing():
            self.transport.close()
