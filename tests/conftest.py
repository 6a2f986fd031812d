"""Fixtures of whole runs: one that is finished, and the command line in this process."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import small_run
import small_tasks
from command import run_command
from made_once import made_once

# A process for each artifact is seconds a run: the tests of the gate ask for it by themselves.
os.environ.setdefault("TFMODEL_MEASURE_ARTIFACTS", "0")


def pytest_collection_finish() -> None:
    """Leave alone what imports made: looked through again and again, it is seconds a minute."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _no_module_keeps_what_it_traced() -> Iterator[None]:
    """Let go of graphs when a module ends: all of them together are some 10 GB."""
    yield
    if keras := sys.modules.get("keras"):
        keras.backend.clear_session()


@pytest.fixture
def tfmodel():
    """The command line: `tfmodel("run", "small.yaml").code`."""
    return run_command


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `small.yaml`, its data, its encoder and its finished run; not to be changed."""

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            small_run.write_encoder(Path("encoder"))
            small_run.write_rows(Path("train.csv"), small_run.rows())
            Path("small.yaml").write_text(small_run.CONFIG)
            done = run_command("run", "small.yaml")
        assert done.code == 0, done.err

    return made_once(tmp_path_factory, "finished", make)


@pytest.fixture
def workspace(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `finished` that a test may change, as the current folder."""
    folder = tmp_path / "work"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def exported_tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, small_tasks.ExportedTask]:
    """A SavedModel of every task; not to be changed."""
    folder = made_once(tmp_path_factory, "exported_tasks", small_tasks.write_exports)
    return small_tasks.exports(folder)
