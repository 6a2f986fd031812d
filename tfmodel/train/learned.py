"""What of a split goes into batches, and how the outputs for it are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfmodel.data import Split
from tfmodel.tokens.batches import TokenRows, TokenValues
from tfmodel.tokens.row_tokenizer import RowTokenizer


@dataclasses.dataclass(frozen=True)
class Learned:
    """Rows of batches: texts, or the windows over them.

    Attributes:
        rows: W token rows.
        targets: what the loss takes of each.
        weights: weight of each of its tokens, or None.
        texts: int (W,), which text of the split a row is of.
        read: (outputs (W, …) in the order of the rows) -> the task's values, one a text.
    """

    rows: TokenRows
    targets: np.ndarray | TokenValues
    weights: TokenValues | None
    texts: np.ndarray
    read: Callable[[np.ndarray], Any]


def learned(
    task: Any,
    tokenizer: RowTokenizer,
    split: Split,
    labels: Sequence[str],
    *,
    max_length: int,
    rows: TokenRows | None = None,
) -> Learned:
    """Make rows of a split.

    Args:
        task: the task's module.
        tokenizer: the encoder's tokenizer.
        split: n texts, its labels from the task's `targets`.
        labels: label names in the order of their ids.
        max_length: tokens a row at most.
        rows: those of the texts, where the task makes its own.
    """
    if not getattr(task, "READS_TOKENS", False):
        if rows is None:
            columns = (split.texts, split.text_pairs)
            rows = TokenRows.from_texts(tokenizer, *columns, max_length=max_length)
        return Learned(rows, split.labels, None, np.arange(len(rows)), task.values)
    from tfmodel.tokens.windows import WindowRows

    windows = WindowRows.from_texts(tokenizer, split.texts, max_length=max_length)
    targets, weights = task.learned(windows, tokenizer, split.labels, labels)
    splits = windows.tokens.splits

    def read(outputs: np.ndarray) -> Any:
        flat = np.concatenate(
            [row[:length] for row, length in zip(outputs, windows.tokens.lengths, strict=True)]
        )
        return task.read(windows, tokenizer, task.values(flat))

    return Learned(
        windows.tokens,
        TokenValues(targets, splits),
        TokenValues(weights, splits),
        windows.texts,
        read,
    )
