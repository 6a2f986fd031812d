"""The files of a dataset: found, told apart and looked at before any row is read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tfmodel.config import ConfigError
from tfmodel.data.account import ACCOUNT_FILE
from tfmodel.data.parts.fates import SPLITS
from tfmodel.data.reading.folders import open_tfds, tfds_split
from tfmodel.data.reading.formats import find_format
from tfmodel.data.reading.places import Place, find_place
from tfmodel.data.settings import DataSettings
from tfmodel.data.targets import Target

_log = logging.getLogger(__name__)


def locate_all(
    settings: DataSettings,
    locate: Callable[[str], Path],
    *,
    expand: Callable[[Place], Place] = lambda place: place,
) -> dict[str, Place]:
    """Find every source before any is read; a TFDS folder also gives the splits not named.

    Args:
        settings: name the sources.
        locate: turns a source as the config names it into a local path.
        expand: gives the files of a place that stands for several.
    """
    sources = {name: getattr(settings, name) for name in SPLITS}
    places = {
        name: expand(find_place(source, locate))
        for name, source in sources.items()
        if source is not None
    }
    formats = {name: find_format(place, settings) for name, place in places.items()}
    for name, place in places.items():
        for other in SPLITS[: SPLITS.index(name)]:
            # A TFDS folder has a split for each role, unless both name the same one.
            by_role = formats[name] == "tfds" and place.split is None
            if other in places and not by_role and _is_same(place, places[other]):
                raise ConfigError(
                    f"data.{name}: expected other rows than those of data.{other}. Received: "
                    f"{place} for both. Remove `{name}:` to have it split off train."
                )
    if formats["train"] == "tfds" and places["train"].split is None:
        builder = open_tfds(places["train"].path)
        for name in ("dev", "test"):
            if name not in places and tfds_split(builder, name):
                places[name] = places["train"]
                _log.info("%s: its own %s split is used", places["train"], name)
    return {name: places[name] for name in SPLITS if name in places}


def origin_names(places: Mapping[str, Place]) -> dict[str, str]:
    """Say what the origins of rows call each file: its name, and its folder's if two share that."""
    names = {role: place.name for role, place in places.items()}
    for role, place in places.items():
        if sum(other.name == place.name for other in set(places.values())) > 1:
            names[role] = f"{place.path.parent.name}/{place.name}"
    return names


def only_target(targets: Iterable[Target]) -> Target:
    """Give the kind of label that all files have.

    Raises:
        ConfigError: they have several.
    """
    by_name = {target.name: target for target in targets}
    if len(by_name) > 1:
        raise ConfigError(
            f"data: expected files of one kind of label. Received: {', '.join(sorted(by_name))}. "
            f"Say which is meant by `target:` under `data:`."
        )
    return next(iter(by_name.values()))


def _is_same(one: Place, other: Place) -> bool:
    return one.path.samefile(other.path) and (one.member, one.split, one.files) == (
        other.member,
        other.split,
        other.files,
    )


def check_may_be_replaced(folder: Path, places: Iterable[Place]) -> None:
    """Refuse to replace what is not a dataset of ours, or what is about to be read."""
    if folder.exists() and not (folder / ACCOUNT_FILE).exists():
        if not folder.is_dir() or any(folder.iterdir()):
            raise ConfigError(
                f"{folder}: expected a new folder, or a dataset that tfmodel wrote, to put the "
                f"dataset in. Received: something else, which would be lost. Name another folder."
            )
    for place in places:
        if any(path.resolve().is_relative_to(folder.resolve()) for path in place.paths):
            raise ConfigError(
                f"{folder}: expected a folder apart from the files that are read. Received: "
                f"{place} inside it, which would be lost. Name another folder."
            )
