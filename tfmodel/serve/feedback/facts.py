"""What a served model says of itself: its task, and the labels that it has."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from tfmodel.config import ConfigError
from tfmodel.data.targets.tagged_words import parts_of_tag
from tfmodel.export.manifest import MANIFEST_FILE, Manifest
from tfmodel.export.places import versions

KIND_OF_TASK = {
    "classify": "label",
    "multilabel": "labels",
    "regress": "score",
    "tag": "spans",
    "span": "answer",
}
"""The field of a correction that says what is right, by task."""
SCORED_PAIRS = "embed"
"""The task whose answers are right or wrong only beside others: how alike two texts are."""
TASK_OF_KIND = {kind: task for task, kind in KIND_OF_TASK.items()}


@dataclasses.dataclass(frozen=True)
class Facts:
    """What corrections of a model may be.

    Attributes:
        task: a key of `tasks.TASKS`.
        labels: those that it has; of `tag` those of entities; empty where it has none.
        has_pairs: whether a row is two texts.
    """

    task: str
    labels: tuple[str, ...]
    has_pairs: bool


class KnownModels:
    """The facts of the models in base folders, read when they are first asked for.

    Args:
        base_of: a model's name to its base folder; None where it is not known.
    """

    def __init__(self, base_of: Callable[[str], Path | None]):
        self._base_of = base_of
        self._read: dict[Path, tuple[int, Facts | None]] = {}

    def facts(self, model: str, version: int | None = None) -> Facts | None:
        """What a version says of itself.

        Args:
            model: its name.
            version: its number; where it is None, or gone, the newest in the folder.

        Returns:
            None where nothing is known: another's model, or no folder.
        """
        base = self._base_of(model)
        if base is None:
            return None
        try:
            there = versions(base)
        except OSError:
            return None
        if not there:
            return None
        number = version if version in there else there[-1]
        return self._facts(base / str(number) / "assets" / MANIFEST_FILE)

    def _facts(self, path: Path) -> Facts | None:
        try:
            changed = path.stat().st_mtime_ns
            if path not in self._read or self._read[path][0] != changed:
                self._read[path] = changed, _facts_of(path.read_bytes())
        except OSError:
            return None
        return self._read[path][1]


def _facts_of(content: bytes) -> Facts | None:
    try:
        manifest = Manifest.from_json(content, name=MANIFEST_FILE)
    except ConfigError:
        return None
    labels = manifest.labels
    if manifest.task == "tag":
        labels = tuple(dict.fromkeys(label for _, label in map(parts_of_tag, labels) if label))
    elif manifest.task not in ("classify", "multilabel"):
        labels = ()
    return Facts(manifest.task, labels, manifest.has_pairs)
