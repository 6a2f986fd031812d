"""A server that is killed again and again under load: what clients see, and what is kept.

Run: pip install -e '.[serve,feedback]'
     python benchmarks/serving_kills.py runs/quickstart/export/savedmodel
     python benchmarks/serving_kills.py SAVEDMODEL_BASE --kills 5 --clients 8 --database postgresql://…

The model is any of the task classify. `tfmodel serve` records every request. Each client, a
`tfmodel.serve.Client`, asks about a text that nobody else asks about, says what its label is, and
notes that the server has acknowledged it; half of them over REST, half over gRPC. Each time so many
have been acknowledged since the last start, the server gets SIGKILL and is started anew. Counted
are, at the end:

    failures   requests that a client gave up, or that were refused
    lost       corrections that were acknowledged and that the database has not, or has otherwise
    doubled    texts with more than one correction

The exit code is 1 where any of these is not 0.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import socket
import string
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tfmodel.serve import Client
from tfmodel.serve.feedback.facts import KnownModels
from tfmodel.serve.feedback.opening import open_store

STARTING_SECONDS = 120


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path, help="base folder of a SavedModel of the task classify")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--between", type=int, default=200, help="corrections between two kills")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--database", help="URL (a new file of SQLite)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    facts = KnownModels(lambda name: options.base).facts("model")
    if facts is None or facts.task != "classify":
        parser.error("expected the base folder of a SavedModel of the task classify")
    with tempfile.TemporaryDirectory() as folder:
        database = options.database or f"sqlite:///{folder}/feedback.db"
        figures = kill_under_load(options, database, facts.labels)
    if options.json:
        print(json.dumps(figures))
    else:
        print("\n".join(f"{name:<14} {value}" for name, value in figures.items()))
    return int(any(figures[name] for name in ("failures", "lost", "doubled")))


def kill_under_load(options: argparse.Namespace, database: str, labels: tuple[str, ...]) -> dict:
    ports = {door: free_port() for door in ("rest", "grpc")}
    load = Load(ports, labels, options.clients)
    downtime = []
    with contextlib.ExitStack() as stack:
        server = Serving(options.base, database, ports)
        stack.callback(server.kill)
        server.start()
        stack.enter_context(load)
        for _ in range(options.kills):
            load.wait_for(options.between)
            started = time.monotonic()
            server.kill()
            server.start()
            downtime.append(time.monotonic() - started)
        load.wait_for(options.between)
        load.stop()
        server.stop()
    kept = stored(database)
    lost = {text for text, label in load.acknowledged.items() if label not in kept.get(text, [])}
    return {
        "kills": options.kills,
        "answered": load.answered,
        "acknowledged": len(load.acknowledged),
        "kept": sum(map(len, kept.values())),
        "failures": len(load.failures),
        "lost": len(lost),
        "doubled": sum(len(found) > 1 for found in kept.values()),
        "kinds": dict(Counter(load.failures)),
        "seconds_down": round(max(downtime, default=0.0), 1),
    }


class Serving:
    """`tfmodel serve` in a process of its own."""

    def __init__(self, base: Path, database: str, ports: dict[str, int]):
        self._command = [sys.executable, "-m", "tfmodel.cli", "serve", str(base)]
        self._command += ["--rest-port", str(ports["rest"]), "--grpc-port", str(ports["grpc"])]
        self._command += ["--feedback", database]
        self._ready = f"http://127.0.0.1:{ports['rest']}/readyz"
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start it, and wait until it can be asked."""
        self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + STARTING_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the server did not start")
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(self._ready, timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def kill(self) -> None:
        """End it where it stands."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Let it end what it is at."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)


class Load:
    """Clients that ask, correct, and note what was acknowledged."""

    def __init__(self, ports: dict[str, int], labels: tuple[str, ...], clients: int):
        self.acknowledged: dict[str, str] = {}
        self.failures: list[str] = []
        self.answered = 0
        self._labels = labels
        self._stopped = threading.Event()
        self._changed = threading.Condition()
        doors = [f"http://127.0.0.1:{ports['rest']}", f"grpc://127.0.0.1:{ports['grpc']}"]
        self._threads = [
            threading.Thread(target=self._client, args=(doors[number % 2], number), daemon=True)
            for number in range(clients)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let each client end what it is at."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, more: int) -> None:
        """Wait until so many more corrections have been acknowledged."""
        with self._changed:
            wanted = len(self.acknowledged) + more
            if not self._changed.wait_for(lambda: len(self.acknowledged) >= wanted, 300):
                raise RuntimeError("the clients do not get on")

    def _client(self, address: str, number: int) -> None:
        with Client(address, tries=200, timeout_seconds=STARTING_SECONDS) as client:
            for count, text in enumerate(texts(number)):
                if self._stopped.is_set():
                    return
                label = self._labels[count % len(self._labels)]
                try:
                    answer = client.predict([text])[0]
                    client.feedback(answer, label=label)
                except Exception as error:
                    self.failures.append(f"{type(error).__name__}: {error}")
                    continue
                with self._changed:
                    self.answered += 1
                    self.acknowledged[text] = label
                    self._changed.notify_all()


def texts(client: int) -> Iterator[str]:
    """Texts of words, each once."""
    letters = string.ascii_lowercase
    count = 0
    while True:
        word, rest = "", count
        for _ in range(5):
            word, rest = letters[rest % 26] + word, rest // 26
        yield f"client {letters[client % 26]}{letters[client // 26]} says {word}"
        count += 1


def stored(database: str) -> dict[str, list[str]]:
    """Text to the labels that the database has of it."""
    found: dict[str, list[str]] = {}
    with open_store(database) as store:
        for row in store.corrections():
            text = row.row_text if row.text is None else row.text
            found.setdefault(text, []).append(json.loads(row.label))
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
