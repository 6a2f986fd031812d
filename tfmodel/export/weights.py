"""Weights and shape of a head on the sentence vector, for the doors that write its graph anew."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from tfmodel.config import ConfigError
from tfmodel.model.checkpoints import encoder_tensors
from tfmodel.model.encoder import encoder_config
from tfmodel.model.sizes import BertConfig
from tfmodel.tasks.sequence_head import head_weights

HEAD = "classifier"
"""The head's tensors are `classifier.weight` (C, D) and `classifier.bias` (C,)."""


def read_classifier(
    model: keras.Model, *, door: str, families: Sequence[str] = ("bert",)
) -> tuple[BertConfig, dict[str, np.ndarray]]:
    """Read shape and weights of a model that answers from its sentence vector.

    Tensors have the names that the encoder's family gives them, the position table all of its rows.

    Args:
        model: an encoder from `build_encoder` with the head of `classify.build` or
            `regress.build`.
        door: what asks, for messages: `ONNX`.
        families: those whose graph it can write, by `model_type`.

    Returns:
        The encoder's shape, and float32 arrays by Hugging Face name, without a prefix; the
        head's are `classifier.weight` and `classifier.bias`.

    Raises:
        ConfigError: another model, whose graph this cannot write.
    """
    try:
        encoder = model.get_layer("encoder")
        shape = encoder_config(encoder)
        tensors = encoder_tensors(encoder)
        kernel, bias = head_weights(model)
        model.get_layer("pooled_dropout")  # or it reads another output
    except (ValueError, AttributeError):
        layers = ", ".join(layer.name for layer in getattr(model, "layers", [])) or "none"
        raise ConfigError(
            f"{door}: expected a classifier made by tfmodel (build_encoder and classify.build), "
            f"whose every layer is known. Received: a model with the layers {layers[:300]}. "
            "Export it as a SavedModel, which takes any model."
        ) from None
    if shape.family not in families:
        raise ConfigError(
            f"{door}: expected an encoder of model_type {', '.join(families)}. Received: "
            f"{shape.family}, whose graph this cannot write. Export it as a SavedModel, which "
            "takes any model."
        )
    tensors[f"{HEAD}.weight"] = np.ascontiguousarray(kernel.T, np.float32)
    tensors[f"{HEAD}.bias"] = np.asarray(bias, np.float32)
    return shape, tensors
