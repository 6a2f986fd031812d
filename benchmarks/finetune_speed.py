"""Fine-tune MiniLM on SST-2 with tfmodel, Hugging Face in torch and KerasHub, in one run.

Each peer trains on the same rows, epochs, batch size, learning rate and schedule, in a process
of its own; peers take turns, so that a slow minute of the machine hits all of them. The clock
runs from the first text tokenized to the end of the last step: tokenization, tracing and
compilation are in it, imports, loading the weights and dev evaluation are not.

Run: pip install -e '.[parity]'
     TFMODEL_DATA=... python benchmarks/finetune_speed.py --rows 2000 --epochs 2 --seeds 3

One JSON line for each peer and seed is appended to --output; what is there is not run again.

--case steps takes single steps on full rows instead, --rounds turns of each peer: 128 tokens a row
in batches of 8 to 256, and 512 tokens; beside them the machine's own bfloat16 matrix product.
--case memory asks each peer, in a fresh process, for its peak.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

BATCH_SIZE = 32
MAX_LENGTH = 128
LEARNING_RATE = 1e-4
WARMUP_SHARE = 0.1


def read_sst2(part: str, rows: int | None = None) -> tuple[list[str], np.ndarray]:
    path = Path(os.environ["TFMODEL_DATA"]) / "sst2" / f"{part}.tsv"
    with open(path, encoding="utf-8", newline="") as lines:
        found = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    if rows is not None:
        chosen = np.random.default_rng(0).permutation(len(found))[:rows]
        found = [found[index] for index in chosen]
    texts = [row["sentence"].strip() for row in found]
    return texts, np.array([int(row["label"]) for row in found], np.int32)


def minilm() -> Path:
    from tfmodel.sources import DEFAULT_ENCODER, fetch

    return fetch(DEFAULT_ENCODER)


# --- peers --------------------------------------------------------------------------------


def train_tfmodel(train, dev, *, epochs: int, seed: int) -> dict:
    import tempfile

    import tfmodel as tm
    from tfmodel.data import Split
    from tfmodel.run_folder import seed_everything
    from tfmodel.tokens.batches import Batches, TokenRows
    from tfmodel.train import FinetuneSettings
    from tfmodel.train.finetune import finetune

    settings = FinetuneSettings(
        epochs=epochs,
        learning_rate=LEARNING_RATE,
        batch_size=BATCH_SIZE,
        max_length=MAX_LENGTH,
        warmup_share=WARMUP_SHARE,
    ).resolve(hidden_size=384)
    seed_everything(seed)
    policy = "mixed_bfloat16" if settings.precision == "bfloat16" else "float32"
    encoder = tm.load_encoder(minilm(), sequence=False, dtype=policy)
    tokenizer = tm.Tokenizer.from_folder(minilm(), max_length=MAX_LENGTH)
    model = tm.tasks.classify.build(encoder, classes=2)
    texts, labels = train
    with tempfile.TemporaryDirectory() as folder:
        result = finetune(
            model,
            tokenizer,
            Split(texts, None, labels, [""] * len(texts)),
            task=tm.tasks.classify,
            labels=["0", "1"],
            settings=settings,
            seed=seed,
            checkpoints=folder,
        )
    rows = TokenRows.from_texts(tokenizer, dev[0])
    ordered = Batches(rows, dev[1], batch_size=64, order="length").dataset()
    accuracy = model.evaluate(ordered, verbose=0, return_dict=True)["accuracy"]
    return {"seconds": result.seconds, "accuracy": accuracy, "precision": settings.precision}


def train_huggingface(train, dev, *, epochs: int, seed: int) -> dict:
    import huggingface_peer

    parts = {"train": (train[0], None, train[1]), "dev": (dev[0], None, dev[1])}
    figures = huggingface_peer.train(
        minilm(),
        parts,
        classes=2,
        epochs=epochs,
        learning_rate=LEARNING_RATE,
        batch_size=BATCH_SIZE,
        max_length=MAX_LENGTH,
        warmup_share=WARMUP_SHARE,
        seed=seed,
    )
    return {
        "seconds": figures["seconds"],
        "accuracy": figures["accuracy"]["dev"],
        "precision": "bfloat16",
    }


def train_kerashub(train, dev, *, epochs: int, seed: int) -> dict:
    import kerashub_peer
    import tensorflow as tf

    model = kerashub_peer.compiled(
        minilm(),
        classes=2,
        steps=epochs * -(-len(train[0]) // BATCH_SIZE),
        learning_rate=LEARNING_RATE,
        max_length=MAX_LENGTH,
        warmup_share=WARMUP_SHARE,
        seed=seed,
    )
    start = time.perf_counter()
    dataset = tf.data.Dataset.from_tensor_slices((train[0], train[1]))
    dataset = dataset.shuffle(len(train[0]), seed=seed).batch(BATCH_SIZE)
    model.fit(dataset, epochs=epochs, verbose=0)
    seconds = time.perf_counter() - start
    held_out = tf.data.Dataset.from_tensor_slices((dev[0], dev[1])).batch(64)
    accuracy = model.evaluate(held_out, verbose=0, return_dict=True)["accuracy"]
    return {"seconds": seconds, "accuracy": accuracy, "precision": "bfloat16"}


PEERS = {
    "tfmodel": train_tfmodel,
    "huggingface": train_huggingface,
    "kerashub": train_kerashub,
}


# --- the run ------------------------------------------------------------------------------


SHAPES = [(8, 128), (32, 128), (64, 128), (128, 128), (256, 128), (8, 512), (32, 512)]


def compare_steps(
    peers: list[str], shapes: list[tuple[int, int]], rounds: int, *, apart: bool
) -> None:
    """Rows a second of each peer by shape, and the share of the machine's own matrix product."""
    from training_steps import Peer, bfloat16_rate, step_operations

    folder = str(minilm())
    own = bfloat16_rate()
    running = {} if apart else {name: Peer(name, folder) for name in peers}
    print(f"\nmedians of {rounds} rounds; 4096 x 4096 bfloat16 product: {own / 1e9:.0f} GFLOP/s")
    print(f"{'rows x tokens':<14}" + "".join(f"{name:>26}" for name in peers) + f"{'ratio':>8}")
    for rows, length in shapes:
        steps = max(1, round(16_000 / (rows * length)))
        seconds = {name: [] for name in peers}
        for number in range(int(apart), rounds + 1):
            for name in peers:
                peer = running.get(name) or Peer(name, folder)
                if apart:
                    peer.steps(rows, length, 1)  # warms up
                found = peer.steps(rows, length, steps)["seconds"] / steps
                if apart:
                    peer.close()
                if number:  # the round before the first warms up
                    seconds[name].append(found)
        words = ""
        for name in peers:
            median = statistics.median(seconds[name])
            share = step_operations(rows, length) / median / own
            words += f"{rows / median:>12.1f} rows/s {share:>6.0%}"
        others = [name for name in peers[1:]]
        ratios = [
            min(seconds[name][turn] for name in others) / seconds[peers[0]][turn]
            for turn in range(rounds)
        ]
        print(f"{rows:>4} x {length:<7}{words}{statistics.median(ratios):>8.2f}", flush=True)
    for peer in running.values():
        peer.close()


