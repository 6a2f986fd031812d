"""`train.watch` to a callback."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfmodel.train.watch.answers import DevRows
from tfmodel.train.watch.mlflow_runs import MLflow
from tfmodel.train.watch.settings import WatchSettings
from tfmodel.train.watch.tensorboard_callback import TensorBoard
from tfmodel.train.watch.tracker import Tracker
from tfmodel.train.watch.vectors import Embed
from tfmodel.train.watch.watching import Watch
from tfmodel.train.watch.weights_and_biases import WeightsAndBiases


def watch_callback(
    settings: WatchSettings,
    *,
    logs: str | Path | None,
    config: Mapping[str, Any],
    dev: DevRows | None,
    monitor: str | None,
    total_steps: int,
    embed: Embed | None,
) -> Watch | None:
    """The callback that the settings ask for; None: nothing is to be watched.

    Args:
        settings: `train.watch`.
        logs: the run's folder of logs; None: nothing is watched.
        config: settings of the run, to show.
        dev: as for `Watch`.
        monitor: as for `Watch`.
        total_steps: as for `Watch`.
        embed: as for `TensorBoard`.

    Raises:
        ConfigError: an extra is not installed.
    """
    if logs is None:
        return None
    logs = Path(logs).resolve()
    trackers: list[Tracker] = []
    if settings.wandb is not None:
        own = settings.wandb.model_dump()
        trackers.append(WeightsAndBiases(logs, **{**own, "name": own["name"] or logs.parent.name}))
    if settings.mlflow is not None:
        own = settings.mlflow.model_dump()
        trackers.append(MLflow(logs, **{**own, "name": own["name"] or logs.parent.name}))
    shared = {
        "config": config,
        "dev": dev,
        "monitor": monitor,
        "total_steps": total_steps,
        "every_steps": settings.every_steps,
        "pictures": settings.pictures,
        "mistakes": settings.mistakes,
    }
    if not settings.tensorboard:
        return Watch(trackers, **shared) if trackers else None
    return TensorBoard(
        logs,
        trackers=trackers,
        profile_steps=settings.profile_steps,
        embed=embed,
        projector_rows=settings.projector_rows,
        **shared,
    )
