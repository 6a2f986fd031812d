"""What recording costs an answer: `tfmodel serve` with and without `--feedback`.

Run: pip install -e '.[serve,feedback,privacy]' && apt-get install wrk
     TFMODEL_DATA=/path/to/data python benchmarks/serving_feedback.py              # 7 minutes
     TFMODEL_DATA=/path/to/data python benchmarks/serving_feedback.py --postgresql URL

The data, the model (MiniLM, float32) and a request (one text) are those of benchmarks/serving.py.
Servers, each in a process of its own, asked in turn, the order moves on by one in every round:

    off      nothing is recorded
    on       every request, into SQLite in a temporary folder, private data replaced
    sample   one in ten, likewise
    unread   every request, private data as it comes: what replacing it costs
    (postgresql: every request, into the database of --postgresql)

Closed load (wrk) of 1, 8 and 64 clients, and open load at half of what `off` reached with the most
clients. Printed are medians of the rounds, each beside `off`, and what became of the requests: how
many were recorded, and how many found no room in the queue. Ctrl-C ends it at any point.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

from serving_load import HOST, Served, bodies_of, closed_load, machine, open_load, ours, written

from serving import WARM_UP_SECONDS, in_process, in_turn, read_texts, write_models

_COUNT = re.compile(r':tfmodel:serving:feedback_requests\{.*outcome="(\w+)"\} (\d+)')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=4, help="of a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each server")
    parser.add_argument("--kinds", nargs="+", choices=["short", "mixed"], default=["short"])
    parser.add_argument("--postgresql", metavar="URL", help="of a database to record in, too")
    options = parser.parse_args()
    texts = read_texts(Path(os.environ.get("TFMODEL_DATA", "../shared/data")))
    print(machine(), flush=True)
    with contextlib.suppress(KeyboardInterrupt), tempfile.TemporaryDirectory() as name:
        work = Path(name)
        in_process(write_models, work)
        with contextlib.ExitStack() as stack:
            first = bodies_of(texts["short"][:1])[0]
            servers = {
                name: stack.enter_context(Served(command, first))
                for name, command in commands(work, options.postgresql).items()
            }
            for kind in options.kinds:
                measure(servers, texts[kind], kind, options)
            for name, served in servers.items():
                if name != "off":
                    print(f"{name}: {outcomes(served.port)}", flush=True)
        print(f"\nat the end: {machine()}", flush=True)


def commands(work: Path, postgresql: str | None) -> dict[str, Callable[[int], list[str]]]:
    """Name to a server's command line."""
    model = work / "float32"

    def kept(name: str, *options: str) -> Callable[[int], list[str]]:
        return ours(model, "--feedback", f"sqlite:///{work}/{name}.db", *options)

    found = {
        "off": ours(model),
        "on": kept("on"),
        "sample": kept("sample", "--feedback-sample", "0.1"),
        "unread": kept("unread", "--feedback-privacy", "none"),
    }
    if postgresql is not None:
        found["postgresql"] = ours(model, "--feedback", postgresql)
    return found


def measure(servers: dict[str, Served], texts: list[str], kind: str, options) -> None:
    """Closed load of each number of clients, then open load."""
    bodies = bodies_of(texts)
    with written(bodies) as file:
        for clients in options.clients:

            def closed(served: Served, number: int, clients: int = clients) -> dict[str, float]:
                seconds = options.seconds if number >= 0 else WARM_UP_SECONDS
                seed = number * 997
                return closed_load(served.port, file, clients=clients, seconds=seconds, seed=seed)

            found = in_turn(servers, closed, options.rounds)
            show(f"{kind} texts, closed, {clients} clients", found, options)
    rate = found["off"]["rate"] / 2

    def opened(served: Served, number: int) -> dict[str, float]:
        seconds = options.seconds if number >= 0 else WARM_UP_SECONDS
        return open_load(served.port, bodies, rate=rate, seconds=seconds, seed=number + 1)

    found = in_turn(servers, opened, options.rounds)
    show(f"{kind} texts, open, {rate:.0f} requests/s", found, options)


def show(title: str, found: dict[str, dict[str, float]], options) -> None:
    """A line a server: figures, and how many times those of `off` they are."""
    print(f"\n{title}, medians of {options.rounds} turns of {options.seconds:g} s")
    print(
        f"{'recorded':<12}{'answers/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'failed':>8}{'server':>8}"
        f"{'others':>8}   of off: answers, p50, p99"
    )
    base = found["off"]
    for name, each in found.items():
        times = [each[key] / base[key] for key in ("rate", "p50", "p99")]
        print(
            f"{name:<12}{each['rate']:>10.1f}{each['p50']:>9.2f}{each['p99']:>9.2f}"
            f"{each['failed']:>8.0f}{each['server']:>8.0%}{each['others']:>8.0%}   "
            + ", ".join(f"{value:.3f}" for value in times),
            flush=True,
        )


def outcomes(port: int) -> str:
    """What became of the requests, as the server counts them."""
    address = f"http://{HOST}:{port}/monitoring/prometheus/metrics"
    with urllib.request.urlopen(address, timeout=60) as answer:
        page = answer.read().decode()
    return ", ".join(f"{int(count):,} {word}" for word, count in _COUNT.findall(page)) or "none"


if __name__ == "__main__":
    main()
