"""Answers a second and their latency: `tfmodel serve` beside FastAPI with torch and ONNX Runtime.

Run: pip install -e '.[serve,parity,onnx]' fastapi uvloop httptools && apt-get install wrk
     TFMODEL_DATA=/path/to/data python benchmarks/serving.py                 # 12 minutes
     TFMODEL_DATA=/path/to/data python benchmarks/serving.py --clients 1 2 4 8 16 32 64
     TFMODEL_DATA=/path/to/data python benchmarks/serving.py --only cold

The data is a folder with `wiki_en/` (files wiki_*) and `trec6/`. The model is MiniLM (6 layers, D
384) with a random head for 6 classes, the same weights in each server. A request is one text:

    short   questions of TREC, 10 tokens on average
    mixed   lines of Wikipedia as they come, up to 128 tokens

Servers, each in a process of its own on one machine: ours, as `tfmodel serve` is by default, with
the float32 and the mixed_bfloat16 SavedModel; FastAPI on uvicorn with Hugging Face's fast tokenizer
and torch, in float32 and bfloat16, on 1 and 2 threads; the same with `tokenizers` and ONNX Runtime,
on 1 and 2 threads (benchmarks/serving_peers.py). Of each peer the settings that answer most in a
first round go on, for each kind of text.

    closed  wrk: each client sends its next request when it has the answer
    open    requests come at random moments, at 50% and at 80% of what the better peer reached with
            the most clients; latency counts from the moment a request was due
    cold    from the start of the process to the first answer

The servers take turns, the order moves on by one in every round, and each begins with a turn that
is not counted. Printed are the medians of the rounds; `load` is the share of all cores that the
load generator took, `others` what anything else on the machine did. Ctrl-C ends it at any point;
what was printed is whole.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from serving_load import (
    Meanwhile,
    Served,
    answers,
    bodies_of,
    closed_load,
    machine,
    medians,
    open_load,
    ours,
    peer,
    written,
)

MAX_LENGTH = 128
LABELS = ["a", "b", "c", "d", "e", "f"]
OURS = ("ours float32", "ours mixed_bfloat16")
PRECISE = 1e-4
ROUGH = 0.1
WARM_UP_SECONDS = 1
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=["closed", "open", "cold"])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=4, help="of a turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each server")
    parser.add_argument("--cold-rounds", type=int, default=2)
    options = parser.parse_args()
    wanted = options.only or ["closed", "open", "cold"]
    texts = read_texts(Path(os.environ.get("TFMODEL_DATA", "../shared/data")))
    print(machine(), flush=True)
    with contextlib.suppress(KeyboardInterrupt), tempfile.TemporaryDirectory() as name:
        work = Path(name)
        in_process(write_models, work)
        in_process(write_peers, work)
        if "cold" in wanted:
            measure_cold(commands(work), texts["mixed"], options.cold_rounds)
        if {"closed", "open"} & {*wanted}:
            with contextlib.ExitStack() as stack:
                first = bodies_of(texts["short"][:1])[0]
                servers = {
                    name: stack.enter_context(Served(command, first))
                    for name, command in commands(work).items()
                }
                check_that_all_answer_alike(servers, texts["mixed"][:32])
                for kind, rows in texts.items():
                    measure(servers, rows, kind, options, wanted)
        print(f"\nat the end: {machine()}", flush=True)


def commands(work: Path) -> dict[str, Callable[[int], list[str]]]:
    found = {f"ours {each}": ours(work / each) for each in ("float32", "mixed_bfloat16")}
    for threads in ("1", "2"):
        for dtype in ("float32", "bfloat16"):
            options = ("--threads", threads, "--dtype", dtype)
            found[f"torch {dtype}, {threads} threads"] = peer("torch", work, *options)
        found[f"onnxruntime, {threads} threads"] = peer("onnxruntime", work, "--threads", threads)
    return found


def in_process(function: Callable, *arguments):
    """What a function returns in a process of its own, which leaves nothing in this one."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def read_texts(data: Path) -> dict[str, list[str]]:
    lines = [
        line.strip()
        for path in sorted((data / "wiki_en").glob("wiki_*"))
        for line in path.read_text("utf-8").splitlines()
        if line.strip() and not line.startswith("<")
    ]
    questions = [
        line.decode("latin-1").split(" ", 1)[1].strip()
        for line in (data / "trec6" / "TREC.train.all").open("rb")
    ]
    generator = np.random.default_rng(0)
    return {
        "short": [questions[row] for row in generator.permutation(len(questions))],
        "mixed": [lines[row] for row in generator.permutation(len(lines))[:20_000]],
    }


def write_models(work: Path) -> None:
    """The same weights as SavedModels and as a Hugging Face folder."""
    import keras

    import tfmodel as tm

    folder = tm.fetch(tm.DEFAULT_ENCODER)
    keras.utils.set_random_seed(0)
    tokenizer = tm.Tokenizer.from_folder(folder, max_length=MAX_LENGTH)
    encoder = tm.load_encoder(folder, sequence=False, dtype="float32")
    model = tm.tasks.classify.build(encoder, classes=len(LABELS))
    head = model.get_layer("head")
    head.kernel.assign(head.kernel.numpy() * 20)
    tm.tasks.classify.save(model, work / "model", tokenizer=tokenizer, labels=LABELS)
    for precision in ("float32", "mixed_bfloat16"):
        tm.export_savedmodel(
            model,
            tokenizer,
            work / precision,
            labels=LABELS,
            max_length=MAX_LENGTH,
            precision=precision,
        )


