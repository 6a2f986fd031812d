"""How a kit is made: for which TF Serving, with which limits, on how many cores."""

from __future__ import annotations

import os
import re
from typing import Any

import pydantic
from pydantic import Field

from tfmodel.config import ConfigError, Settings

_IMAGE_TAG = r"\d+\.\d+\.\d+"


class KitSettings(Settings):
    """What `tfmodel kit` and `write_kit` take beside the models."""

    tf_serving: str = Field(
        "2.19.1", pattern=f"^{_IMAGE_TAG}$", description="Tag of the image tensorflow/serving."
    )
    cores: int | None = Field(
        None, ge=1, description="Processor cores a server has; by default those of this machine."
    )
    latency_ms: float = Field(100.0, gt=0, description="A batch may take so long.")
    queue_ms: float = Field(1000.0, gt=0, description="What waits longer than about this is shed.")
    seconds: float = Field(20.0, gt=0, le=3600, description="To measure a model for.")

    @property
    def own_cores(self) -> int:
        """Cores a server has."""
        return self.cores or len(os.sched_getaffinity(0))


def kit_settings(**values: Any) -> KitSettings:
    """Settings from options, those that are None left out.

    Raises:
        ConfigError: an option out of its range, or more cores than this machine has.
    """
    try:
        settings = KitSettings(**{key: value for key, value in values.items() if value is not None})
    except pydantic.ValidationError as error:
        problem = error.errors()[0]
        option = "--" + "-".join(map(str, problem["loc"])).replace("_", "-")
        raise ConfigError(
            f"{option}: expected another value: {problem['msg']}. Received: {problem['input']!r}."
        ) from None
    here = len(os.sched_getaffinity(0))
    if settings.own_cores > here:
        raise ConfigError(
            f"--cores: expected at most the {here} that this machine has, since the model is "
            f"measured on them. Received: {settings.cores}. Make a kit on a machine like the "
            "server's; its measured.json, passed by --measured, says how many cores those are."
        )
    return settings


def check_name(name: str) -> str:
    """A model's name that files, addresses and series can have.

    Raises:
        ConfigError: another one.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name):
        raise ConfigError(
            "--name: expected letters, digits, - _ and ., at most 63, a letter or digit first. "
            f"Received: {name!r}."
        )
    return name
