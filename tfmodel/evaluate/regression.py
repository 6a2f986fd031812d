"""How good a regressor's answers are: right and given numbers in, one dict of figures out.

Letters: n rows.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmodel.evaluate.examples import check_columns, shown_row

MISTAKES = 50
CORRECT = 20
POINTS = 1000


def regression(
    targets: np.ndarray,
    predictions: np.ndarray,
    *,
    texts: Sequence[str] | None = None,
    text_pairs: Sequence[str] | None = None,
    origins: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Measure a regressor on rows whose right numbers are known.

    Args:
        targets: the right numbers, floats `(n,)`.
        predictions: the given ones, floats `(n,)`.
        texts: n texts, for the examples; without them examples carry no text.
        text_pairs: n second texts, where the task has pairs.
        origins: n places the rows came from (`train.csv:12`).

    Returns:
        A dict that `json.dumps` takes: `examples` (n), `pearson` and `spearman` with
        `pearson_interval` and `spearman_interval` (95%, low and high; all None where either side
        is one number throughout), `rmse` (root of the mean squared error), `mae` (mean absolute
        error), `bias` (mean of given less right), `target_deviation` (standard deviation of the
        right numbers: the rmse of always answering their mean), `points` (at most 1,000 pairs of
        right and given, spread over the rows), `mistakes` (at most 50, the farthest off first)
        and `correct` (at most 20, the nearest first), each with `score` (the right number),
        `predicted` and `error`.

    Raises:
        ValueError: shapes that do not fit each other, no rows, or numbers that are not finite.

    Source: intervals of Pearson's correlation by Fisher's z, of Spearman's by Bonett and Wright
    2000.
    """
    targets, predictions = (np.asarray(each, np.float64) for each in (targets, predictions))
    _check(targets, predictions)
    columns = {"texts": texts, "text_pairs": text_pairs, "origins": origins}
    check_columns(columns, rows=len(targets))
    errors = predictions - targets
    order = np.argsort(-np.abs(errors), kind="stable")

    def example(row: int) -> dict[str, Any]:
        return {
            **shown_row(columns, row),
            "score": float(targets[row]),
            "predicted": float(predictions[row]),
            "error": float(errors[row]),
        }

    spread = np.unique(np.linspace(0, len(targets) - 1, POINTS).round().astype(int))
    return {
        "examples": len(targets),
        **_with_interval("pearson", pearson(targets, predictions), len(targets), scale=0.0),
        **_with_interval("spearman", spearman(targets, predictions), len(targets), scale=0.5),
        "rmse": float(np.sqrt(np.mean(errors**2))),
        "mae": float(np.mean(np.abs(errors))),
        "bias": float(np.mean(errors)),
        "target_deviation": float(targets.std()),
        "points": np.stack([targets, predictions], axis=1)[spread].tolist(),
        "mistakes": [example(row) for row in order[:MISTAKES].tolist()],
        "correct": [example(row) for row in order[::-1][:CORRECT].tolist()],
    }


def pearson(first: np.ndarray, second: np.ndarray) -> float:
    """The linear correlation of numbers (n,) with others, in [-1, 1].

    It is not a number where either side has no spread, or holds what is no number.
    """
    centred = []
    for each in (first, second):
        values = np.asarray(each, np.float64)
        if not np.isfinite(values).all() or np.ptp(values) == 0:
            return math.nan
        values = values - values.mean()
        centred.append(values / np.linalg.norm(values))
    return float(np.clip(np.dot(*centred), -1, 1))


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """The correlation of ranks of numbers (n,) with those of others; equal numbers share a rank.

    It is not a number where either side is one number throughout, or holds what is no number.
    """
    first, second = (np.asarray(each, np.float64) for each in (first, second))
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return math.nan
    return pearson(ranks(first), ranks(second))


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of numbers (n,), from 1; equal numbers share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def _with_interval(name: str, value: float, rows: int, *, scale: float) -> dict[str, Any]:
    """A correlation and its 95% interval, as JSON holds them."""
    if math.isnan(value):
        return {name: None, f"{name}_interval": None}
    if rows <= 3:
        return {name: value, f"{name}_interval": [-1.0, 1.0]}
    if abs(value) >= 1:
        return {name: value, f"{name}_interval": [value, value]}
    reach = 1.959964 * math.sqrt((1 + scale * value**2) / (rows - 3))
    middle = math.atanh(value)
    return {name: value, f"{name}_interval": [math.tanh(middle - reach), math.tanh(middle + reach)]}


def _check(targets: np.ndarray, predictions: np.ndarray) -> None:
    if targets.ndim != 1 or targets.shape != predictions.shape:
        raise ValueError(
            "targets and predictions must hold one number a row each, shape (n,). "
            f"Received: {targets.shape} and {predictions.shape}."
        )
    if not len(targets):
        raise ValueError("at least one row is needed to measure anything. Received: 0 rows.")
    for name, values in (("targets", targets), ("predictions", predictions)):
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values)))
            raise ValueError(f"{name} must be finite. Received: {values[row]} in row {row}.")
