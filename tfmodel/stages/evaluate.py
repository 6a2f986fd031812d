"""The stage `evaluate`: what the model answers on dev and test, in figures."""

from __future__ import annotations

import logging

from tfmodel import tasks
from tfmodel.run_folder import write_json
from tfmodel.stages.context import Context, Stage

_log = logging.getLogger(__name__)

EVALUATION_FILE = "evaluation.json"


def _evaluate_inputs(context: Context) -> dict:
    return {"parts": ["dev", "test"]}


def _evaluate(context: Context) -> None:
    from tfmodel.export import load

    predictor, task = load(context.run.model), context.task
    found = {}
    for part in ("dev", "test"):
        if part not in context.dataset.counts:
            continue
        split = context.dataset.split(part)
        _log.info("evaluating %s: %d rows", part, len(split.texts))
        found[part] = task.evaluate(
            tasks.right_answers(task, split, context.dataset.labels),
            task.answers_of(predictor, split)
            if hasattr(task, "answers_of")
            else predictor.values(split.texts, split.text_pairs),
            context.dataset.labels,
            texts=split.texts,
            text_pairs=split.text_pairs,
            origins=split.origins,
            **predictor.manifest.decoding,
        )
    write_json(context.run.folder / EVALUATION_FILE, found)
    for part, figures in found.items():
        short = {
            name: value
            for name, value in figures.items()
            if isinstance(value, int | float | None) or name.endswith("_interval")
        }
        context.run.update_metrics(part, short)


EVALUATE = Stage(
    "evaluate",
    _evaluate_inputs,
    _evaluate,
    lambda run: (run.folder / EVALUATION_FILE).exists(),
    after=lambda settings: "finetune",
    metrics=("dev", "test"),
)
