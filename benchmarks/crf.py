"""Entities with and without a CRF (`task.crf`), on the same rows, seeds and steps.

The sets: WNUT-17 (English) and CLUENER (Chinese, its dev part is the test). The ways: `none`, the
rules alone; `crf`; and with --rates further ones, `crf x1` with the transitions' learning rate in
units of the encoder's.

Run: TFMODEL_DATA=... python benchmarks/crf.py --chinese FOLDER --output benchmarks/crf.jsonl
     (--sets wnut17, --seeds 0, --rates 1 10, --rows 500 for a sample, --table to print what is
     there)

One JSON line for each set, way and seed is appended to --output; what is there with as many rows
and epochs is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from regularization import interval, read_results

SETS = {
    "wnut17": {
        "data": {
            "train": "wnut17/wnut17train.conll",
            "dev": "wnut17/emerging.dev.conll",
            "test": "wnut17/emerging.test.annotated",
            "format": "conll",
        },
        "train": {"max_length": 128},
    },
    "cluener": {
        "data": {
            "train": "cluener_zh/train.json",
            "test": "cluener_zh/dev.json",
            "spans": {"inclusive": True},
        },
        "train": {"max_length": 64, "learning_rate": 5e-4},
    },
}
_PARTS = ("train", "dev", "test")


def run_one(name: str, way: str, seed: int, options: argparse.Namespace) -> dict:
    import tfmodel
    from tfmodel.tasks import tag_chain

    chosen, place = SETS[name], Path(os.environ["TFMODEL_DATA"])
    data = {key: str(place / v) if key in _PARTS else v for key, v in chosen["data"].items()}
    train = {"epochs": options.epochs, "checkpoint_seconds": 100_000, **chosen["train"]}
    if " x" in way:
        tag_chain.RATE = float(way.partition(" x")[2])
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "run": f"{folder}/run",
            "seed": seed,
            "data": {**data, "max_rows": options.rows},
            "task": {"name": "tag", "crf": way != "none"},
            "train": {**train, "watch": {"tensorboard": False}},
        }
        encoder = options.chinese if name == "cluener" else options.english
        if encoder is not None:
            config["encoder"] = str(encoder)
        if options.rate is not None:
            config["train"]["learning_rate"] = options.rate
        tfmodel.run(config)
        run = Path(folder) / "run"
        metrics = json.loads((run / "metrics.json").read_text("utf-8"))
        width = json.loads((run / "model" / "config.json").read_text("utf-8"))["hidden_size"]
    return {
        "set": name,
        "way": way,
        "seed": seed,
        "rows": options.rows,
        "epochs": options.epochs,
        "encoder_width": width,
        **{key: metrics["test"][key] for key in ("f1", "precision", "recall")},
        "dev_f1": metrics["dev"]["f1"],
        "train_seconds": round(metrics["train"]["seconds"], 1),
    }


def print_table(options: argparse.Namespace) -> None:
    found = {}
    for each in read_results(options.output):
        if (each["rows"], each["epochs"]) == (options.rows, options.epochs):
            found.setdefault((each["set"], each["way"]), {})[each["seed"]] = each
    print("| set | way | seeds | F1 | precision | recall | F1 less `none` |")
    print("|---|---|---|---|---|---|---|")
    for (name, way), seeds in found.items():
        means = (
            f"{100 * sum(e[key] for e in seeds.values()) / len(seeds):.1f}"
            for key in ("f1", "precision", "recall")
        )
        without = found.get((name, "none"), {})
        gains = [100 * (seeds[s]["f1"] - without[s]["f1"]) for s in seeds if s in without]
        less = interval(gains) if len(gains) > 1 else ", ".join(f"{g:+.1f}" for g in gains)
        less = "" if way == "none" else less
        print(f"| {name} | {way} | {len(seeds)} | {' | '.join(means)} | {less} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--ways", nargs="*", default=["none", "crf"], help=argparse.SUPPRESS)
    parser.add_argument("--rates", nargs="*", type=float, default=[], help="as `crf x1`")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--chinese", type=Path, help="a Chinese model folder, for CLUENER")
    parser.add_argument(
        "--english", type=Path, help="a model folder for WNUT-17; MiniLM by default"
    )
    parser.add_argument("--rate", type=float, help="learning rate, of the encoder")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="only print what is measured")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        (name,), (way,), (seed,) = options.sets, options.ways, options.seeds
        found = run_one(name, way, seed, options)
        with options.output.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(found, flush=True)
        return
    ways = [*options.ways, *(f"crf x{rate:g}" for rate in options.rates)]
    for seed in options.seeds if not options.table else ():
        for name in options.sets:
            if name == "cluener" and options.chinese is None:
                continue
            for way in ways:
                wanted = {"set": name, "way": way, "seed": seed}
                wanted |= {"rows": options.rows, "epochs": options.epochs}
                if any(wanted.items() <= each.items() for each in read_results(options.output)):
                    continue
                command = [sys.executable, __file__, "--one", *sys.argv[1:]]  # the last ones count
                command += ["--sets", name, "--ways", way, "--seeds", str(seed)]
                if subprocess.run(command).returncode:
                    print(f"{name}, {way}, seed {seed}: failed", flush=True)
    print_table(options)


if __name__ == "__main__":
    main()
