"""Texts that none of the labels fits: `data.none_label` beside two other ways, on CLINC150.

The ways, each fine-tuned from the same weights on the same rows, with the same seeds:

- label: `oos` is a label as any other, learned from its rows;
- none: `data.none_label: oos`, with its rows in train;
- none, no rows: the same, without a row of it in train or dev;
- score: no `oos` in train; a text whose best score is below a limit has none (the limit is chosen
  on dev as that of `data.none_label` is). The way of Larson et al. 2019 (oos-threshold).

Figures: accuracy of the rows with an intent, and the share of the rows without one that is found.

Run: TFMODEL_DATA=... python benchmarks/none_of_these.py --output none.jsonl
     (add --rows 3000 for a sample, --table to print what is there)

One JSON line for each way and seed is appended to --output; what is there is not run again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

NONE = "oos"
WAYS = ("label", "none", "none, no rows", "score")
PARTS = {"train": "train", "dev": "val", "test": "test"}


def write_parts(folder: Path, *, way: str, rows: int | None, seed: int) -> list[str]:
    """Write the parts as CSV files; give the overrides that name them."""
    found = json.loads((Path(os.environ["TFMODEL_DATA"]) / "clinc150/data_full.json").read_text())
    overrides = []
    for part, key in PARTS.items():
        table = found[key]
        if part == "train" and rows is not None:
            order = np.random.default_rng(seed).permutation(len(table))[:rows]
            table = [table[index] for index in order]
        if part == "test" or way in ("label", "none"):
            table = table + found[f"oos_{key}"]
        if way == "score" and part == "test":
            table = found[key]
        with (folder / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *table])
        overrides.append(f"data.{part}={folder / part}.csv")
    return overrides


def run_one(way: str, options: argparse.Namespace, seed: int) -> dict:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        overrides = write_parts(folder, way=way, rows=options.rows, seed=seed)
        if way.startswith("none"):
            overrides.append(f"data.none_label={NONE}")
        config = folder / "clinc150.yaml"
        if options.encoder:
            overrides.append(f"encoder={options.encoder}")
        config.write_text(
            f"run: {folder / 'run'}\nseed: {seed}\ndata: {{train: x}}\n"
            f"train: {{epochs: {options.epochs}, max_length: 32, checkpoint_seconds: 100000}}\n"
        )
        command = [sys.executable, "-m", "tfmodel.cli", "run", str(config), *overrides]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        metrics = json.loads((folder / "run" / "metrics.json").read_text("utf-8"))
        return {
            "way": way,
            "seed": seed,
            "rows": options.rows,
            "epochs": options.epochs,
            **answered(folder / "run", way),
            "temperature": metrics["train"].get("temperature"),
        }


def answered(run: Path, way: str) -> dict:
    """The two figures, and the area under the curve of what tells rows without an intent."""
    from sklearn.metrics import roc_auc_score

    import tfmodel as tm

    found = json.loads((Path(os.environ["TFMODEL_DATA"]) / "clinc150/data_full.json").read_text())
    predictor = tm.load(run)
    labels = list(predictor.labels)

    def asked(key: str):
        inside, outside = found[key], found[f"oos_{key}"]
        values = predictor.values([text for text, _ in inside + outside])
        targets = np.array([labels.index(label) for _, label in inside] + [-1] * len(outside))
        none = labels.index(NONE) if NONE in labels else None
        others = values if none is None else np.delete(values, none, axis=1)
        sure = others.max(1) if none is None else others.max(1) / np.maximum(values[:, none], 1e-38)
        if none is not None:
            is_none = values.argmax(1) == none
        else:
            is_none = None
        return values.argmax(1), targets, sure, is_none

    best, targets, sure, is_none = asked("test")
    if is_none is None:
        _, dev_targets, dev_sure, _ = asked("val")
        limits = np.unique(dev_sure)
        out = dev_targets < 0
        worth = [
            (dev_sure[out] <= each).mean() - (dev_sure[~out] <= each).mean() for each in limits
        ]
        is_none = sure <= limits[int(np.argmax(worth))]
    inside = targets >= 0
    return {
        "accuracy": float(((best == targets) & ~is_none)[inside].mean()),
        "recall": float(is_none[~inside].mean()),
        "precision": float((is_none & ~inside).sum() / max(1, is_none.sum())),
        "roc_auc": float(roc_auc_score(inside, sure)),
    }


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def print_table(options: argparse.Namespace) -> None:
    print("| way | with an intent: right | without: found | precision | ROC AUC | seeds |")
    print("|---|---|---|---|---|---|")
    for way in WAYS:
        rows = [
            each
            for each in read(options.output)
            if (each["way"], each["rows"], each["epochs"]) == (way, options.rows, options.epochs)
        ]
        if rows:
            means = [
                f"{100 * statistics.mean(each[name] for each in rows):.1f}"
                for name in ("accuracy", "recall", "precision", "roc_auc")
            ]
            print(f"| {way} | {' | '.join(means)} | {len(rows)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", help="a model folder or source; MiniLM by default")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rows", type=int, help="training rows with an intent; all by default")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="only print what is measured")
    options = parser.parse_args()
    for seed in options.seeds if not options.table else ():
        for way in options.ways:
            wanted = {"way": way, "seed": seed, "rows": options.rows, "epochs": options.epochs}
            if any(wanted.items() <= each.items() for each in read(options.output)):
                continue
            found = run_one(way, options, seed)
            with options.output.open("a") as file:
                file.write(json.dumps(found) + "\n")
            print(found, flush=True)
    print_table(options)


if __name__ == "__main__":
    main()
