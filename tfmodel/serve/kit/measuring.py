"""What a model takes on this machine, found in a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tfmodel
from tfmodel.config import ConfigError
from tfmodel.export.manifest import Manifest
from tfmodel.serve.kit.settings import KitSettings

_PATIENCE_SECONDS = 900
_ROWS = 256
_BLOCK_BYTES = 2**20
_MOST_ROWS_READ = 200_000

Columns = dict[str, list[str]]


def weights_of(folder: Path) -> str:
    """A hash of what a version computes: names and contents of its graph, weights and assets."""
    parts = ("saved_model.pb", "variables", "assets")
    hashed = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if name.parts[0] in parts and path.is_file():
            hashed.update(f"{name}\0{path.stat().st_size}\0".encode())
            with open(path, "rb") as file:
                while block := file.read(_BLOCK_BYTES):
                    hashed.update(block)
    return hashed.hexdigest()


def rows_of_run(run: Path | None, manifest: Manifest) -> tuple[Columns, str] | None:
    """Real rows of a run's dev or test part, to measure with; no row of them is written anywhere.

    Returns:
        Columns and what to call them; None where there are none to be had.
    """
    if run is None or not (run / "data").is_dir():
        return None
    from tfmodel import tasks
    from tfmodel.data import load_dataset

    try:
        dataset = load_dataset(run / "data")
        part = next(
            name for name in ("test", "dev") if 0 < dataset.counts.get(name, 0) <= _MOST_ROWS_READ
        )
        split = dataset.split(part)
        task = tasks.find(manifest.task)
        if hasattr(task, "asked"):
            split = task.asked(split)
    except (ConfigError, StopIteration):
        return None
    rows = range(0, len(split.texts), max(1, len(split.texts) // _ROWS))[:_ROWS]
    columns = {"text": [split.texts[row] for row in rows]}
    if manifest.has_pairs:
        if split.text_pairs is None:
            return None
        columns["text_pair"] = [split.text_pairs[row] for row in rows]
    return columns, f"{len(rows)} rows of the run's {part} part"


def made_up_rows(texts: Columns, manifest: Manifest) -> tuple[Columns, str]:
    """Rows where there are no real ones: every second one full, as the longest texts are."""
    from tfmodel.export.savedmodel.warmup import full_row

    columns = {}
    for name, column in texts.items():
        filled = [full_row(text, manifest) for text in column]
        pairs = zip(column, filled, strict=True)
        columns[name] = [text for pair in pairs for text in pair]
    return columns, (
        f"made-up rows, every second one as long as the model reads ({manifest.max_length} tokens)"
    )


def measure(
    folder: Path,
    manifest: Manifest,
    settings: KitSettings,
    *,
    name: str,
    rows: Columns,
    asked: Columns,
    sizes: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Measure a version folder, write its warm-up records, and ask it.

    Args:
        folder: a version that may be changed.
        manifest: what it says of itself.
        settings: cores, seconds and limits.
        name: the model's, for messages.
        rows: columns to measure with.
        asked: columns of rows whose answers are wanted; its texts are those of the warm-up too.
        sizes: batch sizes to warm up; None: measure, and choose them.

    Returns:
        `measured` (empty where `sizes` are given), `answers` of each row, and `together` of the
        first `count` of them.

    Raises:
        RuntimeError: the process failed, or the version is refused.
    """
    request = {
        "folder": str(folder.resolve()),
        "cores": settings.own_cores,
        "target": settings.tf_serving,
        "texts": list(dict.fromkeys(text for column in asked.values() for text in column)),
        "rows": rows,
        "asked": asked,
        "seconds": settings.seconds,
        "latency_ms": settings.latency_ms,
        "sizes": None if sizes is None else [*sizes],
    }
    answer = _run(request, settings.seconds)
    if "error" in answer:
        raise RuntimeError(f"{name}: the model cannot be measured: {answer['error']}")
    return answer


def _run(request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    packages = str(Path(tfmodel.__file__).parents[1])
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": os.pathsep.join(filter(None, [packages, os.environ.get("PYTHONPATH")])),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "answer.json")
        try:
            done = subprocess.run(
                [sys.executable, "-m", "tfmodel.serve.kit.measuring_process", str(path)],
                input=json.dumps(request).encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environment,
                cwd=folder,
                timeout=_PATIENCE_SECONDS + 10 * seconds,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError("The model was not measured in time: its process hangs.") from None
        if path.exists():
            return json.loads(path.read_bytes())
        how = f"ended with exit code {done.returncode}"
        if done.returncode < 0:
            how = f"was ended by {signal.Signals(-done.returncode).name}"
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise RuntimeError(f"The process that measures the model {how}: {' '.join(last)[:300]}")
