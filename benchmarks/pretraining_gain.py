"""What pretraining gains: an encoder fine-tuned on labelled rows, beside another start.

Each set and seed is trained twice: from --encoder, and from --against (another model folder;
without it the same network with random weights). Rows drawn, their order, the head's weights and
dropout hang of the seed and are the same for both. Nothing is chosen by the rows that are measured
on; the weights are those of the last step. The figure is accuracy; for CoLA Matthews' correlation.

Run: TFMODEL_DATA=... python benchmarks/pretraining_gain.py --encoder runs/wiki_en/model \
         --sets sst2 trec cola --seeds 0 1 2 3 4 --output gain.jsonl
     TFMODEL_DATA=... python benchmarks/pretraining_gain.py --encoder runs/banking/model \
         --against MINILM_FOLDER --sets banking77 --rows 1000 --output gain.jsonl

One JSON line for each start, set and seed is appended to --output; what is there is not run again.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from regularization import READERS, interval, matthews, predict, read_results, split_of

# Tokens a row.
LENGTHS = {"sst2": 64, "trec": 48, "cola": 64, "banking77": 64, "chnsenticorp": 128}


def read_sst2(part: str) -> list[tuple]:
    path = data_folder() / "sst2" / f"{'dev' if part == 'test' else 'train'}.tsv"
    lines = path.read_text("utf-8").splitlines()[1:]
    return [(text, None, label) for text, _, label in (line.rpartition("\t") for line in lines)]


def read_banking77(part: str) -> list[tuple]:
    with open(data_folder() / "banking77" / f"{part}.csv", encoding="utf-8", newline="") as lines:
        return [(row["text"], None, row["category"]) for row in csv.DictReader(lines)]


def read_chnsenticorp(part: str) -> list[tuple]:
    with zipfile.ZipFile(data_folder() / "chnsenticorp_zh" / "chnsenticorp.zip") as parts:
        text = io.TextIOWrapper(parts.open(f"{part}.tsv"), "utf-8").read()
    lines = (line.split("\t", 1) for line in text.split("\n")[1:] if line)
    return [(text, None, label) for label, text in lines]


def data_folder() -> Path:
    return Path(os.environ["TFMODEL_DATA"])


def read_rows(name: str, part: str) -> list[tuple]:
    if name in READERS:
        return READERS[name](data_folder() / name, part)
    own = {"sst2": read_sst2, "banking77": read_banking77, "chnsenticorp": read_chnsenticorp}
    return own[name](part)


def train(
    name: str, folder: Path, *, random: bool, seed: int, rows: int, epochs: int, rate: float | None
) -> dict:
    """Fine-tune once, from a folder's weights or from random ones of its shape."""
    import keras

    from tfmodel.model import build_encoder, encoder_config, load_encoder
    from tfmodel.tasks import classify
    from tfmodel.tokens.tokenizer import Tokenizer
    from tfmodel.train import FinetuneSettings
    from tfmodel.train.finetune import finetune

    max_length = LENGTHS[name]
    found = read_rows(name, "train")
    labels = sorted({label for *_, label in found})
    order = np.random.default_rng(seed).permutation(len(found))[:rows]
    train_rows = split_of([found[index] for index in order], labels)
    test = split_of(read_rows(name, "test"), labels)

    keras.backend.clear_session()
    shape = encoder_config(load_encoder(folder))
    settings = FinetuneSettings(
        epochs=epochs,
        max_length=max_length,
        learning_rate=rate or "auto",
        checkpoint_seconds=1e6,
    )
    settings = settings.resolve(hidden_size=shape.hidden_size)
    policy = {"bfloat16": "mixed_bfloat16"}.get(settings.precision, settings.precision)
    keras.utils.set_random_seed(seed)
    if random:
        encoder = build_encoder(shape, sequence=False, dtype=policy)
    else:
        encoder = load_encoder(folder, sequence=False, dtype=policy)
    tokenizer = Tokenizer.from_folder(folder, max_length=max_length)
    keras.utils.set_random_seed(seed)  # the head is the same, whatever was drawn before
    model = classify.build(encoder, classes=len(labels), dropout=settings.dropout)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as checkpoints:
        result = finetune(
            model,
            tokenizer,
            train_rows,
            task=classify,
            labels=labels,
            settings=settings,
            seed=seed,
            checkpoints=checkpoints,
        )
    answers = predict(model, tokenizer, test, max_length).argmax(-1)
    right = float(np.mean(answers == test.labels))
    return {
        "set": name,
        "seed": seed,
        "rows": rows,
        "epochs": epochs,
        **({} if rate is None else {"rate": rate}),
        "figure": matthews(answers, test.labels) if name == "cola" else right,
        "last_loss": result.epochs[-1]["loss"],
        "job_seconds": round(time.perf_counter() - began, 1),
    }