def write_peers(work: Path) -> None:
    """What ONNX Runtime and `tokenizers` read."""
    from serving_peers import write_onnx
    from transformers import AutoTokenizer

    write_onnx(work)
    if not (work / "model/tokenizer.json").is_file():
        AutoTokenizer.from_pretrained(work / "model").save_pretrained(work / "model")


def check_that_all_answer_alike(servers: dict[str, Served], texts: list[str]) -> None:
    body = json.dumps({"instances": texts}).encode()
    wanted = None
    for name, served in servers.items():
        found = answers(served.port, body)
        scores = np.array([row["scores"] for row in found or ()])
        wanted = scores if wanted is None else wanted
        difference = float(np.abs(scores - wanted).max())
        print(f"{name}: scores differ from ours in float32 by {difference:.2g} at most")
        if difference > (ROUGH if "bfloat16" in name else PRECISE):
            raise RuntimeError(f"{name} answers otherwise")


# --- measuring --------------------------------------------------------------------------------


def measure(
    servers: dict[str, Served], texts: list[str], kind: str, options, wanted: list[str]
) -> None:
    bodies = bodies_of(texts)
    most = max(options.clients)
    with written(bodies) as file:
        chosen = best_settings(servers, file, kind, options.seconds, most)
        reached: dict[str, float] = {}
        for clients in options.clients:
            if "closed" not in wanted and clients != most:
                continue

            def closed(served: Served, number: int, clients: int = clients) -> dict[str, float]:
                seconds = options.seconds if number >= 0 else WARM_UP_SECONDS
                return closed_load(
                    served.port, file, clients=clients, seconds=seconds, seed=number * 997
                )

            found = in_turn({name: servers[name] for name in chosen}, closed, options.rounds)
            show(f"{kind} texts, closed, {clients} clients", found, options)
            reached = {name: each["rate"] for name, each in found.items()}
    if "open" not in wanted:
        return
    better = max(rate for name, rate in reached.items() if name not in OURS)
    for share in (0.5, 0.8):

        def opened(served: Served, number: int, share: float = share) -> dict[str, float]:
            rate, seconds = share * better, options.seconds if number >= 0 else WARM_UP_SECONDS
            return open_load(served.port, bodies, rate=rate, seconds=seconds, seed=number + 1)

        found = in_turn({name: servers[name] for name in chosen}, opened, options.rounds - 1 or 1)
        show(f"{kind} texts, open, {share * better:.0f} requests/s", found, options)


def best_settings(
    servers: dict[str, Served], file: Path, kind: str, seconds: float, clients: int
) -> list[str]:
    """Ours, and of each peer the settings that answer most."""
    rates: dict[str, dict[str, float]] = {}
    for name, served in servers.items():
        if name in OURS:
            continue
        closed_load(served.port, file, clients=clients, seconds=WARM_UP_SECONDS)
        found = closed_load(served.port, file, clients=clients, seconds=seconds / 2)
        rates.setdefault(name.split()[0].strip(","), {})[name] = found["rate"]
    print(f"\n{kind} texts, {clients} clients, settings of the peers:")
    for each in rates.values():
        for name, rate in sorted(each.items(), key=lambda pair: -pair[1]):
            print(f"  {name:<28}{rate:>9.1f} answers/s", flush=True)
    return [*OURS, *(max(each, key=each.__getitem__) for each in rates.values())]


def in_turn(
    servers: dict[str, Served], load: Callable[[Served, int], dict[str, float]], rounds: int
) -> dict[str, dict[str, float]]:
    """The medians of each server's turns; the first turn is not counted."""
    names = [*servers]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(-1, rounds):
        for turn in range(len(names)):
            name = names[(turn + number) % len(names)]
            with Meanwhile(servers[name]) as meanwhile:
                figures = load(servers[name], number)
            figures["server"] = meanwhile.server
            figures["others"] = meanwhile.others(figures["share"])
            if number >= 0:
                found[name].append(figures)
    return {name: medians(each) for name, each in found.items()}


def show(title: str, found: dict[str, dict[str, float]], options) -> None:
    print(f"\n{title}, medians of {options.rounds} turns of {options.seconds:g} s")
    print(
        f"{'server':<28}{'answers/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'failed':>8}{'server':>8}"
        f"{'load':>6}{'others':>8}"
    )
    for name, each in found.items():
        print(
            f"{name:<28}{each['rate']:>10.1f}{each['p50']:>9.1f}{each['p99']:>9.1f}"
            f"{each['failed']:>8.0f}{each['server']:>8.0%}{each['share']:>6.0%}"
            f"{each['others']:>8.0%}",
            flush=True,
        )
    rates = {name: each["rate"] for name, each in found.items() if name not in OURS}
    best = max(rates, key=rates.__getitem__)
    for name in OURS:
        print(
            f"  {name} to {best}: {found[name]['rate'] / rates[best]:.2f} times the answers, "
            f"{found[name]['p99'] / found[best]['p99']:.2f} times the p99",
            flush=True,
        )


def measure_cold(
    starting: dict[str, Callable[[int], list[str]]], texts: list[str], rounds: int
) -> None:
    body = bodies_of(texts[:1])[0]
    names = [name for name in starting if "1 threads" not in name]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            with Served(starting[name], body) as served:
                figures = {"seconds": served.cold_seconds, "bytes": float(served.resident_bytes)}
                found[name].append(figures)
    print(f"\nfrom the start of the process to the first answer, medians of {rounds}")
    print(f"{'server':<28}{'seconds':>9}{'memory MB':>11}")
    for name, each in found.items():
        middle = medians(each)
        print(f"{name:<28}{middle['seconds']:>9.1f}{middle['bytes'] / 2**20:>11.0f}", flush=True)


if __name__ == "__main__":
    main()
