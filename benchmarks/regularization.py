"""Which regularization helps MiniLM on few rows: each method against the baseline, in pairs.

Four sets: CoLA (1,000 rows), RTE and TREC (500 rows) and hausa_news (1,000 rows, about half of
their labels wrong). Two epochs, batches of 16 (RTE and CoLA: of 8 and a learning rate of 1e-4, with
which the baseline learns at all), all else as by default; one method is added at a time. Of a seed
hang the rows drawn, their order, the head's weights and dropout: the methods of a seed share all
four, and are compared with the baseline of the same seed. Nothing is chosen by the rows that are
measured on: RTE's, CoLA's dev rows, TREC's and hausa_news' test rows; all weights are those of the
last step (best_epoch apart, which has 200 further training rows as dev). The figure is accuracy;
for RTE and CoLA the area under the ROC curve: with so few rows most trainings answer nearly all of
their rows alike, so that accuracy and Matthews' correlation say nothing there.

Run: TFMODEL_DATA=... python benchmarks/regularization.py --output regularization.jsonl
     TFMODEL_DATA=... python benchmarks/regularization.py --output regularization.jsonl \
         --methods promising --seeds 0 1 2 3 4
     python benchmarks/regularization.py --output regularization.jsonl --table

One JSON line for each method, set and seed is appended to --output; what is there is not run again.
`promising` are the methods whose mean gain over the sets is above 0 so far, and the baseline. Cost
is seconds a step relative to the baseline of the same set and seed, steps that were traced apart;
of trainings with --alone only, if there are any: where nothing else ran on the machine (or this
with real-time priority, `chrt -r 10`). Figures do not depend on that.
A learning rate that falls on a plateau cannot act within two epochs, and is not among them.
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
import time
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

TRAIN = {"epochs": 2, "batch_size": 16, "checkpoint_seconds": 1e6}
# Rows trained on, tokens a row, settings of the set.
SLOW = {"batch_size": 8, "learning_rate": 1e-4}
SETS = {
    "rte": (500, 192, SLOW),
    "cola": (1000, 64, SLOW),
    "trec": (500, 48, {}),
    "hausa_news": (1000, 64, {}),
}
DEV_ROWS = 200
NO_DROPOUT = {"hidden": 0.0, "attention": 0.0, "embeddings": 0.0}
METHODS: dict[str, dict] = {
    "baseline": {},
    "weight_decay_0.1": {"weight_decay": 0.1},
    "no_decay_of_embeddings": {"regularize": {"weight_decay": {"embeddings": 0.0}}},
    "no_dropout": {"dropout": 0.0, "regularize": {"dropout": NO_DROPOUT}},
    "hidden_dropout_0.2": {"regularize": {"dropout": {"hidden": 0.2}}},
    "attention_dropout_0.2": {"regularize": {"dropout": {"attention": 0.2}}},
    "embedding_dropout_0.2": {"regularize": {"dropout": {"embeddings": 0.2}}},
    "word_dropout_0.1": {"regularize": {"dropout": {"words": 0.1}}},
    "head_dropout_0.3": {"dropout": 0.3},
    "label_smoothing_0.1": {"regularize": {"label_smoothing": 0.1}},
    "focal_2": {"regularize": {"focal_gamma": 2.0}},
    "balanced_classes": {"class_weights": "balanced"},
    "effective_rows_0.999": {"regularize": {"class_balance": 0.999}},
    "layer_decay_0.9": {"regularize": {"layer_decay": 0.9}},
    "unfreeze_1_epoch": {"regularize": {"unfreeze_epochs": 1}},
    "new_top_layer": {"regularize": {"reinitialize_layers": 1}},
    "new_pooler": {"regularize": {"reinitialize_layers": 0}},
    "mixout_0.7": {"regularize": {"mixout": 0.7, "dropout": NO_DROPOUT}},
    "r_drop_1": {"regularize": {"r_drop": 1.0}},
    "mixup_0.4": {"regularize": {"mixup": 0.4}},
    "moving_average_0.99": {"regularize": {"moving_average": {"decay": 0.99}}},
    "swa": {"regularize": {"swa": {"start_epoch": 1}}},
    "best_epoch": {"monitor": "loss", "patience": 1},
    "fgm": {"adversarial": {"name": "fgm"}},
    "pgd": {"adversarial": {"name": "pgd"}},
    "freelb": {"adversarial": {"name": "freelb"}},
    "freelb_0.3": {"adversarial": {"name": "freelb", "epsilon": 0.3, "step_size": 0.1}},
    "smart": {"adversarial": {"name": "smart"}},
    "vat": {"adversarial": {"name": "vat"}},
}
STUDENT_97_5 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # by number of pairs


# --- rows ---------------------------------------------------------------------------------


def read_rte(folder: Path, part: str) -> list[tuple]:
    rows = read_table(folder / f"{'dev' if part == 'test' else 'train'}.tsv")
    return [(row["sentence1"], row["sentence2"], row["label"]) for row in rows]


def read_cola(folder: Path, part: str) -> list[tuple]:
    lines = (folder / f"{'dev' if part == 'test' else 'train'}.tsv").read_text("utf-8").splitlines()
    return [(text, None, label) for _, label, _, text in (line.split("\t") for line in lines)]


def read_trec(folder: Path, part: str) -> list[tuple]:
    path = folder.with_name("trec6") / f"TREC.{part}.all"
    lines = path.read_text("latin-1").splitlines()
    return [(text, None, label) for label, _, text in (line.partition(" ") for line in lines)]


def read_hausa_news(folder: Path, part: str) -> list[tuple]:
    name = "test.tsv" if part == "test" else "train_clean_noisy_labels.tsv"
    return [(row["news_title"], None, row["label"]) for row in read_table(folder / name)]


def read_table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


READERS = {
    "rte": read_rte,
    "cola": read_cola,
    "trec": read_trec,
    "hausa_news": read_hausa_news,
}


def split_of(rows: list[tuple], labels: list[str]):
    from tfmodel.data import Split

    pairs = [pair for _, pair, _ in rows]
    ids = np.array([labels.index(label) for *_, label in rows], np.int32)
    texts = [text for text, *_ in rows]
    return Split(texts, None if pairs[0] is None else pairs, ids, [""] * len(rows))


# --- one training -------------------------------------------------------------------------


def train(name: str, method: str, seed: int, encoder_folder: Path) -> dict:
    """Train once; the figure on the rows that nothing was chosen by."""
    import keras

    from tfmodel.model import encoder_config, load_encoder
    from tfmodel.tasks import classify
    from tfmodel.tokens.tokenizer import Tokenizer
    from tfmodel.train import FinetuneSettings
    from tfmodel.train.finetune import finetune
    from tfmodel.train.regularize import mixout

    count, max_length, own = SETS[name]
    folder = Path(os.environ["TFMODEL_DATA"]) / name
    rows, test_rows = READERS[name](folder, "train"), READERS[name](folder, "test")
    labels = sorted({label for *_, label in rows})
    order = np.random.default_rng(seed).permutation(len(rows))
    train_rows = split_of([rows[index] for index in order[:count]], labels)
    dev_rows = split_of([rows[index] for index in order[count : count + DEV_ROWS]], labels)
    test = split_of(test_rows, labels)

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    settings = FinetuneSettings(**{**TRAIN, **own, "max_length": max_length, **METHODS[method]})
    shape = encoder_config(load_encoder(encoder_folder))
    settings = settings.resolve(hidden_size=shape.hidden_size)
    policy = {"bfloat16": "mixed_bfloat16"}.get(settings.precision, settings.precision)
    rate = settings.regularize.mixout
    mixing = {} if rate is None else {"projection": mixout(rate)}
    keras.utils.set_random_seed(seed)
    encoder = load_encoder(encoder_folder, sequence=False, dtype=policy, **mixing)
    tokenizer = Tokenizer.from_folder(encoder_folder, max_length=max_length)
    model = classify.build(encoder, classes=len(labels), dropout=settings.dropout)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as checkpoints:
        result = finetune(
            model,
            tokenizer,
            train_rows,
            dev_rows if method == "best_epoch" else None,
            task=classify,
            labels=labels,
            settings=settings,
            seed=seed,
            checkpoints=checkpoints,
        )
    logits = predict(model, tokenizer, test, max_length)
    answers = logits.argmax(-1)
    accuracy = float(np.mean(answers == test.labels))
    figures = {"figure": accuracy, "accuracy": accuracy}
    if len(labels) == 2:
        figures["matthews"] = matthews(answers, test.labels)
        figures["figure"] = float(roc_auc_score(test.labels, logits[:, 1] - logits[:, 0]))
    return {
        "method": method,
        "set": name,
        "seed": seed,
        **figures,
        "step_seconds": seconds_a_step(result.steps, result.tokens),
        "train_seconds": round(result.seconds, 2),
        "job_seconds": round(time.perf_counter() - began, 2),
        "last_loss": result.epochs[-1]["loss"],
        "precision": settings.precision,
    }


def predict(model, tokenizer, split, max_length: int) -> np.ndarray:
    """Logits of a split's rows, in their order: float (n, C)."""
    from tfmodel.tokens.batches import Batches, TokenRows

    rows = TokenRows.from_texts(tokenizer, split.texts, split.text_pairs, max_length=max_length)
    batches = Batches(rows, batch_size=64, order="length")
    logits = model.predict(batches.dataset(), verbose=0)
    ordered = np.empty_like(logits)
    ordered[np.concatenate(batches.plan(0))] = logits
    return ordered


