"""Rows from folders: one folder per class with a text a file, and TFDS builder folders."""

from __future__ import annotations

import collections
import contextlib
import logging
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.data.mistakes import missing_column
from tfmodel.data.reading.archives import DataFile, damaged_archive, data_members, open_bytes
from tfmodel.data.reading.encoding import decode, guess_encoding_of, unreadable
from tfmodel.data.reading.fields import Fields, wanted_columns
from tfmodel.data.reading.json_values import MISSING, find_value
from tfmodel.data.rows import Reject, Row
from tfmodel.data.settings import DETECT
from tfmodel.data.targets import parse_row

_log = logging.getLogger(__name__)

_LONGEST_TEXT_BYTES = 2**26
# What TFDS datasets call our splits.
_SPLIT_NAMES = {"train": ("train",), "dev": ("dev", "validation", "valid"), "test": ("test",)}


def read_folder(
    path: Path, name: str = "", *, fields: Fields, facts: dict
) -> Iterator[Row | Reject]:
    """Read `CLASS/NAME.txt`, in a folder or a zip: the folder is the label, the file the text.

    Sorted by class, then name; hidden files are passed over, other files counted.

    Args:
        path: the folder of the class folders, or a zip of it.
        name: what goes before origins; nothing by default.
        fields: give the encoding (with `detect`, each file has its own) and the target.
        facts: receives `ignored_files`, by suffix, and for `detect` `encodings`, with counts.

    Raises:
        ConfigError: there is no class folder, or no `.txt` file in any of them.
    """
    try:
        files = _files_in_zip(path) if path.is_file() else _files_in_folder(path)
    except OSError as error:
        raise unreadable(path, error) from None
    texts: list[tuple[str, DataFile]] = []
    ignored: collections.Counter[str] = collections.Counter()
    classes: set[str] = set()
    for label, file in files:
        classes |= {label} - {""}
        if file is None:
            continue
        if label and file.suffix == ".txt" and not _is_folder(file):
            texts.append((label, file))
        else:
            ignored["folders" if _is_folder(file) else file.suffix or "no suffix"] += 1
    facts["ignored_files"] = dict(sorted(ignored.items()))
    if not texts:
        raise _no_texts(path, len(classes), facts["ignored_files"])
    return _read_texts(path, texts, name, fields, facts)


def has_class_folders(members: Iterable[str]) -> bool:
    """Whether these members of a zip are texts in at least two folders that lie side by side."""
    texts = [PurePosixPath(member) for member in members if member.lower().endswith(".txt")]
    return len({text.parent.name for text in texts if len(text.parts) > 1}) > 1


def _files_in_folder(path: Path) -> Iterator[tuple[str, DataFile | None]]:
    """Give (class, file) of all that is visible; no class for what stands beside the classes."""
    for entry in _visible(path):
        if not entry.is_dir():
            yield "", DataFile(entry)
            continue
        yield entry.name, None
        for file in _visible(entry):
            yield entry.name, DataFile(file)


def _files_in_zip(path: Path) -> Iterator[tuple[str, DataFile | None]]:
    for member in data_members(path):
        yield PurePosixPath(member).parent.name, DataFile(path, member)


def _is_folder(file: DataFile) -> bool:
    return file.member is None and file.path.is_dir()


def _read_texts(
    path: Path, texts: list[tuple[str, DataFile]], name: str, fields: Fields, facts: dict
) -> Iterator[Row | Reject]:
    found: collections.Counter[str] = collections.Counter()
    prefix = f"{name}/" if name else ""
    with contextlib.ExitStack() as stack:
        # One opening for all members: each would read the zip's whole table of contents.
        archive = stack.enter_context(zipfile.ZipFile(path)) if path.is_file() else None
        for label, file in texts:
            raw = _read_bytes(file, archive)
            encoding = fields.settings.encoding
            if encoding == DETECT:
                encoding = guess_encoding_of(raw)
                found[encoding] += 1
                if encoding != "utf-8":
                    _log.info("%s: encoding taken to be %s", file, encoding)
            text = decode(file, raw, encoding)
            row = Row(text, None, label, f"{prefix}{label}/{file.name}")
            yield parse_row(row, fields.settings, fields.target)
    if found:
        facts["encodings"] = dict(sorted(found.items()))


def _read_bytes(file: DataFile, archive: zipfile.ZipFile | None) -> bytes:
    try:
        with archive.open(file.member or "") if archive else open_bytes(file) as opened:
            raw = opened.read(_LONGEST_TEXT_BYTES + 1)
    except OSError as error:
        raise unreadable(file, error) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise damaged_archive(file, error) from None
    if len(raw) > _LONGEST_TEXT_BYTES:
        raise ConfigError(
            f"{file}: expected a text of at most {_LONGEST_TEXT_BYTES:,} bytes, one for each "
            f"file. Received: a larger one. Take it out of the folder, or cut it up."
        )
    return raw


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _no_texts(path: Path, classes: int, ignored: dict[str, int]) -> ConfigError:
    found = ", ".join(f"{count} {kind}" for kind, count in ignored.items()) or "nothing else"
    return ConfigError(
        f"{path}: expected one folder per class with .txt files inside (CLASS/NAME.txt). Received: "
        f"{classes} folders, {found}, no .txt file inside a class folder. Name the folder "
        f"just above the classes, or a CSV, TSV or JSON Lines file."
    )


