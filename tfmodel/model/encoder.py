"""`build_encoder`: a BERT as a functional `keras.Model`, its varying parts as arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras
from keras import ops

from tfmodel.model.attention import AddAndNormalize, FeedForward, SelfAttention, share
from tfmodel.model.embeddings import BertEmbeddings, SameText
from tfmodel.model.families import FAMILIES
from tfmodel.model.layer_norm import LayerNorm
from tfmodel.model.sizes import BertConfig


@keras.saving.register_keras_serializable("tfmodel")
class ToRows(keras.layers.Layer):
    """(M, D) back to (B, T, D)."""

    def call(self, hidden, token_ids):
        """Reshape `hidden` by the shape of `token_ids` (B, T)."""
        batch, length = ops.shape(token_ids)[0], ops.shape(token_ids)[1]
        return ops.reshape(hidden, (batch, length, hidden.shape[-1]))

    def compute_output_shape(self, hidden_shape, token_ids_shape):
        """(B, T, D)."""
        return (*token_ids_shape, hidden_shape[-1])

    def get_config(self) -> dict:
        """Arguments of `__init__`: Keras finds them by itself only where none is an object."""
        return super().get_config()


@keras.saving.register_keras_serializable("tfmodel")
class FirstToken(keras.layers.Layer):
    """The first token of each row: (B, T, D) to (B, D)."""

    def call(self, sequence):
        """Take position 0."""
        return sequence[:, 0]

    def compute_output_shape(self, input_shape):
        """(B, D)."""
        return (input_shape[0], input_shape[-1])

    def get_config(self) -> dict:
        """Arguments of `__init__`: Keras finds them by itself only where none is an object."""
        return super().get_config()


def build_encoder(
    config: BertConfig,
    *,
    projection: Callable[..., keras.layers.Layer] = keras.layers.Dense,
    sequence: bool = True,
    recompute: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
    name: str = "encoder",
) -> keras.Model:
    """Build an encoder of BERT or one of its family with random weights.

    Args:
        config: the shape and the family.
        projection: makes each projection of attention and feed-forward, called as
            `projection(units, name=..., dtype=..., kernel_initializer=...)`.
        sequence: give the hidden states of all tokens. False gives `pooled` alone and
            computes the last layer for the first token of each row only.
        recompute: in training, keep neither attention weights nor activations for the way back,
            but compute them again: less memory, more time. No matrix product with weights is
            repeated, and dropout drops the same.
        dtype: Keras dtype policy of all layers, such as `mixed_bfloat16`.
        name: the model's name.

    Returns:
        A functional model. Inputs: `token_ids`, `segment_ids`, `padding_mask`, int32 (B, T);
        `padding_mask` is 0 for padding and k for the k-th text packed in the row. Outputs:
        `sequence` (B, T, D) where asked for, and `pooled` (B, D), the first token of the row
        through a dense layer and tanh; DistilBERT and ELECTRA, which have no such layer, take
        that of their own classification head, with ReLU and GELU.

    Source: Devlin et al. 2018; Liu et al. 2019 (RoBERTa), Sanh et al. 2019 (DistilBERT), Clark et
    al. 2020 (ELECTRA), Lan et al. 2020 (ALBERT), each as transformers has it; `recompute`:
    Korthikanti et al. 2022, section 5, and the activation.

    Example:
        >>> encoder = build_encoder(SIZES["tiny"])
        >>> encoder(tokenizer(["hello"]))["pooled"].shape
        (1, 128)
    """
    dtype = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
    inputs = {
        key: keras.Input((None,), dtype="int32", name=key)
        for key in ("token_ids", "segment_ids", "padding_mask")
    }
    token_ids, segment_ids, padding_mask = inputs.values()
    same_text = SameText(name="same_text", dtype=dtype)(padding_mask)
    hidden = BertEmbeddings(
        config.vocabulary_size,
        config.embedding_size or config.hidden_size,
        max_positions=config.max_positions,
        segments=config.segments,
        project_to=None if config.embedding_size is None else config.hidden_size,
        family=config.family,
        layer_norm_epsilon=config.layer_norm_epsilon,
        dropout=config.dropout,
        name="embeddings",
        dtype=dtype,
    )(token_ids, segment_ids, same_text)

    layers: list[_Layer] = []
    for index in range(config.layers):
        first_only = not sequence and index == config.layers - 1
        alike = config.shares_with(index)
        shared = layers[alike] if alike < index else None
        layer = _layer(config, index, projection, first_only, recompute, dtype, shared)
        layers.append(layer)
        attended = layer.attention(hidden, same_text)
        if first_only:
            rows = ToRows(name="rows", dtype=dtype)(hidden, token_ids)
            hidden = FirstToken(name="first_token", dtype=dtype)(rows)
        hidden = layer.attention_norm(attended, hidden)
        hidden = layer.feed_forward_norm(layer.feed_forward(hidden), hidden)

    outputs = {}
    if sequence:
        outputs["sequence"] = ToRows(name="rows", dtype=dtype)(hidden, token_ids)
        hidden = FirstToken(name="first_token", dtype=dtype)(outputs["sequence"])
    outputs["pooled"] = _dense(
        keras.layers.Dense,
        config.hidden_size,
        "pooler",
        dtype,
        activation=FAMILIES[config.family].pooler_activation,
    )(hidden)
    return keras.Model(inputs, outputs, name=name)


def encoder_config(encoder: keras.Model) -> BertConfig:
    """Read an encoder's shape off its layers.

    Raises:
        ValueError: the model was not built by `build_encoder`.
    """
    try:
        embeddings = encoder.get_layer("embeddings")
        attention = encoder.get_layer("layer_0_attention")
        feed_forward = encoder.get_layer("layer_0_feed_forward")
    except ValueError:
        raise ValueError(
            "Expected an encoder made by build_encoder or load_encoder. "
            f"Received: {encoder.name!r} with layers {[layer.name for layer in encoder.layers]}."
        ) from None
    attentions = [layer for layer in encoder.layers if isinstance(layer, SelfAttention)]
    groups = len({id(each.query_key_value) for each in attentions})
    return BertConfig(
        vocabulary_size=embeddings.vocabulary_size,
        hidden_size=embeddings.project_to or embeddings.hidden_size,
        layers=len(attentions),
        heads=attention.heads,
        intermediate_size=feed_forward.widen.units,
        max_positions=embeddings.max_positions,
        segments=embeddings.segments,
        dropout=encoder.get_layer("layer_0_attention_norm").dropout,
        attention_dropout=attention.dropout,
        layer_norm_epsilon=embeddings.layer_norm_epsilon,
        activation=feed_forward.activation,
        family=embeddings.family,
        embedding_size=None if embeddings.project_to is None else embeddings.hidden_size,
        layer_groups=None if groups == len(attentions) else groups,
    )


def projections(encoder: keras.Model) -> list[keras.layers.Layer]:
    """What `projection` made for an encoder: four layers for each that has its own weights."""
    names = ("query_key_value", "output_projection", "widen", "narrow")
    found = [
        getattr(layer, name) for layer in encoder.layers for name in names if hasattr(layer, name)
    ]
    return list({id(each): each for each in found}.values())


class _Layer(NamedTuple):
    """The parts of a transformer layer."""

    attention: SelfAttention
    attention_norm: AddAndNormalize
    feed_forward: FeedForward
    feed_forward_norm: AddAndNormalize


def _layer(config, index, projection, first_only, recompute, dtype, shared) -> _Layer:
    """A layer with weights of its own, or with those of the layer `shared`."""
    one, two, three, four = shared or [None] * 4
    return _Layer(
        _attention(config, index, projection, first_only, recompute, dtype, one),
        _residual(config, f"layer_{index}_attention_norm", dtype, two),
        _feed_forward(config, index, projection, recompute, dtype, three),
        _residual(config, f"layer_{index}_feed_forward_norm", dtype, four),
    )


def _dense(projection, units, name, dtype, **kwargs):
    initializer = keras.initializers.TruncatedNormal(stddev=0.02)
    return projection(units, name=name, dtype=dtype, kernel_initializer=initializer, **kwargs)


def _projected(config, projection, units, name, dtype):
    layer = _dense(projection, units, name, dtype)
    return layer if config.layer_groups is None else share(layer)


def _attention(config, index, projection, first_only, recompute, dtype, shared):
    if shared is None:
        size = config.hidden_size
        query_key_value = _projected(config, projection, 3 * size, "query_key_value", dtype)
        output = _projected(config, projection, size, "output", dtype)
    else:
        query_key_value, output = shared.query_key_value, shared.output_projection
    return SelfAttention(
        config.heads,
        query_key_value=query_key_value,
        output=output,
        dropout=config.attention_dropout,
        first_only=first_only,
        recompute=recompute,
        name=f"layer_{index}_attention",
        dtype=dtype,
    )


def _feed_forward(config, index, projection, recompute, dtype, shared):
    if shared is None:
        widen = _projected(config, projection, config.intermediate_size, "widen", dtype)
        narrow = _projected(config, projection, config.hidden_size, "narrow", dtype)
    else:
        widen, narrow = shared.widen, shared.narrow
    return FeedForward(
        widen=widen,
        narrow=narrow,
        activation=config.activation,
        recompute=recompute,
        name=f"layer_{index}_feed_forward",
        dtype=dtype,
    )


def _residual(config, name, dtype, shared):
    normalize = None
    if shared is not None:
        normalize = shared.normalize
    elif config.layer_groups is not None:
        epsilon = config.layer_norm_epsilon
        normalize = share(LayerNorm(epsilon=epsilon, dtype=dtype, name="normalize"))
    return AddAndNormalize(
        dropout=config.dropout,
        epsilon=config.layer_norm_epsilon,
        normalize=normalize,
        name=name,
        dtype=dtype,
    )
