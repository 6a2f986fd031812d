"""Rows of several texts that are read one by one: packed, none sees the others."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from tfmodel.tokens.batches import TokenRows
from tfmodel.tokens.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class PackedTexts(TokenRows):
    """Tokenized rows of K texts each, every text with its own special tokens.

    Args:
        text_lengths: int64 (n, K), tokens of each text of a row.
    """

    text_lengths: np.ndarray = dataclasses.field(default_factory=lambda: np.empty((0, 1), int))

    @classmethod
    def from_columns(
        cls,
        tokenizer: Tokenizer,
        columns: Sequence[Sequence[str]],
        *,
        max_length: int | None = None,
    ) -> PackedTexts:
        """Tokenize all texts, on all cores.

        Args:
            tokenizer: the tokenizer.
            columns: K columns of n strings: the first texts of all rows, the second ones, …
            max_length: tokens a text at most; the tokenizer's own by default.

        Raises:
            ValueError: columns of different lengths.
        """
        if len({len(column) for column in columns}) != 1:
            raise ValueError(
                f"Expected columns of one length. Received: {[len(each) for each in columns]}."
            )
        parts = [TokenRows.from_texts(tokenizer, c, max_length=max_length) for c in columns]
        text_lengths = np.stack([part.lengths for part in parts], axis=1)
        splits = np.concatenate([[0], np.cumsum(text_lengths.sum(axis=1))]).astype(np.int64)
        ids = np.empty(splits[-1], np.int32)
        starts = splits[:-1, None] + np.cumsum(text_lengths, axis=1) - text_lengths
        for part, begin in zip(parts, starts.T, strict=True):
            # Where each of its tokens goes: so far behind the start of its row's text.
            ids[np.arange(len(part.ids)) + np.repeat(begin - part.splits[:-1], part.lengths)] = (
                part.ids
            )
        first = text_lengths.sum(axis=1).astype(np.int32)
        return cls(ids, splits, first, tokenizer.vocabulary.padding_id, text_lengths)

    @functools.cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum(self.text_lengths, axis=1)

    def batch(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The named rows as one batch; `padding_mask` is k for the k-th text of a row.

        Padding may be longer than any text, and an encoder has no positions for that: behind as
        many tokens as the longest text has, it is -1 in place of 0, then -2, and so on.
        """
        found = super().batch(rows)
        positions = np.arange(found["token_ids"].shape[1])
        texts = 1 + (positions[None, :, None] >= self._ends[rows][:, None, :]).sum(axis=2)
        behind = positions - self._ends[rows][:, -1:]
        padding = -(np.maximum(behind, 0) // self._longest)
        found["padding_mask"] = np.where(behind < 0, texts, padding).astype(np.int32)
        return found

    @functools.cached_property
    def _longest(self) -> int:
        return max(int(self.text_lengths.max(initial=1)), 1)