# --- TFDS -----------------------------------------------------------------------------------


def open_tfds(path: Path) -> Any:
    """Open a TFDS builder folder.

    Raises:
        ConfigError: it is not one, or is damaged.
    """
    import tensorflow_datasets as tfds

    try:
        return tfds.builder_from_directory(str(path))
    except Exception as error:  # tfds raises many kinds; whatever the kind, the folder is at fault
        raise ConfigError(
            f"{path}: expected a TFDS builder folder (dataset_info.json, features.json and "
            f"TFRecord files). Received: {type(error).__name__}: {str(error)[:300]}. "
            f"Write the folder again, or name another."
        ) from error


def tfds_split(builder: Any, role: str) -> str | None:
    """Name the split of a TFDS folder that plays a role (train, dev, test); None for none."""
    return next((name for name in _SPLIT_NAMES[role] if name in builder.info.splits), None)


def read_tfds(
    path: Path,
    name: str,
    fields: Fields,
    *,
    role: str,
    split: str | None = None,
    facts: dict,
) -> Iterator[Row | Reject]:
    """Read one split of a TFDS builder folder; a ClassLabel gives the class's name.

    Args:
        path: the folder.
        name: what origins call it.
        fields: the features that are wanted; a folder that tfmodel wrote gives its labels itself.
        role: train, dev or test: the split of that name, or as TFDS calls it.
        split: another split, or part of one: `train[:10%]`.
        facts: receives `split`.

    Raises:
        ConfigError: no such split or feature.
    """
    builder = open_tfds(path)
    split = split or tfds_split(builder, role)
    if split is None:
        raise ConfigError(
            f"{path}: expected a split {' or '.join(_SPLIT_NAMES[role])} for data.{role}. "
            f"Received the splits: {', '.join(builder.info.splits) or 'none'}. "
            f"Remove `{role}:` under `data:`, or name another folder."
        )
    facts["split"] = split
    features = _features_by_name(builder.info.features)
    kept = set(fields.target.features([]))
    if fields.target.needs_label and fields.settings.label not in features and kept <= {*features}:
        wanted = [name for name in wanted_columns(fields.settings) if name != fields.settings.label]
    else:
        wanted, kept = wanted_columns(fields.settings), set()
    for column in wanted:
        if find_value(features, column) is MISSING:
            raise missing_column(path, column, sorted(features), fields.settings)
    return _read_split(builder, split, f"{name}:{split}", wanted, kept, fields)


def _read_split(
    builder: Any, split: str, name: str, wanted: list[str], kept: set[str], fields: Fields
) -> Iterator[Row | Reject]:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    config = tfds.ReadConfig(try_autocache=False)
    features = _features_by_name(builder.info.features)
    class_names = {column: _class_names(find_value(features, column)) for column in wanted}
    label_names = next(filter(None, (_class_names(features[each]) for each in kept)), [])
    label_place = 1 if fields.settings.text_pair is None else 2
    try:
        dataset = builder.as_dataset(split=split, shuffle_files=False, read_config=config)
    except (ValueError, AssertionError, KeyError) as error:
        raise ConfigError(
            f"{builder.data_path}: expected one of the splits {', '.join(builder.info.splits)}, or "
            f"a part such as train[:10%]. Received: {split} ({str(error)[:200]}). Correct it."
        ) from error
    try:
        for index, example in enumerate(dataset.as_numpy_iterator()):
            values = [_plain(find_value(example, each), class_names[each]) for each in wanted]
            if kept:
                lists = {key: np.atleast_1d(example[key]).tolist() for key in kept}
                values.insert(label_place, fields.target.decode(lists, label_names))
            yield fields.to_row(values, f"{name}:{index}")
    except (tf.errors.OpError, OSError) as error:
        raise ConfigError(
            f"{builder.data_path}: expected the complete split {split}. Received: "
            f"{str(error)[:300]}. Write the folder again, or name another."
        ) from error


def _features_by_name(features: Any) -> dict[str, Any]:
    """Give features as dicts, whose fields have paths."""
    return {
        name: _features_by_name(feature) if hasattr(feature, "items") else feature
        for name, feature in features.items()
    }


def _class_names(feature: Any) -> list[str] | None:
    while not hasattr(feature, "names") and hasattr(feature, "feature"):
        feature = feature.feature  # of a sequence
    return getattr(feature, "names", None)


def _plain(value: Any, class_names: list[str] | None) -> Any:
    """Turn a NumPy value into a JSON value; bytes are text, class numbers names."""
    if isinstance(value, dict):
        return {key: _plain(item, None) for key, item in value.items()}
    if hasattr(value, "to_list"):
        value = value.to_list()  # ragged
    elif isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(item, class_names) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if class_names is not None:
        return class_names[int(value)] if 0 <= int(value) < len(class_names) else ""
    return value
