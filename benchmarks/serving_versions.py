"""Version changes under load: no request fails.

Run: pip install -e '.[serve]'
     TFMODEL_DATA=/path/to/data python benchmarks/serving_versions.py             # 4 minutes
     TFMODEL_DATA=/path/to/data python benchmarks/serving_versions.py --changes 5

A server follows a `models.config`. `tfmodel rollout` puts the next version of MiniLM beside the one
in service, promotes it and lets the old one go, `--changes` times; every fourth change is taken
back instead, and before every fifth a damaged version is offered, which must be refused. Meanwhile
clients ask without a pause: over REST by the label `stable`, by no label at all, over gRPC, and by
the label `canary`. None retries: any answer but a right one counts as failed. Printed are requests,
failures and latency while versions change and while they do not. Server, clients and rollout share
one process here, and so do their figures of latency.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import logging
import os
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from serving_load import machine

from serving import LABELS, MAX_LENGTH, in_process, read_texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--changes", type=int, default=20)
    parser.add_argument("--rest-seconds", type=float, default=2, help="after each change")
    options = parser.parse_args()
    texts = read_texts(Path(os.environ.get("TFMODEL_DATA", "../shared/data")))["mixed"]
    print(machine(), flush=True)
    logging.getLogger("tfmodel").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as name:
        in_process(write_version, Path(name))
        in_process(change, Path(name), texts[:500], options.changes, options.rest_seconds)
    print(f"at the end: {machine()}")


def write_version(work: Path) -> None:
    import keras

    import tfmodel as tm

    folder = tm.fetch(tm.DEFAULT_ENCODER)
    keras.utils.set_random_seed(0)
    tokenizer = tm.Tokenizer.from_folder(folder, max_length=MAX_LENGTH)
    encoder = tm.load_encoder(folder, sequence=False, dtype="float32")
    model = tm.tasks.classify.build(encoder, classes=len(LABELS))
    tm.export_savedmodel(
        model,
        tokenizer,
        work / "savedmodel",
        labels=LABELS,
        max_length=MAX_LENGTH,
        precision="mixed_bfloat16",
    )
    (work / "savedmodel/1").rename(work / "made")


class Clients:
    """Threads that ask until they are told to stop, each in its own way.

    Args:
        server: the running server.
        texts: what they ask.
    """

    def __init__(self, server, texts: list[str]):
        from tfmodel.serve import Client

        self.is_changing = False
        self.failures: collections.Counter[str] = collections.Counter()
        self.latencies: dict[bool, list[float]] = {True: [], False: []}
        self._texts = texts
        self._stop = threading.Event()
        rest, grpc = f"http://{server.rest_address}", f"grpc://{server.grpc_address}"
        asked = {
            "REST, label stable": (rest, {"label": "stable"}),
            "REST, no label": (rest, {}),
            "REST, label canary": (rest, {"label": "canary"}),
            "gRPC, label stable": (grpc, {"label": "stable"}),
        }
        self._threads = [
            threading.Thread(
                target=self._ask,
                args=(name, Client(address, tries=1, connections=1, **more), number * 101),
            )
            for number, (name, (address, more)) in enumerate(asked.items())
        ]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, name: str, client, place: int) -> None:
        with client:
            while not self._stop.is_set():
                changing, started = self.is_changing, time.perf_counter()
                try:
                    (answer,) = client.predict([self._texts[place % len(self._texts)]])
                    if answer.label not in LABELS or not np.isclose(sum(answer.scores), 1, 0, 1e-2):
                        self.failures[f"{name}: a wrong answer"] += 1
                except Exception as error:  # each is a request that failed
                    self.failures[f"{name}: {getattr(error, 'code', type(error).__name__)}"] += 1
                self.latencies[changing].append(time.perf_counter() - started)
                place += 1


def change(work: Path, texts: list[str], changes: int, rest_seconds: float) -> None:
    from tfmodel.serve import Server, serve_settings
    from tfmodel.serve.rollout import Rollout, VersionRefused, write_first_config

    base, config = work / "savedmodel", work / "models.config"
    put(work, base, 1)
    write_first_config(config, "model", base, 1)
    settings = serve_settings(rest_port=0, grpc_port=0, poll_seconds=0.25)
    done: collections.Counter[str] = collections.Counter()
    with Server(config_file=config, settings=settings) as server:
        rollout = Rollout(config, server=f"http://{server.rest_address}")
        with Clients(server, texts) as clients, contextlib.suppress(KeyboardInterrupt):
            time.sleep(rest_seconds)
            version = 1
            for number in range(1, changes + 1):
                clients.is_changing = True
                started = time.perf_counter()
                if number % 5 == 0:
                    version += 1
                    put(work, base, version, damaged=True)
                    try:
                        rollout.start(version)
                        raise RuntimeError("a damaged version went live")
                    except VersionRefused:
                        done["refused"] += 1
                version += 1
                put(work, base, version)
                rollout.start(version)
                rollout.promote(anyway=True)
                if number % 4 == 0:
                    rollout.rollback()
                    done["taken back"] += 1
                else:
                    old = rollout.finish().old
                    shutil.rmtree(base / str(old))
                    done["promoted"] += 1
                clients.is_changing = False
                print(f"change {number}: {time.perf_counter() - started:.1f} s", flush=True)
                time.sleep(rest_seconds)
    tell(clients, done)


def put(work: Path, base: Path, number: int, *, damaged: bool = False) -> None:
    """A version at once, as an export puts it."""
    aside = base / f".{number}.partial"
    shutil.copytree(work / "made", aside)
    if damaged:
        graph = aside / "saved_model.pb"
        graph.write_bytes(graph.read_bytes()[:10_000])
    aside.rename(base / str(number))


def tell(clients: Clients, done: collections.Counter[str]) -> None:
    counts = ", ".join(f"{count} {what}" for what, count in done.items())
    asked = sum(map(len, clients.latencies.values()))
    print(f"\nversions: {counts or 'none'}")
    print(f"requests: {asked:,}, failed: {sum(clients.failures.values())}")
    for words, count in clients.failures.most_common():
        print(f"  {words}: {count}")
    for changing, found in clients.latencies.items():
        if len(found) < 2:
            continue
        p50, p99 = statistics.median(found), float(np.percentile(found, 99))
        words = "while versions change" if changing else "otherwise"
        print(f"{words}: {len(found):,} requests, p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
