"""Doing a stage: whether it rests, what it makes void, and what is recorded of it."""

from __future__ import annotations

import logging
import shutil
import time

from tfmodel.config import load_config
from tfmodel.run_folder import write_json
from tfmodel.stages.context import TIMINGS_FILE, Context, Stage, read_if_there
from tfmodel.stages.workers import dismiss_workers

_log = logging.getLogger(__name__)


def do_stage(context: Context, stage: Stage) -> None:
    """Do a stage of a run, or let it rest where it is up to date."""
    again = context.restart and stage.trains
    if context.up_to_date(stage.name) and not again:
        _log.info("%s: up to date", stage.name)
        if stage.trains:
            dismiss_workers(context)
        return
    _log.info("%s", stage.name)
    began = time.perf_counter()
    # No two trainings end with quite the same weights, so what was made from the old ones is
    # void; data made anew of the same inputs is the same. And a kill in the middle must not leave
    # a record that vouches for what is being replaced.
    for name in (stage.name, *(context.built_on(stage.name) if stage.trains else ())):
        context.run.forget_stage(name, metrics=context.stages[name].metrics)
    stage.work(context)
    context.run.record_stage(
        stage.name, context.fingerprints[stage.name], context.inputs[stage.name]
    )
    if stage.trains:
        dismiss_workers(context)
        # The model is saved and recorded: nothing is left to continue from.
        shutil.rmtree(context.run.checkpoints, ignore_errors=True)
    note_time(context, stage.name, time.perf_counter() - began)


def note_time(context: Context, stage: str, seconds: float) -> None:
    """Write down how long a stage took."""
    path = context.run.folder / TIMINGS_FILE
    write_json(path, {**read_if_there(path), stage: seconds})


def save_config(context: Context) -> None:
    """Keep the config of the weights; what `auto` meant in their training stays as it was."""
    run, settings = context.run, context.settings
    path = run.folder / "config.yaml"
    if path.exists() and context.up_to_date(context.training):
        kept = load_config(path, type(settings))
        settings = settings.model_copy(update={"train": kept.train})
    elif path.exists() and run.model.exists():
        return  # until other weights are trained
    run.save_config(settings)
