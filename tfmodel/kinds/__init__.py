"""The kinds of run: each a config's schema with its stages and its report."""

from __future__ import annotations

import difflib
import functools
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic

from tfmodel.config import ConfigError, load_config
from tfmodel.kinds.kind import Kind
from tfmodel.kinds.pretraining import PRETRAINING, PretrainingSettings
from tfmodel.kinds.supervised import SUPERVISED, RunSettings, TaskSettings
from tfmodel.schema import json_schema

KINDS = (SUPERVISED, PRETRAINING)

__all__ = [
    "KINDS",
    "PRETRAINING",
    "SUPERVISED",
    "Kind",
    "PretrainingSettings",
    "RunSettings",
    "TaskSettings",
    "load_run_config",
    "schema_of_all",
]


def load_run_config(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    stage: str | None = None,
) -> tuple[Kind, Any]:
    """Read a config of any kind; which one it is its keys say.

    Args:
        source: the path of a YAML file, or the values themselves as a mapping.
        overrides: `key=value` strings that win.
        stage: the stage that is asked for, which the kind must have.

    Returns:
        The kind, and the checked settings.

    Raises:
        ConfigError: keys of two kinds are mixed, the kind has no such stage, or anything that
            `load_config` refuses.
    """
    name = "config" if isinstance(source, Mapping) else str(source)
    given = load_config(source, _AnyKeys, overrides=overrides).model_fields_set
    own = {kind.name: [key for key in _meant(given) if key in _own_keys(kind)] for kind in KINDS}
    told = [kind for kind in KINDS if own[kind.name]]
    if len(told) > 1:
        kinds = " or ".join(f"a {kind.name} run ({', '.join(_own_keys(kind))})" for kind in KINDS)
        mixed = " and ".join(", ".join(own[kind.name]) for kind in told)
        raise ConfigError(
            f"{name}: expected the config of {kinds}. Received: both {mixed}. "
            "Remove the keys of one of them."
        )
    having = [kind for kind in KINDS if stage is None or stage in kind.commands]
    kind = told[0] if told else having[0]
    if kind not in having:
        raise ConfigError(
            f"{stage}: expected the config of a {having[0].name} run. Received: {name}, which has "
            f"{', '.join(own[kind.name])}, of a {kind.name} run. Type: tfmodel run {name}."
        )
    return kind, load_config(source, kind.settings, overrides=overrides)


def schema_of_all() -> dict:
    """Describe a config of any kind for editors, as JSON Schema."""
    schemas = (kind.settings for kind in KINDS)
    return _any_of(json_schema(pydantic.RootModel[functools.reduce(operator.or_, schemas)]))


def _any_of(schema: Any) -> Any:
    """Take what fits several of a union's branches, as an objective without its name does."""
    if isinstance(schema, list):
        return [_any_of(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    union = "discriminator" in schema and "oneOf" in schema
    return {
        "anyOf" if union and key == "oneOf" else key: _any_of(value)
        for key, value in schema.items()
        if not (union and key == "discriminator")
    }


def _own_keys(kind: Kind) -> list[str]:
    """The keys that no other kind has."""
    others = {key for other in KINDS if other is not kind for key in other.settings.model_fields}
    return [key for key in kind.settings.model_fields if key not in others]


def _meant(given: set[str]) -> list[str]:
    """The known keys that were given or, where a key is unknown, the nearest to it."""
    known = [key for kind in KINDS for key in kind.settings.model_fields]
    near = [difflib.get_close_matches(key, known, n=1, cutoff=0.7) for key in sorted(given)]
    return list(dict.fromkeys(key for found in near for key in found))


_AnyKeys = pydantic.create_model(
    "_AnyKeys",
    __config__=pydantic.ConfigDict(extra="allow"),
    **{key: (Any, None) for kind in KINDS for key in kind.settings.model_fields},
)
