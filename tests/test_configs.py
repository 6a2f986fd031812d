"""Every recipe in configs/ loads and says how it is run."""

from pathlib import Path

import pytest

from tfmodel.config import load_config
from tfmodel.pipeline import RunSettings

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_config(path, monkeypatch):
    monkeypatch.setenv("TFMODEL_DATA", "/data")
    settings = load_config(path, RunSettings)
    assert settings.run == f"runs/{path.stem}"
    assert settings.export is not None
    lines = path.read_text("utf-8").splitlines()
    header = lines[: next(n for n, line in enumerate(lines) if not line.startswith("#"))]
    (command,) = (line for line in header if line.startswith("# Run: "))
    assert command.endswith(f"tfmodel run configs/{path.name}")
    needs_data = "${TFMODEL_DATA}" in path.read_text("utf-8").partition("\nrun:")[2]
    assert needs_data == ("TFMODEL_DATA=" in command)


def test_there_are_some():
    assert "quickstart.yaml" in {path.name for path in CONFIGS}
