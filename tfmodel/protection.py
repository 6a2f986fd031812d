"""What a run must not overwrite: a folder of the user's own, and a source of the run itself."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfmodel import sources
from tfmodel.config import ConfigError
from tfmodel.data.reading.places import find_place
from tfmodel.run_folder import read_json

# What every run replaces or removes in its folder.
_PLACES = (
    "model",
    "logs",
    "checkpoints",
    "config.yaml",
    "environment.json",
    "history.json",
    "metrics.json",
    "report.html",
    "timings.json",
)


def require_own_folder(folder: Path, places: Sequence[str]) -> None:
    """Refuse a folder that holds what a run would replace, and that no run made.

    Args:
        folder: of the run.
        places: what a run of this kind replaces there, besides what every run does.

    Raises:
        ConfigError: it is such a folder.
    """
    if _is_made_by_a_run(folder):
        return
    found = [name for name in (*_PLACES, *places) if os.path.lexists(folder / name)]
    if found:
        raise ConfigError(
            f"{folder}: expected a folder that a run made, or one without files of a run's names. "
            f"Received: one with {', '.join(found)}, which no run made and this one would "
            "replace. Set run: to a new folder, such as runs/NAME."
        )


def _is_made_by_a_run(folder: Path) -> bool:
    if os.path.exists(folder / "stages.json"):
        return True
    # Written before anything else, so that a run killed early is known as one too.
    path = folder / "environment.json"
    if not os.path.isfile(path):
        return False
    try:
        environment = read_json(path)
    except ConfigError:
        return False
    return isinstance(environment, dict) and "tfmodel" in environment


def require_sources_elsewhere(
    folder: Path, named: Mapping[str, str | None], places: Sequence[str]
) -> None:
    """Refuse sources inside what a run replaces.

    Args:
        folder: of the run.
        named: the source under each key of the config.
        places: what a run of this kind replaces there, besides what every run does.

    Raises:
        ConfigError: one is there, or there is no such source.
    """
    for key, source in named.items():
        if source is None or sources.is_remote(source):
            continue
        if key.split(".")[-2:-1] in (["data"], ["corpus"]):
            paths = find_place(source, sources.fetch).paths
        else:
            paths = (sources.fetch(source),)
        for name in (*_PLACES, *places):
            if any(_is_inside(path, folder / name) for path in paths):
                raise ConfigError(
                    f"{key}: expected a path outside of what the run replaces. Received: {source}, "
                    f"in {folder / name}. Copy it elsewhere, or set run: to another folder."
                )


def _is_inside(path: Path, place: Path) -> bool:
    # By its name and by where links lead: the one would lose the link, the other the file.
    return any(
        Path(real(path)).is_relative_to(real(place)) for real in (os.path.abspath, os.path.realpath)
    )


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In words, which inputs of a training are others now; the first five."""
    found = [
        # The content is a hash, which says nothing to anybody.
        key if key.startswith("the content") else f"{key} was {before.get(key)}, is {now.get(key)}"
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    ]
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return "changed: " + "; ".join(found[:5]) + more