def matthews(answers: np.ndarray, labels: np.ndarray) -> float:
    """Matthews' correlation of two classes; 0 where all answers are alike."""
    spread = answers.std() * labels.std()
    products = (answers - answers.mean()) * (labels - labels.mean())
    return float(np.mean(products) / spread) if spread else 0.0


def seconds_a_step(steps: list[dict], tokens: int) -> float:
    """Mean seconds a step, those in which it was traced apart."""
    rates = np.array([step["tokens_per_second"] for step in steps])
    usual = rates[rates > np.median(rates) / 4]
    return round(float(tokens / len(steps) * np.mean(1 / usual)), 5)


# --- all trainings ------------------------------------------------------------------------


def read_results(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def key(result: dict) -> tuple:
    return result["method"], result["set"], result["seed"]


def run_all(options: argparse.Namespace) -> None:
    """Run what is missing, seed by seed: one process for a set and method, all seeds in it."""
    methods = options.methods
    if methods == ["promising"]:
        methods = promising(read_results(options.output))
        print("promising:", ", ".join(methods), flush=True)
    for name in options.sets:
        for method in methods:
            done = {key(result) for result in read_results(options.output)}
            seeds = [seed for seed in options.seeds if (method, name, seed) not in done]
            if not seeds:
                continue
            arguments = ["--sets", name, "--methods", method, "--seeds", *map(str, seeds)]
            command = [sys.executable, __file__, "--one", *arguments]
            command += ["--output", str(options.output), "--encoder", options.encoder]
            command += ["--alone"] * options.alone
            if subprocess.run(command).returncode:
                print(f"{method} on {name} failed", flush=True)


def run_one(options: argparse.Namespace) -> None:
    from tfmodel.sources import DEFAULT_ENCODER, fetch

    source = DEFAULT_ENCODER if options.encoder == "minilm" else options.encoder
    for seed in options.seeds:
        found = train(options.sets[0], options.methods[0], seed, fetch(source))
        found["alone"] = options.alone
        with options.output.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(found, flush=True)


# --- tables -------------------------------------------------------------------------------


def pairs(results: list[dict], method: str, name: str) -> list[tuple[dict, dict]]:
    """A method's trainings on a set, each with the baseline of its seed."""
    base = {key(result): result for result in results}
    return [
        (result, base["baseline", name, result["seed"]])
        for result in base.values()
        if (result["method"], result["set"]) == (method, name)
        and ("baseline", name, result["seed"]) in base
    ]


def gains(results: list[dict], method: str, name: str) -> list[float]:
    """Points gained on the baseline, seed by seed."""
    return [100 * (a["figure"] - b["figure"]) for a, b in pairs(results, method, name)]


def promising(results: list[dict]) -> list[str]:
    """The baseline, and what gains over all sets on average so far."""
    found = ["baseline"]
    for method in METHODS:
        means = [statistics.mean(g) for name in SETS if (g := gains(results, method, name))]
        if method != "baseline" and means and statistics.mean(means) > 0:
            found.append(method)
    return found


def interval(values: list[float]) -> str:
    mean = statistics.mean(values)
    if len(values) not in STUDENT_97_5:
        return f"{mean:+.1f}"
    half = STUDENT_97_5[len(values)] * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f})"


