"""A fresh start for the top of a pretrained encoder."""

from __future__ import annotations

import keras
import numpy as np

from tfmodel.model.encoder import projections
from tfmodel.train.regularize.depth import find_encoder, layers_by_depth


def reinitialize_top_layers(model: keras.Model, layers: int, *, seed: int = 0) -> None:
    """Give the pooler and the top layers random weights again, as before pretraining.

    What the top layers learned last is the task of pretraining, which may be a bad start for
    another one. Lower layers keep every bit.

    Args:
        model: an encoder or a task's model, with pretrained weights.
        layers: how many layers below the pooler, from 0 (the pooler alone) to all L.
        seed: of the new weights.

    Raises:
        ValueError: the encoder has fewer layers.

    Source: Zhang et al. 2021, section 4. Deviation: kernels are drawn from a normal distribution
    of deviation 0.02 cut at two deviations, as `build_encoder` draws them.

    Example:
        >>> encoder = tm.load_encoder("model/", sequence=False)
        >>> tm.regularize.reinitialize_top_layers(encoder, 1)
    """
    encoder = find_encoder(model)
    groups = layers_by_depth(encoder)[1:]
    if not 0 <= layers < len(groups):
        raise ValueError(
            f"regularize.reinitialize_layers must be at most {len(groups) - 1}, the encoder's "
            f"layers. Received: {layers}."
        )
    seeds = iter(np.random.SeedSequence(seed).generate_state(1000))
    for layer in [layer for group in groups[len(groups) - 1 - layers :] for layer in group]:
        for weight in layer.trainable_weights:
            if len(weight.shape) > 1:
                draw = keras.initializers.TruncatedNormal(stddev=0.02, seed=int(next(seeds)))
                weight.assign(draw(weight.shape))
            else:
                weight.assign(np.full(weight.shape, float(weight.name == "gamma"), np.float32))
    for layer in projections(encoder):
        if hasattr(layer, "remember_pretrained"):  # mixout: back to the new weights
            layer.remember_pretrained()
