"""Adversarial training on the word embeddings of any task: FGM, PGD, FreeLB, SMART, VAT."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tfmodel.train.adversarial.settings import AdversarialSettings

if TYPE_CHECKING:
    from tfmodel.train.step import Adversary, Regularizer

__all__ = ["FGM", "PGD", "SMART", "VAT", "AdversarialSettings", "FreeLB", "from_settings"]

_MODULES = {"FGM": "fgm", "PGD": "pgd", "FreeLB": "freelb", "SMART": "smart", "VAT": "vat"}
_CLASSES = {module: name for name, module in _MODULES.items()}
_SEEDED = ("freelb", "smart", "vat")


def from_settings(
    settings: AdversarialSettings | None, *, seed: int = 0
) -> tuple[Adversary | None, list[Regularizer]]:
    """What `TrainingModel` takes as `adversary` and among its `regularizers`.

    Args:
        settings: the config's section, or None.
        seed: of random starts.
    """
    if settings is None:
        return None, []
    arguments = settings.arguments()
    if settings.name in _SEEDED:
        arguments["seed"] = seed
    method = _find(_CLASSES[settings.name])(**arguments)
    return (method, []) if hasattr(method, "gradients") else (None, [method])


def _find(name: str):
    return getattr(importlib.import_module(f"tfmodel.train.adversarial.{_MODULES[name]}"), name)


def __getattr__(name: str):
    """Import TensorFlow only when a method is used."""
    if name in _MODULES:
        return _find(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
