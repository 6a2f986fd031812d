"""What of a split goes into batches, and how the outputs for it are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfmodel.data import Split
from tfmodel.tasks import right_answers
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
        right: the right answers, one a text, as the task's figures take them.
        read: (outputs (W, …) in the order of the rows) -> the task's values, one a text; None where
            the task's own `values` gives them.
        counts: what there is to say of the windows.
    """

    rows: TokenRows
    targets: np.ndarray | TokenValues
    weights: TokenValues | None
    texts: np.ndarray
    right: Any
    read: Callable[[np.ndarray], Any] | None = None
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)


def learned(
    task: Any,
    tokenizer: RowTokenizer,
    split: Split,
    labels: Sequence[str],
    *,
    max_length: int,
    decoding: Mapping[str, Any] | None = None,
    crf: bool = False,
) -> Learned:
    """Make rows of a split.

    Args:
        task: the task's module.
        tokenizer: the encoder's tokenizer.
        split: n texts with their labels.
        labels: label names in the order of their ids.
        max_length: tokens a row at most.
        decoding: how contexts are cut into windows, of a task that has `examples`.
        crf: whether the model that learns them has one, of a task that has `chain_of`.
    """
    right = right_answers(task, split, labels)
    if hasattr(task, "examples"):
        found = task.examples(tokenizer, split, max_length=max_length, **(decoding or {}))
        return Learned(found.rows, found.targets, None, found.of, right, found.values, found.counts)
    if not getattr(task, "READS_TOKENS", False):
        if hasattr(task, "token_rows"):
            rows = task.token_rows(tokenizer, split, max_length=max_length)
        else:
            columns = (split.texts, split.text_pairs)
            rows = TokenRows.from_texts(tokenizer, *columns, max_length=max_length)
        return Learned(rows, right, None, np.arange(len(rows)), right)
    from tfmodel.tokens.windows import WindowRows

    windows = WindowRows.from_texts(tokenizer, split.texts, max_length=max_length)
    more = {"crf": True} if crf else {}
    targets, weights = task.learned(windows, tokenizer, right, labels, **more)
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
        right,
        read,
    )
