"""Every recipe in configs/ loads and says how it is run."""

from pathlib import Path

import pytest

from tfmodel.kinds import PRETRAINING, SEVERAL, SUPERVISED, load_run_config

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_config(path, monkeypatch):
    monkeypatch.setenv("TFMODEL_DATA", "/data")
    kind, settings = load_run_config(path)
    kinds = {"pretrain": PRETRAINING, "several": SEVERAL}
    assert kind is kinds.get(path.stem.partition("_")[0], SUPERVISED)
    assert settings.run == f"runs/{path.stem}"
    assert kind is PRETRAINING or settings.export is not None
    lines = path.read_text("utf-8").splitlines()
    header = lines[: next(n for n, line in enumerate(lines) if not line.startswith("#"))]
    (command,) = (line for line in header if line.startswith("# Run: "))
    verb = "pretrain" if kind is PRETRAINING else "run"
    assert command.endswith(f"tfmodel {verb} configs/{path.name}")
    needs_data = "${TFMODEL_DATA}" in path.read_text("utf-8").partition("\nrun:")[2]
    assert needs_data == ("TFMODEL_DATA=" in command)


def test_there_are_some():
    assert {"quickstart.yaml", "pretrain_wiki_en.yaml"} <= {path.name for path in CONFIGS}
