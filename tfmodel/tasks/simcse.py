"""Sentence vectors from sentences alone: each should be nearest to itself under other dropout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
from keras import ops

from tfmodel.model.checkpoints import save_encoder

TERMS = {"contrast": 1.0}
"""What the loss of pretraining is made of, and the factor of each."""


class ContrastModel(keras.Model):
    """The functional model of `build`; it remembers its `encoder` and the temperature."""

    def __init__(self, *args, encoder: keras.Model, temperature: float, **kwargs):
        super().__init__(*args, **kwargs)
        self.encoder = encoder
        self.temperature = temperature


def build(encoder: keras.Model, *, temperature: float = 0.05, name: str = "simcse") -> keras.Model:
    """An encoder that learns to tell sentences apart.

    Args:
        encoder: from `build_encoder` or `load_encoder`; `sequence=False` saves time. It must drop:
            without dropout the two passes over a sentence are the same.
        temperature: what similarities are divided by, above 0.
        name: the model's name.

    Returns:
        A functional model from the encoder's batch, one sentence a row, to its `pooled`, (B, D).

    Raises:
        ValueError: the temperature is not above 0.

    Source: Gao et al. 2021, section 3 and appendix A: the pooler is the layer that is only there
    in training; afterwards the vector is that of the first token.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0. Received: {temperature}.")
    inputs = {key: keras.Input((None,), dtype="int32", name=key) for key in encoder.input}
    pooled = encoder(inputs)["pooled"]
    return ContrastModel(inputs, pooled, encoder=encoder, temperature=temperature, name=name)


def counts(inputs: Mapping, targets: Any, weights: Any) -> list:
    """What each term of the loss is a mean over: one float32 scalar for each of `TERMS`."""
    return [ops.cast(ops.shape(inputs["token_ids"])[0], "float32")]


def sums(model: keras.Model, inputs: Mapping, targets: Any, weights: Any, *, training: bool):
    """Each term of the loss, and what was answered right, summed over the rows.

    Both passes are one over every row twice. The other rows of the batch (with
    `accumulation_steps` or several devices: of the part) are what a sentence is told apart from.

    Args:
        model: from `build`.
        inputs: its inputs.
        targets: None.
        weights: None.
        training: whether dropout is on; without it a sentence is at no distance from itself, and
            the loss says how far apart the others are.

    Returns:
        For each of `TERMS` a float32 (2,): loss, and rows nearest to themselves.
    """
    twice = {key: ops.concatenate([inputs[key], inputs[key]]) for key in model.input}
    vectors = ops.cast(model(twice, training=training), "float32")
    rows = ops.shape(inputs["token_ids"])[0]
    vectors = ops.normalize(vectors, axis=-1)
    similar = ops.matmul(vectors[:rows], ops.transpose(vectors[rows:])) / model.temperature
    own = ops.diagonal(similar)
    losses = ops.logsumexp(similar, axis=-1) - own
    right = ops.cast(own >= ops.max(similar, axis=-1, initial=-1e9), "float32")
    return [ops.stack([ops.sum(losses), ops.sum(right)])]


def save(
    model: keras.Model, folder: str | Path, *, tokenizer, max_length: int | None = None
) -> Path:
    """Write the encoder as a folder that `load_encoder` and `BertModel` load.

    Args:
        model: from `build`.
        folder: replaced as a whole, once everything is written.
        tokenizer: the `Tokenizer` the model was trained with.
        max_length: not written: an encoder has no length of its own.

    Returns:
        The folder.
    """
    return save_encoder(model.encoder, folder, tokenizer=tokenizer)
