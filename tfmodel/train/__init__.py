"""Batches and a model to weights: optimizer, schedule, callbacks, fine-tuning."""

__all__ = ["AdamW", "FinetuneSettings", "adamw", "linear_schedule"]

_LAZY = {
    "AdamW": "tfmodel.train.optimizer",
    "adamw": "tfmodel.train.optimizer",
    "linear_schedule": "tfmodel.train.schedule",
    "FinetuneSettings": "tfmodel.train.settings",
}


def __getattr__(name: str):
    """Import TensorFlow only when a name that needs it is used."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
