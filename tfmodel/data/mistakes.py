"""Words for the mistakes that rows and columns show: expected, received, what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfmodel.config import ConfigError
from tfmodel.data.settings import DataSettings

_COLUMNS_SHOWN = 30
# The first line of a file may be a row, with names and numbers of people.
_SURELY_A_NAME = re.compile(r"[A-Za-z_.]{1,20}")


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
    lowered = {each.lower(): each for each in reversed(available) if may_be_shown(each, settings)}
    near = difflib.get_close_matches(name.lower(), list(lowered), n=1)
    hint = f" Did you mean {lowered[near[0]]}?" if near else ""
    shown = column_names(available, settings)
    fix = f"Name the right one by `{key}: COLUMN` under `data:`"
    if has_header and of_documents(settings):
        fix += "; if the first line is a document already, put a line with names above it"
    elif has_header:
        fix += "; if the first line is a row already, name all columns by `columns: [...]`"
    elif arrays and settings.records is None:
        fix += f"; if an array in there holds the rows, name it: `records: {arrays[0]}`"
    return ConfigError(
        f"{path}: expected a column {name} (data.{key}). Received: {shown or 'none'}.{hint} {fix}."
    )


def quoted(text: str, settings: DataSettings | None, *, most: int = 80) -> str:
    """Show the start of a raw text in quotes; of a corpus without what is private, its length.

    What is wrong with it may be just what keeps a detector from seeing what is private in it.
    """
    if getattr(settings, "hides_texts", False):
        return f"{len(text):,} characters, which corpus.privacy hides"
    return repr(text[:most])


def column_names(names: Sequence[str], settings: DataSettings | None) -> str:
    """List columns; of a corpus without what is private those alone that are surely names."""
    names = [name or "''" for name in names]
    shown = [name for name in names if may_be_shown(name, settings)]
    listed = ", ".join(name[:60] for name in shown[:_COLUMNS_SHOWN])
    if len(shown) > _COLUMNS_SHOWN:
        listed += f" and {len(shown) - _COLUMNS_SHOWN} more"
    if hidden := len(names) - len(shown):
        listed += f"{' and ' if shown else ''}{hidden} that may be text, which corpus.privacy hides"
    return listed


def may_be_shown(name: str, settings: DataSettings | None) -> bool:
    """Whether a message may show what seems to be the name of a column."""
    return not getattr(settings, "hides_texts", False) or bool(_SURELY_A_NAME.fullmatch(name))


def empty_file(path: object) -> ConfigError:
    """Word the error for a file without a character."""
    return ConfigError(
        f"{path}: expected rows of text. Received: an empty file. "
        f"Check that it was written to the end and that the path is the one meant."
    )


def of_documents(settings: DataSettings) -> bool:
    """Whether these are settings of a corpus, which has no columns to name and no labels."""
    has_pairs = getattr(settings, "text_pair", None) is not None or settings.format == "squad"
    return settings.target == "none" and not has_pairs


def header_alone(path: object, settings: DataSettings | None = None) -> ConfigError:
    """Word the error for a file without a row below its first line."""
    if settings is not None and of_documents(settings):
        return ConfigError(
            f"{path}: expected documents. Received: none. Check that the file was written to the "
            f"end and that the path is the one meant."
        )
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
        return header_alone(path, settings)
    reason = next(iter(dropped))
    documents = of_documents(settings)
    fix = {
        "empty_label": f"The column {settings.label} (data.label) is empty in all of them: name "
        "the column that holds the labels",
        "empty_text": "They hold space or control characters alone: check the path, and in files "
        f"of records that the texts stand in the field {settings.text} (data.text)"
        if documents
        else f"The column {settings.text} (data.text) is empty in them: name the column "
        "that holds the texts",
        "too_long": "Raise data.max_characters, or split the texts",
        "too_short": "Lower data.cleaning.min_words and data.cleaning.min_characters, or say by "
        "data.documents what a document is in a file of text"
        if documents
        else "Lower data.cleaning.min_characters",
        "too_repetitive": "If they are texts all the same, set data.cleaning.repetitive=false",
        "damaged_file": "Fetch the files again",
        "other_script": "Correct data.cleaning.scripts, or lower data.cleaning.min_script_share",
        "other_language": "Correct data.cleaning.languages",
        "bad_number": f"Name by data.label a column of finite numbers, not {settings.label}, or "
        "set task.name=classify where they are names",
        "bad_time": f"Name by data.time a column of numbers, dates or times, not {settings.time}",
    }.get(reason, f"Check `format:` and `{'text' if documents else 'columns'}:` under `data:`")
    counts = ", ".join(f"{count:,} {why}" for why, count in dropped.items())
    wanted, rows = ("rows with a text and a label", "rows")
    if documents:
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
