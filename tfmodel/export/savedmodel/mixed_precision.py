"""A trained model in bfloat16, its weights part of the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfmodel.config import ConfigError
from tfmodel.export.savedmodel.unpadded import is_unpaddable

MOST_BYTES = 64 * 2**20
"""Of matrices that are made constants: MiniLM has 22 MB, BERT-base 170."""


def in_bfloat16(model: keras.Model) -> keras.Model:
    """Copy a float32 classifier with its encoder in bfloat16; the head stays float32.

    Layer norms and softmax still compute in float32 inside. Half the bytes of weights go through
    memory, and processors with AVX512-BF16 or AMX multiply twice as fast.

    Args:
        model: from `classify.build`.

    Raises:
        ConfigError: another kind of model, whose layers may not stand this.
    """
    if not is_unpaddable(model):
        raise ConfigError(
            "export.savedmodel_precision: expected a model made by tfmodel for mixed_bfloat16. "
            f"Received: {model.name!r} with the layers "
            f"{', '.join(layer.name for layer in model.layers[:8])}. Export it in float32."
        )
    config = model.get_config()
    for layer in config["layers"]:
        if layer["config"].get("name") == "encoder":
            _set_policy(layer, "bfloat16")
    copy = type(model).from_config(config)
    copy.set_weights(model.get_weights())
    return copy


def _set_policy(value: Any, policy: str) -> None:
    """Replace every dtype policy in a Keras config, in place."""
    if isinstance(value, dict):
        if value.get("class_name") == "DTypePolicy":
            value["config"]["name"] = policy
        for inner in value.values():
            _set_policy(inner, policy)
    elif isinstance(value, list):
        for inner in value:
            _set_policy(inner, policy)


def freeze(
    function: tf.types.experimental.ConcreteFunction,
) -> Callable[..., dict[str, tf.Tensor]]:
    """Make the weights of a graph constants of it, unless there are many.

    oneDNN then lays each bfloat16 weight out once for its products, not at every call: single texts
    are answered in two thirds of the time. In float32 it is no gain: the layout it wants there
    depends on the number of tokens, and each change is paid for. TensorFlow holds constants
    several times over, in each signature, so many of them take memory that is better left.
    """
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    sizes = [each.shape.num_elements() * each.dtype.size for each in function.variables]
    if sum(sizes) > MOST_BYTES:
        return function
    frozen = convert_variables_to_constants_v2(function, lower_control_flow=False)
    names = sorted(function.structured_outputs)  # it gives a list, in tf.nest's order

    def named(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(zip(names, frozen(*inputs), strict=True))

    return named
