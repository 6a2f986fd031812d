"""The split in brackets after a TFDS data set: `PATH[train]`, `tfds:NAME[train[:10%]]`."""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path

from tfmodel.config import ConfigError

INFO_FILE = "dataset_info.json"
_POSITION = r"-?\d[\d_.]*(?:%|shard)?"
_PART = re.compile(rf"([\w-]+)(?:\[(?:(?:{_POSITION})?:(?:{_POSITION})?|\d+shard)\])?")


def cut_brackets(text: str) -> list[tuple[str, str]]:
    """All ways to read a text as something followed by a split in brackets."""
    if not text.endswith("]"):
        return []
    return [(text[: at.start()], text[at.end() : -1]) for at in re.finditer(r"\[", text)]


def check_split(source: str, folder: Path, split: str) -> None:
    """Refuse a split that a TFDS folder does not have, or that TFDS cannot read.

    Args:
        source: as the config names it.
        folder: of the data set.
        split: as TFDS writes it: `train`, `train[:10%]`, `train+test`.

    Raises:
        ConfigError: it is such a split, or the folder is none of TFDS's.
    """
    try:
        info = json.loads((folder / INFO_FILE).read_bytes())
        names = [part["name"] for part in info["splits"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{source}: expected a TFDS folder before [{split}], with {INFO_FILE}. Received: "
            f"{folder}, which is none. Leave the brackets out, or name such a folder."
        ) from None
    for part in split.split("+"):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise ConfigError(
                f"{source}: expected a split as TFDS writes it, such as train, train[:10%] or "
                f"train+test. Received: {part.strip() or 'nothing'}. It has the splits "
                f"{', '.join(names)}."
            )
        if match[1] not in (*names, "all"):
            near = difflib.get_close_matches(match[1], names, n=1)
            hint = f" Did you mean {near[0]}?" if near else " Name one of these."
            raise ConfigError(
                f"{source}: expected a split of {folder}. Received: {match[1]}; it has "
                f"{', '.join(names)}.{hint}"
            )
