"""Which layers of a model stand at which height: what rates, freezing and new starts go by."""

from __future__ import annotations

import keras

from tfmodel.model.encoder import encoder_config


def find_encoder(model: keras.Model) -> keras.Model:
    """The encoder in a task's model, in a `TrainingModel` of it, or the encoder itself.

    Raises:
        ValueError: there is none.
    """
    model = getattr(model, "model", model)
    names = {layer.name for layer in model.layers}
    encoder = model.get_layer("encoder") if "encoder" in names else model
    encoder_config(encoder)
    return encoder


def layers_by_depth(model: keras.Model) -> list[list[keras.layers.Layer]]:
    """The layers with weights, from the lowest to the highest.

    Args:
        model: an encoder, a task's model or a `TrainingModel`.

    Returns:
        L + 2 lists for an encoder of L layers: the embeddings, each layer's attention and feed
        forward with their norms, and at last the pooler with everything above the encoder.
    """
    encoder = find_encoder(model)
    count = encoder_config(encoder).layers
    groups: list[list[keras.layers.Layer]] = [[] for _ in range(count + 2)]
    for layer in encoder.layers:
        kind, _, rest = layer.name.partition("_")
        if layer.name == "embeddings":
            groups[0].append(layer)
        elif kind == "layer":
            groups[1 + int(rest.partition("_")[0])].append(layer)
        else:
            groups[-1].append(layer)
    model = getattr(model, "model", model)
    if model is not encoder:
        groups[-1] += [layer for layer in model.layers if layer is not encoder]
    return [[layer for layer in group if layer.weights] for group in groups]
