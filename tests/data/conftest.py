"""Fixtures for the tests of `tfmodel.data`: small files, prepared in a folder of their own."""

from pathlib import Path

import pytest

from tfmodel.data import DataSettings, prepare


@pytest.fixture
def write(tmp_path):
    """Write a file (text as UTF-8, or bytes) below the test's folder and give its path."""

    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


@pytest.fixture
def prepared(tmp_path):
    """Prepare a dataset from keyword settings; the first argument is the train file."""

    def prepare_files(train: Path, *, seed: int = 7, folder: str = "out", **settings):
        sources = {key: str(settings.pop(key)) for key in ("dev", "test") if key in settings}
        chosen = DataSettings(train=str(train), **sources, **settings)
        return prepare(chosen, tmp_path / folder, seed=seed)

    return prepare_files
