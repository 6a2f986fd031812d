"""How good sentence vectors are: in the order of scored pairs, and at finding a text's partner.

Letters: n rows, K texts of a row, D width, M texts to choose from.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmodel.evaluate.classification import wilson_interval
from tfmodel.evaluate.examples import check_columns, shorten, shown_row
from tfmodel.evaluate.regression import CORRECT, MISTAKES, POINTS, ranks, regression

REACHES = (1, 10)
"""The k of `recall_at_k`."""
CURVE = 100  # of ranks, how many a picture of recall shows
_AT_ONCE = 1024
_CORRELATIONS = ("pearson", "spearman")


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (…, D) brought to length 1, float64; one of zeros stays one."""
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def cosines(vectors: np.ndarray) -> np.ndarray:
    """The cosine of the first two texts of each row, (n, K, D) to float64 (n,).

    To 9 places: rows whose two vectors are equal must share their rank.
    """
    first, second = unit(vectors[:, 0]), unit(vectors[:, 1])
    return np.round(np.sum(first * second, axis=-1), 9)


def nearest(
    queries: np.ndarray, vectors: np.ndarray, *, count: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Find the vectors that are nearest to others by their cosine.

    Args:
        queries: float (n, D).
        vectors: float (M, D), those to choose from.
        count: how many for each query; all, where there are fewer.

    Returns:
        Numbers of `vectors`, int64 (n, count), the nearest first, and their cosines, float64.

    Raises:
        ValueError: vectors of different widths, or a count below 1.

    Example:
        >>> rows, scores = nearest(predictor.vectors(["How do I pay?"]), predictor.vectors(answers))
        >>> answers[rows[0, 0]]
    """
    queries, vectors = np.asarray(queries), np.asarray(vectors)
    if queries.ndim != 2 or vectors.ndim != 2 or queries.shape[1] != vectors.shape[1]:
        raise ValueError(
            "queries and vectors must be (n, D) and (M, D). "
            f"Received: {queries.shape} and {vectors.shape}."
        )
    if count < 1:
        raise ValueError(f"count must be 1 or more. Received: {count}.")
    queries, vectors = unit(queries), unit(vectors)
    count = min(count, len(vectors))
    rows = np.empty((len(queries), count), np.int64)
    scores = np.empty((len(queries), count))
    for start in range(0, len(queries), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        similar = queries[part] @ vectors.T
        found = np.argpartition(-similar, count - 1, axis=1)[:, :count] if count else rows[part]
        order = np.argsort(-np.take_along_axis(similar, found, axis=1), axis=1, kind="stable")
        rows[part] = np.take_along_axis(found, order, axis=1)
        scores[part] = np.take_along_axis(similar, rows[part], axis=1)
    return rows, scores


def scored_pairs(
    targets: np.ndarray,
    vectors: np.ndarray,
    *,
    texts: Sequence[str] | None = None,
    text_pairs: Sequence[str] | None = None,
    origins: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Measure how the cosine of two texts follows their score.

    Args:
        targets: the right scores, float (n,), on any scale.
        vectors: of both texts, float (n, 2, D).
        texts: n texts, for the examples; without them examples carry no text.
        text_pairs: n second texts.
        origins: n places the rows came from.

    Returns:
        A dict that `json.dumps` takes: `examples` (n), `pearson` and `spearman` with intervals, as
        `evaluate.regression` gives them, `points` (at most 1,000 pairs of score and cosine),
        `mistakes` (at most 50: where the two orders differ most) and `correct` (at most 20: where
        they differ least), each with `score`, `cosine` and `error`, the difference of its places
        in the two orders, as a share of all.

    Raises:
        ValueError: shapes that do not fit each other, no rows, or numbers that are not finite.
    """
    targets, given = np.asarray(targets, np.float64), cosines(np.asarray(vectors))
    found = regression(targets, given)
    columns = {"texts": texts, "text_pairs": text_pairs, "origins": origins}
    check_columns(columns, rows=len(targets))
    errors = (ranks(given) - ranks(targets)) / len(targets)
    order = np.argsort(-np.abs(errors), kind="stable")

    def example(row: int) -> dict[str, Any]:
        return {
            **shown_row(columns, row),
            "score": float(targets[row]),
            "cosine": float(given[row]),
            "error": float(errors[row]),
        }

    spread = np.unique(np.linspace(0, len(targets) - 1, POINTS).round().astype(int))
    kept = ("examples", *_CORRELATIONS, *(f"{name}_interval" for name in _CORRELATIONS))
    return {
        **{name: found[name] for name in kept},
        "points": np.stack([targets, given], axis=1)[spread].tolist(),
        "mistakes": [example(row) for row in order[:MISTAKES].tolist()],
        "correct": [example(row) for row in order[::-1][:CORRECT].tolist()],
    }


def retrieval(
    targets: np.ndarray,
    vectors: np.ndarray,
    *,
    texts: Sequence[str] | None = None,
    text_pairs: Sequence[str] | None = None,
    origins: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Measure how well a text's partner is found among the partners of all rows.

    Negatives are among those to choose from, too. What is equal to the text itself, and the other
    partners of an equal text, are not. Of texts that are equally near, half stand before.

    Args:
        targets: the number of each text, int (n, K): equal texts, equal numbers.
        vectors: float (n, K, D): the text, its partner and, where there is one, a negative.
        texts: n texts, for the examples; without them examples carry no text.
        text_pairs: n partners.
        origins: n places the rows came from.

    Returns:
        A dict that `json.dumps` takes: `examples` (n), `candidates` (M), `recall_at_1` and
        `recall_at_10` (the share of rows whose partner is among the nearest 1 or 10) with
        intervals (95%, Wilson), `mrr` (mean of 1 / rank), `median_rank`, `recall_curve` (recall at
        1, 2, … 100), `mistakes` (at most 50, the worst rank first) and `correct` (at most 20, rank
        1), each with `rank`, `cosine` and, with `text_pairs`, `found`: the nearest text, "" where
        it is a negative. With negatives `triplet_accuracy`: the share of rows whose partner is
        nearer than its negative.

    Raises:
        ValueError: shapes that do not fit each other, no rows, or numbers that are not finite.
    """
    targets, vectors = np.asarray(targets), np.asarray(vectors)
    _check(targets, vectors)
    columns = {"texts": texts, "text_pairs": text_pairs, "origins": origins}
    check_columns(columns, rows=len(targets))
    place, best = ranks_of_partners(targets, vectors)
    count, near = len(targets), cosines(vectors)
    candidates = len(np.unique(targets[:, 1:]))

    def example(row: int) -> dict[str, Any]:
        found = {}
        if text_pairs is not None:
            found["found"] = "" if best[row] < 0 else shorten(text_pairs[best[row]])
        shown = {"rank": float(place[row]), "cosine": float(near[row])}
        return {**shown_row(columns, row), **shown, **found}

    order = np.argsort(-place, kind="stable")
    wrong = [row for row in order.tolist() if place[row] > 1]
    right = np.flatnonzero(place <= 1)
    spread = np.unique(np.linspace(0, len(right) - 1, min(CORRECT, len(right))).round().astype(int))
    figures: dict[str, Any] = {"examples": count, "candidates": candidates}
    for reach in REACHES:
        hits = int(np.sum(place <= reach))
        figures[f"recall_at_{reach}"] = hits / count
        figures[f"recall_at_{reach}_interval"] = list(wilson_interval(hits, count))
    if targets.shape[1] > 2:
        unit_vectors = unit(vectors)
        negative = np.sum(unit_vectors[:, 0] * unit_vectors[:, 2], axis=-1)
        figures["triplet_accuracy"] = float(np.mean(near > negative))
    reaches = np.arange(1, min(CURVE, candidates) + 1)
    return {
        **figures,
        "mrr": float(np.mean(1 / place)),
        "median_rank": float(np.median(place)),
        "recall_curve": [float(np.mean(place <= reach)) for reach in reaches],
        "mistakes": [example(row) for row in wrong[:MISTAKES]],
        "correct": [example(row) for row in right[spread].tolist()],
    }


def ranks_of_partners(targets: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rank of each row's partner, from 1, and the row whose partner is the nearest other text.

    Args:
        targets: as `retrieval` takes them.
        vectors: as `retrieval` takes them.

    Returns:
        float (n,); and int (n,), the row of the nearest second text: its own where the partner is
        the nearest, -1 where a negative is.
    """
    rows, texts = targets.shape
    vectors = unit(vectors).astype(np.float32)  # 100,000 rows are compared in half of the time
    numbers, first_at = np.unique(
        targets[:, 1:], return_index=True
    )  # a row, then a column, of each
    row_of, column_of = np.divmod(first_at, texts - 1)
    choices = vectors[row_of, column_of + 1]
    partner = np.searchsorted(numbers, targets[:, 1])
    itself = np.searchsorted(numbers, targets[:, 0])
    itself_at = np.minimum(itself, len(numbers) - 1)
    is_choice = numbers[itself_at] == targets[:, 0]
    _, query = np.unique(targets[:, 0], return_inverse=True)
    by_query = np.argsort(query, kind="stable")
    bounds = np.searchsorted(query[by_query], np.arange(query.max(initial=-1) + 2))
    place, best = np.empty(rows), np.empty(rows, np.int64)
    for start in range(0, rows, _AT_ONCE):
        part = np.arange(start, min(start + _AT_ONCE, rows))
        similar = vectors[part, 0] @ choices.T
        own = similar[np.arange(len(part)), partner[part]]
        for line, row in enumerate(part):
            equal = by_query[bounds[query[row]] : bounds[query[row] + 1]]
            similar[line, partner[equal]] = -np.inf
            if is_choice[row]:
                similar[line, itself_at[row]] = -np.inf
        before = np.sum(similar > own[:, None], axis=1)
        level = np.sum(similar == own[:, None], axis=1)
        place[part] = 1 + before + level / 2
        top = similar.argmax(axis=1)
        other = np.where(column_of[top] == 0, row_of[top], -1)
        best[part] = np.where(place[part] <= 1, part, other)
    return place, best


def _check(targets: np.ndarray, vectors: np.ndarray) -> None:
    if targets.ndim != 2 or vectors.ndim != 3 or targets.shape != vectors.shape[:2]:
        raise ValueError(
            "targets and vectors must be (n, K) and (n, K, D), K 2 or more. "
            f"Received: {targets.shape} and {vectors.shape}."
        )
    if targets.shape[1] < 2:
        raise ValueError(f"Expected 2 texts a row or more. Received: {targets.shape[1]}.")
    if not len(targets):
        raise ValueError("at least one row is needed to measure anything. Received: 0 rows.")
    if not np.isfinite(vectors).all():
        row = int(np.argmin(np.isfinite(vectors).all(axis=(1, 2))))
        raise ValueError(f"vectors must be finite. Received: others in row {row}.")
