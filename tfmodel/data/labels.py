"""The labels of a dataset: their order, and the mistakes they show."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Mapping, Sequence

from tfmodel.config import ConfigError
from tfmodel.data.rows import Row
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


def check_several_classes(train: Sequence[Row], settings: DataSettings) -> None:
    """Refuse rows that all have the same label.

    Raises:
        ConfigError: they do.
    """
    labels = {row.label for row in train}
    if len(labels) < 2:
        raise ConfigError(
            f"data.train: expected rows of at least two classes. Received: {len(train):,} rows, "
            f"all of the class {next(iter(labels))!r}. Check that the column {settings.label} "
            f"(data.label) is the label, and that the file is not cut short."
        )


def check_labels_known(splits: Mapping[str, list[Row]], raw_train: Sequence[Row]) -> None:
    """Refuse labels in dev or test that train does not have.

    Args:
        splits: rows by split.
        raw_train: train before its duplicates were dropped; tells where a label went.

    Raises:
        ConfigError: there is one; all are named, with how many rows and the first of them.
    """
    known = {row.label for row in splits["train"]}
    for name in ("dev", "test"):
        unknown = [row for row in splits.get(name, []) if row.label not in known]
        if not unknown:
            continue
        counts = collections.Counter(row.label or "" for row in unknown)
        first = {row.label: row.origin for row in reversed(unknown)}
        shown = [
            f"{label} ({count:,} rows, first at {first[label]})"
            for label, count in counts.most_common()
        ]
        fix = "Add rows of it to train, correct its spelling, or take those rows out"
        if any(row.label == unknown[0].label for row in raw_train):
            fix = f"All its rows in train stand in {name} too: take them out of one of the files"
        raise ConfigError(
            f"data.{name}: expected only labels that train has ({first_few(sort_labels(known))}). "
            f"Received: {first_few(shown)}. {fix}."
        )
