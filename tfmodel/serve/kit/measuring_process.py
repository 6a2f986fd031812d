"""Measure a SavedModel, warm it and ask it, in a process of its own: `measuring` starts it.

Request, JSON on stdin: `folder`, of a version; `cores`; `target`, a TF Serving release; `texts` to
warm it with; `rows`, columns to measure with, or null; `asked`, columns of rows to ask; `seconds`,
`latency_ms`; `sizes`, or null where they are to be chosen. The warm-up records in the folder are
written anew. Answer, JSON in the file that the first argument names: `measured`, `answers` of each
row, `together` of the first `count` of them, or `error`.
"""

from __future__ import annotations

import json
import math
import os
import re
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_FEWEST, _MOST, _ROUNDS = 3, 200, 4
_WARM = 3
_HOPELESS = 4  # times the latency that a batch may take
_DIGITS = 6


def main() -> None:
    """Answer the request."""
    request = json.load(sys.stdin)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: request["cores"]])
    try:
        answer = _answer(request)
    except Exception as error:  # whatever it is, the other side puts it into words
        answer = {"error": f"{type(error).__name__}: {str(error)[:500]}"}
    path = Path(sys.argv[1])
    aside = path.with_name(path.name + ".partial")
    aside.write_text(json.dumps(answer), "utf-8")
    aside.rename(path)


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    import tensorflow as tf
    import tensorflow_text  # noqa: F401

    runtime_memory = _peak_memory_mb()
    from tfmodel.export.manifest import MANIFEST_FILE, Manifest
    from tfmodel.export.savedmodel.warmup import write_warmup
    from tfmodel.serve.admission import admit
    from tfmodel.serve.servable import Servable

    # What these modules take, no server has.
    memory_before = _peak_memory_mb()
    folder = Path(request["folder"])
    manifest = Manifest.from_json((folder / "assets" / MANIFEST_FILE).read_bytes(), name="model")
    measured: dict[str, Any] = {}
    sizes = request["sizes"]
    if sizes is None:
        started = time.perf_counter()
        servable = Servable(folder)
        measured["load_seconds"] = round(time.perf_counter() - started, 3)
        measured |= _measure(servable, request)
        sizes = measured.pop("sizes")
        servable.close()
    write_warmup(folder, request["texts"], manifest, _signatures(folder), sizes=sizes)
    started = time.perf_counter()
    servable = admit(folder, target=request["target"])
    if request["sizes"] is None:
        measured |= {
            "ready_seconds": round(time.perf_counter() - started, 3),
            "runtime_memory_mb": round(runtime_memory, 1),
            "model_memory_mb": round(_peak_memory_mb() - memory_before, 1),
            "tensorflow": tf.__version__,
            "processor": _processor(),
        }
    asked = request["asked"]
    count = min(len(asked["text"]), sizes[-1])
    return {
        "measured": measured,
        "answers": [_ask(servable, row) for row in _single_rows(asked)],
        "together": _ask(servable, {name: column[:count] for name, column in asked.items()}),
        "count": count,
    }


# --- measuring ------------------------------------------------------------------------------


