"""Batches and a model to weights: optimizer, schedule, callbacks, fine-tuning."""

__all__ = ["AdamW", "FinetuneSettings", "adamw", "callbacks", "finetune", "linear_schedule"]

_LAZY = {
    "AdamW": "tfmodel.train.optimizer",
    "adamw": "tfmodel.train.optimizer",
    "linear_schedule": "tfmodel.train.schedule",
    "finetune": "tfmodel.train.finetune",
    "FinetuneSettings": "tfmodel.train.settings",
}


def __getattr__(name: str):
    """Import TensorFlow only when a name that needs it is used."""
    import importlib

    if name == "callbacks":
        return importlib.import_module("tfmodel.train.callbacks")
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
