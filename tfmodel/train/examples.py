"""What is trained on of a split: its rows, or windows of them, with their targets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfmodel.data import Split
from tfmodel.tasks import right_answers
from tfmodel.tokens.batches import TokenRows
from tfmodel.tokens.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Part:
    """A split as it is trained on or measured.

    Attributes:
        split: its n rows.
        right: the right answers, (n, …), as the task's figures take them.
        tokens: what the model reads: the rows, or W windows of them.
        targets: of each what the loss takes.
        of: int (W,), the row of each.
        values: outputs of all windows in their order to the task's values of the rows; None where
            the task's `values` gives them.
        counts: what there is to say of the windows.
    """

    split: Split
    right: np.ndarray
    tokens: TokenRows
    targets: np.ndarray
    of: np.ndarray
    values: Callable[[np.ndarray], np.ndarray] | None = None
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def values_in(self, order: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """As `values`, of outputs in another order: the windows' numbers as they come."""
        back = np.argsort(order)
        return lambda outputs: self.values(outputs[back])


def part_of(
    split: Split,
    tokenizer: Tokenizer,
    *,
    task: Any,
    labels: Sequence[str],
    max_length: int,
    decoding: Mapping[str, Any],
) -> Part:
    """Tokenize a split as its task learns it.

    Args:
        split: n rows.
        tokenizer: the encoder's.
        task: the task's module.
        labels: the names of the labels.
        max_length: tokens a row or a window at most.
        decoding: how rows are cut into windows, of a task that does.
    """
    right = right_answers(task, split, labels)
    if not hasattr(task, "examples"):
        rows = TokenRows.from_texts(tokenizer, split.texts, split.text_pairs, max_length=max_length)
        return Part(split, right, rows, right, np.arange(len(rows)))
    found = task.examples(tokenizer, split, max_length=max_length, **decoding)
    return Part(split, right, found.rows, found.targets, found.of, found.values, found.counts)
