"""What every place that shows a training offers, and what is said to it of the settings."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

Value = bool | int | float | str

_SECRET_NAME = re.compile(
    r"token(?!s|_ids|ize)|secret|passw|credential|api_?key|private_?key|access_?key|authorization",
    re.IGNORECASE,
)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_SHORTEST_SECRET = 8
HIDDEN = "(hidden)"


class Tracker(Protocol):
    """A place that shows how training goes: TensorBoard, Weights & Biases, MLflow, your own.

    `start` is called where `fit` begins, everything after it from one thread beside the training,
    in order. What raises there ends the tracker with a warning, never the training.
    """

    def start(self, config: Mapping[str, Value], *, step: int) -> None:
        """Begin, or go on.

        Args:
            config: the settings by dotted name, without secrets.
            step: steps done so far; above 0 a training goes on. What was shown of later steps
                was lost with the process that did them, and comes anew.
        """
        ...

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Show figures of a step by name, such as `train/loss` or `dev/accuracy`."""
        ...

    def image(self, step: int, name: str, png: bytes) -> None:
        """Show a picture."""
        ...

    def table(self, step: int, name: str, rows: Sequence[Mapping[str, Value]]) -> None:
        """Show rows of texts and numbers, all with the same columns."""
        ...

    def flush(self) -> None:
        """Let go of everything held back, so that it outlives this process."""
        ...

    def finish(self, figures: Mapping[str, float]) -> None:
        """End; `figures` are those of the weights that are kept."""
        ...


def flat_config(config: Mapping[str, Any], *, prefix: str = "") -> dict[str, Value]:
    """Settings as one value a dotted name, without what is null and what must stay secret.

    Hidden are values of keys that sound like secrets (`api_key`, `hub_token`), user names and
    passwords in URLs, and whatever the value of an environment variable of such a name occurs in.

    Args:
        config: nested mappings of plain values.
        prefix: put before each name.

    Example:
        >>> flat_config({"train": {"epochs": 3, "dropout": None}, "hub_token": "hf_1234"})
        {'train.epochs': 3, 'hub_token': '(hidden)'}
    """
    found: dict[str, Value] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if _SECRET_NAME.search(str(key)):
            found[name] = HIDDEN
        elif isinstance(value, Mapping):
            found |= flat_config(value, prefix=f"{name}.")
        elif value is None:
            continue
        elif isinstance(value, bool | int | float):
            found[name] = value
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            found[name] = _without_secrets(text)
    return found


def _without_secrets(text: str) -> str:
    text = _CREDENTIALS.sub(f"{HIDDEN}@", text)
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_SECRET and value in text and _SECRET_NAME.search(name):
            text = text.replace(value, HIDDEN)
    return text


def kept_run_id(file: Path, new: str | None = None) -> str | None:
    """The id of the run that a training goes on in, by the file it was kept in.

    Args:
        file: holds the id, once there is one.
        new: an id to keep in place of what is there; None: only read.
    """
    if new is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(f".{file.name}.{os.getpid()}")
        aside.write_text(new, "utf-8")
        aside.replace(file)
        return new
    try:
        return file.read_text("utf-8").strip() or None
    except FileNotFoundError:
        return None
