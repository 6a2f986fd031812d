"""The labels of a dataset: their order, and the mistakes they show."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Mapping, Sequence

from tfmodel.config import ConfigError
from tfmodel.data.settings import DataSettings

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
_SHOWN = 5


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Sort label names: as numbers where all are numbers, else by their characters."""
    names = sorted(labels)
    if all(_NUMBER.fullmatch(name) for name in names):
        names.sort(key=float)
    return names


def first_few(names: Sequence[str]) -> str:
    """List the first names, and say how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def check_several_classes(train: Mapping[str, int], settings: DataSettings) -> None:
    """Refuse rows that all have the same label.

    Args:
        train: rows of train by label.
        settings: name the column.

    Raises:
        ConfigError: they do.
    """
    if len(train) < 2:
        name, rows = next(iter(train.items()))
        raise ConfigError(
            f"data.train: expected rows of at least two classes. Received: {rows:,} rows, "
            f"all of the class {name!r}. Check that the column {settings.label} "
            f"(data.label) is the label, and that the file is not cut short."
        )


def check_labels_known(
    splits: Mapping[str, Mapping[str, int]],
    raw_train: Mapping[str, int],
    first_origins: Mapping[str, Mapping[str, str]],
    none_label: str | None = None,
) -> None:
    """Refuse labels in dev or test that train does not have.

    Args:
        splits: rows by label, by split.
        raw_train: the same of train before its duplicates were dropped; tells where a label went.
        first_origins: where the first row of a label stands, by split.
        none_label: the label of rows that have none of the others; train need not have it.

    Raises:
        ConfigError: there is one; all are named, with how many rows and the first of them.
    """
    known = {label for label, rows in splits["train"].items() if rows}
    for name in ("dev", "test"):
        counts = {
            label: rows
            for label, rows in splits.get(name, {}).items()
            if rows and label not in known and label != none_label
        }
        if not counts:
            continue
        where = first_origins.get(name, {})
        shown = [
            f"{label} ({rows:,} rows, first at {where.get(label, name)})"
            for label, rows in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ]
        fix = "Add rows of it to train, correct its spelling, or take those rows out"
        if any(label in raw_train for label in counts):
            fix = (
                f"All its rows in train stand in {name} too, or were split off: take them out of "
                f"one of the files, or set `split: stratified`"
            )
        raise ConfigError(
            f"data.{name}: expected only labels that train has ({first_few(sort_labels(known))}). "
            f"Received: {first_few(shown)}. {fix}."
        )


def class_names(
    target: str,
    kept: Mapping[str, Mapping[str, int]],
    raw_train: Mapping[str, int],
    named: Mapping[str, Mapping[str, int]],
    first_origins: Mapping[str, Mapping[str, str]],
    none_label: str | None = None,
) -> list[str]:
    """Name the classes of a dataset, in the order of their indices.

    Args:
        target: the kind of label; of `class` those count that are left in train, else all.
        kept: rows by stratum, by split.
        raw_train: rows of train by stratum, before duplicates were dropped.
        named: rows by class named in their labels, by role, before duplicates were dropped.
        first_origins: where the first row of a class stands, by role.
        none_label: the label of rows that have none of the others; it is a class, even without
            rows.

    Raises:
        ConfigError: dev or test has one that train does not have.
    """
    if not kept.get("train"):
        raise ConfigError(
            "data: expected rows left for train. Received: none, all were split off or dropped. "
            "Add rows, lower data.test_share and data.dev_share, or set `split: stratified`."
        )
    if target == "class":
        check_labels_known(kept, raw_train, first_origins, none_label)
        none = set() if none_label is None else {none_label}
        return sort_labels(set(_positive(kept["train"])) | none)
    train = named.get("train", {})
    check_labels_known({"train": {}, **named}, train, first_origins)
    return sort_labels(train)


def about_tiny_classes(counts: Mapping[str, Mapping[str, int]], shares: Iterable[str]) -> list[str]:
    """Word notes on classes with too few rows for every split.

    Args:
        counts: rows by class, by split.
        shares: of the splits that were split off.
    """
    notes = []
    everywhere: collections.Counter[str] = collections.Counter()
    for split in counts.values():
        everywhere.update(_positive(split))
    single = sort_labels(label for label, count in everywhere.items() if count == 1)
    if single:
        notes.append(
            f"{len(single)} of {len(everywhere)} classes have a single row, which stays in train: "
            f"{first_few(single)}."
        )
    for name in shares:
        absent = sort_labels(set(everywhere) - set(_positive(counts[name])) - set(single))
        if absent:
            notes.append(
                f"{len(absent)} of {len(everywhere)} classes have too few rows to stand in {name}: "
                f"{first_few(absent)}."
            )
    return notes


def _positive(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
