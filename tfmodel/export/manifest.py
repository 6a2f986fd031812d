"""What an artifact says of itself: the files that travel inside every export.

`vocab.txt` and `labels.txt` are what phone runtimes read; `tfmodel.json` holds the rest, so
that an artifact answers without the run folder it came from.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from importlib import metadata as package_metadata
from typing import Any

from tfmodel import tasks
from tfmodel.config import ConfigError

MANIFEST_FILE = "tfmodel.json"
VOCABULARY_FILE = "vocab.txt"
LABELS_FILE = "labels.txt"
FORMAT = 1
"""Raised when an older tfmodel could no longer read the files rightly."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What an artifact needs, beside weights and vocabulary, to answer as its model does.

    Args:
        labels: the name of each output: of `classify` the classes, in the order of the scores.
        max_length: tokens a row at most, special tokens included.
        lowercase: whether texts are lower-cased and stripped of accents first.
        has_pairs: whether a row is two texts.
        task: one of `tasks.TASKS`; answers are decoded by it.
        decoding: what they are decoded by beside the labels.
        precision: `float32`, `float16`, `int8`, `int8_weights`, `int8_full` or
            `mixed_bfloat16`.
        output: `scores` (the task's values: of `classify` a probability for each label) or
            `vector` (the sentence vector).
        version: the tfmodel that wrote the artifact.
        format: layout of these files; a newer one than we know is refused.
    """

    labels: tuple[str, ...]
    max_length: int
    lowercase: bool = True
    has_pairs: bool = False
    task: str = "classify"
    decoding: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    precision: str = "float32"
    output: str = "scores"
    version: str = ""
    format: int = FORMAT

    def to_json(self) -> str:
        """The content of `tfmodel.json`."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, *, name: str) -> Manifest:
        """Read `tfmodel.json`.

        Args:
            text: the file's content.
            name: what messages call the file.

        Raises:
            ConfigError: not a manifest, or one of a newer tfmodel.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        try:
            values = json.loads(text)
            newer = values["format"] > FORMAT
            manifest = cls(**{key: value for key, value in values.items() if key in known})
            manifest = dataclasses.replace(manifest, labels=tuple(map(str, manifest.labels)))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{name}: expected tfmodel's description of an artifact. Received: {error!r}. "
                "Export the model again."
            ) from None
        if newer or manifest.task not in tasks.TASKS:
            other = f"format {manifest.format}" if newer else f"the task {manifest.task!r}"
            expected = (
                f"format {FORMAT} or older" if newer else f"a task of {', '.join(tasks.TASKS)}"
            )
            raise ConfigError(
                f"{name}: expected {expected}. Received: {other}, written by tfmodel "
                f"{manifest.version}. Update tfmodel."
            )
        return manifest


def output_of(task: str, output: str = "scores") -> str:
    """What an artifact of a task gives, as `Manifest.output` calls it.

    Args:
        task: one of `tasks.TASKS`.
        output: what is asked for, `scores` meaning the task's own values.
    """
    return "vector" if tasks.gives_vectors(task) else output


def package_version() -> str:
    """The version of tfmodel that is running; `unknown` when it was not installed."""
    try:
        return package_metadata.version("tfmodel")
    except package_metadata.PackageNotFoundError:
        return "unknown"


def files_of(manifest: Manifest, vocabulary: list[str]) -> dict[str, bytes]:
    """The files an artifact carries, by name.

    Args:
        manifest: what the artifact says of itself.
        vocabulary: WordPiece pieces in the order of their ids.

    Returns:
        Name to content. A label's line breaks are blanks in `labels.txt`, which has one label
        a line; `tfmodel.json` keeps them.
    """
    # Readers break lines at more than \n: at \r, or where Unicode has a line end.
    lines = [
        label if label.splitlines() == [label] else " ".join(label.split())
        for label in manifest.labels
    ]
    return {
        VOCABULARY_FILE: _lines(vocabulary),
        LABELS_FILE: _lines(lines),
        MANIFEST_FILE: manifest.to_json().encode(),
    }


def read_files(files: Mapping[str, bytes], *, name: str) -> tuple[Manifest, list[str]]:
    """Read what `files_of` wrote.

    Args:
        files: name to content.
        name: what messages call the artifact.

    Returns:
        The manifest and the vocabulary's pieces.

    Raises:
        ConfigError: a file is missing or is not ours.
    """
    for file in (MANIFEST_FILE, VOCABULARY_FILE):
        if file not in files:
            raise ConfigError(
                f"{name}: expected an artifact exported by tfmodel, with {MANIFEST_FILE}, "
                f"{VOCABULARY_FILE} and {LABELS_FILE} inside. Received: one without {file}. "
                "Export the model with `tfmodel export`."
            )
    manifest = Manifest.from_json(files[MANIFEST_FILE], name=f"{name}: {MANIFEST_FILE}")
    pieces = files[VOCABULARY_FILE].decode("utf-8").split("\n")
    return manifest, pieces[:-1] if pieces[-1] == "" else pieces


def _lines(values: list[str]) -> bytes:
    return "".join(f"{value}\n" for value in values).encode("utf-8")
