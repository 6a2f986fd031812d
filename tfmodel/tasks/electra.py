"""Which tokens did a small masked language model put there: replaced-token detection."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
from keras import ops

from tfmodel.model.at_positions import encode_at
from tfmodel.model.checkpoints import save_encoder
from tfmodel.model.encoder import build_encoder, encoder_config
from tfmodel.model.sizes import BertConfig
from tfmodel.tasks.masked_head import masked_inputs, masked_logits, masked_loss, masked_vectors

TERMS = {"mlm": 1.0, "replaced": 50.0}
"""What the loss of pretraining is made of, and the factor of each."""


class ElectraModel(keras.Model):
    """The functional model of `build`, the discriminator; it remembers what trains it.

    Attributes:
        encoder: what is kept.
        to_vectors: the generator, up to its logits.
        generator_logits: the layer that makes these, by the encoder's own token table.
    """

    def __init__(self, *args, encoder: keras.Model, vectors, logits, generator_inputs, **kwargs):
        super().__init__(*args, **kwargs)
        self.encoder = encoder
        self.to_vectors = keras.Model(generator_inputs, vectors, name="to_vectors")
        self.generator = keras.Model(generator_inputs, logits, name="generator")
        self.seed_generator = keras.random.SeedGenerator()

    def get_layer(self, name=None, index=None):
        """A layer of the discriminator, or by name of the generator."""
        if name in {layer.name for layer in self.generator.layers}:
            return self.generator.get_layer(name)
        return super().get_layer(name, index)


def build(
    encoder: keras.Model, *, generator_share: float = 0.25, name: str = "electra"
) -> keras.Model:
    """Put a discriminator's head on an encoder, and a generator beside it.

    Args:
        encoder: from `build_encoder` or `load_encoder`, with `sequence`.
        generator_share: width of the generator and its parts, as a share of the encoder's.
        name: the model's name.

    Returns:
        A functional model from the encoder's batch to float32 logits (B, T): how surely a token
        was replaced. `model.encoder` is the encoder, `model.generator` a masked language model of
        as many layers, which uses the encoder's embeddings and its token table.

    Raises:
        ValueError: the encoder gives no `sequence`.

    Source: Clark et al. 2020, sections 2 and 3.2. Deviation: the encoder keeps BERT's names, so
    that what is saved is a `BertModel`; its pooler is not trained.
    """
    config = encoder_config(encoder)
    embeddings = encoder.get_layer("embeddings")
    dtype = embeddings.dtype_policy
    heads = max(1, round(config.heads * generator_share))
    width = max(1, round(config.hidden_size * generator_share / heads)) * heads
    small = BertConfig(
        vocabulary_size=1,  # its own embeddings are not used
        max_positions=1,
        segments=1,
        hidden_size=width,
        heads=heads,
        layers=config.layers,
        intermediate_size=max(1, round(config.intermediate_size * generator_share)),
        dropout=config.dropout,
        attention_dropout=config.attention_dropout,
        layer_norm_epsilon=config.layer_norm_epsilon,
        activation=config.activation,
    )
    initializer = keras.initializers.TruncatedNormal(stddev=0.02)

    def dense(units, name, **arguments):
        return keras.layers.Dense(units, name=name, kernel_initializer=initializer, **arguments)

    inputs = masked_inputs(encoder)
    positions = inputs["masked_positions"]
    same_text = encoder.get_layer("same_text")(inputs["padding_mask"])
    embedded = embeddings(inputs["token_ids"], inputs["segment_ids"], same_text)
    narrow = dense(width, "generator_narrow", dtype=dtype)(embedded)
    generator = build_encoder(small, dtype=dtype, name="generator_layers")
    hidden = encode_at(generator, inputs, positions, embedded=(narrow, same_text))
    vectors = masked_vectors(encoder, hidden)
    logits = masked_logits(encoder, vectors, positions)

    own = {key: keras.Input((None,), dtype="int32", name=key) for key in encoder.input}
    sequence = encoder(own)["sequence"]
    activated = dense(config.hidden_size, "replaced_dense", dtype=dtype, activation="gelu")
    replaced = dense(1, "replaced_head", dtype="float32")(activated(sequence))
    replaced = keras.layers.Reshape((-1,), name="replaced", dtype="float32")(replaced)
    return ElectraModel(
        own,
        replaced,
        encoder=encoder,
        vectors=vectors,
        logits=logits,
        generator_inputs=inputs,
        name=name,
    )


def counts(inputs: Mapping, targets: Any, weights: Any) -> list:
    """What each term of the loss is a mean over: one float32 scalar for each of `TERMS`."""
    real = ops.cast(inputs["padding_mask"] > 0, "float32")
    return [ops.sum(ops.cast(weights, "float32")), ops.sum(real)]


def sums(model: keras.Model, inputs: Mapping, targets: Any, weights: Any, *, training: bool):
    """Each term of the loss, and what was answered right, summed over what `counts` counts.

    The generator's tokens are drawn from its softmax; a token that it draws as it was is not
    replaced. Nothing goes back through the draw.

    Args:
        model: from `build`.
        inputs: those of the generator, and `original_ids`, int32 (B, T).
        targets: int32 (B, P), the ids that stood at the masked positions.
        weights: float32 (B, P); 0 for positions that are none.
        training: whether dropout is on; otherwise the generator's likeliest tokens are taken as
            by the same numbers each time.

    Returns:
        For each of `TERMS` a float32 (2,): loss and right answers.
    """
    positions, original = inputs["masked_positions"], inputs["original_ids"]
    masked = {key: inputs[key] for key in model.to_vectors.input}
    vectors = model.to_vectors(masked, training=training)
    generated = masked_loss(model, vectors, targets, weights)

    places = ops.shape(vectors)[0]
    # An evaluation is the same each time: 0, 0.618, 0.236 and so on fill [0, 1) evenly.
    uniforms = ops.cast(ops.arange(places), "float32") * 0.6180339887 % 1.0
    if training:
        uniforms = keras.random.uniform((places,), seed=model.seed_generator)
    drawn = model.get_layer("masked_logits").draw(ops.stop_gradient(vectors), uniforms)
    drawn = ops.reshape(drawn, ops.shape(positions))
    change = (drawn - targets) * ops.cast(weights > 0, "int32")
    chosen = ops.one_hot(positions, ops.shape(original)[1], dtype="int32")  # (B, P, T)
    token_ids = original + ops.sum(chosen * change[..., None], axis=1)

    seen = {key: ops.convert_to_tensor(inputs[key]) for key in ("segment_ids", "padding_mask")}
    logits = model({"token_ids": token_ids, **seen}, training=training)
    was_replaced = ops.cast(ops.not_equal(token_ids, original), "float32")
    real = ops.cast(inputs["padding_mask"] > 0, "float32")
    losses = ops.softplus(logits) - logits * was_replaced
    right = ops.cast(ops.equal(logits > 0, was_replaced > 0), "float32")
    return [generated, ops.stack([ops.sum(losses * real), ops.sum(right * real)])]


def save(
    model: keras.Model, folder: str | Path, *, tokenizer, max_length: int | None = None
) -> Path:
    """Write the discriminator's encoder as a folder that `load_encoder` and `BertModel` load.

    Args:
        model: from `build`; its generator is not written.
        folder: replaced as a whole, once everything is written.
        tokenizer: the `Tokenizer` the model was trained with.
        max_length: not written: an encoder has no length of its own.

    Returns:
        The folder.
    """
    return save_encoder(model.encoder, folder, tokenizer=tokenizer)
