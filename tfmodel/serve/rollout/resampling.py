"""Figures of two versions on the same rows, with intervals: the rows drawn again, as pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

DRAWS = 1000
_VALUES_AT_ONCE = 2**22


@dataclasses.dataclass(frozen=True, eq=False)
class Counted:
    """A figure that is computed from sums over rows.

    Attributes:
        rows: float (n, k), what each row adds.
        figure: sums (…, k) to figures (…).
    """

    rows: np.ndarray
    figure: Callable[[np.ndarray], np.ndarray]

    @property
    def value(self) -> float:
        """The figure of all rows."""
        return float(self.figure(self.rows.sum(axis=0)))


def means(rows: np.ndarray) -> Counted:
    """The mean of a number a row, (n,)."""
    rows = np.asarray(rows, np.float64)
    both = np.stack([rows, np.ones(len(rows))], axis=1)
    return Counted(both, lambda sums: sums[..., 0] / sums[..., 1])


def f1(hits: np.ndarray, given: np.ndarray, right: np.ndarray) -> Counted:
    """F1 of counts a row, (n,) each, all rows together; 0 where there is nothing."""
    rows = np.stack([hits, given, right], axis=1).astype(np.float64)
    return Counted(rows, lambda sums: 2 * sums[..., 0] / np.maximum(sums[..., 1] + sums[..., 2], 1))


def correlation(first: np.ndarray, second: np.ndarray) -> Counted:
    """Pearson's correlation of numbers (n,); not a number where either side has no spread."""
    x, y = (np.asarray(each, np.float64) for each in (first, second))
    # Near zero and of like size, so that the differences of sums below keep their digits.
    x, y = ((each - each.mean()) / (each.std() or 1.0) for each in (x, y))
    rows = np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=1)

    def figure(sums: np.ndarray) -> np.ndarray:
        n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
        spread = np.maximum(n * xx - x * x, 0) * np.maximum(n * yy - y * y, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = (n * xy - x * y) / np.sqrt(spread)
        return np.where(spread > 1e-12 * n**4, found, np.nan)

    return Counted(rows, figure)


def compared(old: Counted, new: Counted) -> dict[str, Any]:
    """Two versions' figure on the same n rows.

    Returns:
        `old`, `new` and `difference` (new less old), each with an `_interval` (95%, low and high);
        None where there is no number.

    Source: the paired percentile bootstrap, Efron and Tibshirani 1993, chapter 13: each draw takes
    the same rows of both versions. The ranks of Spearman's correlation are those of all rows.
    """
    count = len(old.rows)
    generator = np.random.default_rng(0)
    drawn: list[np.ndarray] = []
    step = max(1, _VALUES_AT_ONCE // count)
    for start in range(0, DRAWS, step):
        chances = np.full(count, 1 / count)
        times = generator.multinomial(count, chances, size=min(step, DRAWS - start))
        drawn.append(np.stack([each.figure(times @ each.rows) for each in (old, new)]))
    of_old, of_new = np.concatenate(drawn, axis=1)
    figures = {"old": of_old, "new": of_new, "difference": of_new - of_old}
    values = {"old": old.value, "new": new.value, "difference": new.value - old.value}
    found: dict[str, Any] = {}
    for name, draws in figures.items():
        found[name] = plain(values[name])
        found[f"{name}_interval"] = interval(draws)
    return found


def interval(draws: np.ndarray) -> list[float] | None:
    """The middle 95% of draws; None where some are no numbers."""
    if not np.isfinite(draws).all():
        draws = draws[np.isfinite(draws)]
        if len(draws) < DRAWS // 2:
            return None
    return [float(end) for end in np.percentile(draws, [2.5, 97.5])]


def plain(value: float) -> float | None:
    """A number as JSON has it."""
    return float(value) if np.isfinite(value) else None


def latencies(old: np.ndarray, new: np.ndarray) -> dict[str, Any]:
    """How long two versions took for the same n requests.

    Args:
        old: seconds, float (n,).
        new: likewise.

    Returns:
        `requests`; of `p50` and `p99` each `old` and `new` in milliseconds, and `ratio` (new by
        old), all with an `_interval` (95%).

    Source: as `compared`.
    """
    rows = np.random.default_rng(0).integers(0, len(old), (DRAWS, len(old)))
    found: dict[str, Any] = {"requests": len(old)}
    for name, percent in (("p50", 50), ("p99", 99)):
        one, other = (np.percentile(each, percent) * 1000 for each in (old, new))
        draws = [np.percentile(each[rows], percent, axis=1) * 1000 for each in (old, new)]
        found[name] = {
            "old": float(one),
            "old_interval": interval(draws[0]),
            "new": float(other),
            "new_interval": interval(draws[1]),
            "ratio": float(other / one),
            "ratio_interval": interval(draws[1] / draws[0]),
        }
    return found
