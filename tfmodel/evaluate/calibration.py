"""How sure a classifier should be: one temperature for all its logits, one bias for none of them.

Letters: n rows, C classes.
"""

from __future__ import annotations

import math

import numpy as np

KEPT_SHARE = 0.95
"""Rows with a class that keep it where no row says what a row without one looks like."""

_REACH = 3.0  # log temperatures looked at; beyond e^3 scores say nothing
_GOLDEN = (math.sqrt(5) - 1) / 2


def temperature(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """The number that logits are divided by, so that scores are as high as answers are right.

    Args:
        targets: integers (n,), the right class of each row.
        probabilities: softmax of the logits, floats (n, C).

    Returns:
        Above 1 where the model is too sure. The order of a row's scores is not changed.

    Raises:
        ValueError: no rows.

    Source: Guo et al. 2017, section 4.2: the least log loss. Deviation: of each target the share
    1 / (n + 2) goes to the other classes alike, as in Platt 1999, section 2.2; without it a part
    that is answered without a mistake would ask for scores of exactly 1.
    """
    if not len(targets):
        raise ValueError("at least one row is needed to choose a temperature. Received: 0 rows.")
    logits = log_scores(probabilities)
    rows, classes = logits.shape
    right = np.take_along_axis(logits, np.asarray(targets, np.int64)[:, None], axis=1)[:, 0]
    doubt = 1 / (rows + 2)
    wanted = (1 - doubt) * right + doubt * (logits.sum(axis=1) - right) / (classes - 1)

    def cost(log_temperature: float) -> float:
        sureness = math.exp(-log_temperature)
        scaled = logits * sureness
        peak = scaled.max(axis=1, keepdims=True)
        total = peak[:, 0] + np.log(np.exp(scaled - peak).sum(axis=1))
        return float((total - sureness * wanted).sum())

    return math.exp(_least(cost, -_REACH, _REACH))


def none_bias(targets: np.ndarray, probabilities: np.ndarray, none: int) -> float:
    """What is added to the logit of "none of these", which is 0 for every text.

    A row has none of the classes where no other logit exceeds it. With rows of its own on this
    part it is where the share of them that is found, and the share of the others that keeps a
    class, are the highest together: how many rows of it somebody collected plays no part. Without
    such rows, 95% of the others keep theirs.

    Args:
        targets: integers (n,), the right class of each row.
        probabilities: softmax of the logits, floats (n, C).
        none: the index of "none of these".

    Raises:
        ValueError: there is no row of another class.

    Source: Hendrycks et al. 2022, section 3: the highest logit tells what is out of scope.
    """
    logits = log_scores(probabilities)
    margins = np.delete(logits, none, axis=1).max(axis=1) - logits[:, none]
    has_none = np.asarray(targets) == none
    if has_none.all():
        raise ValueError("at least one row with a class is needed to tell it from none.")
    if not has_none.any():
        return float(np.quantile(margins, 1 - KEPT_SHARE))
    bounds = np.sort(margins)
    bounds = np.concatenate([[bounds[0] - 1], bounds, [bounds[-1] + 1]])
    found, lost = (
        np.searchsorted(np.sort(each), bounds[:-1], side="right") / len(each)
        for each in (margins[has_none], margins[~has_none])
    )
    gaps = np.diff(bounds)  # a bias fits where two margins differ
    worth = np.where(gaps > 0, found - lost, -np.inf)
    best = np.flatnonzero(worth >= worth.max() - 1e-12)
    place = best[np.argmax(gaps[best])]
    return float(bounds[place : place + 2].mean())


def log_scores(probabilities: np.ndarray) -> np.ndarray:
    """Logits of probabilities (n, C), up to a number a row, in float64."""
    found = np.asarray(probabilities, np.float64)
    return np.log(np.maximum(found, np.finfo(np.float32).tiny))


def _least(cost, low: float, high: float, *, steps: int = 60) -> float:
    """Where a function with one valley is the lowest: golden section search."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    of_left, of_right = cost(left), cost(right)
    for _ in range(steps):
        if of_left <= of_right:
            high, right, of_right = right, left, of_left
            left = high - _GOLDEN * (high - low)
            of_left = cost(left)
        else:
            low, left, of_left = left, right, of_right
            right = low + _GOLDEN * (high - low)
            of_right = cost(right)
    return (low + high) / 2
