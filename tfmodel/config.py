"""YAML and `key=value` overrides into any pydantic model, with errors that name the key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pydantic
import yaml


class ConfigError(ValueError):
    """A mistake of the caller's: a config, an argument, an input file, an unwritable folder.

    The message says what was expected, what was received and what to do; the command line
    prints it alone, with exit code 2 and no traceback.
    """


class Settings(pydantic.BaseModel):
    """The base of every stage's config: frozen, and unknown keys are refused."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


SettingsType = TypeVar("SettingsType", bound=pydantic.BaseModel)


def load_config(
    source: str | Path | Mapping,
    schema: type[SettingsType],
    *,
    overrides: Sequence[str] = (),
) -> SettingsType:
    """Read a config and check every key, type and range of it."""
    if isinstance(source, Mapping):
        values = dict(source)
    else:
        values = yaml.safe_load(Path(source).read_text(encoding="utf-8"))
    for override in overrides:
        path, _, text = override.partition("=")
        *parents, last = path.split(".")
        target = values
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = yaml.safe_load(text)
    try:
        return schema.model_validate(values)
    except pydantic.ValidationError as error:
        raise ConfigError(str(error)) from None
