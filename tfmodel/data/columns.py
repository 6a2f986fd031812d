"""Which columns a source has, against which the config asks for."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from tfmodel.config import ConfigError
from tfmodel.data.settings import DataSettings

_SHOWN = 30


def missing_column(
    path: Path,
    name: str,
    available: Sequence[str],
    settings: DataSettings,
    *,
    has_header: bool = False,
) -> ConfigError:
    """Word the error for a column that is not there: what there is, the nearest, the fix."""
    key = {settings.text: "text", settings.text_pair: "text_pair"}.get(name, "label")
    lowered = {column.lower(): column for column in reversed(available)}
    near = difflib.get_close_matches(name.lower(), list(lowered), n=1)
    hint = f" Did you mean {lowered[near[0]]}?" if near else ""
    shown = ", ".join(column[:60] for column in available[:_SHOWN])
    more = f" and {len(available) - _SHOWN} more" if len(available) > _SHOWN else ""
    fix = f"Name the right one by `{key}: COLUMN` under `data:`"
    if has_header:
        fix += "; if the first line is a row already, name all columns by `columns: [...]`"
    return ConfigError(
        f"{path}: expected a column {name} (data.{key}). Received: {shown or 'none'}{more}.{hint} "
        f"{fix}."
    )
