"""Several tasks on one encoder, trained together, beside each of them alone.

The same rows, MiniLM, epochs, rate and batches, by `tfmodel run`: `together` one run of all tasks,
with mixing.alpha 1 where the sizes are alike, so that each task has about the steps that it has
alone; `alone` a run for each. Each line says the steps and the examples that a task was trained on,
and its figure on the test part, whole.

Run: TFMODEL_DATA=... python benchmarks/several_tasks.py --output benchmarks/several_tasks.jsonl
     (--sets trec6 stsb wnut17, --rows 600, --epochs 3, --seeds 0, --alpha 1, --work FOLDER,
     --table to print what is there)

One JSON line for each set, way and seed is appended to --output; what is there is not run again,
and a run that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from quality import SETS
from regularization import read_results

LENGTH = 64


def section(name: str, rows: int) -> dict:
    """What of a config is a set's own."""
    chosen = SETS[name]
    return {"data": {**chosen.data, "max_rows": rows}, "task": {"name": chosen.task}}


def run(config: dict) -> Path:
    """Run a config in this process, which has TensorFlow loaded; give its folder."""
    import keras

    import tfmodel

    keras.backend.clear_session()
    return tfmodel.run(config).folder


def line(name: str, way: str, seed: int, folder: Path, options: argparse.Namespace) -> dict:
    """What a task's run folder says of it."""
    metrics = json.loads((folder / "metrics.json").read_text())
    history = json.loads((folder / "history.json").read_text())
    figure = SETS[name].figure
    return {
        "sets": options.sets,
        "set": name,
        "way": way,
        "rows": options.rows,
        "epochs": options.epochs,
        "alpha": options.alpha if way == "together" else None,
        "seed": seed,
        "steps": len(history["steps"]),
        "examples": metrics["train"]["examples"],
        "best_epoch": metrics["train"]["best_epoch"],
        "figure": figure,
        "test": metrics["test"][figure],
        "test_examples": metrics["test"]["examples"],
    }


def identity(result: dict) -> tuple:
    """What is run once."""
    keys = ("set", "way", "rows", "epochs", "alpha", "seed")
    others = tuple(result["sets"]) if result["way"] == "together" else ()
    return (*(result[key] for key in keys), others)


def run_all(options: argparse.Namespace) -> None:
    for seed in options.seeds:
        for way in ("together", *options.sets):
            names = options.sets if way == "together" else [way]
            kind = way if way == "together" else "alone"
            asked = {
                **{key: getattr(options, key) for key in ("sets", "rows", "epochs")},
                "alpha": options.alpha if kind == "together" else None,
                "seed": seed,
                "way": kind,
            }
            done = {identity(each) for each in read_results(options.output)}
            if all(identity({**asked, "set": name}) in done for name in names):
                continue
            where = options.work / f"{way}-{options.rows}-{options.epochs}-{options.alpha}-{seed}"
            config = {
                "run": str(where),
                "seed": seed,
                "train": {"epochs": options.epochs, "max_length": LENGTH, "patience": None},
            }
            if kind == "together":
                config["tasks"] = {name: section(name, options.rows) for name in names}
                config["mixing"] = {"alpha": options.alpha}
            else:
                config |= section(way, options.rows)
            folder = run(config)
            found = [
                line(name, kind, seed, folder / "tasks" / name, options)
                if kind == "together"
                else line(name, kind, seed, folder, options)
                for name in names
            ]
            with open(options.output, "a", encoding="utf-8") as file:
                file.writelines(json.dumps(each) + "\n" for each in found)


def print_table(results: list[dict]) -> None:
    for each in results:
        print(
            f"{each['set']:<10} {each['way']:<9} {each['rows']:>5} rows, {each['steps']:>4} steps, "
            f"seed {each['seed']}: {each['figure']} {100 * each['test']:.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=["trec6", "stsb", "wnut17"], choices=SETS)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "several_tasks")
    parser.add_argument("--output", type=Path, default=Path("several_tasks.jsonl"))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if not options.table:
        run_all(options)
    print_table(read_results(options.output))


if __name__ == "__main__":
    main()
