"""How good the tasks' models are, beside Hugging Face in torch and KerasHub on the same rows.

Each set and seed: `tfmodel run` of at most 2,000 training rows, 2 epochs and 128 tokens, from
MiniLM's weights; then the peers on the rows of that very run, from the same weights with the same
rate, batch and schedule, the best dev epoch chosen in the same way. All answers are measured by
the same function, on the same test rows.

Run: pip install -e '.[parity]'
     TFMODEL_DATA=... python benchmarks/quality.py --output benchmarks/quality.jsonl
     (--sets sst2 rte, --seeds 0, --peers tfmodel huggingface, --table to print what is there)

One JSON line for each set, peer and seed is appended to --output; what is there is not run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import yaml
from regularization import interval, read_results

ROWS, EPOCHS, LENGTH = 2000, 2, 128
PEERS = ("tfmodel", "huggingface", "kerashub")


@dataclasses.dataclass(frozen=True)
class Set:
    """A set of rows and what is measured on its test part.

    Attributes:
        data: the `data:` section; paths are below `TFMODEL_DATA`.
        figure: of `task.evaluate`; `matthews` of the answers.
        task: `task.name`.
        target: the task's key, by which its module is found.
        train: more of the `train:` section.
    """

    data: dict
    figure: str = "accuracy"
    task: str = "classify"
    target: str = "classify"
    train: dict = dataclasses.field(default_factory=dict)


_COLA = {"columns": ["source", "label", "star", "text"]}
_PAIR = {"text": "sentence1", "text_pair": "sentence2"}
_MRPC = {"text": "#1 String", "text_pair": "#2 String", "label": "Quality", "quoting": False}
_TREC = {
    "columns": ["label", "text"],
    "delimiter": "space",
    "quoting": False,
    "encoding": "latin-1",
}
_STSB = {**_PAIR, "label": "score", "quoting": False}
_EMOTIONS = {"columns": ["text", "label", "id"], "quoting": False, "target": "classes"}


def _parts(folder: str, train: str, test: str, dev: str | None = None, **more) -> dict:
    found = {"train": train, "dev": dev, "test": test}
    paths = {part: f"${{TFMODEL_DATA}}/{folder}/{file}" for part, file in found.items() if file}
    return {**paths, **more}


SETS = {
    "sst2": Set(_parts("sst2", "train.tsv", "test-labeled.tsv", "dev.tsv", text="sentence")),
    "cola": Set(_parts("cola", "train.tsv", "dev.tsv", **_COLA), figure="matthews"),
    "mrpc": Set(_parts("mrpc", "msr_paraphrase_train.txt", "msr_paraphrase_test.txt", **_MRPC)),
    "rte": Set(_parts("rte", "train.tsv", "dev.tsv", **_PAIR)),
    "stsb": Set(
        _parts("stsb", "train.tsv", "dev.tsv", **_STSB),
        figure="spearman",
        task="regress",
        target="regress",
    ),  # fmt: skip
    "trec6": Set(_parts("trec6", "TREC.train.all", "TREC.test.all", **_TREC)),
    "banking77": Set(_parts("banking77", "train.csv", "test.csv", label="category")),
    "clinc150": Set(
        _parts(
            "clinc150",
            "data_full.json/train",
            "data_full.json/test",
            "data_full.json/val",
            columns=["text", "label"],
        )
    ),  # fmt: skip
    "goemotions": Set(
        _parts("goemotions", "train.tsv", "test.tsv", "dev.tsv", **_EMOTIONS),
        figure="micro_f1",
        target="multilabel",
    ),  # fmt: skip
    "chnsenticorp": Set(
        _parts(
            "chnsenticorp_zh",
            "chnsenticorp.zip/train.tsv",
            "chnsenticorp.zip/test.tsv",
            "chnsenticorp.zip/dev.tsv",
            text="text_a",
        )
    ),  # fmt: skip
}
# The weights are English; a Chinese set needs a model folder, by --chinese.
CHINESE = ("chnsenticorp",)


def run_ours(name: str, seed: int, options: argparse.Namespace) -> Path:
    """Run our own road; give the run folder."""
    chosen = SETS[name]
    folder = options.work / f"{name}-{seed}"
    if (folder / "evaluation.json").exists():
        return folder
    config = {
        "run": str(folder),
        "seed": seed,
        "data": {**chosen.data, "max_rows": ROWS},
        "task": {"name": chosen.task},
        "train": {"epochs": EPOCHS, "max_length": LENGTH, **chosen.train},
    }
    if name in CHINESE:
        config["encoder"] = str(options.chinese)
    options.work.mkdir(parents=True, exist_ok=True)
    path = options.work / f"{name}-{seed}.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "tfmodel.cli", "run", str(path), "--restart"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def measure(name: str, peer: str, seed: int, options: argparse.Namespace) -> dict:
    began = time.perf_counter()
    run = run_ours(name, seed, options)
    if peer == "tfmodel":
        from tfmodel.export import load
        from tfmodel.tasks import find

        dataset, task, predictor = dataset_of(run), find(SETS[name].target), load(run / "model")
        test = dataset.split("test")
        values = predictor.values(test.texts, test.text_pairs)
        decoding = predictor.manifest.decoding
        found = figure_of(name, task, dataset, "test", values, decoding)
        metrics = json.loads((run / "metrics.json").read_text("utf-8"))
        seconds = metrics["train"]["seconds"]
    else:
        found, seconds = ask_peer(name, peer, seed, run)
    return {
        "set": name,
        "peer": peer,
        "seed": seed,
        "figure": found,
        "train_seconds": round(seconds, 1),
        "seconds": round(time.perf_counter() - began, 1),
    }


def dataset_of(run: Path):
    from tfmodel.data import load_dataset

    return load_dataset(run / "data")


def figure_of(name: str, task, dataset, part: str, values, decoding) -> float:
    split = dataset.split(part)
    targets = task.targets(split.labels, dataset.labels)
    if SETS[name].figure == "matthews":
        from sklearn.metrics import matthews_corrcoef

        return float(matthews_corrcoef(targets, values.argmax(-1)))
    return float(task.evaluate(targets, values, dataset.labels, **decoding)[SETS[name].figure])


def ask_peer(name: str, peer: str, seed: int, run: Path) -> tuple[float, float]:
    """Train a peer on the rows of our run; give the figure of test and the seconds of training."""
    import huggingface_peer
    import kerashub_peer

    from tfmodel.config import load_config
    from tfmodel.pipeline import RunSettings
    from tfmodel.sources import fetch
    from tfmodel.tasks import find

    settings = load_config(run / "config.yaml", RunSettings)
    dataset, task = dataset_of(run), find(SETS[name].target)
    parts = {}
    for part in dataset.counts:
        split = dataset.split(part)
        targets = task.targets(split.labels, dataset.labels)
        parts[part] = (split.texts, split.text_pairs, np.asarray(targets))
    arguments = {
        "classes": len(dataset.labels) or 1,
        "epochs": settings.train.epochs,
        "learning_rate": settings.train.learning_rate,
        "batch_size": settings.train.batch_size,
        "max_length": settings.train.max_length,
        "warmup_share": settings.train.warmup_share,
        "seed": seed,
    }
    if peer == "kerashub":
        result = kerashub_peer.train(fetch(settings.encoder), parts, **arguments)
    else:
        result = huggingface_peer.train(
            fetch(settings.encoder),
            parts,
            **arguments,
            choose_best=True,
            problem=task.PROBLEM_TYPE,
            judge=lambda targets, values: judged(task, dataset, settings, targets, values),
        )
    decoding = {}
    if hasattr(task, "tuned"):
        decoding = task.tuned(parts["dev"][2], result["values"]["dev"])
    return figure_of(name, task, dataset, "test", result["values"]["test"], decoding), result[
        "seconds"
    ]


def judged(task, dataset, settings, targets, values) -> float:
    """The dev figure by which our own training chose its epoch."""
    if settings.train.monitor == "accuracy":
        return float((values.argmax(-1) == targets).mean())
    decoding = {}
    if settings.train.monitor == "micro_f1":
        from tfmodel.evaluate.labelling import best_threshold

        one = best_threshold(np.ravel(targets) > 0, np.ravel(values))
        decoding = {"thresholds": [one] * values.shape[1]}
    return float(task.evaluate(targets, values, dataset.labels, **decoding)[settings.train.monitor])


def has_task(name: str, peer: str) -> bool:
    """KerasHub has a head for one label of several alone."""
    return peer != "kerashub" or SETS[name].target == "classify"


def print_table(options: argparse.Namespace) -> None:
    found = {}
    for each in read_results(options.output):
        found.setdefault((each["set"], each["peer"]), {})[each["seed"]] = 100 * each["figure"]
    print(f"| set | figure | {' | '.join(PEERS)} | ours less the better peer |")
    print("|---|---|" + "---|" * (len(PEERS) + 1))
    for name in SETS:
        if (name, "tfmodel") not in found:
            continue
        ours = found[name, "tfmodel"]
        cells, means = [], {}
        for peer in PEERS:
            values = list(found.get((name, peer), {}).values())
            means[peer] = float(np.mean(values)) if values else None
            cells.append(f"{means[peer]:.1f} ({len(values)})" if values else "")
        others = [peer for peer in PEERS[1:] if means[peer] is not None]
        better = max(others, key=means.get, default=None)
        gains = []
        if better:
            theirs = found[name, better]
            gains = [ours[seed] - theirs[seed] for seed in sorted(set(ours) & set(theirs))]
        less = interval(gains) if len(gains) > 1 else ", ".join(f"{g:+.1f}" for g in gains)
        print(f"| {name} | {SETS[name].figure} | {' | '.join(cells)} | {less} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--chinese", type=Path, help="a Chinese model folder, for Chinese sets")
    parser.add_argument("--work", type=Path, default=Path("runs/quality"), help="where runs go")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="only print what is measured")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        (name,), (peer,), (seed,) = options.sets, options.peers, options.seeds
        found = measure(name, peer, seed, options)
        with options.output.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(found, flush=True)
        return
    for seed in options.seeds if not options.table else ():
        for name in options.sets:
            if name in CHINESE and options.chinese is None:
                continue
            for peer in options.peers:
                wanted = {"set": name, "peer": peer, "seed": seed}
                done = any(wanted.items() <= each.items() for each in read_results(options.output))
                if done or not has_task(name, peer):
                    continue
                command = [sys.executable, __file__, "--one", *sys.argv[1:]]  # the last ones count
                command += ["--sets", name, "--peers", peer, "--seeds", str(seed)]
                if subprocess.run(command).returncode:
                    print(f"{name}, {peer}, seed {seed}: failed", flush=True)
    print_table(options)


if __name__ == "__main__":
    main()
