"""Sentence vectors for the projector."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np

from tfmodel.tokens.batches import Batches, TokenRows
from tfmodel.tokens.row_tokenizer import RowTokenizer

Embed = Callable[[Sequence[str], Sequence[str] | None], np.ndarray]


def sentence_vectors(
    encoder: keras.Model, tokenizer: RowTokenizer, *, max_length: int | None = None
) -> Embed:
    """A function from texts (and second texts, or None) to the encoder's pooled vectors (n, D).

    Args:
        encoder: from `build_encoder` or `load_encoder`, with whatever weights it has when called.
        tokenizer: the encoder's.
        max_length: tokens a row at most; the tokenizer's own by default.
    """

    def embed(texts: Sequence[str], text_pairs: Sequence[str] | None = None) -> np.ndarray:
        rows = TokenRows.from_texts(tokenizer, texts, text_pairs, max_length=max_length)
        batches = Batches(rows, batch_size=32, order="length")
        vectors = np.concatenate(
            [np.asarray(encoder(batch, training=False)["pooled"], np.float32) for batch in batches]
        )
        order = np.concatenate(batches.plan(0))
        return vectors[np.argsort(order)]

    return embed
