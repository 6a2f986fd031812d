"""The command line, in the process of the tests."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import sys


@dataclasses.dataclass(frozen=True)
class Done:
    """What a command left: its exit code and what it wrote."""

    code: int
    out: str
    err: str


def run_command(*arguments: object, stdin: bytes | io.TextIOBase = b"") -> Done:
    """Run `tfmodel` in this process, which spares TensorFlow's five seconds."""
    from tfmodel.cli import main

    log = logging.getLogger("tfmodel")
    before = (log.handlers, log.propagate, log.level)
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    if isinstance(stdin, bytes):
        stdin = io.TextIOWrapper(io.BytesIO(stdin))
    given, sys.stdin = sys.stdin, stdin
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main([str(argument) for argument in arguments])
            except SystemExit as error:
                code = error.code
    finally:
        sys.stdin = given
        log.handlers, log.propagate = before[:2]
        log.setLevel(before[2])
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode("utf-8"))
    return Done(code, *texts)
