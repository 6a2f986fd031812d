"""Several processes for work that Python does one text at a time.

A worker is an interpreter of its own that is sent jobs by name, as lines of JSON, and ends with
its parent. It is no `multiprocessing` one: those run a user's unguarded script once more, or
inherit TensorFlow's threads.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

_CODE = "from tfmodel.data.parts.workers import serve; serve()"


class Workers:
    """A pool of processes; a context.

    Args:
        count: how many run at a time; 0 does every job in this process, when it is submitted.
    """

    def __init__(self, count: int):
        self._pool = ThreadPoolExecutor(count) if count else None
        self._room = threading.Semaphore(2 * count) if count else None
        self._local = threading.local()
        self._processes: list[subprocess.Popen] = []
        self._pending: list[Future] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for process in list(self._processes):
                process.kill()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        for process in self._processes:
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(BrokenPipeError):  # it was killed
                    stream.close()
            process.wait()

    def submit(self, job: str, *arguments: Any) -> None:
        """Have a job done; waits while enough are waiting already.

        Args:
            job: a name that `_find` knows.
            arguments: anything that JSON holds.

        Raises:
            Exception: what a job that was submitted before has raised.
        """
        if self._pool is None or self._room is None:
            _find(job)(*arguments)
            return
        self._raise_of([each for each in self._pending if each.done()])
        self._pending = [each for each in self._pending if not each.done()]
        self._room.acquire()
        future = self._pool.submit(self._send, job, arguments)
        future.add_done_callback(lambda _: self._room.release())
        self._pending.append(future)

    def finish(self) -> None:
        """Wait for all jobs.

        Raises:
            Exception: what one of them has raised.
        """
        pending, self._pending = self._pending, []
        self._raise_of(pending)

    def _raise_of(self, futures: list[Future]) -> None:
        for future in futures:
            future.result()

    def _send(self, job: str, arguments: tuple) -> None:
        process = getattr(self._local, "process", None)
        if process is None:
            process = self._local.process = _start()
            self._processes.append(process)
        try:
            process.stdin.write(json.dumps([job, *arguments]) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise RuntimeError(
                f"expected a worker process to do {job}. Received: its end (exit code "
                f"{process.wait()}). The machine may have run out of memory: set data.workers to "
                f"1 (of a corpus: corpus.workers), and start the same command again; what is done "
                f"stays done."
            )
        answer = json.loads(line)
        if answer.get("errno") is not None:
            raise OSError(answer["errno"], answer["error"], answer["path"])
        if answer.get("error") is not None:
            raise RuntimeError(answer["error"])


def _start() -> subprocess.Popen:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        # The processes are the parallelism.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-c", _CODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        encoding="utf-8",
    )


def serve() -> None:
    """Do the jobs that come on standard input until it ends: a worker's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        job, *arguments = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            _find(job)(*arguments)
        except OSError as error:
            number = errno.EIO if error.errno is None else error.errno
            answer = {"errno": number, "error": error.strerror, "path": error.filename}
        except Exception:
            answer = {"error": f"{job}: {traceback.format_exc()}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _find(job: str) -> Callable:
    from tfmodel.data import similarity
    from tfmodel.data.corpus import jobs
    from tfmodel.data.parts import making

    return {
        "make_part": making.make_part,
        "compare_pairs": similarity.compare_pairs,
        "make_document_part": jobs.make_document_part,
        "compare_documents": jobs.compare_documents,
        "finish_document_part": jobs.finish_document_part,
    }[job]
