"""Questions without an answer, on real text: `task: {name: span}` on SQuAD with other contexts.

Of each part every second question is asked of another paragraph, the next of its part that holds
none of its answers, and has no answer there; all others keep theirs. Such questions are easier
than those of SQuAD 2.0, whose writers saw the paragraph: words in common tell much. Beside the
run's own figures stand those of two that learned nothing: an answer never, and the same model's
best span always.

Run: TFMODEL_DATA=... python benchmarks/unanswerable.py --output unanswerable.jsonl
     (add --rows 600 for a sample of the training questions)

One JSON line a seed is appended to --output; what is there is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

PARTS = {"train": "train.json", "dev": "valid.json", "test": "test.json"}


def paired(paragraphs: list[dict]) -> list[dict]:
    """Questions with their own contexts and, every second one, with another's."""
    rows = [
        (paragraph["context"], each["question"], each["answer"], number)
        for number, paragraph in enumerate(paragraphs)
        for each in paragraph["qas"]
    ]
    found = []
    for place, (context, question, answer, number) in enumerate(rows):
        answers = answer if isinstance(answer, list) else [answer]
        if place % 2:
            others = (paragraphs[(number + step) % len(paragraphs)] for step in range(1, 50))
            context = next(
                other["context"]
                for other in others
                if not any(text.lower() in other["context"].lower() for text in answers)
            )
            answers = []
        texts = [{"text": text} for text in answers]
        found.append({"context": context, "qas": [{"question": question, "answers": texts}]})
    return found


def write_parts(folder: Path, *, rows: int | None, seed: int) -> list[str]:
    """Write the parts; give the overrides that name them."""
    overrides = []
    for part, name in PARTS.items():
        source = Path(os.environ["TFMODEL_DATA"], "squad_subset", name)
        found = paired(json.loads(source.read_text("utf-8")))
        if part == "train" and rows is not None:
            found = random.Random(seed).sample(found, rows)
        (folder / name).write_text(json.dumps(found), "utf-8")
        overrides.append(f"data.{part}={folder / name}")
    return overrides


def run_one(options: argparse.Namespace, seed: int) -> dict:
    """Train and evaluate once."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "unanswerable.yaml").write_text(
            f"run: {folder / 'run'}\nseed: {seed}\ndata: {{train: x, format: squad}}\n"
            "task: {name: span}\n"
            f"train: {{epochs: {options.epochs}, learning_rate: 2e-4, max_length: 256}}\n"
            "export: {savedmodel: false, tflite: []}\n"
        )
        command = [sys.executable, "-m", "tfmodel.cli", "run", str(folder / "unanswerable.yaml")]
        overrides = write_parts(folder, rows=options.rows, seed=seed)
        subprocess.run([*command, *overrides], check=True, stdout=subprocess.DEVNULL)
        test = json.loads((folder / "run/metrics.json").read_text("utf-8"))["test"]
        names = ("f1", "f1_interval", "has_answer_f1", "no_answer_accuracy", "examples")
        return {
            "seed": seed,
            "rows": options.rows,
            "epochs": options.epochs,
            **{name: test[name] for name in names},
            **unlearned(folder),
        }


def unlearned(folder: Path) -> dict[str, float]:
    """F1 of no answer to any question, and of the best span to each."""
    import tfmodel as tm
    from tfmodel.evaluate.answering import Question, scored

    rows = json.loads((folder / PARTS["test"]).read_text("utf-8"))
    contexts = [row["context"] for row in rows]
    asked = [row["qas"][0] for row in rows]
    questions = [
        Question(context, tuple(answer["text"] for answer in each["answers"]))
        for context, each in zip(contexts, asked, strict=True)
    ]
    spans = tm.load(folder / "run").values([each["question"] for each in asked], contexts)
    best = [
        context[int(span[0]) : int(span[1])] for context, span in zip(contexts, spans, strict=True)
    ]
    return {
        "f1_of_none": float(np.mean([scored(each, "")[1] for each in questions])),
        "f1_of_best_span": float(
            np.mean([scored(each, given)[1] for each, given in zip(questions, best, strict=True)])
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--rows", type=int, help="training questions; all by default")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    lines = options.output.read_text().splitlines() if options.output.exists() else []
    done = [json.loads(line) for line in lines]
    for seed in options.seeds:
        wanted = {"seed": seed, "rows": options.rows, "epochs": options.epochs}
        if any(wanted.items() <= each.items() for each in done):
            continue
        found = run_one(options, seed)
        with options.output.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(found, flush=True)


if __name__ == "__main__":
    main()
