"""A task's model in two: the encoder, and what makes answers of its sentence vectors."""

from __future__ import annotations

import keras


def split_at_pooled(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """The encoder and the head of a task's model; both share its weights.

    Args:
        model: a functional model that uses the `pooled` output of a layer named `encoder`, as
            `tasks.classify.build` makes it.

    Returns:
        The encoder, and a model from sentence vectors (B, D) to the task's outputs.

    Raises:
        ValueError: the model has no such encoder, or its answers need more than that output.
    """
    expected = "Expected a model that answers by the sentence vector of its encoder. Received: "
    try:
        encoder = model.get_layer("encoder")
    except ValueError:
        raise ValueError(
            f"{expected}{model.name!r} without a layer named encoder; build it with a task of "
            "tm.tasks."
        ) from None
    names = sorted(encoder.output)
    if "pooled" not in names:
        raise ValueError(f"{expected}an encoder that gives {', '.join(names)}.")
    used = {
        id(tensor): tensor
        for layer in model.layers
        if layer is not encoder and not isinstance(layer, keras.layers.InputLayer)
        for node in layer._inbound_nodes
        for tensor in node.input_tensors
    }
    pooled = names.index("pooled")  # a dict is flattened in the order of its keys
    if len(used_of_encoder := _made_by(encoder, used.values())) != 1 or (
        used_of_encoder[0]._keras_history.tensor_index != pooled
    ):
        raise ValueError(f"{expected}{model.name!r}, whose head takes other outputs.")
    try:
        return encoder, keras.Model(used_of_encoder[0], model.output, name="head_of_pooled")
    except ValueError:
        raise ValueError(f"{expected}{model.name!r}, whose head takes its inputs, too.") from None


def _made_by(layer, tensors) -> list:
    return [tensor for tensor in tensors if tensor._keras_history.operation is layer]