def compare_memory(peers: list[str], shapes: list[tuple[int, int]]) -> None:
    """The peak of each peer's process, and what training adds to the loaded model."""
    from training_steps import Peer

    folder = str(minilm())
    print(f"{'rows x tokens':<14}" + "".join(f"{name:>30}" for name in peers))
    for rows, length in shapes:
        words = ""
        for name in peers:
            peer = Peer(name, folder)
            peak = peer.steps(rows, length, 3)["peak"]
            peer.close()
            words += f"{peak / 2**20:>14,.0f} MB (+{(peak - peer.before) / 2**20:>7,.0f})"
        print(f"{rows:>4} x {length:<7}{words}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=("sst2", "steps", "memory"), default="sst2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", help="such as 32x128,8x512")
    parser.add_argument(
        "--apart", action="store_true", help="one process at a time: large shapes fill the memory"
    )
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--output", type=Path, default=Path("finetune_speed.jsonl"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        train, dev = read_sst2("train", options.rows), read_sst2("dev")
        figures = PEERS[options.worker](train, dev, epochs=options.epochs, seed=options.seed)
        print(json.dumps(figures))
        return
    peers = options.peers.split(",")
    if options.case != "sst2":
        shapes = SHAPES if options.case == "steps" else [(32, 128), (8, 512)]
        if options.shapes:
            shapes = [tuple(map(int, shape.split("x"))) for shape in options.shapes.split(",")]
        if options.case == "steps":
            compare_steps(peers, shapes, options.rounds, apart=options.apart)
        else:
            compare_memory(peers, shapes)
        return
    for seed in range(options.seeds):
        for peer in peers:
            run_once(options, peer, seed)
    show(options, peers)


def run_once(options, peer: str, seed: int) -> None:
    key = {"peer": peer, "seed": seed, "rows": options.rows, "epochs": options.epochs}
    if any(key.items() <= line.items() for line in read_lines(options.output)):
        return
    command = [sys.executable, __file__, "--worker", peer, "--seed", str(seed)]
    command += ["--rows", str(options.rows), "--epochs", str(options.epochs)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{peer} failed:\n{done.stderr[-3000:]}")
    figures = {**key, **json.loads(done.stdout.strip().splitlines()[-1])}
    with open(options.output, "a", encoding="utf-8") as file:
        file.write(json.dumps(figures) + "\n")
    print(json.dumps(figures), flush=True)


def read_lines(path: Path) -> list[dict]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def show(options, peers: list[str]) -> None:
    lines = [
        line
        for line in read_lines(options.output)
        if line["rows"] == options.rows and line["epochs"] == options.epochs
    ]
    print(f"\nSST-2, {options.rows} rows x {options.epochs} epochs, medians over seeds")
    print(f"{'':<12} {'seconds':>8} {'rows/s':>8} {'dev accuracy':>24} {'tfmodel is':>12}")
    medians = {}
    for peer in peers:
        mine = [line for line in lines if line["peer"] == peer]
        medians[peer] = statistics.median(line["seconds"] for line in mine)
        accuracies = [100 * line["accuracy"] for line in mine]
        spread = f"{statistics.mean(accuracies):.1f}% ({min(accuracies):.1f} to "
        spread += f"{max(accuracies):.1f})"
        rate = options.rows * options.epochs / medians[peer]
        ratio = medians[peer] / medians.get("tfmodel", medians[peer])
        print(f"{peer:<12} {medians[peer]:>8.1f} {rate:>8.0f} {spread:>24} {ratio:>11.2f}x")


if __name__ == "__main__":
    main()
