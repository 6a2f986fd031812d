"""The rows of Parquet files (extra `parquet`), in record batches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.data.mistakes import missing_column
from tfmodel.data.reading.archives import DataFile, is_packed
from tfmodel.data.reading.fields import Fields, wanted_columns
from tfmodel.data.reading.json_values import MISSING, find_value
from tfmodel.data.rows import Reject, Row

_BATCH_ROWS = 1_024


def read_parquet(
    file: DataFile, name: str, *, fields: Fields, facts: dict
) -> Iterator[Row | Reject]:
    """Read the rows of a file; origins count from 0.

    Class numbers become names where the file tells them, as those of the Hugging Face hub do.

    Args:
        file: the file; neither compressed as a whole nor in a zip.
        name: what origins call it.
        fields: the columns that are wanted; a path `a.b` reaches into a struct.
        facts: receives `columns`.

    Raises:
        ConfigError: pyarrow is not installed, the file is damaged or lacks a column.
    """
    pyarrow = _import_pyarrow()
    if is_packed(file):
        raise ConfigError(
            f"{file}: expected a Parquet file as it is written. Received: one that is packed once "
            f"more. Parquet is compressed already: unpack it and name the file."
        )
    try:
        opened = pyarrow.parquet.ParquetFile(file.path)
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(file, error) from None
    with opened:
        schema = opened.schema_arrow
        facts["columns"] = list(schema.names)
        wanted = wanted_columns(fields.settings)
        top = {column: _top_column(file, column, schema, fields) for column in wanted}
        names = _class_names(schema.metadata, fields.settings.label)
        place = 0
        try:
            batches = opened.iter_batches(_BATCH_ROWS, columns=sorted(set(top.values())))
            for batch in batches:
                for item in batch.to_pylist():
                    yield _to_row(item, wanted, names, f"{name}:{place}", fields)
                    place += 1
        except (pyarrow.ArrowException, OSError) as error:
            raise _damaged(file, error) from None


def first_rows(file: DataFile, count: int) -> list[dict]:
    """Give the first rows as objects.

    Raises:
        ConfigError: pyarrow is not installed or the file is damaged.
    """
    pyarrow = _import_pyarrow()
    rows: list[dict] = []
    try:
        with pyarrow.parquet.ParquetFile(file.path) as opened:
            for batch in opened.iter_batches(_BATCH_ROWS):
                rows += batch.to_pylist()
                if len(rows) >= count:
                    break
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(file, error) from None
    return rows[:count]


def _import_pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ConfigError(
            "expected the package pyarrow, which reads Parquet. Received: no such package. "
            "Install it: pip install 'tfmodel[parquet]'"
        ) from None
    return pyarrow


def _top_column(file: DataFile, column: str, schema: Any, fields: Fields) -> str:
    if column in schema.names:
        return column
    top = column.partition(".")[0]
    if top not in schema.names:
        raise missing_column(file, column, schema.names, fields.settings)
    return top


def _to_row(
    item: Mapping, wanted: Sequence[str], names: Sequence[str] | None, origin: str, fields: Fields
) -> Row | Reject:
    values = []
    for column in wanted:
        value = find_value(item, column)
        if value is MISSING:
            return Reject("missing_field", origin, str(item)[:2_000], column)
        if names and column == fields.settings.label:
            value = _named(value, names)
        values.append(_plain(value))
    return fields.to_row(values, origin)


def _plain(value: Any) -> Any:
    """Give dates and decimals as text; the rest is as JSON has it."""
    if value is None or isinstance(value, str | int | float | list | dict | bytes):
        return value
    return str(value)


def _named(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return names[value] if 0 <= value < len(names) else None  # -1: not told
    return value


def _class_names(metadata: Mapping[bytes, bytes] | None, label: str) -> list[str] | None:
    """Find the names of the label's classes, where the hub's `datasets` wrote the file."""
    try:
        feature = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label]
        while isinstance(feature, Mapping) and "feature" in feature:
            feature = feature["feature"]
        feature = feature[0] if isinstance(feature, list) else feature
        names = feature["names"] if isinstance(feature, Mapping) else None
    except (KeyError, ValueError, TypeError, IndexError):
        return None
    return names if isinstance(names, list) and all(isinstance(n, str) for n in names) else None


def _damaged(file: DataFile, error: Exception) -> ConfigError:
    return ConfigError(
        f"{file}: expected a complete Parquet file. Received: {str(error)[:300]}. Download or "
        f"write it again."
    )
