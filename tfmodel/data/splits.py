"""Stratified splits and samples: the same rows for a seed, whatever their order or the machine.

Each row gets a rank from a hash of seed and text; the lowest ranks of each class are taken.
"""

from __future__ import annotations

import collections
import hashlib
import math
from collections.abc import Mapping, Sequence

from tfmodel.config import ConfigError
from tfmodel.data.dedupe import text_digest
from tfmodel.data.rows import Row


def split_off(
    rows: Sequence[Row], shares: Mapping[str, float], *, seed: int
) -> dict[str, list[Row]]:
    """Split rows, each class in proportion; every class keeps a row in train.

    Args:
        rows: distinct texts, so that none can stand in two splits.
        shares: share of all rows by name of the split, in (0, 1), together below 1.
        seed: equal seeds give equal splits.

    Returns:
        The rows by split, `train` (the rest) first, each in the order given. Sizes are the shares
        rounded, at least one row each.

    Raises:
        ConfigError: there are too few rows for that.
    """
    by_label = _ranked_by_label(rows, salt=f"{seed}:split")
    sizes = {label: len(members) for label, members in by_label.items()}
    split_of: dict[int, str] = {}
    taken = dict.fromkeys(sizes, 0)
    for name, share in shares.items():
        counts = allocate(
            {label: size * share for label, size in sizes.items()},
            total=max(1, round(len(rows) * share)),
            most={label: sizes[label] - 1 - taken[label] for label in sizes},
            salt=f"{seed}:{name}",
        )
        if sum(counts.values()) == 0:
            raise _too_few_rows(len(rows), len(sizes), name, shares)
        for label, count in counts.items():
            for row in by_label[label][taken[label] : taken[label] + count]:
                split_of[id(row)] = name
            taken[label] += count
    parts: dict[str, list[Row]] = {name: [] for name in ("train", *shares)}
    for row in rows:
        parts[split_of.get(id(row), "train")].append(row)
    return parts


def sample(rows: Sequence[Row], count: int, *, seed: int) -> tuple[list[Row], list[Row]]:
    """Draw rows, each class in proportion and at least one of each.

    Returns:
        The rows drawn and the rows left, each in the order given.

    Raises:
        ConfigError: `count` is below the number of classes.
    """
    by_label = _ranked_by_label(rows, salt=f"{seed}:sample")
    if count < len(by_label):
        raise ConfigError(
            f"data.max_rows: expected at least one row for each of the {len(by_label)} classes of "
            f"train. Received: {count}. Raise it to {len(by_label)} or more."
        )
    if count >= len(rows):
        return list(rows), []
    counts = allocate(
        {label: len(members) * count / len(rows) for label, members in by_label.items()},
        total=count,
        most={label: len(members) for label, members in by_label.items()},
        least=1,
        salt=f"{seed}:sample",
    )
    drawn = {id(row) for label, members in by_label.items() for row in members[: counts[label]]}
    return (
        [row for row in rows if id(row) in drawn],
        [row for row in rows if id(row) not in drawn],
    )


def allocate(
    quotas: Mapping[str, float], *, total: int, most: Mapping[str, int], least: int = 0, salt: str
) -> dict[str, int]:
    """Round quotas to whole numbers that add up to `total`, as far as the limits let them.

    The largest fractions are rounded up (Hamilton's method); equal ones in an order drawn from
    the salt, so that no class is favoured by its name.
    """
    counts = {
        label: min(max(math.floor(quota), least), most[label]) for label, quota in quotas.items()
    }
    while (missing := total - sum(counts.values())) != 0:
        step = 1 if missing > 0 else -1
        movable = [
            label
            for label in counts
            if (counts[label] < most[label] if step > 0 else counts[label] > least)
        ]
        if not movable:
            break
        movable.sort(key=lambda label: (-step * (quotas[label] - counts[label]), _tie(label, salt)))
        for label in movable[: abs(missing)]:
            counts[label] += step
    return counts


def _tie(label: str, salt: str) -> bytes:
    return hashlib.blake2b(label.encode(), key=salt.encode()[:64]).digest()


def _ranked_by_label(rows: Sequence[Row], *, salt: str) -> dict[str, list[Row]]:
    by_label: dict[str, list[Row]] = collections.defaultdict(list)
    for row in rows:
        by_label[row.label or ""].append(row)
    for members in by_label.values():
        members.sort(key=lambda row: text_digest(row, salt=salt))
    return {label: by_label[label] for label in sorted(by_label)}


def _too_few_rows(rows: int, classes: int, name: str, shares: Mapping[str, float]) -> ConfigError:
    return ConfigError(
        f"data: expected enough rows to split off {' and '.join(shares)} and leave each class one "
        f"in train. Received: {rows} rows in {classes} classes, none left for {name}. Add rows, "
        f"check that data.label names the label column, or name files by data.dev and data.test."
    )
