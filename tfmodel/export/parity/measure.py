"""A file asked in a process of its own: what it answers, and what it takes there.

Load time, latency on one thread and peak memory can be measured nowhere else: this process has
TensorFlow, a model and its traces in memory already. And whatever a file does to its runtime, it
does it there.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

CLIENTS = Path(__file__).with_name("clients")

_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1",  # what is measured is one thread of the processor
    "OMP_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


class ClientError(RuntimeError):
    """A client crashed, hung or refused; the message says which, as the end of a sentence."""


@dataclasses.dataclass(frozen=True)
class Told:
    """What a client found.

    Attributes:
        answers: one a row, None where the row made an error.
        errors: in words, by row.
        checks: one for each check, None where it made an error.
        check_errors: in words, by check.
        figures: `load_seconds`, `latency_ms`, `peak_memory_mb` and `runtime_memory_mb`.
    """

    answers: list[Any]
    errors: dict[int, str]
    checks: list[Any]
    check_errors: dict[int, str]
    figures: dict[str, Any]


def run_client(
    client: str,
    request: Mapping[str, Any],
    *,
    python: str = sys.executable,
    timeout_seconds: float = 600,
) -> Told:
    """Ask a file in a fresh process.

    Args:
        client: name of a script in `clients/`, without `.py`.
        request: what `clients/protocol.py` describes.
        python: the interpreter that has the runtime.
        timeout_seconds: how long the process may take in all.

    Returns:
        Its answers and figures.

    Raises:
        ClientError: the process crashed, took too long or could not load the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer_file = Path(folder, "answer.json")
        command = [python, str(CLIENTS / f"{client}.py"), str(answer_file)]
        try:
            done = subprocess.run(
                command,
                input=json.dumps(request).encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=os.environ | _ENVIRONMENT,
                timeout=timeout_seconds,
            )
        except subprocess.TimeoutExpired:
            raise ClientError(
                f"it did not answer within {timeout_seconds:.0f} seconds{_stage(answer_file)}"
            ) from None
        except OSError as error:
            raise ClientError(f"{python} cannot be run: {error.strerror}") from None
        answer = _read(answer_file)
        if "error" in answer:
            raise ClientError(f"it is refused: {answer['error']}")
        if done.returncode or "answers" not in answer:
            raise ClientError(_crash(done, _stage(answer_file)))
    return _told(answer)


def _told(answer: Mapping[str, Any]) -> Told:
    memory = {
        name: None if answer[name] is None else round(answer[name], 1)
        for name in ("peak_memory_mb", "runtime_memory_mb")
    }
    return Told(
        answers=answer["answers"],
        errors={int(row): text for row, text in answer["errors"].items()},
        checks=answer["checks"],
        check_errors={int(check): text for check, text in answer["check_errors"].items()},
        figures={
            "load_seconds": round(answer["load_seconds"], 3),
            "latency_ms": percentiles(answer["milliseconds"]) if answer["milliseconds"] else None,
            "threads": 1,
            **memory,
        },
    )


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """`p50` and `p99` of times, and of how many `rows` they are."""
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2), "rows": len(milliseconds)}


def _read(answer_file: Path) -> dict[str, Any]:
    try:
        return json.loads(answer_file.read_text("utf-8"))
    except FileNotFoundError:
        return {}


def _stage(answer_file: Path) -> str:
    stage = _read(answer_file).get("stage")
    return f", while {stage}" if stage else ""


def _crash(done: subprocess.CompletedProcess, stage: str) -> str:
    """How a process ended, and its last words."""
    how = f"ended with exit code {done.returncode}"
    if done.returncode < 0:
        how = f"was ended by {signal.Signals(-done.returncode).name}"
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    last = f": {lines[-1][:300]}" if lines and done.returncode >= 0 else ""
    return f"its process {how}{stage}{last}"
