"""Rows of requests that come together are computed together, those of like length first."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import CancelledError, Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import numpy as np

from tfmodel.serve.errors import ServingError

Columns = Mapping[str, np.ndarray]
Run = Callable[[str, Columns], dict[str, np.ndarray]]
"""A signature's name and its inputs to its outputs."""
Note = Callable[[int, float, list[float]], None]
"""Told of a batch: rows, seconds it took, seconds that each piece of a request had waited."""


@dataclasses.dataclass(eq=False)
class _Request:
    signature: str
    inputs: Columns
    rows: int
    together: Hashable
    deadline: float
    arrived: float
    future: Future
    pieces_left: int = 0
    outputs: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def finish(self, result: dict[str, np.ndarray] | BaseException) -> None:
        # Whoever waits may have gone away at this moment.
        with contextlib.suppress(InvalidStateError):
            if isinstance(result, BaseException):
                self.future.set_exception(result)
            else:
                self.future.set_result(result)


@dataclasses.dataclass(eq=False)
class _Piece:
    """Rows of one request that are computed together; all of them, but for large requests."""

    request: _Request
    indices: np.ndarray | None
    rows: int
    length: int

    def column(self, name: str) -> np.ndarray:
        column = self.request.inputs[name]
        return column if self.indices is None else column[self.indices]


