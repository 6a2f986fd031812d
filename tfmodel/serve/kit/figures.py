"""Figures of models that another kit was made with: `measured.json`, read and looked through."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import Field

from tfmodel.config import ConfigError
from tfmodel.run_folder import read_json
from tfmodel.serve.kit.batching import MEASURED_SIZES

_Positive = Annotated[float, Field(gt=0)]
_NotNegative = Annotated[float, Field(ge=0)]


class _Figures(pydantic.BaseModel):
    """What must be as it is written: nothing is made of a word that should be a number."""

    model_config = pydantic.ConfigDict(strict=True, allow_inf_nan=False)


class _Batch(_Figures):
    rows: int
    p50_ms: _Positive
    p99_ms: _Positive
    rows_per_second: _Positive
    batches: Annotated[int, Field(ge=1)]

    @pydantic.field_validator("rows")
    @classmethod
    def _is_measured(cls, rows: int) -> int:
        if rows not in MEASURED_SIZES:
            raise ValueError(f"expected one of {', '.join(map(str, MEASURED_SIZES))}")
        return rows


class _Threads(_Figures):
    threads: Annotated[int, Field(ge=1)]
    rows_per_second: _Positive


class _Measured(_Figures):
    """Of a model; what else stands there is kept, and not looked at."""

    version: int
    weights: str
    rows: str
    cores: Annotated[int, Field(ge=1)]
    batches: Annotated[list[_Batch], Field(min_length=1)]
    threads: Annotated[list[_Threads], Field(min_length=1)]
    ready_seconds: _NotNegative
    runtime_memory_mb: _NotNegative
    model_memory_mb: _NotNegative
    tensorflow: str
    processor: str

    @pydantic.field_validator("batches")
    @classmethod
    def _has_each_once(cls, batches: list[_Batch]) -> list[_Batch]:
        sizes = [batch.rows for batch in batches]
        if 1 not in sizes or len({*sizes}) < len(sizes):
            raise ValueError("expected each number of rows once, and 1 among them")
        return batches


def read_measured(path: str | Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Figures of another kit, perhaps from another machine.

    Args:
        path: its `measured.json`.
        names: models that it must tell of.

    Returns:
        Of each model what stands in the file.

    Raises:
        ConfigError: it is no such file, lacks a model, or a figure is none that was measured.
    """
    content = read_json(path)
    models = content.get("models") if isinstance(content, dict) else None
    for name in names:
        figures = models.get(name) if isinstance(models, dict) else None
        received = "another file, or one without it"
        if isinstance(figures, dict):
            try:
                _Measured.model_validate(figures)
                continue
            except pydantic.ValidationError as error:
                problem = error.errors()[0]
                place = ".".join(map(str, problem["loc"]))
                received = f"{place}: {problem['msg']}"
        raise ConfigError(
            f"{path}: expected the measured.json of a kit with the model {name}. Received: "
            f"{received}. Leave out --measured to measure here."
        )
    return {name: models[name] for name in names}
