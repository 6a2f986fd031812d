"""`keras:PRESET`: the files of a KerasHub preset.

PRESET is a name that KerasHub knows, a handle of Kaggle or of the Hugging Face hub as KerasHub
writes them, or a folder. Only the files are brought here, and nothing of them is loaded.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
import re
import shutil
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.run_folder import clear_leftovers, write_aside
from tfmodel.sources.cache import cache_folder, sole_fetcher, word_by_hand
from tfmodel.sources.hub import fetch_hub
from tfmodel.sources.members import excess, is_code

_log = logging.getLogger(__name__)

_HANDLE = re.compile(r"kaggle://[\w-]+/[\w.-]+/[A-Za-z]+/(?P<name>\w[\w.-]*)(?:/(?P<version>\d+))?")


def fetch_preset(text: str) -> Path:
    """Bring the files of the preset that a `keras:` source names into the cache.

    Args:
        text: `keras:bert_tiny_en_uncased`, `keras:kaggle://OWNER/MODEL/keras/NAME/VERSION` or
            `keras:hf://OWNER/NAME@REVISION`. What has no version is resolved to one once, and a
            warning says which to pin.

    Raises:
        ConfigError: there is no such preset, it may not be read or cannot be reached, or it is
            no preset.
    """
    preset = text.removeprefix("keras:")
    if preset.startswith("hf://"):
        return checked_preset(text, fetch_hub(f"hf:{preset.removeprefix('hf://')}"))
    handle = _HANDLE.fullmatch(preset)
    if handle is None and not re.fullmatch(r"\w[\w.-]*", preset, re.ASCII):
        raise ConfigError(_word_malformed(text, preset))
    folder = cache_folder() / "keras"
    place = folder / preset.removeprefix("kaggle://").replace("/", "--")
    wanted = place / (handle["name"] if handle else preset)
    pinned = place / "handle.txt"
    if not (wanted.exists() and pinned.exists()):
        with sole_fetcher(folder, text):  # one lock for all: kagglehub's own cache has none
            clear_leftovers(place)
            if not (wanted.exists() and pinned.exists()):
                _fill(text, preset if handle else _known_handle(text, preset), wanted, pinned)
    pin = pinned.read_text(encoding="utf-8").strip()
    if pin != preset:
        _log.warning("%s is not pinned: write keras:%s", text, pin)
    return wanted


def checked_preset(text: str, folder: Path) -> Path:
    """Give a folder back that holds a preset.

    Raises:
        ConfigError: it holds none.
    """
    try:
        config = json.loads((folder / "config.json").read_bytes())
        if config.keys() & {"registered_name", "model_type"}:
            return folder
        received = "one that names no model"
    except OSError:
        received = f"none in {folder}"
    except (ValueError, AttributeError):
        received = "one that is no JSON object"
    raise ConfigError(
        f"{text}: expected a preset folder with the config.json that `save_to_preset` writes. "
        f"Received: {received}. Name the folder that holds it."
    )


def _word_malformed(text: str, preset: str) -> str:
    if re.match(r"[./~]", preset):
        received = f"{preset}, where there is none"
    elif preset.startswith("kaggle://"):
        received = "a handle that Kaggle cannot have (kaggle://OWNER/MODEL/keras/NAME/VERSION)"
    else:
        received = f"{preset or 'nothing'}"
    return (
        f"{text}: expected keras: and a preset's name, a handle kaggle://… or hf://…, or a "
        f"folder. Received: {received}. Write it like keras:bert_tiny_en_uncased"
    )


def _known_handle(text: str, name: str) -> str:
    """Where KerasHub has the preset of a name."""
    presets = _package(text, "keras_hub").models.Backbone.presets
    if name in presets:
        return presets[name]["kaggle_handle"]
    near = difflib.get_close_matches(name, presets, n=5)
    near = near or [known for known in presets if known.startswith("bert_")][:5]
    raise ConfigError(
        f"{text}: expected a preset that KerasHub knows. Received: {name}. Name one of these, of "
        f"{len(presets):,}: {', '.join(near)}, or a handle kaggle://… or hf://…"
    )


def _package(text: str, name: str) -> Any:
    import importlib

    try:
        # kagglehub's log goes to what is the standard output when it is imported.
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"{text}: expected the package keras-hub, which knows it. Received: none ({error}). "
            "Install it: pip install 'tfmodel[keras-hub]'"
        ) from None


# --- bringing the files -------------------------------------------------------------------


def _fill(text: str, handle: str, wanted: Path, pinned: Path) -> None:
    downloaded = _download(text, handle, wanted.parent)
    files = [path for path in sorted(downloaded.rglob("*")) if path.is_file()]
    names = {path.relative_to(downloaded).as_posix(): path for path in files}
    taken = {name: path for name, path in names.items() if not is_code(name)}
    link = next((f"a link: {name}" for name, path in names.items() if path.is_symlink()), None)
    problem = link or excess({name: path.stat().st_size for name, path in taken.items()})
    if problem:
        raise ConfigError(
            f"{text}: expected files that are safe to take. Received: {problem}. Name another "
            "preset, or report it to its maker."
        )
    checked_preset(text, downloaded)
    version = _HANDLE.fullmatch(handle)["version"]
    pin = handle if version else f"{handle}/{downloaded.name}"
    with write_aside(pinned) as aside:
        aside.write_text(f"{pin}\n", encoding="utf-8")
    with write_aside(wanted, replace=True) as aside:
        for name, path in taken.items():
            target = aside / PurePosixPath(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    left_out = len(names) - len(taken)
    note = f", left out {left_out} files of code" if left_out else ""
    _log.info("Fetched %d files of %s into %s%s", len(taken), pin, wanted, note)


def _download(text: str, handle: str, place: Path) -> Path:
    """Have kagglehub bring a preset into its own cache, where it continues what was broken off."""
    kagglehub = _package(text, "kagglehub")
    import requests

    try:
        with contextlib.redirect_stdout(sys.stderr):  # kagglehub prints what it does
            return Path(kagglehub.model_download(handle.removeprefix("kaggle://")))
    except requests.HTTPError as error:
        status = getattr(error.response, "status_code", None)
        received = f"HTTP {status} from Kaggle"
        fix = {
            401: "Set KAGGLE_USERNAME and KAGGLE_KEY to those of an account that may read it",
            403: "Accept its terms on kaggle.com, and set KAGGLE_USERNAME and KAGGLE_KEY",
            404: "Check the owner, the model, the name and the version",
        }.get(status, f"Try again later. {word_by_hand(text, place, 'Kaggle')}")
    except requests.RequestException as error:
        received = f"no connection to Kaggle ({' '.join(str(error).split())[:300]})"
        fix = f"Check the network. {word_by_hand(text, place, 'Kaggle')}"
    except kagglehub.exceptions.DataCorruptionError:
        received = "bytes with another hash than Kaggle tells"
        fix = "Try again; if it stays so, do not use it"
    raise ConfigError(f"{text}: expected the preset {handle}. Received: {received}. {fix}.")
