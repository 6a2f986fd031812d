"""The stage `label_noise`: k models judge the rows that they did not train on."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from tfmodel.config import ConfigError
from tfmodel.run_folder import Run, fingerprint, write_aside, write_json
from tfmodel.stages.context import Context, Stage
from tfmodel.stages.finetune import (
    PROBABILITIES_FILE,
    check_length,
    encoder_shape,
    train_model,
    training_inputs,
)

if TYPE_CHECKING:
    import numpy as np

    from tfmodel.data import Split

_log = logging.getLogger(__name__)

ISSUES_FILE = "label_issues.jsonl"
LABEL_NOISE_FILE = "label_noise.json"


def _label_noise_inputs(context: Context) -> dict:
    noise = context.settings.data.label_noise
    if noise is None:
        return {}
    how = {f"data.label_noise.{key}": getattr(noise, key) for key in ("method", "ranking")}
    return {**_folds_inputs(context), **how}


def _folds_inputs(context: Context) -> dict:
    """What the probabilities depend on; the other settings only say how they are judged."""
    folds = context.settings.data.label_noise.folds
    return {**training_inputs(context), "data.label_noise.folds": folds}


def _find_label_noise(context: Context) -> None:
    import numpy as np

    from tfmodel.data import label_noise
    from tfmodel.data.confident_learning import find_label_issues

    run, train, names = context.run, context.dataset.split("train"), context.dataset.labels
    if context.task_name != "classify":
        raise ConfigError(
            "data.label_noise: expected rows with one class each, whose label another class "
            f"disputes. Received: the task {context.task_name}. Leave it out."
        )
    probabilities = _out_of_fold(context, train)
    noise = context.settings.data.label_noise
    issues = find_label_issues(
        train.labels, probabilities, method=noise.method, ranking=noise.ranking
    )
    described = label_noise.describe_issues(issues, train, probabilities, names)
    summary = label_noise.summarize_issues(issues, train.labels, probabilities, names)
    label_noise.write_issues(run.data_review / ISSUES_FILE, described)
    with write_aside(run.data_review / PROBABILITIES_FILE) as aside, open(aside, "wb") as file:
        np.save(file, probabilities, allow_pickle=False)
    write_json(run.data_review / LABEL_NOISE_FILE, {**summary, "first": described[:50]})
    short = ("rows", "disputed", "estimated_wrong_share", "agreement")
    run.update_metrics("label_noise", {key: summary[key] for key in short})
    _log.info(
        "%s of %s train rows disputed: %s",
        f"{len(described):,}",
        f"{len(train.texts):,}",
        run.data_review / ISSUES_FILE,
    )


def _out_of_fold(context: Context, train: Split) -> np.ndarray:
    from tfmodel.data.folds import fold_numbers
    from tfmodel.train.out_of_fold import out_of_fold_probabilities

    settings, rows = context.settings, len(train.texts)
    folds = settings.data.label_noise.folds
    if folds > rows:
        raise ConfigError(
            f"data.label_noise.folds: expected at most the {rows} rows of train. "
            f"Received: {folds}. Lower it, or add rows."
        )
    fold_of = fold_numbers(
        train.texts, train.labels, folds, seed=settings.seed, text_pairs=train.text_pairs
    )
    return out_of_fold_probabilities(
        train,
        fold_of,
        functools.partial(_train_and_score, context),
        folder=context.run.data_review / "folds",
        key=fingerprint({**context.inputs["data"], **_folds_inputs(context)}),
    )


def _train_and_score(
    context: Context, rows: Split, held_out: Split, checkpoints: Path, key: str
) -> np.ndarray:
    from tfmodel.export import predictor_of

    shape = encoder_shape(context)
    train = context.settings.train.resolve(hidden_size=shape.hidden_size, task=context.task_name)
    check_length(context, train, shape)
    model, tokenizer, _ = train_model(context, train, rows, checkpoints=checkpoints, key=key)
    predictor = predictor_of(
        model,
        tokenizer,
        labels=context.dataset.labels,
        max_length=train.max_length,
        has_pairs=context.dataset.has_pairs,
    )
    return predictor.probabilities(held_out.texts, held_out.text_pairs)


def _is_reviewed(run: Run) -> bool:
    names = (ISSUES_FILE, LABEL_NOISE_FILE, PROBABILITIES_FILE)
    return all((run.data_review / name).exists() for name in names)


LABEL_NOISE = Stage(
    "label_noise",
    _label_noise_inputs,
    _find_label_noise,
    _is_reviewed,
    after=lambda settings: "data",
    metrics=("label_noise",),
    is_wanted=lambda settings: settings.data.label_noise is not None,
    part_of="data",
)
