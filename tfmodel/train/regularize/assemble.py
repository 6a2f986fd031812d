"""The section `train.regularize` as the pieces that `finetune` puts together."""

from __future__ import annotations

import keras

from tfmodel.config import ConfigError
from tfmodel.model.encoder import projections
from tfmodel.train.regularize.averaging import ExponentialMovingAverage, StochasticWeightAveraging
from tfmodel.train.regularize.depth import find_encoder, layers_by_depth
from tfmodel.train.regularize.dropout import set_dropout
from tfmodel.train.regularize.mixout_dense import MixoutDense
from tfmodel.train.regularize.mixup import HiddenMixup
from tfmodel.train.regularize.plateau import LearningRateOnPlateau
from tfmodel.train.regularize.r_drop import RDrop
from tfmodel.train.regularize.reinitialize import reinitialize_top_layers
from tfmodel.train.regularize.settings import RegularizeSettings
from tfmodel.train.regularize.unfreeze import GradualUnfreezing
from tfmodel.train.regularize.weight_groups import layer_rates, weight_decays


def prepare(model: keras.Model, settings: RegularizeSettings, *, seed: int) -> None:
    """Change a model before it is trained: dropout, and new top layers.

    Args:
        model: a task's model with pretrained weights; for mixout its encoder was built with
            `projection=mixout(rate)`.
        settings: the section.
        seed: of new weights.

    Raises:
        ConfigError: the encoder has fewer layers than the settings name, or no mixout.
    """
    found = {
        layer.rate for layer in projections(find_encoder(model)) if isinstance(layer, MixoutDense)
    }
    if found != ({settings.mixout} if settings.mixout else set()):
        raise ConfigError(
            "train.regularize.mixout must be that of the encoder. "
            f"Received: {settings.mixout or 'none'}, and an encoder with {found or 'none'}. Load "
            f"it with load_encoder(FOLDER, projection=regularize.mixout({settings.mixout})), or "
            "without."
        )
    layers = len(layers_by_depth(model)) - 2
    for key, most in (("reinitialize_layers", layers), ("unfreeze_epochs", layers + 1)):
        value = getattr(settings, key)
        if value is not None and value > most:
            raise ConfigError(
                f"train.regularize.{key} must be at most {most} for an encoder of {layers} layers. "
                f"Received: {value}."
            )
    set_dropout(model, **settings.dropout.model_dump())
    if settings.reinitialize_layers is not None:
        reinitialize_top_layers(model, settings.reinitialize_layers, seed=seed)


def optimizer_arguments(model: keras.Model, settings: RegularizeSettings) -> dict:
    """Rates and decays by weight, as `adamw` takes them."""
    found = {}
    if settings.layer_decay is not None:
        found["rate_factors"] = layer_rates(model, settings.layer_decay)
    if settings.weight_decay:
        found["weight_decays"] = weight_decays(model, settings.weight_decay)
    return found


def loss_arguments(settings: RegularizeSettings) -> dict[str, float]:
    """What a task's `loss` takes; nothing where it is the plain one."""
    values = {name: getattr(settings, name) for name in ("label_smoothing", "focal_gamma")}
    return {name: value for name, value in values.items() if value}


def regularizers(settings: RegularizeSettings, *, seed: int) -> list:
    """What a `TrainingModel` adds to the loss, in its order."""
    found = []
    if settings.mixup is not None:
        found.append(HiddenMixup(settings.mixup, seed))
    if settings.r_drop is not None:
        found.append(RDrop(settings.r_drop))
    return found


def callbacks(settings: RegularizeSettings, *, has_dev: bool) -> list[keras.callbacks.Callback]:
    """Callbacks, to be put before those that look at the weights at the end of an epoch.

    Raises:
        ConfigError: a dev figure is to be watched, and there are no dev rows.
    """
    found: list[keras.callbacks.Callback] = []
    if settings.unfreeze_epochs is not None:
        found.append(GradualUnfreezing(settings.unfreeze_epochs))
    if settings.moving_average is not None:
        found.append(ExponentialMovingAverage(**settings.moving_average.model_dump()))
    if settings.swa is not None:
        found.append(StochasticWeightAveraging(**settings.swa.model_dump()))
    if settings.plateau is not None:
        if not has_dev:
            raise ConfigError(
                "train.regularize.plateau watches a dev figure. Received: no dev rows. Name some "
                "in data.dev, or leave it out."
            )
        values = settings.plateau.model_dump()
        found.append(LearningRateOnPlateau(f"val_{values.pop('monitor')}", **values))
    return found
