"""What a head on one vector a row reads of an encoder, where it is not its `pooled` output.

A reading makes the vector, and says what a folder keeps of it beside the encoder and the head.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from tfmodel.config import ConfigError
from tfmodel.model.encoder import encoder_config
from tfmodel.model.pooling import SentencePooling
from tfmodel.tasks.masked_head import (
    NAMES,
    TRANSFORM,
    HeadNames,
    masked_vectors,
    transform_tensors,
    transform_variables,
)

POOLING, GAP_STATE = "pooling", "gap_state"
"""Names of the layers by which a reading is found again in a model."""


@dataclasses.dataclass(frozen=True)
class Pooled:
    """The sentence vector: of an encoder that was trained to have like texts near each other.

    Attributes:
        pooling: `mean` of all tokens, or `cls`, the first.
        normalize: whether it is brought to length 1.
    """

    pooling: str = "mean"
    normalize: bool = True

    def vector(self, encoder: keras.Model, inputs: Mapping[str, Any]):
        """Symbolic float32 (B, D)."""
        layer = SentencePooling(self.pooling, self.normalize, name=POOLING)
        return layer(encoder(inputs)["sequence"], inputs["padding_mask"])


@dataclasses.dataclass(frozen=True)
class AtGap:
    """What a masked language model's head makes of the state at the one gap of a row.

    Attributes:
        mask_id: the piece that is the mask.
        template: what texts were put into.
    """

    mask_id: int
    template: str

    def vector(self, encoder: keras.Model, inputs: Mapping[str, Any]):
        """Symbolic float (B, D)."""
        layer = GapState(
            self.mask_id,
            self.template,
            vocabulary_size=encoder_config(encoder).vocabulary_size,
            name=GAP_STATE,
            dtype=encoder.get_layer("embeddings").dtype_policy,
        )
        return masked_vectors(encoder, layer(encoder(inputs)["sequence"], inputs["token_ids"]))


@keras.saving.register_keras_serializable("tfmodel")
class GapState(keras.layers.Layer):
    """The hidden state at the first mask of each row: (B, T, D) to (B, D).

    Args:
        mask_id: the piece that is the mask.
        template: what texts are put into; not read, kept for whoever saves the model.
        vocabulary_size: V; the biases of its pieces, which the masked language model had, are
            kept here and not read.
    """

    def __init__(self, mask_id: int, template: str, *, vocabulary_size: int, **kwargs):
        super().__init__(**kwargs)
        self.mask_id = mask_id
        self.template = template
        self.vocabulary_size = vocabulary_size

    def build(self, sequence_shape, token_ids_shape=None):
        """Create what is kept."""
        self.bias = self.add_weight(
            shape=(self.vocabulary_size,),
            initializer="zeros",
            trainable=False,
            name="vocabulary_bias",
            autocast=False,
        )

    def call(self, sequence, token_ids):
        """Take the state; zeros where a row has no gap."""
        is_gap = ops.cast(ops.equal(token_ids, self.mask_id), "float32")
        first = is_gap * ops.cast(ops.equal(ops.cumsum(is_gap, axis=-1), 1.0), "float32")
        return ops.matmul(ops.cast(first, sequence.dtype)[:, None], sequence)[:, 0]

    def compute_output_shape(self, sequence_shape, token_ids_shape=None):
        """(B, D)."""
        return (sequence_shape[0], sequence_shape[-1])

    def get_config(self) -> dict:
        """Arguments of `__init__`."""
        own = {"mask_id": self.mask_id, "template": self.template}
        return {**super().get_config(), **own, "vocabulary_size": self.vocabulary_size}


def reading_of(model: keras.Model) -> Pooled | AtGap | None:
    """What the head of a model reads; None: the encoder's `pooled` output."""
    layers = {layer.name: layer for layer in model.layers}
    if isinstance(found := layers.get(POOLING), SentencePooling):
        return Pooled(found.pooling, found.normalize)
    if isinstance(found := layers.get(GAP_STATE), GapState):
        return AtGap(found.mask_id, found.template)
    return None


def require_pooled_output(model: keras.Model, what: str) -> None:
    """Refuse a model whose head reads something else, for KerasHub knows nothing else.

    Args:
        model: on one vector a row.
        what: what is asked for, as a config calls it.

    Raises:
        ConfigError: it does.
    """
    if reading_of(model) is not None:
        is_pooled = isinstance(reading_of(model), Pooled)
        raise ConfigError(
            f"{what}: expected a head on the encoder's own pooled output, which is all that "
            "KerasHub's BertTextClassifier has. Received: one trained from few labels, which reads "
            f"{'the sentence vector' if is_pooled else 'a gap in a template'}. Leave it out; the "
            f"model folder is one of {'sentence-transformers' if is_pooled else 'Hugging Face'}, "
            "and ONNX has it."
        )


def gap_tensors(model: keras.Model) -> dict[str, np.ndarray]:
    """By Hugging Face name, what makes a masked language model's head of a model's `AtGap`."""
    names = _names(model)
    bias = ops.convert_to_numpy(model.get_layer(GAP_STATE).bias)
    return {**transform_tensors(model.get_layer(TRANSFORM), names), names.bias: bias}


def assign_gap(model: keras.Model, tensors: Mapping[str, np.ndarray], *, name: str) -> None:
    """Give a model's `AtGap` a masked language model's weights.

    Args:
        model: with that reading.
        tensors: as `read_tensors` gives them.
        name: what messages call the checkpoint.

    Raises:
        ConfigError: some are missing, or have another shape.
    """
    names = _names(model)
    wanted = transform_variables(model.get_layer(TRANSFORM), names)
    wanted[names.bias] = (model.get_layer(GAP_STATE).bias, np.asarray)
    known = {**tensors}
    known.setdefault(names.bias, tensors.get(f"{names.decoder}.bias"))
    missing = [key for key in wanted if known.get(key) is None]
    if missing:
        raise ConfigError(
            f"{name}: expected an encoder with a masked language model's head, which few_labels "
            f"prompt asks. Received: no {', '.join(missing)}. Choose one that was pretrained to "
            "fill gaps, such as the model of `tfmodel pretrain`."
        )
    for key, (variable, to_ours) in wanted.items():
        value = to_ours(known[key])
        if value.shape != tuple(variable.shape):
            raise ConfigError(
                f"{name}: expected {key} of {tuple(variable.shape)} values. Received: "
                f"{value.shape}. It is of another model."
            )
        variable.assign(value)


def _names(model: keras.Model) -> HeadNames:
    return NAMES[encoder_config(model.get_layer("encoder")).family]
