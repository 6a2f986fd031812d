"""A few labelled rows a class: SetFit's recipe and prompts beside ordinary fine-tuning.

The ways, each `tfmodel run` on the same rows, with as many dev rows as training rows (by which
ordinary fine-tuning and prompts choose their epoch) and the whole test part:

- ordinary: fine-tuning, 30 epochs, on MiniLM;
- contrastive: `train.few_labels: {name: contrastive}`, on MiniLM;
- head: the same without training on pairs (`train.epochs: 0`): a regression on its vectors alone;
- ordinary, masked: fine-tuning, 30 epochs, on the masked language model that prompts are asked of;
- prompt: `train.few_labels: {name: prompt, …}`, on that model (`--masked FOLDER`).

And of the peer, where it is installed (pip install setfit): the same recipe by the setfit package
in torch, from MiniLM's weights on the same rows: 20 pairs of either kind a row, one epoch, batches
of 16, rate 2e-5, scikit-learn's logistic regression.

Run: TFMODEL_DATA=... python benchmarks/few_labels.py --masked runs/wiki_en/model \\
         --output benchmarks/few_labels.jsonl
     (--sets trec6, --sizes 8, --seeds 0, --ways contrastive, --table to print what is there)

One JSON line for each set, way, size and seed is appended to --output; what is there is not run
again.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import statistics
import tempfile
import time
from pathlib import Path

from quality import SETS
from regularization import read_results

SIZES, SEEDS = (8, 16), (0, 1, 2)
WAYS = ("ordinary", "contrastive", "setfit", "head", "ordinary, masked", "prompt")
_ORDINARY = {"epochs": 30, "batch_size": 8, "patience": None}
PROMPTS = {
    "sst2": {
        "template": "{text} it was [MASK].",
        "words": {"0": "bad", "1": "good"},
    },
    "trec6": {
        "template": "[MASK]: {text}",
        "words": {
            "0": "description",
            "1": "thing",
            "2": "letters",
            "3": "human",
            "4": "location",
            "5": "number",
        },
    },
}
"""Template and words by set; the templates are those of Gao et al. 2021, the words pieces of a
small vocabulary. A set of 77 intents has no word for each."""


def rows_of(name: str):
    """All rows of a set, as `tfmodel data` prepares them."""
    from tfmodel.data import load_dataset

    return load_dataset(Path(tempfile.gettempdir()) / f"few_labels-{name}" / "data")


def prepare(name: str) -> None:
    """Prepare a set once: cleaned, each row once."""
    folder = Path(tempfile.gettempdir()) / f"few_labels-{name}"
    if (folder / "data").exists():
        return
    data = {**SETS[name].data}
    run({"run": str(folder), "data": {**data, "test_share": 0.1}}, only="data")


def run(config: dict, **arguments) -> dict:
    """Run a config in this process, which has TensorFlow loaded; give its metrics."""
    import keras

    import tfmodel

    keras.backend.clear_session()
    return tfmodel.run(config, **arguments).metrics


def write_parts(name: str, folder: Path, *, size: int, seed: int) -> dict[str, str]:
    """Draw `size` rows a class for train and as many for dev; test stays as it is."""
    import numpy as np

    dataset = rows_of(name)
    train, generator = dataset.split("train"), np.random.default_rng(seed)
    chosen: dict[str, list[int]] = {"train": [], "dev": []}
    for label in range(len(dataset.labels)):
        rows = generator.permutation(np.flatnonzero(train.labels == label))[: 2 * size]
        chosen["train"] += rows[::2].tolist()
        chosen["dev"] += rows[1::2].tolist()
    places = {}
    for part in ("train", "dev", "test"):
        split = dataset.split("test") if part == "test" else train
        rows = range(len(split.texts)) if part == "test" else chosen[part]
        places[part] = str(folder / f"{part}.csv")
        with open(places[part], "w", newline="", encoding="utf-8") as file:
            labelled = [(split.texts[row], dataset.labels[split.labels[row]]) for row in rows]
            csv.writer(file).writerows([("text", "label"), *labelled])
    return places


def train_section(name: str, way: str) -> dict:
    if way.startswith("ordinary"):
        return dict(_ORDINARY)
    if way == "prompt":
        return {"few_labels": {"name": "prompt", **PROMPTS[name]}}
    return {"few_labels": {"name": "contrastive"}, **({"epochs": 0} if way == "head" else {})}


def ask_setfit(places: dict[str, str], seed: int) -> dict:
    """Train and measure the peer: accuracy on test, seconds of training."""
    import setfit
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, models
    from sklearn.linear_model import LogisticRegression

    from tfmodel import sources

    parts = {}
    for part in ("train", "test"):
        with open(places[part], newline="", encoding="utf-8") as file:
            rows = [*csv.DictReader(file)]
        parts[part] = [[row[name] for row in rows] for name in ("text", "label")]
    reads = models.Transformer(str(sources.fetch(sources.DEFAULT_ENCODER)), max_seq_length=64)
    pooling = models.Pooling(reads.get_word_embedding_dimension())
    body = SentenceTransformer(modules=[reads, pooling, models.Normalize()], device="cpu")
    model = setfit.SetFitModel(model_body=body, model_head=LogisticRegression())
    arguments = setfit.TrainingArguments(
        batch_size=16,
        num_epochs=1,
        num_iterations=20,
        body_learning_rate=2e-5,
        seed=seed,
        report_to="none",
        save_strategy="no",
    )
    texts, labels = parts["train"]
    rows = Dataset.from_dict({"text": texts, "label": labels})
    began = time.perf_counter()
    setfit.Trainer(model=model, args=arguments, train_dataset=rows).train()
    seconds = time.perf_counter() - began
    texts, labels = parts["test"]
    answers = [str(answer) for answer in model.predict(texts)]
    right = sum(one == other for one, other in zip(answers, labels, strict=True))
    return {"accuracy": right / len(labels), "train_seconds": round(seconds, 1)}


def measure(name: str, way: str, size: int, seed: int, options: argparse.Namespace) -> dict:
    prepare(name)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        asked = {"set": name, "way": way, "size": size, "seed": seed}
        places = write_parts(name, folder, size=size, seed=seed)
        if way == "setfit":
            return asked | ask_setfit(places, seed)
        config = {
            "run": str(folder / "run"),
            "seed": seed,
            "data": {**places, "near_duplicates": None},
            "train": {"max_length": 64, "checkpoint_seconds": 100_000, **train_section(name, way)},
        }
        if way in ("ordinary, masked", "prompt"):
            config["encoder"] = str(Path(options.masked).resolve())
        metrics = run(config)
    return asked | {
        "accuracy": metrics["test"]["accuracy"],
        "train_seconds": round(metrics["train"]["seconds"], 1),
    }


def is_possible(name: str, way: str, options: argparse.Namespace) -> bool:
    if way in ("ordinary, masked", "prompt"):
        return options.masked is not None and name in PROMPTS
    return way != "setfit" or importlib.util.find_spec("setfit") is not None


def print_table(options: argparse.Namespace) -> None:
    found: dict[tuple, list[float]] = {}
    for each in read_results(options.output):
        key = (each["set"], each["size"], each["way"])
        found.setdefault(key, []).append(100 * each["accuracy"])
    print(f"| set | rows a class | {' | '.join(WAYS)} |")
    print("|---|---|" + "---|" * len(WAYS))
    for name, size in dict.fromkeys(key[:2] for key in sorted(found)):
        cells = []
        for way in WAYS:
            values = found.get((name, size, way), [])
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{spread} ({len(values)})" if values else "")
        print(f"| {name} | {size} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sets = ("trec6", "sst2", "banking77")
    parser.add_argument("--sets", nargs="+", choices=sets, default=list(sets))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--masked", help="folder of a masked language model, for prompts")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="only print what is measured")
    options = parser.parse_args()
    for name in options.sets if not options.table else ():
        for seed in options.seeds:
            for size in options.sizes:
                for way in options.ways:
                    one = {"set": name, "way": way, "size": size, "seed": seed}
                    done = any(one.items() <= each.items() for each in read_results(options.output))
                    if done or not is_possible(name, way, options):
                        continue
                    try:
                        figures = measure(name, way, size, seed, options)
                    except (RuntimeError, ValueError) as error:
                        print(f"{name}, {way}, {size}, seed {seed}: failed ({error})", flush=True)
                        continue
                    with options.output.open("a") as file:
                        file.write(json.dumps(figures) + "\n")
                    print(figures, flush=True)
    print_table(options)


if __name__ == "__main__":
    main()
