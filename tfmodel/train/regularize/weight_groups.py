"""Learning rates by depth and weight decay by group, as `adamw` takes them."""

from __future__ import annotations

from collections.abc import Mapping

import keras

from tfmodel.train.regularize.depth import layers_by_depth
from tfmodel.train.regularize.settings import WEIGHT_GROUPS


def layer_rates(model: keras.Model, decay: float) -> dict[str, float]:
    """Smaller learning rates for lower layers, which hold what every text has in common.

    Args:
        model: an encoder or a task's model, with L layers.
        decay: the rate of each layer is this share of that of the one above, in (0, 1].

    Returns:
        By weight path the factor of the learning rate: 1 for pooler and head, decay^1 for the top
        layer, decay^L for the lowest, decay^(L+1) for the embeddings.

    Raises:
        ValueError: `decay` is out of range.

    Source: Howard and Ruder 2018, section 3.2, whose decay is 1/2.6; Clark et al. 2020, appendix
    B, with 0.8 and 0.9. Deviation: ELECTRA has no pooler, and its code begins with decay^2 at the
    top layer. As there, weight decay is scaled with the rate.

    Example:
        >>> optimizer = tm.adamw(2e-4, rate_factors=tm.regularize.layer_rates(model, 0.9))
    """
    if not 0 < decay <= 1:
        raise ValueError(f"decay must be in (0, 1]. Received: {decay}.")
    groups = layers_by_depth(model)
    return {
        weight.path: decay ** (len(groups) - 1 - depth)
        for depth, group in enumerate(groups)
        for layer in group
        for weight in layer.trainable_weights
    }


def weight_decays(model: keras.Model, decays: Mapping[str, float]) -> dict[str, float]:
    """Weight decay by group of weights.

    Args:
        model: an encoder or a task's model.
        decays: decay by group, each in [0, 1): `embeddings` (the tables), `kernels` (of the
            encoder's layers), `head` (kernels of the pooler and of what stands above it),
            `norms` (scales and shifts) and `biases`.

    Returns:
        By weight path its decay, for the groups named; other weights keep the optimizer's own.

    Raises:
        ValueError: there is no such group, or a decay is out of range.

    Source: Loshchilov and Hutter 2019 for the decay; Devlin et al. 2018 spare norms and biases in
    their code, as `adamw` does where nothing is named here.

    Example:
        >>> decays = tm.regularize.weight_decays(model, {"embeddings": 0.0, "head": 0.1})
        >>> optimizer = tm.adamw(2e-4, weight_decay=0.01, weight_decays=decays)
    """
    for group, decay in decays.items():
        if group not in WEIGHT_GROUPS or not 0 <= decay < 1:
            raise ValueError(
                f"Expected decays in [0, 1) of {', '.join(WEIGHT_GROUPS)}. "
                f"Received: {group}: {decay}."
            )
    top = len(layers_by_depth(model)) - 1
    return {
        weight.path: decays[group]
        for depth, layers in enumerate(layers_by_depth(model))
        for layer in layers
        for weight in layer.trainable_weights
        if (group := _group(weight, depth, top)) in decays
    }


def _group(weight: keras.Variable, depth: int, top: int) -> str:
    if weight.name in ("gamma", "beta"):
        return "norms"
    if len(weight.shape) < 2:
        return "biases"
    return "embeddings" if depth == 0 else "head" if depth == top else "kernels"
