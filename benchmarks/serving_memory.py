"""Memory of `tfmodel serve` under load: flat, or not.

Run: pip install -e '.[serve]' && apt-get install wrk
     TFMODEL_DATA=/path/to/data python benchmarks/serving_memory.py               # an hour
     TFMODEL_DATA=/path/to/data python benchmarks/serving_memory.py --minutes 10

Load as in benchmarks/serving.py: closed, `--clients` connections, lines of Wikipedia up to 128
tokens. Each minute prints the server's memory and what it answered; before it come a hundredth as
many wrong requests (no JSON, unknown models, giant texts), which must cost nothing that stays. At
the end: the slope of memory over the second half, in MB an hour, by Theil and Sen (the median of
the slopes of all pairs), and the growth from the first quarter's median to the last's. Ctrl-C ends
it with what was measured so far.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from serving_load import HOST, PATH, Served, bodies_of, closed_load, machine, ours, written

from serving import in_process, read_texts, write_models

WRONG = [
    ("POST", PATH, b"{"),
    ("POST", PATH, b'{"instances": [1]}'),
    ("POST", PATH, b'{"instances": [{"b64": "!"}]}'),
    ("POST", PATH, b'{"instances": ["' + b"x" * 2**20 + b'"]}'),
    ("POST", "/v1/models/other:predict", b'{"instances": ["x"]}'),
    ("GET", "/v1/models/model/versions/9", b""),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--turn-seconds", type=float, default=60, help="between looks at memory")
    parser.add_argument("--precision", default="mixed_bfloat16")
    options = parser.parse_args()
    texts = read_texts(Path(os.environ.get("TFMODEL_DATA", "../shared/data")))["mixed"]
    print(machine(), flush=True)
    looks: list[tuple[float, float]] = []
    bodies = bodies_of(texts)
    with tempfile.TemporaryDirectory() as name, written(bodies) as file:
        in_process(write_models, Path(name))
        with Served(ours(Path(name) / options.precision), bodies[0]) as served:
            with contextlib.suppress(KeyboardInterrupt):
                look(served, file, options, looks)
    tell(looks)


def look(served: Served, file: Path, options, looks: list[tuple[float, float]]) -> None:
    started = time.perf_counter()
    print(f"{'minute':>8}{'memory MB':>11}{'answers/s':>11}{'p99 ms':>9}{'failed':>8}{'load':>6}")
    while (passed := time.perf_counter() - started) < 60 * options.minutes:
        found = closed_load(
            served.port,
            file,
            clients=options.clients,
            seconds=min(options.turn_seconds, 60 * options.minutes - passed),
            seed=len(looks) * 7919,
        )
        ask_wrongly(served.port, count=max(1, int(found["rate"] * options.turn_seconds / 100)))
        looks.append((time.perf_counter() - started, served.resident_bytes / 2**20))
        seconds, memory = looks[-1]
        print(
            f"{seconds / 60:>8.1f}{memory:>11.1f}{found['rate']:>11.1f}{found['p99']:>9.1f}"
            f"{found['failed']:>8.0f}{found['share']:>6.0%}",
            flush=True,
        )


def ask_wrongly(port: int, *, count: int) -> None:
    """Requests that are refused, one after the other; each must get a status of 4xx."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    for number in range(count):
        method, path, body = WRONG[number % len(WRONG)]
        connection.request(method, path, body)
        response = connection.getresponse()
        response.read()
        if not 400 <= response.status < 500 and len(body) < 2**20:
            raise RuntimeError(f"{method} {path} was answered with {response.status}")
    connection.close()


def tell(looks: list[tuple[float, float]]) -> None:
    if len(looks) < 4:
        print("too few looks to say more")
        return
    seconds, memory = np.array(looks).T
    half, quarter = len(looks) // 2, len(looks) // 4
    slopes = [
        (memory[b] - memory[a]) / (seconds[b] - seconds[a]) * 3600
        for a in range(half, len(looks))
        for b in range(a + 1, len(looks))
    ]
    first, last = (float(np.median(part)) for part in (memory[:quarter], memory[-quarter:]))
    print(
        f"\n{seconds[-1] / 60:.0f} minutes: {statistics.median(slopes):+.1f} MB an hour over the "
        f"second half; {first:.0f} MB in the first quarter, {last:.0f} MB in the last "
        f"({last / first - 1:+.1%})"
    )
    print(f"at the end: {machine()}")


if __name__ == "__main__":
    main()
