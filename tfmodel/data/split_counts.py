"""How many rows go to which split: what counts alone decide."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.data.settings import DataSettings


def shares_to_split_off(settings: DataSettings, roles: Collection[str]) -> dict[str, float]:
    """Say which splits are to be split off train, and what share of its rows each gets.

    Args:
        settings: the `data:` section.
        roles: for which there are files.
    """
    shares = {}
    if "dev" not in roles and "test" not in roles:
        shares["test"] = settings.test_share
    if "dev" not in roles:
        shares["dev"] = settings.dev_share
    return {name: share for name, share in shares.items() if share > 0}


def hash_bounds(shares: Mapping[str, float]) -> np.ndarray:
    """Give the rank at which each share ends, the one before it taken off, in 64 bits."""
    return np.cumsum([share * 2.0**64 for share in shares.values()])


def sample_counts(
    sizes: Mapping[str, int], *, count: int, seed: int, are_classes: bool = True
) -> dict[str, int] | None:
    """Say how many rows of each stratum `sample` keeps; None: all.

    Args:
        sizes: rows by stratum.
        count: rows to keep.
        seed: of which strata are rounded up.
        are_classes: whether the strata are classes, of each of which a row must stay; else, as
            sets of several labels, they may go where there are more of them than rows.

    Raises:
        ConfigError: `count` is below the number of classes.
    """
    sizes = {stratum: size for stratum, size in sizes.items() if size}
    if are_classes and count < len(sizes):
        raise ConfigError(
            f"data.max_rows: expected at least one row for each of the {len(sizes)} classes of "
            f"train. Received: {count}. Raise it to {len(sizes)} or more."
        )
    total = sum(sizes.values())
    if count >= total:
        return None
    return allocate(
        {stratum: size * count / total for stratum, size in sizes.items()},
        total=count,
        most=sizes,
        least=int(count >= len(sizes)),
        salt=f"{seed}:sample",
    )


def stratified_counts(
    sizes: Mapping[str, int], shares: Mapping[str, float], *, seed: int
) -> dict[str, dict[str, int]]:
    """Say how many rows of each stratum go to each split that is split off.

    Raises:
        ConfigError: there are too few rows for that.
    """
    sizes = {stratum: size for stratum, size in sizes.items() if size}
    rows = sum(sizes.values())
    taken = dict.fromkeys(sizes, 0)
    found = {}
    for name, share in shares.items():
        found[name] = allocate(
            {stratum: size * share for stratum, size in sizes.items()},
            total=max(1, round(rows * share)),
            most={stratum: sizes[stratum] - 1 - taken[stratum] for stratum in sizes},
            salt=f"{seed}:{name}",
        )
        if sum(found[name].values()) == 0:
            raise _too_few_rows(rows, len(sizes), name, shares)
        for stratum, count in found[name].items():
            taken[stratum] += count
    return found


def time_start(left: int, rows: int, name: str, shares: Mapping[str, float]) -> int:
    """Say at which place, in the order of time, the latest rows begin that go to a split.

    Args:
        left: rows that are not split off yet, all of them earlier than those that are.
        rows: all rows.
        name: of the split.
        shares: of all splits.

    Raises:
        ConfigError: there are too few rows for that.
    """
    start = left - max(1, round(rows * shares[name]))
    if start < 0:
        raise _too_few_rows(rows, 1, name, shares)
    return start


def check_none_is_empty(sizes: Mapping[str, int], shares: Mapping[str, float]) -> None:
    """Refuse splits of which one is empty.

    Args:
        sizes: rows of each split, train included.
        shares: of those that were split off.

    Raises:
        ConfigError: one is.
    """
    for name, size in sizes.items():
        if size == 0:
            raise ConfigError(
                f"data.split: expected rows for each of {', '.join([*shares, 'train'])}. Received: "
                f"{sum(sizes.values()):,} rows, none left for {name}: too few rows, groups or "
                f"moments to cut between. Add rows, set `split: stratified`, or name files by "
                f"data.dev and data.test."
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


def _too_few_rows(rows: int, classes: int, name: str, shares: Mapping[str, float]) -> ConfigError:
    return ConfigError(
        f"data: expected enough rows to split off {' and '.join(shares)} and leave each class one "
        f"in train. Received: {rows} rows in {classes} classes, none left for {name}. Add rows, "
        f"check that data.label names the label column, or name files by data.dev and data.test."
    )


def last_of_dev(lowest: int, at_count: int, highest: int, *, train: str) -> int:
    """Give the highest rank that goes to dev, where what has one rank is one document's.

    Args:
        lowest: the lowest rank of all.
        at_count: the rank at the place where dev should end; the first that should stay in train.
        highest: the highest rank of all.
        train: what messages call the source.

    Raises:
        ConfigError: there is one rank alone.
    """
    if lowest == highest:
        raise ConfigError(
            f"{train}: expected two documents at least, one for dev. Received: pieces of one, "
            f"which is longer than corpus.max_characters. Name other text by corpus.dev, add text, "
            f"or set corpus.documents to what a document is in your files."
        )
    return at_count - 1 if at_count > lowest else lowest