class Batcher:
    """A queue, and threads that compute what waits in it.

    A batch starts as soon as a thread is free (or `wait_seconds` after its first request came),
    with the oldest request and those that are nearest to it in length: alone a request waits for
    nobody, and under load batches fill by themselves. A request that makes a batch fail is
    computed alone, so that no other one fails with it.

    Args:
        run: computes a batch; called from several threads.
        batch_rows: rows of a batch at most; larger requests are cut.
        threads: batches computed at once.
        queue_rows: rows that may wait.
        wait_seconds: how long a batch that is not full waits for more.
        note: told of each batch.
    """

    def __init__(
        self,
        run: Run,
        *,
        batch_rows: int,
        threads: int = 1,
        queue_rows: int = 4096,
        wait_seconds: float = 0.0,
        note: Note | None = None,
    ):
        self._run = run
        self._batch_rows = batch_rows
        self._queue_rows = queue_rows
        self._wait_seconds = wait_seconds
        self._note = note
        self._queue: list[_Piece] = []
        self._waiting_rows = 0
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting_rows(self) -> int:
        """Rows that wait."""
        return self._waiting_rows

    def submit(
        self,
        signature: str,
        inputs: Columns,
        *,
        rows: int,
        lengths: np.ndarray | None = None,
        together: Hashable = None,
        deadline: float = float("inf"),
    ) -> Future:
        """Put a request in the queue.

        Args:
            signature: the signature to ask.
            inputs: its inputs; where `together` is not None each has `rows` rows.
            rows: how much room the request takes in a batch.
            lengths: of each row, to put rows of like length together.
            together: requests with equal values may be computed as one; None: alone.
            deadline: of `time.monotonic`; a request that waits until then is not computed.

        Returns:
            A future of the outputs, name to array, in the order of the rows.

        Raises:
            ServingError: UNAVAILABLE, the queue is full or closed.
        """
        future: Future = Future()
        request = _Request(signature, inputs, rows, together, deadline, time.monotonic(), future)
        pieces = self._cut(request, lengths)
        request.pieces_left = len(pieces)
        with self._changed:
            if self._closed:
                raise ServingError("UNAVAILABLE", "The version is being unloaded.")
            # One request alone may be larger than the queue.
            if self._queue and self._waiting_rows + rows > self._queue_rows:
                raise ServingError(
                    "UNAVAILABLE",
                    "The batch scheduling queue to which this task was submitted is full",
                )
            self._queue += pieces
            self._waiting_rows += rows
            self._changed.notify(len(pieces))
        return future

    def close(self) -> None:
        """Answer what waits, take no more, and end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _cut(self, request: _Request, lengths: np.ndarray | None) -> list[_Piece]:
        if lengths is None:
            lengths = np.zeros(request.rows, np.int64)
        longest = int(lengths.max(initial=0))
        if request.together is None or request.rows <= self._batch_rows:
            return [_Piece(request, None, request.rows, longest)]
        order = np.argsort(lengths, kind="stable")
        parts = [
            order[start : start + self._batch_rows]
            for start in range(0, request.rows, self._batch_rows)
        ]
        return [_Piece(request, part, len(part), int(lengths[part[-1]])) for part in parts]

    # --- threads ----------------------------------------------------------------------------

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            started = time.monotonic()
            self._answer(batch)
            if self._note is not None:
                waited = [started - piece.request.arrived for piece in batch]
                rows = sum(piece.rows for piece in batch)
                self._note(rows, time.monotonic() - started, waited)

    def _next(self) -> list[_Piece] | None:
        """The next batch, waited for; None once the queue is closed and empty."""
        with self._changed:
            while True:
                self._drop_hopeless()
                if self._queue:
                    left = self._queue[0].request.arrived + self._wait_seconds - time.monotonic()
                    full = self._waiting_rows >= self._batch_rows
                    if left <= 0 or full or self._closed:
                        return self._take()
                    self._changed.wait(left)
                elif self._closed:
                    return None
                else:
                    self._changed.wait()

    def _drop_hopeless(self) -> None:
        """Take away the requests that nobody waits for any more."""
        now, kept = time.monotonic(), []
        for piece in self._queue:
            request = piece.request
            if request.future.done() or request.deadline <= now:
                self._waiting_rows -= piece.rows
                late = "Timed out before the request was computed."
                request.finish(ServingError("DEADLINE_EXCEEDED", late))
            else:
                kept.append(piece)
        self._queue = kept

    def _take(self) -> list[_Piece]:
        """The oldest piece and those that fit beside it, nearest in length first."""
        oldest = self._queue[0]
        batch, rows = [oldest], oldest.rows
        together = oldest.request.together
        if together is not None:
            others = [piece for piece in self._queue[1:] if piece.request.together == together]
            if rows + sum(piece.rows for piece in others) > self._batch_rows:
                others.sort(key=lambda piece: abs(piece.length - oldest.length))
            for piece in others:
                if rows + piece.rows <= self._batch_rows:
                    batch.append(piece)
                    rows += piece.rows
        taken = {id(piece) for piece in batch}
        self._queue = [piece for piece in self._queue if id(piece) not in taken]
        self._waiting_rows -= rows
        return batch

    def _answer(self, batch: list[_Piece]) -> None:
        try:
            outputs = self._compute(batch)
        except BaseException as error:
            if len(batch) == 1:
                batch[0].request.finish(error)
                return
            for piece in batch:
                self._answer([piece])
            return
        if len(batch) == 1 and batch[0].indices is None:
            batch[0].request.finish(outputs)
            return
        start = 0
        for piece in batch:
            own = {name: values[start : start + piece.rows] for name, values in outputs.items()}
            start += piece.rows
            self._put(piece, own)

    def _compute(self, batch: list[_Piece]) -> dict[str, np.ndarray]:
        first = batch[0].request
        inputs = {
            name: batch[0].column(name)
            if len(batch) == 1
            else np.concatenate([piece.column(name) for piece in batch])
            for name in first.inputs
        }
        outputs = self._run(first.signature, inputs)
        rows = sum(piece.rows for piece in batch)
        if first.together is not None and any(len(each) != rows for each in outputs.values()):
            raise ServingError("INTERNAL", "The model did not answer every row of a batch.")
        return outputs

    def _put(self, piece: _Piece, outputs: dict[str, np.ndarray]) -> None:
        """Put a piece's answers where its request's are gathered."""
        request = piece.request
        if piece.indices is None:
            request.finish(outputs)
            return
        with self._changed:
            for name, values in outputs.items():
                if name not in request.outputs:
                    shape = (request.rows, *values.shape[1:])
                    request.outputs[name] = np.empty(shape, values.dtype)
                request.outputs[name][piece.indices] = values
            request.pieces_left -= 1
            is_whole = request.pieces_left == 0
        if is_whole:
            request.finish(request.outputs)


def outcome_of(future: Future, deadline: float) -> Any:
    """What a future gives, for a thread that can wait.

    Args:
        future: of `Batcher.submit`.
        deadline: of `time.monotonic`.

    Raises:
        ServingError: DEADLINE_EXCEEDED, CANCELLED, or what the future raises.
    """
    try:
        return future.result(max(0.0, deadline - time.monotonic()))
    except CancelledError:
        raise gone() from None
    except FutureTimeoutError:
        future.cancel()
        raise ServingError("DEADLINE_EXCEEDED", "Timed out before the answer came.") from None


def gone() -> ServingError:
    """What is noted of a request whose client has gone away, and is computed for nobody."""
    return ServingError("CANCELLED", "The client went away.")
