"""What Hugging Face in torch reaches on the data, weights and settings of one of our runs.

Run: pip install -e '.[parity]'
     TFMODEL_DATA=... tfmodel run configs/trec6.yaml
     python benchmarks/config_peer.py runs/trec6

Both numbers are printed: those in the run's metrics.json, and the peer's on the very same rows,
with the best dev epoch chosen in the same way.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import huggingface_peer

from tfmodel.config import load_config
from tfmodel.data import load_dataset
from tfmodel.pipeline import RunSettings
from tfmodel.sources import fetch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--seed", type=int, help="default: the run's")
    options = parser.parse_args()
    settings = load_config(options.run / "config.yaml", RunSettings)
    dataset = load_dataset(options.run / "data")
    parts = {}
    for name in dataset.counts:
        split = dataset.split(name)
        parts[name] = (split.texts, split.text_pairs, split.labels)
    figures = huggingface_peer.train(
        fetch(settings.encoder),
        parts,
        classes=len(dataset.labels),
        epochs=settings.train.epochs,
        learning_rate=settings.train.learning_rate,
        batch_size=settings.train.batch_size,
        max_length=settings.train.max_length,
        warmup_share=settings.train.warmup_share,
        seed=settings.seed if options.seed is None else options.seed,
        choose_best=True,
    )
    ours = json.loads((options.run / "metrics.json").read_text("utf-8"))
    print(f"{options.run.name:<14} {'seconds':>9} " + " ".join(f"{part:>7}" for part in parts))
    mine = {part: ours[part]["accuracy"] for part in figures["accuracy"]}
    for name, seconds, accuracy in (
        ("tfmodel", ours["train"]["seconds"], mine),
        ("huggingface", figures["seconds"], figures["accuracy"]),
    ):
        words = " ".join(f"{100 * accuracy[part]:>6.1f}%" for part in accuracy)
        print(f"{name:<14} {seconds:>9.1f}         {words}")


if __name__ == "__main__":
    main()
