"""`tfmodel data --skew`: whose tokens differ on the run's own rows."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from tfmodel import sources
from tfmodel.config import ConfigError
from tfmodel.run_folder import write_json
from tfmodel.tokens.skew import Skew, measure_skew

SKEW_FILE = "skew.json"
_MOST_ROWS = 20_000
_NAMES = {"phone": "a phone (MediaPipe, tflite-support)", "keras_hub": "KerasHub"}


def skew_of_run(settings: Any, folder: Path) -> str:
    """Measure on the prepared rows of a run, write `skew.json`, and say it as a table.

    Args:
        settings: the run's `pipeline.RunSettings`; of its encoder the tokenizer is taken.
        folder: the run folder, its stage `data` done.

    Returns:
        The table with its examples. Of more than 20,000 rows a sample is measured, by the seed.

    Raises:
        ConfigError: the encoder's texts are split otherwise than into WordPieces, for which no
            phone and no preset has a tokenizer.
    """
    from tfmodel.data import load_dataset
    from tfmodel.tokens import load_tokenizer

    if hasattr(settings, "tasks"):
        raise ConfigError(
            f"--skew: expected the config of one task. Received: that of several. Their rows are "
            f"prepared; type: tfmodel data {folder}/tasks/NAME/config.yaml --skew"
        )
    tokenizer = load_tokenizer(sources.fetch(settings.encoder))
    if tokenizer.kind != "wordpiece":
        raise ConfigError(
            f"--skew: expected an encoder of WordPieces. Received: {settings.encoder}, whose "
            f"tokenizer ({tokenizer.kind}) no phone has and no KerasHub preset is written with: "
            "there is nothing to compare. Leave --skew out."
        )
    dataset = load_dataset(folder / "data")
    splits = [dataset.split(name) for name in dataset.counts]
    texts = list(itertools.chain.from_iterable(split.texts for split in splits))
    pairs = None
    if dataset.has_pairs:
        pairs = list(itertools.chain.from_iterable(split.text_pairs for split in splits))
    rows_in_all = len(texts)
    if rows_in_all > _MOST_ROWS:
        random = np.random.default_rng(settings.seed)
        chosen = np.sort(random.choice(rows_in_all, _MOST_ROWS, replace=False))
        texts = [texts[row] for row in chosen]
        pairs = None if pairs is None else [pairs[row] for row in chosen]
    limit = settings.train.max_length
    found = measure_skew(tokenizer, texts, pairs, max_length=limit)
    described = {name: _described(skew) for name, skew in found.items()}
    write_json(
        folder / SKEW_FILE,
        {
            "rows": len(texts),
            "rows_in_all": rows_in_all,
            "lowercase": tokenizer.lowercase,
            "max_length": limit,
            "runtimes": described,
        },
    )
    shown = Path(settings.run) / SKEW_FILE  # as the user calls it
    return _table(found, rows=len(texts), rows_in_all=rows_in_all, path=shown)


def _described(skew: Skew) -> dict:
    if skew.not_measured is not None:
        return {"not_measured": skew.not_measured}
    values = dataclasses.asdict(skew)
    values.pop("not_measured")
    return {**values, "share": skew.share}


def _table(found: dict[str, Skew], *, rows: int, rows_in_all: int, path: Path) -> str:
    of = f"{rows:,} rows" + ("" if rows == rows_in_all else f" drawn from {rows_in_all:,}")
    lines = [f"Rows whose tokens differ from those of training, of {of}:"]
    for name, skew in found.items():
        if skew.not_measured is not None:
            words = f"not measured: {skew.not_measured}"
        else:
            words = f"{skew.differ:>8,}  {skew.share:6.1%}"
            words += f"  [UNK] {skew.unknown:+,}" if skew.differ else ""
        lines.append(f"  {_NAMES[name]:<38} {words}")
    for name, skew in found.items():
        if skew.examples:
            lines += [f"{_NAMES[name]}, for example:", *map(_line, skew.examples)]
    return "\n".join([*lines, f"written: {path}"])


def _line(example: dict) -> str:
    ours, theirs = (" ".join(example[key]) for key in ("ours", "theirs"))
    return f"  {example['text']!r}\n    in training  {ours}\n    there        {theirs}"