def _measure(servable: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    from tfmodel.serve.kit.batching import MEASURED_SIZES, choose_batching, largest_batch

    rows, seconds, latency_ms = request["rows"], request["seconds"], request["latency_ms"]
    count = len(rows["text"])

    def batches(size: int) -> Callable[[int], Mapping[str, Any]]:
        def batch(number: int) -> Mapping[str, Any]:
            chosen = [(number * size + row) % count for row in range(size)]
            return {name: _column([column[row] for row in chosen]) for name, column in rows.items()}

        return batch

    times: dict[int, list[float]] = {}
    for size in MEASURED_SIZES:
        if _is_hopeless(servable, batches(size), latency_ms) and times:
            break
        times[size] = []
    for _ in range(_ROUNDS):  # in turn, so that a slow moment of the machine hits no size alone
        for size, taken in times.items():
            taken += _times(servable, batches(size), seconds / (_ROUNDS * len(times) + 3))
    found = []
    for size, taken in times.items():
        taken.sort()
        p50 = statistics.median(taken)
        found.append(
            {
                "rows": size,
                "p50_ms": round(1000 * p50, 3),
                "p99_ms": round(1000 * _p99(taken), 3),
                "rows_per_second": round(size / p50, 2),
                "batches": len(taken),
            }
        )
    size = largest_batch(found, latency_ms=latency_ms)
    counts = sorted({1, 2, request["cores"]} & {*range(1, request["cores"] + 1)})
    threads = [
        {
            "threads": number,
            "rows_per_second": round(
                _rows_per_second(servable, batches(size), size, number, seconds / 10), 2
            ),
        }
        for number in counts
    ]
    measured = {"batches": found, "threads": threads}
    chosen = choose_batching(measured, latency_ms=latency_ms, queue_ms=1000, threads=1)
    return measured | {"sizes": chosen.allowed_batch_sizes}


def _p99(ascending: Sequence[float]) -> float:
    """What 99 of 100 are not above: of fewer than 100 the largest."""
    return ascending[math.ceil(0.99 * len(ascending)) - 1]


def _is_hopeless(
    servable: Any, batch: Callable[[int], Mapping[str, Any]], latency_ms: float
) -> bool:
    """Whether a batch takes so long that there is no use in measuring it; warm afterwards."""
    for number in range(_WARM):
        started = time.perf_counter()
        servable.run("serving_default", batch(number))
        taken = time.perf_counter() - started
    return 1000 * taken > _HOPELESS * latency_ms


def _times(servable: Any, batch: Callable[[int], Mapping[str, Any]], seconds: float) -> list[float]:
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while len(times) < _FEWEST or (time.perf_counter() < stop and len(times) < _MOST):
        inputs = batch(len(times))
        started = time.perf_counter()
        servable.run("serving_default", inputs)
        times.append(time.perf_counter() - started)
    return times


def _rows_per_second(
    servable: Any,
    batch: Callable[[int], Mapping[str, Any]],
    size: int,
    threads: int,
    seconds: float,
) -> float:
    """Of so many batches at once."""
    done = [0] * threads
    stop = time.perf_counter() + seconds

    def work(number: int) -> None:
        while time.perf_counter() < stop or not done[number]:
            servable.run("serving_default", batch(done[number] * threads + number))
            done[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return size * sum(done) / (time.perf_counter() - started)


def _peak_memory_mb() -> float:
    with open("/proc/self/status") as status:
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read())
    if found is None:
        raise RuntimeError("Linux does not say how much memory the process has taken.")
    return int(found[1]) * 1024 / 1e6


def _processor() -> str:
    with open("/proc/cpuinfo") as file:
        found = re.search(r"model name\s*:\s*(.+)", file.read())
    return found[1].strip() if found else "unknown"


# --- asking ---------------------------------------------------------------------------------


def _signatures(folder: Path) -> list[str]:
    from tfmodel.export.linting.saved_graph import read_saved_graph, signatures_of

    return [*signatures_of(read_saved_graph(folder).served)]


def _column(values: Sequence[str]) -> Any:
    import numpy as np

    return np.array([value.encode("utf-8", "replace") for value in values], object)


def _single_rows(columns: Mapping[str, Sequence[str]]) -> list[dict[str, list[str]]]:
    count = len(columns["text"])
    return [{name: [column[row]] for name, column in columns.items()} for row in range(count)]


def _ask(servable: Any, columns: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    found = servable.run(
        "serving_default", {name: _column(column) for name, column in columns.items()}
    )
    return {name: _plain(values) for name, values in found.items()}


def _plain(values: Any) -> Any:
    if isinstance(values, bytes):
        return values.decode("utf-8", "replace")
    if hasattr(values, "ndim") and values.ndim:
        return [_plain(value) for value in values]
    value = values.item() if hasattr(values, "item") else values
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
