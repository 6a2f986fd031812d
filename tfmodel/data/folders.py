"""Rows from folders: one folder per class with a text a file, and TFDS builder folders."""

from __future__ import annotations

import collections
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.data.encoding import guess_encoding, read_text, unreadable
from tfmodel.data.mistakes import missing_column
from tfmodel.data.rows import Reject, Row
from tfmodel.data.settings import DETECT, DataSettings

_log = logging.getLogger(__name__)

# What TFDS datasets call our splits.
_SPLIT_NAMES = {"train": ("train",), "dev": ("dev", "validation", "valid"), "test": ("test",)}


def read_folder(path: Path, *, settings: DataSettings, facts: dict) -> Iterator[Row | Reject]:
    """Read `CLASS/NAME.txt`: the folder is the label, the file the text.

    Sorted by class, then name; hidden files are passed over, other files counted.

    Args:
        path: the folder of the class folders.
        settings: give the encoding; with `detect`, each file has its own.
        facts: receives `ignored_files`, by suffix, and for `detect` `encodings`, with counts.

    Raises:
        ConfigError: there is no class folder, or no `.txt` file in any of them.
    """
    try:
        classes = sorted(entry for entry in _visible(path) if entry.is_dir())
        ignored = collections.Counter(
            _kind_of(entry) for entry in _visible(path) if not entry.is_dir()
        )
        files = [(label.name, _visible(label)) for label in classes]
    except OSError as error:
        raise unreadable(path, error) from None
    texts: list[tuple[str, Path]] = []
    for label, entries in files:
        for entry in entries:
            if entry.is_file() and entry.suffix.lower() == ".txt":
                texts.append((label, entry))
            else:
                ignored[_kind_of(entry)] += 1
    facts["ignored_files"] = dict(sorted(ignored.items()))
    if not texts:
        raise _no_texts(path, classes, facts["ignored_files"])
    return _read_texts(texts, settings, facts)


def _read_texts(
    texts: list[tuple[str, Path]], settings: DataSettings, facts: dict
) -> Iterator[Row | Reject]:
    found: collections.Counter[str] = collections.Counter()
    for label, file in texts:
        encoding = settings.encoding
        if encoding == DETECT:
            encoding = guess_encoding(file)
            found[encoding] += 1
            if encoding != "utf-8":
                _log.info("%s: encoding taken to be %s", file, encoding)
        yield Row(read_text(file, encoding), None, label, f"{label}/{file.name}")
    if found:
        facts["encodings"] = dict(sorted(found.items()))


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _kind_of(entry: Path) -> str:
    return "folders" if entry.is_dir() else entry.suffix.lower() or "no suffix"


def _no_texts(path: Path, classes: list[Path], ignored: dict[str, int]) -> ConfigError:
    found = ", ".join(f"{count} {kind}" for kind, count in ignored.items()) or "nothing else"
    return ConfigError(
        f"{path}: expected one folder per class with .txt files inside (CLASS/NAME.txt). Received: "
        f"{len(classes)} folders, {found}, no .txt file inside a class folder. Name the folder "
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
    path: Path, name: str, settings: DataSettings, *, role: str, facts: dict
) -> Iterator[Row | Reject]:
    """Read one split of a TFDS builder folder; a ClassLabel gives the class's name.

    Raises:
        ConfigError: no such split or feature.
    """
    builder = open_tfds(path)
    split = tfds_split(builder, role)
    if split is None:
        raise ConfigError(
            f"{path}: expected a split {' or '.join(_SPLIT_NAMES[role])} for data.{role}. "
            f"Received the splits: {', '.join(builder.info.splits) or 'none'}. "
            f"Remove `{role}:` under `data:`, or name another folder."
        )
    facts["split"] = split
    features = builder.info.features
    for wanted in settings.wanted():
        if wanted not in features:
            raise missing_column(path, wanted, sorted(features), settings)
    return _read_split(builder, split, f"{name}:{split}", settings.wanted())


def _read_split(builder: Any, split: str, name: str, wanted: list[str]) -> Iterator[Row | Reject]:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    config = tfds.ReadConfig(try_autocache=False)
    label_names = getattr(builder.info.features[wanted[-1]], "names", None)
    try:
        dataset = builder.as_dataset(split=split, shuffle_files=False, read_config=config)
        for index, example in enumerate(dataset.as_numpy_iterator()):
            values = [_as_text(example[column], None) for column in wanted[:-1]]
            values.append(_as_text(example[wanted[-1]], label_names))
            pair = values[1] if len(values) == 3 else None
            yield Row(values[0], pair, values[-1], f"{name}:{index}")
    except (tf.errors.OpError, OSError) as error:
        raise ConfigError(
            f"{builder.data_path}: expected the complete split {split}. Received: "
            f"{str(error)[:300]}. Write the folder again, or name another."
        ) from error


def _as_text(value: Any, label_names: list[str] | None) -> str:
    if label_names is not None:
        return label_names[int(value)] if 0 <= int(value) < len(label_names) else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
