"""Fixtures of whole runs: one that is finished, and the command line in this process."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import os
import shutil
import sys
from pathlib import Path

import pytest
import small_run

# A process for each artifact is seconds a run: the tests of the gate ask for it by themselves.
os.environ.setdefault("TFMODEL_MEASURE_ARTIFACTS", "0")


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


@pytest.fixture
def tfmodel():
    """The command line: `tfmodel("run", "small.yaml").code`."""
    return run_command


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `small.yaml`, its data, its encoder and its finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small_run.write_encoder(Path("encoder"))
        small_run.write_rows(Path("train.csv"), small_run.rows())
        Path("small.yaml").write_text(small_run.CONFIG)
        done = run_command("run", "small.yaml")
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def workspace(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `finished` that a test may change, as the current folder."""
    folder = tmp_path / "work"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    return folder
