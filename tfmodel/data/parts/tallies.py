"""Counting over parts: raw rows, reasons, strata and names, by file and by split."""

from __future__ import annotations

import collections
from collections.abc import Mapping

import numpy as np

from tfmodel.data.parts import Parts, with_codes
from tfmodel.data.parts.fates import REASONS, SPLITS, Fates


def raw_and_dropped(parts: Parts, role: str) -> tuple[int, collections.Counter[str]]:
    """Count the raw rows of a role, and those left out while they were cleaned, by reason."""
    raw, dropped = 0, collections.Counter()
    for number in parts.numbers_of(role):
        summary = parts.summary(number)
        raw += summary["raw"]
        dropped.update(summary["dropped"])
    return raw, dropped


def kept_and_dropped(parts: Parts, fates: Fates, role: str) -> tuple[int, collections.Counter[str]]:
    """Count the rows of a role that are kept so far, and those dropped since, by reason."""
    kept, dropped = 0, collections.Counter()
    for number in parts.numbers_of(role):
        reasons, _, _ = fates.of_part(number, len(parts.index(number)))
        counts = np.bincount(reasons, minlength=len(REASONS)).tolist()
        kept += counts[0]
        found = zip(REASONS[1:], counts[1:], strict=True)
        dropped.update({name: count for name, count in found if count})
    return kept, dropped


def strata_by_role(parts: Parts, strata: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Count the rows of each stratum by role, before duplicates are dropped; none is 0."""
    counts = {role: np.zeros(len(strata), np.int64) for role in SPLITS}
    for number in parts.numbers():
        summary = parts.summary(number)
        codes = with_codes(parts.index(number), summary, strata)
        counts[summary["role"]] += np.bincount(codes, minlength=len(strata))
    return {role: _named(found, strata) for role, found in counts.items()}


def strata_by_split(
    parts: Parts, fates: Fates, strata: Mapping[str, int]
) -> dict[str, dict[str, int]]:
    """Count the kept rows of each stratum by split; none is 0; without splits that are empty."""
    counts = np.zeros((1 + len(SPLITS), len(strata)), np.int64)
    for number in parts.numbers():
        index = parts.index(number)
        codes = with_codes(index, parts.summary(number), strata)
        reasons, splits, _ = fates.of_part(number, len(index))
        np.add.at(counts, (splits[reasons == 0], codes[reasons == 0]), 1)
    return {
        name: _named(counts[place], strata)
        for place, name in enumerate(SPLITS, start=1)
        if counts[place].any()
    }


def rows_and_bytes(parts: Parts, fates: Fates) -> dict[str, tuple[int, int]]:
    """Count the kept rows of each split and their bytes, without splits that are empty."""
    rows, size = collections.Counter(), collections.Counter()
    for number in parts.numbers():
        index = parts.index(number)
        reasons, splits, _ = fates.of_part(number, len(index))
        for place, name in enumerate(SPLITS, start=1):
            chosen = (reasons == 0) & (splits == place)
            rows[name] += int(chosen.sum())
            size[name] += int(index["bytes"][chosen].sum())
    return {name: (rows[name], size[name]) for name in SPLITS if rows[name]}


def names_by_role(
    parts: Parts,
) -> tuple[dict[str, collections.Counter[str]], dict[str, dict[str, str]]]:
    """Count rows by the classes named in their labels, and say where each stands first."""
    counts: dict[str, collections.Counter[str]] = {}
    origins: dict[str, dict[str, str]] = {}
    for number in parts.numbers():
        summary = parts.summary(number)
        role = summary["role"]
        for name, (rows, origin) in summary["names"].items():
            counts.setdefault(role, collections.Counter())[name] += rows
            origins.setdefault(role, {}).setdefault(name, origin)
    return counts, origins


def positive(counts: Mapping[str, int]) -> dict[str, int]:
    """Leave out what is not there at all."""
    return {name: count for name, count in counts.items() if count}


def _named(found: np.ndarray, strata: Mapping[str, int]) -> dict[str, int]:
    return {name: int(found[code]) for name, code in strata.items()}
