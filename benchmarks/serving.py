"""Answers a second and their latency: `tfmodel serve` beside FastAPI with Hugging Face torch.

Run: pip install -e '.[serve,parity]' fastapi
     TFMODEL_DATA=/path/to/data python benchmarks/serving.py
     TFMODEL_DATA=/path/to/data python benchmarks/serving.py --clients 1 8 --rounds 3

The data is a folder with `wiki_en/` (files wiki_*) and `trec6/`. The model is MiniLM (6 layers, D
384) with a random head for 6 classes, the same weights in each server. A request is one text:

    short   questions of TREC, 10 tokens on average
    mixed   lines of Wikipedia as they come, up to 128 tokens

Servers, each in a process of its own on one machine: ours, as `tfmodel serve` is by default, with
the float32 and the mixed_bfloat16 SavedModel; FastAPI on uvicorn, whose function tokenizes by the
fast tokenizer and asks torch with `--torch-threads`, one request after the other, in float32 and in
bfloat16.

Load is closed: each client sends its next request when it has the answer, over a connection that
stays open; all clients are threads of one further process, whose share of processor time is
printed. The servers take turns, the order moves on by one in every round, and each begins with a
turn that is not counted. Printed are the medians of the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.client
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

MAX_LENGTH = 128
LABELS = ["a", "b", "c", "d", "e", "f"]
PATH = "/v1/models/model:predict"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=10, help="of a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each server")
    parser.add_argument("--torch-threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    texts = read_texts(Path(os.environ.get("TFMODEL_DATA", "../shared/data")))
    with tempfile.TemporaryDirectory() as work, contextlib.ExitStack() as stack:
        in_process(write_models, Path(work))
        addresses = {
            name: stack.enter_context(serving(serve, Path(work), options.torch_threads))
            for name, serve in SERVERS.items()
        }
        check_that_all_answer_alike(addresses, texts["mixed"][:32])
        for kind, rows in texts.items():
            for clients in options.clients:
                measure(addresses, rows, kind, clients, options.rounds, options.seconds)


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


# --- servers ----------------------------------------------------------------------------------


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


def serve_ours(work: Path, threads: int, precision: str, pipe) -> None:
    from tfmodel.serve import Server, serve_settings

    settings = serve_settings(rest_port=0, grpc_port=0)
    with Server(work / precision, settings=settings) as server:
        pipe.send(server.rest_address)
        pipe.recv()


def serve_fastapi(work: Path, threads: int, dtype: str, pipe) -> None:
    import socket

    import torch
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel
    from transformers import AutoTokenizer, BertForSequenceClassification

    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(work / "model")
    model = BertForSequenceClassification.from_pretrained(
        work / "model", dtype=getattr(torch, dtype)
    ).eval()
    one_at_a_time = threading.Lock()
    app = FastAPI()

    class Body(BaseModel):
        instances: list[str]

    def predict(body):
        batch = tokenizer(
            body.instances,
            padding=True,
            truncation=True,
            max_length=MAX_LENGTH,
            return_tensors="pt",
        )
        with one_at_a_time, torch.inference_mode():
            scores = torch.softmax(model(**batch).logits.float(), -1)
        best = scores.argmax(-1).tolist()
        return {
            "predictions": [
                {"label": LABELS[label], "score": row[label], "scores": row}
                for label, row in zip(best, scores.tolist(), strict=True)
            ]
        }

    predict.__annotations__ = {"body": Body}
    app.post("/v1/models/{name}:predict")(predict)
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    while not server.started:
        time.sleep(0.05)
    pipe.send(f"127.0.0.1:{listening.getsockname()[1]}")
    pipe.recv()
    server.should_exit = True
    thread.join()


SERVERS = {
    "ours float32": functools.partial(serve_ours, precision="float32"),
    "ours mixed_bfloat16": functools.partial(serve_ours, precision="mixed_bfloat16"),
    "fastapi torch float32": functools.partial(serve_fastapi, dtype="float32"),
    "fastapi torch bfloat16": functools.partial(serve_fastapi, dtype="bfloat16"),
}


@contextlib.contextmanager
def serving(serve: Callable, work: Path, threads: int):
    """A server in a process of its own; its address."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=serve, args=(work, threads), kwargs={"pipe": theirs})
    process.start()
    try:
        yield pipe.recv()
    finally:
        pipe.send(None)
        process.join()


# --- load -------------------------------------------------------------------------------------


def in_process(function: Callable, *arguments):
    """What a function returns in a process of its own, which leaves nothing in this one."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def measure(
    addresses: dict[str, str],
    texts: list[str],
    kind: str,
    clients: int,
    rounds: int,
    seconds: float,
) -> None:
    """Let the servers take turns, and print what each reached."""
    names = [*addresses]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(-1, rounds):
        for turn in range(len(names)):
            name = names[(turn + number) % len(names)]
            figures = in_process(load, addresses[name], texts, clients, seconds, number)
            if number >= 0:
                found[name].append(figures)
    print(f"\n{kind} texts, {clients} clients, medians of {rounds} rounds of {seconds:g} s")
    print(f"{'server':<24}{'answers/s':>11}{'p50 ms':>9}{'p99 ms':>9}{'load share':>12}")
    for name, figures in found.items():
        rate, p50, p99, share = (
            statistics.median(each[key] for each in figures)
            for key in ("rate", "p50", "p99", "share")
        )
        print(f"{name:<24}{rate:>11.1f}{p50:>9.1f}{p99:>9.1f}{share:>12.0%}", flush=True)


def load(
    address: str, texts: list[str], clients: int, seconds: float, seed: int
) -> dict[str, float]:
    """Closed load for some seconds: answers a second, latency, and what making it cost."""
    latencies: list[list[float]] = [[] for _ in range(clients)]
    started, processor = time.perf_counter(), time.process_time()
    until = started + seconds
    threads = [
        threading.Thread(
            target=one_client, args=(address, texts, seed * clients + number, until, own)
        )
        for number, own in enumerate(latencies)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - started
    every = np.concatenate([np.array(own) for own in latencies]) * 1000
    return {
        "rate": len(every) / taken,
        "p50": float(np.percentile(every, 50)),
        "p99": float(np.percentile(every, 99)),
        "share": (time.process_time() - processor) / taken / (os.cpu_count() or 1),
    }


def one_client(
    address: str, texts: list[str], seed: int, until: float, latencies: list[float]
) -> None:
    connection = http.client.HTTPConnection(address, timeout=120)
    place = abs(seed) * 997
    while time.perf_counter() < until:
        started = time.perf_counter()
        answer(connection, [texts[place % len(texts)]])
        latencies.append(time.perf_counter() - started)
        place += 1
    connection.close()


def answer(connection: http.client.HTTPConnection, texts: list[str]) -> list[dict]:
    body = json.dumps({"instances": texts})
    connection.request("POST", PATH, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise RuntimeError(f"{response.status}: {content[:200]!r}")
    return json.loads(content)["predictions"]


def check_that_all_answer_alike(addresses: dict[str, str], texts: list[str]) -> None:
    wanted = None
    for name, address in addresses.items():
        connection = http.client.HTTPConnection(address, timeout=120)
        scores = np.array([row["scores"] for row in answer(connection, texts)])
        connection.close()
        wanted = scores if wanted is None else wanted
        difference = float(np.abs(scores - wanted).max())
        print(f"{name}: scores differ from ours in float32 by {difference:.2g} at most")
        if difference > (0.1 if "bfloat16" in name else 1e-4):
            raise RuntimeError(f"{name} answers otherwise")


if __name__ == "__main__":
    main()
