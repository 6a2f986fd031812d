"""Fixtures of all sources: an empty cache, and nothing that leaves the machine."""

import os
import subprocess

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and a pip that finds nothing unless a test brings it."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("TFMODEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_pip(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError(f"pip was called: {arguments}")

    monkeypatch.setattr(subprocess, "Popen", refuse)
