"""What a run knows of its model, for the card that travels with every export."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmodel import sources
from tfmodel.config import load_config
from tfmodel.run_folder import read_json
from tfmodel.stages.context import Context, read_if_there
from tfmodel.stages.evaluate import EVALUATION_FILE
from tfmodel.stages.skew import SKEW_FILE
from tfmodel.train.settings import FinetuneSettings

_DRAWS = 1000
_TRAINING_FIGURES = (
    "rows",
    "rows_dropped",
    "rows_relabelled",
    "new_rows",
    "examples",
    "epochs",
    "best_epoch",
    "seconds",
    "trained_with",
)
# Nothing of a file but its name: where it lay is nobody's business.
_OF_FILE = ("name", "as", "format", "encoding", "raw", "kept", "dropped")


def facts_of(context: Context) -> dict[str, Any]:
    """What the card says of a run's data, training and figures.

    Only what was measured of these weights: figures of an evaluation that is not up to date are
    left out, and so is every row of the data.

    Returns:
        The `facts` of `tfmodel.export.card.card_files`.
    """
    run, settings = context.run, context.settings
    found: dict[str, Any] = {
        "name": run.folder.name,
        "date": datetime.date.today().isoformat(),
        "encoder": _named(settings.encoder),
        "seed": settings.seed,
        "language": settings.data.cleaning.languages,
        "data": _data(context),
        "training": _training(context),
        "environment": read_if_there(run.folder / "environment.json"),
    }
    if context.up_to_date("evaluate"):
        evaluation = read_if_there(run.folder / EVALUATION_FILE)
        found["evaluation"] = {part: _figures(figures) for part, figures in evaluation.items()}
    if (run.folder / SKEW_FILE).exists():
        found["skew"] = _skew(read_json(run.folder / SKEW_FILE))
    return found


def _named(source: str | None) -> str | None:
    """A source as it is written, or the name alone of a place on this machine."""
    if source is None or sources.is_remote(source):
        return source
    return source.rstrip("/").rpartition("/")[2]


def _data(context: Context) -> dict[str, Any]:
    account, settings = context.dataset.account, context.settings.data
    given = {part: _named(getattr(settings, part)) for part in ("train", "dev", "test")}
    made = [part for part in account["splits"] if given[part] is None]
    return {
        "raw": account["raw"],
        "kept": account["kept"],
        "dropped": dict(account["dropped"]),
        "files": [{key: file.get(key) for key in _OF_FILE} for file in account["files"]],
        "source": {part: source for part, source in given.items() if source},
        "split": _split(made, settings),
        "parts": {
            name: {"rows": part["rows"], "labels": dict(part["labels"])}
            for name, part in account["splits"].items()
        },
        "cleaning": {step: of["rows"] for step, of in account["cleaning"].items()},
    }


def _split(made: Sequence[str], settings: Any) -> str:
    if not made:
        return "each from files of its own"
    shares = {"dev": settings.dev_share, "test": settings.test_share}
    words = " and ".join(f"{part} {shares[part]:.0%}" for part in made)
    return f"{words} of the training files, {settings.split}, by the seed"


def _training(context: Context) -> dict[str, Any]:
    # What `auto` meant is in the run's own copy of the config.
    config = load_config(context.run.folder / "config.yaml", type(context.settings))
    train: FinetuneSettings = config.train
    figures = context.run.metrics().get("train", {})
    if others := figures.get("trained_with"):  # of a run of several tasks
        figures["trained_with"] = ", ".join(others)
    return {
        "settings": train.model_dump(mode="json", exclude={"checkpoint_seconds"}),
        "figures": {key: figures[key] for key in _TRAINING_FIGURES if key in figures},
    }


def _figures(figures: Mapping[str, Any]) -> dict[str, Any]:
    if "confusion" not in figures:
        return dict(figures)
    interval = macro_f1_interval(figures["confusion"])
    return {**figures, "macro_f1_interval": list(interval)}


def macro_f1_interval(confusion: Sequence[Sequence[int]]) -> tuple[float, float]:
    """The 95% interval of macro F1: the rows drawn again, with repeats, 1,000 times.

    Args:
        confusion: (C, C) counts, row = target, column = predicted; at least one is not 0.

    Returns:
        Low and high end, both in [0, 1]. The same counts give the same interval.

    Source: the percentile bootstrap, Efron and Tibshirani 1993, chapter 13. Drawing rows again is
    drawing their cells of the matrix, for F1 asks no more of a row.
    """
    counts = np.asarray(confusion)
    cells = np.flatnonzero(counts)
    targets, predicted = np.divmod(cells, len(counts))
    total = counts.sum()
    generator = np.random.default_rng(0)
    scores = []
    for _ in range(_DRAWS):
        drawn = generator.multinomial(total, counts.flat[cells] / total)
        hits = np.bincount(targets, weights=drawn * (targets == predicted), minlength=len(counts))
        support = np.bincount(targets, weights=drawn, minlength=len(counts))
        named = np.bincount(predicted, weights=drawn, minlength=len(counts))
        scores.append(np.mean(2 * hits / np.maximum(support + named, 1)))
    low, high = np.percentile(scores, [2.5, 97.5])
    return float(low), float(high)


def _skew(found: Mapping[str, Any]) -> dict[str, Any]:
    """Counts alone: the examples are pieces of rows."""
    return {
        "rows": found["rows"],
        "runtimes": {
            name: {key: value for key, value in runtime.items() if key != "examples"}
            for name, runtime in found["runtimes"].items()
        },
    }
