"""Words for the mistakes that rows and columns show: expected, received, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfmodel.config import ConfigError
from tfmodel.data.settings import DataSettings

_COLUMNS_SHOWN = 30


def missing_column(
    path: object,
    name: str,
    available: Sequence[str],
    settings: DataSettings,
    *,
    has_header: bool = False,
    arrays: Sequence[str] = (),
) -> ConfigError:
    """Word the error for a column that is not there: what there is, the nearest, the fix."""
    keys = ("text", "text_pair", "label", "group", "time")
    key = next((key for key in keys if getattr(settings, key, None) == name), "label")
    lowered = {column.lower(): column for column in reversed(available)}
    near = difflib.get_close_matches(name.lower(), list(lowered), n=1)
    hint = f" Did you mean {lowered[near[0]]}?" if near else ""
    shown = ", ".join(column[:60] for column in available[:_COLUMNS_SHOWN])
    more = f" and {len(available) - _COLUMNS_SHOWN} more" if len(available) > _COLUMNS_SHOWN else ""
    fix = f"Name the right one by `{key}: COLUMN` under `data:`"
    if has_header:
        fix += "; if the first line is a row already, name all columns by `columns: [...]`"
    elif arrays and settings.records is None:
        fix += f"; if an array in there holds the rows, name it: `records: {arrays[0]}`"
    return ConfigError(
        f"{path}: expected a column {name} (data.{key}). Received: {shown or 'none'}{more}.{hint} "
        f"{fix}."
    )


def empty_file(path: object) -> ConfigError:
    """Word the error for a file without a character."""
    return ConfigError(
        f"{path}: expected rows of text. Received: an empty file. "
        f"Check that it was written to the end and that the path is the one meant."
    )


def header_alone(path: object) -> ConfigError:
    """Word the error for a file without a row below its first line."""
    return ConfigError(
        f"{path}: expected rows below the header. Received: a header alone. Check that the "
        f"file was written to the end; if its first line is a row, name the columns by "
        f"`columns: [...]` under `data:`."
    )


def no_row_left(
    path: Path, raw: int, dropped: Mapping[str, int], settings: DataSettings
) -> ConfigError:
    """Word the error for a file none of whose raw rows can be used."""
    if raw == 0:
        return header_alone(path)
    reason = next(iter(dropped))
    of_documents = settings.target == "none"
    fix = {
        "empty_label": f"The column {settings.label} (data.label) is empty in all of them: name "
        "the column that holds the labels",
        "empty_text": f"The column {settings.text} (data.text) is empty in them: name the column "
        "that holds the texts",
        "too_long": "Raise data.max_characters, or split the texts",
        "too_short": "Lower data.cleaning.min_words and data.cleaning.min_characters, or say by "
        "data.documents what a document is in a file of text"
        if of_documents
        else "Lower data.cleaning.min_characters",
        "damaged_file": "Fetch the files again",
        "other_script": "Correct data.cleaning.scripts, or lower data.cleaning.min_script_share",
        "other_language": "Correct data.cleaning.languages",
        "bad_number": f"Name by data.label a column of finite numbers, not {settings.label}, or "
        "set task.name=classify where they are names",
        "bad_time": f"Name by data.time a column of numbers, dates or times, not {settings.time}",
    }.get(reason, "Check `format:` and `columns:` under `data:`")
    counts = ", ".join(f"{count:,} {why}" for why, count in dropped.items())
    wanted, rows = ("rows with a text and a label", "rows")
    if of_documents:
        wanted, rows = ("documents of text", "documents")
    return ConfigError(
        f"{path}: expected {wanted}. Received: {raw:,} {rows}, all left out ({counts}). {fix}."
    )


def all_stand_elsewhere(name: str, dropped: Mapping[str, int]) -> ConfigError:
    """Word the error for a split that duplicates leave empty."""
    counts = ", ".join(f"{count:,} {why}" for why, count in dropped.items())
    return ConfigError(
        f"data.{name}: expected rows that do not stand in another file. Received: none ({counts}). "
        f"Name other files by data.train, data.dev and data.test."
    )