def starts(options: argparse.Namespace) -> dict[str, tuple[Path, bool]]:
    """The two starts: what they are called, the folder, and whether its weights are left out."""
    other = options.against or options.encoder
    name = str(options.against) if options.against else f"random {options.encoder}"
    return {str(options.encoder): (options.encoder, False), name: (other, not options.against)}


def sizes(options: argparse.Namespace) -> tuple[int, int, float | None]:
    return options.rows, options.epochs, options.rate


def key(found: dict) -> tuple:
    names = ("start", "set", "seed", "rows", "epochs")
    return (*(found[name] for name in names), found.get("rate"))


def run_all(options: argparse.Namespace) -> None:
    """Run what is missing: one process for a set and seed."""
    for name in options.sets:
        for seed in options.seeds:
            done = {key(found) for found in read_results(options.output)}
            wanted = {(start, name, seed, *sizes(options)) for start in starts(options)}
            if wanted <= done:
                continue
            command = [sys.executable, __file__, "--one", *sys.argv[1:]]
            command += ["--sets", name, "--seeds", str(seed)]  # the last ones count
            if subprocess.run(command).returncode:
                print(f"{name}, seed {seed}: failed", flush=True)


def run_one(options: argparse.Namespace) -> None:
    (name,), (seed,) = options.sets, options.seeds
    done = {key(found) for found in read_results(options.output)}
    for start, (folder, random) in starts(options).items():
        if (start, name, seed, *sizes(options)) in done:
            continue
        rows, epochs, rate = sizes(options)
        chosen = {"seed": seed, "rows": rows, "epochs": epochs, "rate": rate}
        found = {"start": start} | train(name, folder, random=random, **chosen)
        with options.output.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(found, flush=True)


def print_table(options: argparse.Namespace) -> None:
    """Print both starts' means, and the points gained with the interval over the seeds."""
    results = {key(found): 100 * found["figure"] for found in read_results(options.output)}
    ours, others = starts(options)
    print(f"{ours} against {others}: {options.rows} rows x {options.epochs} epochs\n")
    print("| Set | this start | the other | gain (95%) | seeds |\n|---|---|---|---|---|")
    for name in options.sets:
        keys = [(name, seed, *sizes(options)) for seed in options.seeds]
        both = [(ours, *k) in results and (others, *k) in results for k in keys]
        found = [k for k, there in zip(keys, both, strict=True) if there]
        if not found:
            continue
        one, other = ([results[(start, *k)] for k in found] for start in (ours, others))
        gains = [a - b for a, b in zip(one, other, strict=True)]
        means = f"{statistics.mean(one):.1f} | {statistics.mean(other):.1f}"
        print(f"| {name} | {means} | {interval(gains)} | {len(found)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", type=Path, required=True, help="a model folder")
    parser.add_argument("--against", type=Path, help="another; none: random weights")
    parser.add_argument("--sets", nargs="+", choices=LENGTHS, default=["sst2", "trec", "cola"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rate", type=float, help="learning rate; the encoder's own by default")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="only print what is measured")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_one(options)
        return
    if not options.table:
        run_all(options)
    print_table(options)


if __name__ == "__main__":
    main()