def print_table(results: list[dict]) -> None:
    """Print figures of the baseline, and of each method points gained, interval and cost."""
    names = [name for name in SETS if any(result["set"] == name for result in results)]
    print(f"| Method | {' | '.join(names)} | seeds | cost |")
    print(f"|---|{'---|' * len(names)}---|---|")
    for method in METHODS:
        found = {name: pairs(results, method, name) for name in names}
        if not any(found.values()):
            continue
        cells = []
        for name in names:
            figures = [100 * result["figure"] for result, _ in found[name]]
            if not figures:
                cells.append("")
            elif method == "baseline":
                cells.append(f"{statistics.mean(figures):.1f}")
            else:
                cells.append(interval(gains(results, method, name)))
        together = [pair for each in found.values() for pair in each]
        alone = [pair for pair in together if all(result.get("alone") for result in pair)]
        ratios = [a["step_seconds"] / b["step_seconds"] for a, b in alone or together]
        cost = statistics.median(ratios)
        seeds = "/".join(str(len(found[name])) for name in names)
        print(f"| {method} | {' | '.join(cells)} | {seeds} | {cost:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    choices = [*METHODS, "promising"]
    parser.add_argument("--methods", nargs="+", choices=choices, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--encoder", default="minilm", help="another source of an encoder")
    parser.add_argument("--alone", action="store_true", help="nothing else runs: times count")
    parser.add_argument("--table", action="store_true", help="only print what is measured")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_one(options)
        return
    if not options.table:
        run_all(options)
    print_table(read_results(options.output))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
