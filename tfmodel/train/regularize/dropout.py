"""The dropout rates of a model that is already built."""

from __future__ import annotations

import keras

from tfmodel.model.attention import AddAndNormalize, SelfAttention
from tfmodel.train.regularize.depth import find_encoder


def set_dropout(
    model: keras.Model,
    *,
    hidden: float | None = None,
    attention: float | None = None,
    embeddings: float | None = None,
    words: float | None = None,
    head: float | None = None,
) -> None:
    """Set what is dropped in training; rates that are not named stay.

    Call it before the first step: a step that is traced keeps its rates.

    Args:
        model: an encoder or a task's model.
        hidden: share of the values that each attention and feed-forward adds, in [0, 1).
        attention: share of the attention weights, in [0, 1).
        embeddings: share of the values of the normalized embeddings, in [0, 1).
        words: share of tokens whose word embedding is zero as a whole, in [0, 1); the first token
            of a text is spared.
        head: share of the pooled values before the head, in [0, 1).

    Raises:
        ValueError: a rate is out of range, or `head` is given and the model has none.

    Source: Srivastava et al. 2014; for words Gal and Ghahramani 2016, section 4.2.

    Example:
        >>> encoder = tm.load_encoder("model/", sequence=False)
        >>> tm.regularize.set_dropout(encoder, hidden=0.2, words=0.05)
    """
    encoder = find_encoder(model)
    for layer in encoder.layers:
        if isinstance(layer, AddAndNormalize) and hidden is not None:
            layer.drop.set_rate(hidden)
            layer.dropout = hidden
        if isinstance(layer, SelfAttention) and attention is not None:
            layer.drop.set_rate(attention)
            layer.dropout = attention
    table = encoder.get_layer("embeddings")
    if embeddings is not None:
        table.drop.set_rate(embeddings)
        table.dropout = embeddings
    if words is not None:
        table.drop_words.set_rate(words)
    if head is not None:
        model = getattr(model, "model", model)
        heads = [layer for layer in model.layers if layer.name == "pooled_dropout"]
        if not heads:
            raise ValueError(
                f"Expected a model with a head's dropout. Received: {model.name!r}, which has none."
            )
        heads[0].set_rate(head)
