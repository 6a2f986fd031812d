"""Which row goes to which split: the same for a seed, whatever the rows' order or the machine.

Each row has a rank, 64 bits: by chance (a hash of seed and text), by its group, or by time. Splits
are cut by rank, and only ranks are sorted, on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tfmodel.data.parts import Parts, with_codes
from tfmodel.data.parts.buckets import Buckets
from tfmodel.data.parts.fates import Fates, ids_of
from tfmodel.data.split_counts import (
    check_none_is_empty,
    hash_bounds,
    last_of_dev,
    sample_counts,
    stratified_counts,
    time_start,
)

_RECORD = np.dtype([("key", "<u8"), ("id", "<u8"), ("stratum", "<i8")])


def split_off(
    parts: Parts,
    fates: Fates,
    folder: Path,
    *,
    method: str,
    shares: Mapping[str, float],
    strata: Mapping[str, int],
    seed: int,
) -> None:
    """Split the rows that came from train: some go to test and dev, the rest stays.

    `stratified` takes the shares rounded, at least one row each, every stratum in proportion,
    and leaves each stratum a row in train. `hash` and `group` put a row where its rank says,
    whatever other rows there are: it stays there when rows are added; shares hold in
    expectation. `time` takes the latest rows for test, those before them for dev; rows of one
    moment stay together.

    Args:
        parts: all parts.
        fates: tells which rows are kept; receives their splits.
        folder: a folder of its own for sorting.
        method: stratified, hash, group or time.
        shares: share of the rows by name of the split, each in (0, 1), together below 1.
        strata: number of each stratum.
        seed: equal seeds give equal splits.

    Raises:
        ConfigError: there are too few rows for that.
    """
    chosen = dict(parts=parts, fates=fates, column="split_rank", strata=strata)
    if method == "stratified":
        sizes = _count(**chosen)
        counts = stratified_counts(sizes, shares, seed=seed)
        _cut_strata(Buckets(folder, _RECORD), counts, fates.assign, **chosen)
    elif method == "time":
        _cut_times(Buckets(folder, _RECORD), shares, **chosen)
    else:
        bounds = hash_bounds(shares)
        sizes = dict.fromkeys([*shares, "train"], 0)
        for records in _train_records(**chosen):
            place = np.searchsorted(bounds, records["key"].astype(np.float64), side="right")
            for number, name in enumerate(sizes):
                fates.assign(records["id"][place == number], name)
                sizes[name] += int((place == number).sum())
        check_none_is_empty(sizes, shares)


def split_off_dev(
    parts: Parts,
    fates: Fates,
    folder: Path,
    *,
    count: int,
    train: str,
    strata: Mapping[str, int],
    seed: int,
) -> None:
    """Split dev off train: of documents the lowest ranks, pieces of one document together.

    Args:
        parts: all parts.
        fates: tells which documents are kept; receives their splits.
        folder: a folder of its own for sorting.
        count: how many go to dev, in [1, those in train); fewer where a document of several pieces
            would exceed it, but one document at least.
        train: what messages call the source.
        strata: number of the one stratum.
        seed: equal seeds give equal splits.

    Raises:
        ConfigError: all are pieces of one document.
    """
    chosen = dict(parts=parts, fates=fates, column="split_rank", strata=strata)
    buckets = Buckets(folder, _RECORD)
    for records in _train_records(**chosen):
        buckets.add(records)
    places = (0, count, buckets.count - 1)
    last = last_of_dev(*(int(_key_at(buckets, place)[0]) for place in places), train=train)
    buckets.close()
    for records in _train_records(**chosen):
        is_dev = records["key"] <= np.uint64(last)
        fates.assign(records["id"][is_dev], "dev")
        fates.assign(records["id"][~is_dev], "train")


def sample(
    parts: Parts,
    fates: Fates,
    folder: Path,
    *,
    count: int,
    strata: Mapping[str, int],
    seed: int,
    are_classes: bool = True,
    reason: str = "max_rows",
) -> None:
    """Keep this many rows of the split train, each stratum in proportion, at least one of each.

    Why the others are dropped is `reason`, one of `NOT_DRAWN`. Of strata that are no classes some
    go where there are more of them than rows.

    Raises:
        ConfigError: `count` is below the number of classes.
    """
    chosen = dict(parts=parts, fates=fates, column="sample_rank", strata=strata)
    drawn = sample_counts(_count(**chosen), count=count, seed=seed, are_classes=are_classes)
    if drawn is None:
        return

    def keep_or_drop(ids: np.ndarray, name: str) -> None:
        if name != "sample":
            fates.drop(ids, reason)

    _cut_strata(Buckets(folder, _RECORD), {"sample": drawn}, keep_or_drop, **chosen)


# --- how ------------------------------------------------------------------------------------


def _train_records(parts: Parts, fates: Fates, column: str, strata: Mapping[str, int]):
    """Give rank, id and stratum of the rows kept in train so far, part by part."""
    for number in parts.numbers():
        if fates.roles[number] != "train":
            continue
        index = parts.index(number)
        ids = ids_of(number, len(index))
        records = np.empty(len(index), _RECORD)
        records["key"], records["id"] = index[column], ids
        records["stratum"] = with_codes(index, parts.summary(number), strata)
        yield records[fates.is_in_train(ids)]


def _count(strata: Mapping[str, int], **chosen) -> dict[str, int]:
    counts = np.zeros(len(strata), np.int64)
    for records in _train_records(strata=strata, **chosen):
        counts += np.bincount(records["stratum"], minlength=len(strata))
    return {name: int(counts[code]) for name, code in strata.items()}


def _cut_strata(
    buckets: Buckets,
    counts: Mapping[str, Mapping[str, int]],
    assign: Callable[[np.ndarray, str], None],
    *,
    strata: Mapping[str, int],
    **chosen,
) -> None:
    """Give the lowest ranks of each stratum to the first name, the next to the second ..."""
    for records in _train_records(strata=strata, **chosen):
        buckets.add(records)
    ends, end = [], np.zeros(len(strata), np.int64)
    for wanted in counts.values():
        end = end + np.array([wanted.get(name, 0) for name in strata], np.int64)
        ends.append(end)
    seen = np.zeros(len(strata), np.int64)
    for chunk in buckets:
        chunk = chunk[np.argsort(chunk["stratum"], kind="stable")]
        sizes = np.bincount(chunk["stratum"], minlength=len(strata))
        starts = np.cumsum(sizes) - sizes
        nth = np.arange(len(chunk)) - starts[chunk["stratum"]] + seen[chunk["stratum"]]
        seen += sizes
        place = sum((nth >= end[chunk["stratum"]]).astype(np.int64) for end in ends)
        for number, name in enumerate([*counts, "train"]):
            assign(chunk["id"][place == number], name)
    buckets.close()


def _cut_times(buckets: Buckets, shares: Mapping[str, float], **chosen) -> None:
    rows = 0
    for records in _train_records(**chosen):
        buckets.add(records)
        rows += len(records)
    bounds, left = [], rows
    for name in shares:  # test, then dev: the latest first
        bound, left = _key_at(buckets, time_start(left, rows, name, shares))
        bounds.append(bound)
    buckets.close()
    sizes = dict.fromkeys([*shares, "train"], 0)
    for records in _train_records(**chosen):
        # How many bounds a row stands before: none for the latest rows.
        place = sum((records["key"] < bound).astype(np.int64) for bound in bounds)
        for number, name in enumerate(sizes):
            chosen["fates"].assign(records["id"][place == number], name)
            sizes[name] += int((place == number).sum())
    check_none_is_empty(sizes, shares)


def _key_at(buckets: Buckets, place: int) -> tuple[np.uint64, int]:
    """Give the key at a place of the sorted records, and how many records have a lower one."""
    seen = 0
    for chunk in buckets:
        if place < seen + len(chunk):
            bound = chunk["key"][place - seen]
            return bound, seen + int(np.searchsorted(chunk["key"], bound))
        seen += len(chunk)
    raise IndexError(place)
