"""What an artifact says of itself: the files that travel inside every export.

`vocab.txt` and `labels.txt` are what phone runtimes read; `tfmodel.json` holds the rest, so
that an artifact answers without the run folder it came from. In the place of `vocab.txt` stand
`vocab.json`, `merges.txt` and `tokenizer_config.json`, where the tokenizer is byte-level BPE, and
`tokenizer.json` and `tokenizer_config.json`, where it is SentencePiece's unigrams.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from importlib import metadata as package_metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmodel import tasks
from tfmodel.config import ConfigError

if TYPE_CHECKING:
    from tfmodel.tokens.row_tokenizer import RowTokenizer

MANIFEST_FILE = "tfmodel.json"
VOCABULARY_FILE = "vocab.txt"
LABELS_FILE = "labels.txt"
TOKENIZER_FILES = {
    "wordpiece": (VOCABULARY_FILE,),
    "byte_pairs": ("vocab.json", "merges.txt", "tokenizer_config.json"),
    "unigram": ("tokenizer.json", "tokenizer_config.json"),
}
"""What each kind of tokenizer is read from, beside what the manifest says of it."""
FORMAT = 4
"""Raised when an older tfmodel could no longer read the files rightly: 2 may have other tokenizers
than WordPiece, 3 a template, 4 a CRF's transitions or gaps that are not written `[MASK]`; without
these an artifact is still of 1."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What an artifact needs, beside weights and vocabulary, to answer as its model does.

    Args:
        labels: the name of each output: of `classify` the classes, in the order of the scores.
        max_length: tokens a row at most, special tokens included.
        lowercase: whether texts are lower-cased and stripped of accents first.
        tokenizer: how they are split, one of `TOKENIZER_FILES`.
        has_pairs: whether a row is two texts.
        task: one of `tasks.TASKS`; answers are decoded by it.
        decoding: what they are decoded by beside the labels.
        template: what texts are put into before they are split, as `PromptTokenizer` has it.
        precision: `float32`, `float16`, `int8`, `int8_weights`, `int8_full` or
            `mixed_bfloat16`.
        output: `scores` (the task's values: of `classify` a probability for each label) or
            `vector` (the sentence vector).
        version: the tfmodel that wrote the artifact.
        format: layout of these files, by default the oldest that does; a newer one than we know is
            refused.
    """

    labels: tuple[str, ...]
    max_length: int
    lowercase: bool = True
    tokenizer: str = "wordpiece"
    has_pairs: bool = False
    task: str = "classify"
    decoding: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    template: str = ""
    precision: str = "float32"
    output: str = "scores"
    version: str = ""
    format: int = 0

    def __post_init__(self):
        if not self.format:
            oldest = 3 if self.template else 1 if self.tokenizer == "wordpiece" else 2
            oldest = 4 if {"transitions", "gap"} & {*self.decoding} else oldest
            object.__setattr__(self, "format", oldest)

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
        for is_other, expected, other in (
            (newer, f"format {FORMAT} or older", f"format {manifest.format}"),
            (
                manifest.task not in tasks.ANSWERING,
                f"a task of {', '.join(tasks.ANSWERING)}",
                f"the task {manifest.task!r}",
            ),
            (
                str(manifest.tokenizer) not in TOKENIZER_FILES,
                f"a tokenizer of {', '.join(TOKENIZER_FILES)}",
                f"the tokenizer {manifest.tokenizer!r}",
            ),
        ):
            if not is_other:
                continue
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


def files_of(manifest: Manifest, tokenizer: RowTokenizer) -> dict[str, bytes]:
    """The files an artifact carries, by name.

    Args:
        manifest: what the artifact says of itself.
        tokenizer: the one that the manifest tells of.

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
        **_tokenizer_files(tokenizer),
        LABELS_FILE: _lines(lines),
        MANIFEST_FILE: manifest.to_json().encode(),
    }


def read_files(files: Mapping[str, bytes], *, name: str) -> Manifest:
    """Read the manifest that `files_of` wrote, and see that the other files are there.

    Args:
        files: name to content.
        name: what messages call the artifact.

    Raises:
        ConfigError: a file is missing or is not ours.
    """
    _require(files, MANIFEST_FILE, TOKENIZER_FILES["wordpiece"], name)
    manifest = Manifest.from_json(files[MANIFEST_FILE], name=f"{name}: {MANIFEST_FILE}")
    wanted = TOKENIZER_FILES[manifest.tokenizer]
    for file in wanted:
        _require(files, file, wanted, name)
    return manifest


def read_tokenizer(files: Mapping[str, bytes], manifest: Manifest, *, name: str) -> RowTokenizer:
    """Make the tokenizer whose files `files_of` wrote.

    Args:
        files: name to content, as `read_files` took them.
        manifest: what `read_files` gave.
        name: what messages call the artifact.

    Raises:
        ConfigError: a file is damaged.
    """
    if manifest.template:
        from tfmodel.tokens.prompts import PromptTokenizer

        plain = dataclasses.replace(manifest, template="")
        return PromptTokenizer(read_tokenizer(files, plain, name=name), manifest.template)
    if manifest.tokenizer == "wordpiece":
        from tfmodel.tokens.tokenizer import Tokenizer
        from tfmodel.tokens.vocabulary import Vocabulary

        pieces = files[VOCABULARY_FILE].decode("utf-8").split("\n")
        return Tokenizer(
            Vocabulary(pieces[:-1] if pieces[-1] == "" else pieces, name=f"{name}: vocab.txt"),
            lowercase=manifest.lowercase,
            max_length=manifest.max_length,
        )
    from tfmodel.tokens.folders import load_tokenizer

    with tempfile.TemporaryDirectory() as folder:
        for file in TOKENIZER_FILES[manifest.tokenizer]:
            Path(folder, file).write_bytes(files[file])
        try:
            return load_tokenizer(folder, max_length=manifest.max_length)
        except ConfigError as error:
            raise ConfigError(str(error).replace(folder, name)) from None


def _require(files: Mapping[str, bytes], file: str, wanted: tuple[str, ...], name: str) -> None:
    if file not in files:
        raise ConfigError(
            f"{name}: expected an artifact exported by tfmodel, with {MANIFEST_FILE}, "
            f"{', '.join(wanted)} and {LABELS_FILE} inside. Received: one without {file}. "
            "Export the model with `tfmodel export`."
        )


def _tokenizer_files(tokenizer: RowTokenizer) -> dict[str, bytes]:
    if tokenizer.kind == "wordpiece":  # phones read its lines, whatever characters stand in them
        return {VOCABULARY_FILE: _lines(tokenizer.vocabulary.pieces)}
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)
        return {file: Path(folder, file).read_bytes() for file in TOKENIZER_FILES[tokenizer.kind]}


def _lines(values: list[str]) -> bytes:
    return "".join(f"{value}\n" for value in values).encode("utf-8")
