"""Several workers, one run: the chief does the stages, the others train along."""

from __future__ import annotations

import logging
import time
from typing import Any

from tfmodel import sources
from tfmodel.config import ConfigError, load_config
from tfmodel.run_folder import fingerprint
from tfmodel.stages.context import Context

_log = logging.getLogger(__name__)

# A file that one machine has written is not seen by others at once.
_SEEN_WITHIN_SECONDS = 30.0
_MAY_DIFFER = {
    "run": True,
    "export": True,
    "encoder": True,  # compared by its content
    "data": {"train", "dev", "test"},
    "corpus": {"train", "dev", "workers"},
    "vocabulary": True,  # of the chief's folder
    "train": {"checkpoint_seconds", "watch", "worker_timeout_seconds"},
}


def join_workers(settings: Any) -> Any:
    """Meet the other workers that TF_CONFIG names.

    Args:
        settings: the whole config.

    Returns:
        The strategy of all of them; None where there are no others.

    Raises:
        ConfigError: TF_CONFIG is malformed, or the workers differ.
        TimeoutError: a worker did not come.
    """
    from tfmodel.train.distribute import Cluster, choose_strategy

    if Cluster.from_environment() is None:
        return None
    if settings.train.jit is True:
        raise ConfigError(
            "train.jit: expected false with several workers. Received: true. Leave it out."
        )
    facts = _flat(settings.model_dump(mode="json", exclude=_MAY_DIFFER))
    if settings.encoder is not None:
        folder = sources.fetch(settings.encoder)
        names = ("config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json")
        there = [folder / name for name in names if (folder / name).exists()]
        facts["the content of encoder"] = fingerprint(there)
    return choose_strategy(
        settings.train.devices, facts=facts, timeout_seconds=settings.train.worker_timeout_seconds
    )


def start_workers(context: Context, train: Any, key: str) -> Any:
    """Tell the other workers to train along.

    Args:
        context: the chief's.
        train: the section `train:` as it was resolved.
        key: fingerprint of the training.

    Returns:
        The strategy to train under; None for one device.
    """
    from tfmodel.train.distribute import choose_strategy
    from tfmodel.train.distribute.workers import from_chief

    if context.strategy is None:
        return None if train.devices == 1 else choose_strategy(train.devices)
    data = context.run.stage_fingerprint(_rows_of(context))
    from_chief(context.strategy, {"train": train.model_dump(mode="json"), "key": key, "data": data})
    return context.strategy


def dismiss_workers(context: Context) -> None:
    """Tell the other workers that there is nothing to train, or nothing more."""
    from tfmodel.train.distribute.workers import from_chief

    if context.strategy is not None:
        from_chief(context.strategy, {"train": None})


def wait_for_release(context: Context) -> None:
    """Wait until the chief has saved the weights: a chief killed before that needs all again."""
    from tfmodel.train.distribute.workers import from_chief

    from_chief(context.strategy)


def hear_chief(context: Context) -> tuple[Any, str] | None:
    """Wait until the chief says what to train.

    Args:
        context: of a worker that is not the chief, with the chief's run folder.

    Returns:
        The section `train:` as the chief resolved it, and the training's key; None: nothing.

    Raises:
        ConfigError: the chief's run folder is not to be seen here.
    """
    from tfmodel.train.distribute.workers import from_chief

    order = from_chief(context.strategy)
    if order["train"] is None:
        return None
    _wait_for_data(context, order["data"])
    return load_config(order["train"], type(context.settings.train)), order["key"]


def _rows_of(context: Context) -> str:
    """The stage whose rows are trained on."""
    return "tokens" if "tokens" in context.stages else "data"


def _wait_for_data(context: Context, expected: str) -> None:
    deadline = time.monotonic() + _SEEN_WITHIN_SECONDS
    while (found := context.run.stage_fingerprint(_rows_of(context))) != expected:
        if time.monotonic() > deadline:
            received = "none" if found is None else "one with other data"
            raise ConfigError(
                f"{context.run.folder}: expected the run folder that the chief writes, whose rows "
                f"this worker reads. Received: {received}. Set run: to a folder on a file system "
                "that all workers share."
            )
        time.sleep(0.5)


def _flat(values: dict, before: str = "") -> dict:
    found = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = value
    return found
