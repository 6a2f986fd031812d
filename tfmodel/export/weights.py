"""Weights and shape of a model, for the doors that write its graph anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfmodel.config import ConfigError
from tfmodel.model.checkpoints import encoder_tensors
from tfmodel.model.encoder import encoder_config
from tfmodel.model.pooling import SentencePooling
from tfmodel.model.sizes import BertConfig
from tfmodel.tasks.readings import AtGap, gap_tensors, reading_of, require_pooled_output
from tfmodel.tasks.sequence_head import head_weights

HEAD = "classifier"
"""The head's tensors are `classifier.weight` (C, D) and `classifier.bias` (C,)."""


def read_classifier(
    model: keras.Model,
    *,
    door: str,
    families: Sequence[str] = ("bert",),
    takes_readings: bool = False,
) -> tuple[BertConfig, dict[str, np.ndarray]]:
    """Read shape and weights of a model that answers from one vector a row.

    Tensors have the names that the encoder's family gives them, the position table all of its rows.

    Args:
        model: an encoder from `build_encoder` with the head of `classify.build` or
            `regress.build`.
        door: what asks, for messages: `ONNX`.
        families: those whose graph it can write, by `model_type`.
        takes_readings: whether it can write what `reading_of` the model says, too.

    Returns:
        The encoder's shape, and float32 arrays by Hugging Face name, without a prefix; the
        head's are `classifier.weight` and `classifier.bias`. Of a model that reads a gap, those
        of a masked language model's head too.

    Raises:
        ConfigError: another model, whose graph this cannot write.
    """

    def head() -> tuple[np.ndarray, np.ndarray]:
        model.get_layer("pooled_dropout")  # or it reads another output
        return head_weights(model)

    shape, tensors = _read(model, head, door=door, families=families)
    if not takes_readings:
        require_pooled_output(model, door)
    if isinstance(reading_of(model), AtGap):
        tensors |= gap_tensors(model)
    return shape, tensors


def read_tokens_model(
    model: keras.Model, *, door: str, families: Sequence[str] = ("bert",)
) -> tuple[BertConfig, dict[str, np.ndarray]]:
    """As `read_classifier`, of a model that answers from the hidden states of all tokens.

    Args:
        model: an encoder with the head of `tag.build` or `span.build`.
        door: what asks, for messages.
        families: those whose graph it can write.
    """

    def head() -> tuple[np.ndarray, np.ndarray]:
        model.get_layer("sequence_dropout")
        return tuple(map(ops.convert_to_numpy, model.get_layer("head").weights))

    return _read(model, head, door=door, families=families)


def read_vector_model(
    model: keras.Model, *, door: str, families: Sequence[str] = ("bert",)
) -> tuple[BertConfig, dict[str, np.ndarray], SentencePooling]:
    """As `read_classifier`, of a model of sentence vectors: how they are made stands for a head.

    Args:
        model: an encoder with the pooling of `embed.build`, of single texts.
        door: what asks, for messages.
        families: those whose graph it can write.
    """
    from tfmodel.tasks.embed import pooling_of

    shape, tensors = _read(model, lambda: None, door=door, families=families)
    return shape, tensors, pooling_of(model)


def _read(
    model: keras.Model, head: Callable[[], Any], *, door: str, families: Sequence[str]
) -> tuple[BertConfig, dict[str, np.ndarray]]:
    try:
        encoder = model.get_layer("encoder")
        shape = encoder_config(encoder)
        tensors = encoder_tensors(encoder)
        found = head()
    except (ValueError, AttributeError):
        layers = ", ".join(layer.name for layer in getattr(model, "layers", [])) or "none"
        raise ConfigError(
            f"{door}: expected a classifier made by tfmodel (build_encoder and classify.build), "
            "or a model of another task made so, "
            f"whose every layer is known. Received: a model with the layers {layers[:300]}. "
            "Export it as a SavedModel, which takes any model."
        ) from None
    if shape.family not in families:
        raise ConfigError(
            f"{door}: expected an encoder of model_type {', '.join(families)}. Received: "
            f"{shape.family}, whose graph this cannot write. Export it as a SavedModel, which "
            "takes any model."
        )
    if found is not None:
        kernel, bias = found
        tensors[f"{HEAD}.weight"] = np.ascontiguousarray(kernel.T, np.float32)
        tensors[f"{HEAD}.bias"] = np.asarray(bias, np.float32)
    return shape, tensors
