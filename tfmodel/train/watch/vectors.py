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
    """A function from texts (and second texts, or None) to vectors (n, D).

    Args:
        encoder: from `build_encoder` or `load_encoder`, whose pooled output they are, with
            whatever weights it has when called; or a model of `tasks.embed`, which gives them
            itself, of the first texts alone.
        tokenizer: the encoder's.
        max_length: tokens a row at most; the tokenizer's own by default.
    """

    is_encoder = isinstance(encoder.output, dict)

    def embed(texts: Sequence[str], text_pairs: Sequence[str] | None = None) -> np.ndarray:
        together = text_pairs if is_encoder else None
        rows = TokenRows.from_texts(tokenizer, texts, together, max_length=max_length)
        batches = Batches(rows, batch_size=32, order="length")
        outputs = [encoder(batch, training=False) for batch in batches]
        if is_encoder:
            outputs = [each["pooled"] for each in outputs]
        vectors = np.concatenate([np.asarray(each, np.float32) for each in outputs])
        order = np.concatenate(batches.plan(0))
        return vectors[np.argsort(order)]

    return embed
