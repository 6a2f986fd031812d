"""The rows that artifacts are compared on, and what the Keras model says to them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.export.predictor import Predictor


class Rows:
    """Real texts, and the Keras model's answers to them, which are asked for when they are needed.

    Args:
        reference: the float32 Keras model.
        texts: n texts.
        text_pairs: n second texts, for a model of pairs.
        targets: the right answers, (n,), where known: class ids or numbers.
    """

    def __init__(
        self,
        reference: Predictor,
        texts: Sequence[str],
        text_pairs: Sequence[str] | None,
        targets: np.ndarray | None,
    ):
        self.reference = reference
        self.texts = texts
        self.text_pairs = text_pairs
        self.targets = targets

    def __len__(self) -> int:
        return len(self.texts)

    def first(self, count: int) -> Rows:
        """The first rows, `count` at most."""
        cut = [
            None if column is None else column[:count]
            for column in (self.texts, self.text_pairs, self.targets)
        ]
        return Rows(self.reference, *cut)

    @functools.cached_property
    def values(self) -> np.ndarray | list:
        """The Keras model's, float32 (n, C), or a list of one a text."""
        return self.reference.values(self.texts, self.text_pairs)

    @functools.cached_property
    def vectors(self) -> np.ndarray:
        """The Keras model's, float32 (n, D)."""
        return self.reference.vectors(self.texts, self.text_pairs)


def draw(
    reference: Predictor,
    texts: Sequence[str],
    text_pairs: Sequence[str] | None,
    targets: Sequence[Any] | np.ndarray | None,
    *,
    rows: int,
    seed: int,
) -> Rows:
    """Draw rows without order.

    Args:
        reference: the float32 Keras model.
        texts: n texts, at least one.
        text_pairs: n second texts, for a model of pairs.
        targets: the right answers, where known.
        rows: how many at most.
        seed: which ones.

    Raises:
        ConfigError: no texts, or not as many pairs or targets as texts.
    """
    if not len(texts):
        raise ConfigError(
            "Expected texts to compare the artifacts on. Received: none. Give the test or dev part."
        )
    for name, values in (("text_pairs", text_pairs), ("targets", targets)):
        if values is not None and len(values) != len(texts):
            raise ConfigError(
                f"Expected as many {name} as texts. Received: {len(texts)} texts and "
                f"{len(values)} {name}."
            )
    order = np.random.default_rng(seed).permutation(len(texts))[:rows]
    return Rows(
        reference,
        [texts[row] for row in order],
        None if text_pairs is None else [text_pairs[row] for row in order],
        None if targets is None else np.asarray(targets)[order],
    )
