"""What keeps a model from learning few rows by heart; each piece alone, or by `train.regularize`.

The step's pieces (`RDrop`, `HiddenMixup`) go into a `TrainingModel`, callbacks into `fit`, rates
and decays by weight into `adamw`; the rest changes a model before it is trained.
"""

_LAZY = {
    "ExponentialMovingAverage": "averaging",
    "GradualUnfreezing": "unfreeze",
    "HiddenMixup": "mixup",
    "LearningRateOnPlateau": "plateau",
    "MixoutDense": "mixout_dense",
    "RDrop": "r_drop",
    "RegularizeSettings": "settings",
    "StochasticWeightAveraging": "averaging",
    "layer_rates": "weight_groups",
    "mixout": "mixout_dense",
    "reinitialize_top_layers": "reinitialize",
    "set_dropout": "dropout",
    "weight_decays": "weight_groups",
}

__all__ = sorted(_LAZY)


def __getattr__(name: str):
    """Import TensorFlow only when a name that needs it is used."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
