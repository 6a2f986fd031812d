"""k folds: each row in one, the same one for a seed, whatever the order of the rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfmodel.data.ranks import text_digest
from tfmodel.data.rows import Row


def fold_numbers(
    texts: Sequence[str],
    labels: Sequence[int] | np.ndarray,
    folds: int,
    *,
    seed: int,
    text_pairs: Sequence[str] | None = None,
) -> np.ndarray:
    """Deal rows into folds, each class in proportion.

    The rows of a class, ranked by a hash of seed and text, are dealt out in turn; the next class
    goes on with the fold after the one where the last stopped. So neither the sizes of the folds
    nor those of a class in them differ by more than one row.

    Args:
        texts: n texts, distinct (with their pairs), as a prepared dataset's are: of equal rows
            one could else be judged by a model that was trained on the other.
        labels: int `(n,)`, the class of each row.
        folds: k, from 2 to n.
        seed: equal seeds give equal folds, in whatever order the rows come.
        text_pairs: n second texts, where rows are pairs.

    Returns:
        int64 `(n,)`, from 0 to k - 1.

    Raises:
        ValueError: lengths differ, or `folds` is outside of its range.

    Example:
        >>> fold = fold_numbers(train.texts, train.labels, 5, seed=0)
        >>> held_out = np.flatnonzero(fold == 0)
    """
    pairs = [None] * len(texts) if text_pairs is None else text_pairs
    if not len(texts) == len(labels) == len(pairs):
        raise ValueError(
            "Expected as many texts as labels and second texts. Received: "
            f"{len(texts)}, {len(labels)} and {len(pairs)}."
        )
    if not 2 <= folds <= len(texts):
        raise ValueError(f"folds must be from 2 to the {len(texts)} rows. Received: {folds}.")
    classes = np.asarray(labels)
    digests = [
        text_digest(Row(text=text, text_pair=pair, label=None, origin=""), salt=f"{seed}:folds")
        for text, pair in zip(texts, pairs, strict=True)
    ]
    order = sorted(range(len(texts)), key=lambda row: (classes[row], digests[row]))
    found = np.empty(len(texts), np.int64)
    found[order] = np.arange(len(texts)) % folds
    return found
