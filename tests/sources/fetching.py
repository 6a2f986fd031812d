"""Fetching as tests look at it: what was said, what lies there, and from another process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfmodel.config import ConfigError
from tfmodel.sources import fetch

ROOT = Path(__file__).parents[2]


def received(source):
    with pytest.raises(ConfigError) as caught:
        fetch(source)
    return str(caught.value)


def listed(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def start(code, source):
    return subprocess.Popen(
        [sys.executable, "-c", code, source],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
