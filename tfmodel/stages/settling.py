"""What `auto` settings mean in a training: decided when it begins, read when it goes on."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

from tfmodel.config import load_config
from tfmodel.run_folder import Run, write_json
from tfmodel.stages.context import Context, read_if_there


def settle(context: Context, *, free: Sequence[str], **known: Any) -> Any:
    """Resolve the `train:` section, or take it from the training that is under way.

    What another training left is cleared away first.

    Args:
        context: of the run.
        free: keys that change no result; of a training under way, too, they are the config's.
        **known: passed to the section's `resolve`.

    Returns:
        The section without `auto`.
    """
    run, train, key = context.run, context.settings.train, context.fingerprints[context.training]
    kept = training_under_way(run)
    if kept.get("key") == key and not context.restart:
        settled = load_config(kept["train"], type(train))
        return settled.model_copy(update={name: getattr(train, name) for name in free})
    for folder in (run.checkpoints, run.logs):
        shutil.rmtree(folder, ignore_errors=True)
    train = train.resolve(**known)
    values = {"key": key, "inputs": context.inputs[context.training], "train": train}
    write_json(run.checkpoints / "settings.json", values)
    return train


def training_under_way(run: Run) -> dict:
    """The key, inputs and settings of a training that began and has not ended; else empty."""
    return read_if_there(run.checkpoints / "settings.json")


def as_asked(settings: Any, run: Run, training: str) -> Any:
    """The settings, with `auto` again where they say what it meant when this run was trained.

    So `RUN/config.yaml`, in which everything is resolved, is the config of the weights beside it.

    Args:
        settings: as they were given.
        run: the folder that they name.
        training: the stage that trains.
    """
    inputs = run.stage_inputs(training) or training_under_way(run).get("inputs") or {}
    open_keys = {
        key: value
        for name, value in inputs.items()
        for _, found, key in [f".{name}".rpartition(".train.")]
        if found and value in (None, "auto")
    }
    given = {key: getattr(settings.train, key) for key in open_keys}
    path = run.folder / "config.yaml"
    if not any(value not in (None, "auto") for value in given.values()) or not path.exists():
        return settings
    kept = load_config(path, type(settings)).train
    meant = {key: open_keys[key] for key, value in given.items() if value == getattr(kept, key)}
    return settings.model_copy(update={"train": settings.train.model_copy(update=meant)})
