"""The packages of the extra `privacy`, and what is said where they are missing."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

from tfmodel.config import ConfigError

_DISTRIBUTIONS = {"stdnum": "python-stdnum", "phonenumbers": "phonenumbers"}


@functools.cache
def module(name: str) -> ModuleType:
    """Import a module of python-stdnum or phonenumbers.

    Raises:
        ConfigError: it is not installed.
    """
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise ConfigError(
            f"privacy: expected the package {_DISTRIBUTIONS[package]}. Received: none installed. "
            "Run: pip install 'tfmodel[privacy]'"
        ) from None
