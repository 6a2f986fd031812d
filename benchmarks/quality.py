"""How good the tasks' models are, beside Hugging Face in torch and KerasHub on the same rows.

Each set and seed: `tfmodel run` of at most 2,000 training rows, 2 epochs and 128 tokens
(questions 384), from MiniLM's weights, Chinese from --chinese; then the peers on the rows of that
very run, from the same weights with the same rate, batch and schedule, the best dev epoch chosen
in the same way. All answers are measured by the same functions, on the same test rows.

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
    "wnut17": Set(
        _parts(
            "wnut17",
            "wnut17train.conll",
            "emerging.test.annotated",
            "emerging.dev.conll",
            format="conll",
        ),
        figure="f1",
        task="tag",
        target="tag",
    ),  # fmt: skip
    "cluener": Set(
        _parts("cluener_zh", "train.json", "dev.json", spans={"inclusive": True}),
        figure="f1",
        task="tag",
        target="tag",
        train={"learning_rate": 5e-4},
    ),
    "squad": Set(
        _parts("squad_subset", "train.json", "test.json", "valid.json"),
        figure="f1",
        task="span",
        target="span",
        train={"learning_rate": 2e-4, "max_length": 384},
    ),
}
# The weights are English; a Chinese set needs a model folder, by --chinese.
CHINESE = ("chnsenticorp", "cluener")


def run_ours(name: str, seed: int, options: argparse.Namespace) -> Path:
    """Run our own road; give the run folder, with `rows.json` for the peers."""
    chosen = SETS[name]
    folder = options.work / f"{name}-{seed}"
    if (folder / "rows.json").exists():
        return folder
    config = {
        "run": str(folder),
        "seed": seed,
        "data": {**chosen.data, "max_rows": ROWS},
        "task": {"name": chosen.task},
        "train": {"epochs": EPOCHS, "max_length": LENGTH, **chosen.train},
        "export": {"savedmodel": False, "tflite": []},
    }
    if name in CHINESE:
        config["encoder"] = str(options.chinese)
    options.work.mkdir(parents=True, exist_ok=True)
    path = options.work / f"{name}-{seed}.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "tfmodel.cli", "run", str(path), "--restart"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    write_rows(folder)
    return folder


def write_rows(run: Path) -> None:
    """What a run was trained on and how: all that a peer needs, TensorFlow or not."""
    from tfmodel.config import load_config
    from tfmodel.data import load_dataset
    from tfmodel.pipeline import RunSettings
    from tfmodel.sources import fetch

    settings, dataset = load_config(run / "config.yaml", RunSettings), load_dataset(run / "data")
    parts = {}
    for part in dataset.counts:
        split = dataset.split(part)
        labels = [each.tolist() if hasattr(each, "tolist") else each for each in split.labels]
        parts[part] = {"texts": split.texts, "text_pairs": split.text_pairs, "labels": labels}
    names = ("epochs", "learning_rate", "batch_size", "max_length", "warmup_share")
    found = {
        "labels": dataset.labels,
        "parts": parts,
        "encoder": str(fetch(settings.encoder)),
        "train": {each: getattr(settings.train, each) for each in names},
        "monitor": settings.train.monitor,
    }
    aside = run / "rows.json.new"
    aside.write_text(json.dumps(found))
    aside.rename(run / "rows.json")


def measure(name: str, peer: str, seed: int, options: argparse.Namespace) -> dict:
    began = time.perf_counter()
    run = run_ours(name, seed, options)
    rows = json.loads((run / "rows.json").read_text())
    ask = ask_ours if peer == "tfmodel" else ask_peer
    found, seconds = ask(name, peer, seed, run, rows)
    return {
        "set": name,
        "peer": peer,
        "seed": seed,
        "figure": found,
        "train_seconds": round(seconds, 1),
        "seconds": round(time.perf_counter() - began, 1),
    }


def ask_ours(name: str, peer: str, seed: int, run: Path, rows: dict) -> tuple[float, float]:
    from tfmodel.export import load

    predictor, test = load(run / "model"), rows["parts"]["test"]
    values = predictor.values(test["texts"], test["text_pairs"])
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    found = figure_of(name, rows, "test", values, predictor.manifest.decoding)
    return found, metrics["train"]["seconds"]


def targets_of(name: str, rows: dict, part: str):
    from tfmodel.tasks import find

    found = rows["parts"][part]
    more = {"text_pairs": found["text_pairs"]} if SETS[name].task == "span" else {}
    labels = found["labels"]
    if SETS[name].target in ("classify", "regress"):
        labels = np.asarray(labels)
    return find(SETS[name].target).targets(labels, rows["labels"], **more)


def figure_of(name: str, rows: dict, part: str, values, decoding) -> float:
    from tfmodel.tasks import find

    targets, figure = targets_of(name, rows, part), SETS[name].figure
    if figure == "matthews":
        from sklearn.metrics import matthews_corrcoef

        return float(matthews_corrcoef(targets, values.argmax(-1)))
    return float(
        find(SETS[name].target).evaluate(targets, values, rows["labels"], **decoding)[figure]
    )


def ask_peer(name: str, peer: str, seed: int, run: Path, rows: dict) -> tuple[float, float]:
    """Train a peer on the rows of our run; give the figure of test and the seconds of training."""
    import huggingface_peer

    task = SETS[name].task
    parts = {
        part: (found["texts"], found["text_pairs"], targets_of(name, rows, part))
        for part, found in rows["parts"].items()
    }
    arguments = {**rows["train"], "seed": seed}
    if peer != "kerashub":
        arguments["grouped"] = False
    if peer == "kerashub":
        import kerashub_peer

        classes = len(rows["labels"])
        result = kerashub_peer.train(Path(rows["encoder"]), parts, classes=classes, **arguments)
    elif task == "tag":
        from tfmodel.evaluate.tagging import entity_f1
        from tfmodel.tasks import tag

        result = huggingface_peer.train_tagger(
            rows["encoder"],
            parts,
            tags=tag.output_labels(rows["labels"]),
            judge=entity_f1,
            **arguments,
        )
        return entity_f1(parts["test"][2], result["values"]["test"]), result["seconds"]
    elif task == "span":
        for part, found in rows["parts"].items():
            answers = [
                [(a["text"], a["start"]) for a in each["answers"]] for each in found["labels"]
            ]
            parts[part] = (*parts[part][:2], answers)
        questions = {part: targets_of(name, rows, part) for part in parts}
        result = huggingface_peer.train_answerer(
            rows["encoder"],
            parts,
            judge=lambda _, given: answers_f1(questions["dev"], given),
            **arguments,
        )
        return answers_f1(questions["test"], result["values"]["test"]), result["seconds"]
    else:
        from tfmodel.tasks import find

        result = huggingface_peer.train(
            rows["encoder"],
            parts,
            classes=len(rows["labels"]) or 1,
            choose_best=True,
            problem=find(SETS[name].target).PROBLEM_TYPE,
            judge=lambda targets, values: judged(name, rows, targets, values),
            **arguments,
        )
    decoding = {}
    if SETS[name].target == "multilabel":
        from tfmodel.tasks import multilabel

        decoding = multilabel.tuned(parts["dev"][2], result["values"]["dev"])
    return figure_of(name, rows, "test", result["values"]["test"], decoding), result["seconds"]


def answers_f1(questions, given) -> float:
    from tfmodel.evaluate.answering import scored

    return float(np.mean([scored(*each)[1] for each in zip(questions, given, strict=True)]))


def judged(name: str, rows: dict, targets, values) -> float:
    """The dev figure by which our own training chose its epoch."""
    from tfmodel.tasks import find

    if rows["monitor"] == "accuracy":
        return float((values.argmax(-1) == targets).mean())
    decoding = {}
    if rows["monitor"] == "micro_f1":
        from tfmodel.evaluate.labelling import best_threshold

        one = best_threshold(np.ravel(targets) > 0, np.ravel(values))
        decoding = {"thresholds": [one] * values.shape[1]}
    found = find(SETS[name].target).evaluate(targets, values, rows["labels"], **decoding)
    return float(found[rows["monitor"]])


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
