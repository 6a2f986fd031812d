"""What is known of a rollout: one JSON file beside `models.config`, written whole at every step."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from tfmodel.config import ConfigError
from tfmodel.run_folder import read_json, write_json

Stage = Literal[
    "starting",
    "canary",
    "refused",
    "promoting",
    "promoted",
    "finishing",
    "finished",
    "rolling back",
    "rolled back",
]
_FORMAT = 1
_HISTORY_KEPT = 50


@dataclasses.dataclass
class State:
    """A rollout of a model, from version `old` to version `new`.

    Attributes:
        model: the model's name in `models.config`.
        old: the version that `stable` was before.
        new: the version that is to take its place.
        base: the folder with the version folders, as it is called here.
        server: the address that is asked.
        stage: what was reached; a word in -ing is something that was begun, and goes on when the
            same command is given again.
        reason: why it was refused.
        comparison: figures and verdict of the last one, without texts; None before.
        history: when what was reached.
    """

    model: str
    old: int
    new: int
    base: str
    server: str
    stage: Stage = "starting"
    reason: str = ""
    comparison: dict[str, Any] | None = None
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """Whether the new version may still become the one in service, or is becoming it."""
        return self.stage in ("starting", "canary", "promoting", "rolling back")

    def reach(self, stage: Stage, reason: str = "") -> None:
        """Note what was reached, or begun."""
        self.stage, self.reason = stage, reason
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        entry = {"at": now, "stage": stage, "old": self.old, "new": self.new}
        self.history = [*self.history, entry | ({"reason": reason} if reason else {})]
        self.history = self.history[-_HISTORY_KEPT:]


def folder_of(config: Path) -> Path:
    """Where the rollouts of a `models.config` are noted."""
    return config.with_name(f"{config.name}.rollout")


def read_state(config: Path, model: str) -> State | None:
    """What was noted of a model's rollout; None where there was none.

    Raises:
        ConfigError: the file is none that this version of tfmodel reads.
    """
    path = _file(config, model)
    if not path.is_file():
        return None
    found = read_json(path)
    if not isinstance(found, dict) or found.pop("format", None) != _FORMAT:
        raise ConfigError(
            f"{path}: expected the state of a rollout in format {_FORMAT}. Received: another file, "
            "or one of a newer tfmodel. Move it away to begin anew."
        )
    try:
        return State(**found)
    except TypeError:
        raise ConfigError(
            f"{path}: expected the state of a rollout. Received: other fields. Move it away to "
            "begin anew."
        ) from None


def write_state(config: Path, state: State) -> None:
    """Note it; a reader sees the old or the new."""
    write_json(_file(config, state.model), {"format": _FORMAT, **dataclasses.asdict(state)})


@contextlib.contextmanager
def alone(config: Path) -> Iterator[None]:
    """Keep other commands on the same `models.config` away; a killed one keeps nobody away.

    Raises:
        ConfigError: another one is at work.
    """
    folder = folder_of(config)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"{config}: expected no other rollout at work on this file. Received: one that is. "
                "Wait for it, or stop it; what it began can be taken up again."
            ) from None
        yield


def _file(config: Path, model: str) -> Path:
    return folder_of(config) / f"{model}.json"
