"""The rows on which two versions are compared: texts alone, or with their right answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.data import load_dataset
from tfmodel.data.dataset import Split
from tfmodel.data.reading.encoding import read_lines
from tfmodel.data.reading.places import find_place
from tfmodel.data.reading.readers import Source, open_source
from tfmodel.data.reading.suggest import look_at
from tfmodel.data.rows import BadLabel, Row
from tfmodel.data.settings import DataSettings
from tfmodel.export.manifest import Manifest
from tfmodel.serve.files import read_rows

_WITHOUT_LOOK = ("number", "none", "text", "answers")


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """What both versions are asked.

    Attributes:
        split: the texts and, where they are known, the right answers.
        is_labelled: whether they are.
        name: where the rows are from, for the report.
        corrected: further rows, of which alone the right answers are known; None: there are none.
    """

    split: Split
    is_labelled: bool
    name: str
    corrected: Split | None = None

    def __len__(self) -> int:
        return len(self.split.texts)


def text_rows(
    path: str | Path,
    manifest: Manifest,
    *,
    text: str = "text",
    text_pair: str = "text_pair",
    most: int = 1000,
) -> Rows:
    """Read texts: requests that somebody has collected.

    Args:
        path: `.txt`, one text a line; or `.jsonl`, `.csv` or `.tsv`.
        manifest: of the version in service; says whether rows are pairs.
        text: the field with the text.
        text_pair: the field with the second text.
        most: of more, as many are taken, evenly spread.

    Raises:
        ConfigError: no such file, another format, no such field, or no rows.
    """
    path = Path(path)
    pairs: list[str] | None = None
    if path.suffix.lower() in (".txt", ".text"):
        if manifest.has_pairs:
            raise ConfigError(
                f"{path}: expected pairs of texts, in a .jsonl, .csv or .tsv file. Received: lines "
                "of a text each."
            )
        if not path.is_file():
            raise ConfigError(f"{path}: expected a file of texts. Received: none. Check the path.")
        texts = [line for raw in read_lines(path, "utf-8") if (line := raw.rstrip("\r\n")).strip()]
    else:
        wanted = [text, text_pair] if manifest.has_pairs else [text]
        columns = [[*column] for column in zip(*read_rows(path, wanted), strict=True)]
        texts = columns[0] if columns else []
        pairs = columns[1] if len(columns) > 1 else None
    if not texts:
        raise ConfigError(f"{path}: expected texts. Received: none.")
    kept = spread(len(texts), most)
    split = Split(
        texts=[texts[row] for row in kept],
        text_pairs=None if pairs is None else [pairs[row] for row in kept],
        labels=[None] * len(kept),
        origins=[f"{path.name}:{row + 1}" for row in kept],
    )
    return Rows(split, False, path.name)


def run_rows(run: str | Path, manifest: Manifest, *, part: str = "test", most: int = 1000) -> Rows:
    """Read a part of a run's prepared dataset, or of the dataset itself.

    Args:
        run: a run folder, or a folder that `tfmodel data` has prepared.
        manifest: of the version in service.
        part: `test` or another one.
        most: of more rows, as many are taken, evenly spread.

    Raises:
        ConfigError: no dataset, no such part, or labels of another task.
    """
    folder = Path(run)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: expected a run folder. Received: none. Check the path.")
    dataset = load_dataset(folder / "data" if (folder / "data").is_dir() else folder)
    wanted = tasks.TASKS[manifest.task].target
    fits = dataset.target == wanted
    if tasks.gives_vectors(manifest.task):
        fits = dataset.has_pairs and dataset.target in ("none", "text", "number")
    if not fits:
        raise ConfigError(
            f"{folder}: expected rows for the task {manifest.task}. Received: a dataset whose "
            f"target is {dataset.target}. Name the run that the model is of."
        )
    if part not in dataset.counts:
        raise ConfigError(
            f"{folder}: expected --part to be one of {', '.join(dataset.counts)}. "
            f"Received: {part!r}."
        )
    split = dataset.split(part)
    labels = split.labels
    if dataset.target == "class":
        labels = [dataset.labels[label] for label in labels]
    split = _cut(dataclasses.replace(split, labels=labels), most)
    return Rows(split, True, f"{part} of {folder.name}")


def labelled_rows(
    path: str | Path, manifest: Manifest, *, fields: Mapping[str, Any], most: int = 1000
) -> Rows:
    """Read labelled rows of any format that a training reads.

    Args:
        path: as `data.train` of a config.
        manifest: of the version in service; says what labels are.
        fields: `data` settings that win over what a look at the file tells, such as `label`.
        most: of more rows, as many are taken, evenly spread.

    Raises:
        ConfigError: no such file or column, or no rows that can be read.
    """
    target = tasks.TASKS[manifest.task].target
    settings: dict[str, Any] = {"train": str(path), "target": target}
    fields = {name: value for name, value in fields.items() if value is not None}
    if not {"text", "label"} <= {*fields} and target not in _WITHOUT_LOOK:
        settings = {**look_at(path).settings, "target": target}
    if manifest.has_pairs or tasks.gives_vectors(manifest.task):
        settings.setdefault("text_pair", "text_pair")
    if tasks.gives_vectors(manifest.task):
        settings["target"] = "number" if "label" in fields else "none"
    settings = DataSettings(**{**settings, **fields})
    source = open_source(find_place(str(path)), settings, role="test")
    found = [row for row in source.rows if isinstance(row, Row) and _has_clean_label(row, source)]
    if not found:
        raise ConfigError(f"{path}: expected rows that can be read. Received: none.")
    labels: Any = [row.label for row in found]
    if source.target.name == "number":
        labels = np.array(labels, np.float32)
    pairs = None if found[0].text_pair is None else [row.text_pair or "" for row in found]
    split = Split([row.text for row in found], pairs, labels, [row.origin for row in found])
    return Rows(_cut(split, most), True, Path(path).name)


def _has_clean_label(row: Row, source: Source) -> bool:
    """Bring a label into the form it has in a dataset; the text stays as a client would send it."""
    text, text_pair = row.text, row.text_pair
    try:
        source.target.clean(row, ())
    except BadLabel:
        return False
    row.text, row.text_pair = text, text_pair
    return True


def right_answers(task: Any, split: Split) -> Any:
    """The right answers of rows, as `answers.quality` takes them."""
    if task.ANSWERS in ("classes", "sets"):  # by name: versions may have other labels
        return split.labels
    return tasks.right_answers(task, split, [])


def spread(count: int, most: int) -> Sequence[int]:
    """Numbers of rows, all of them or so many, evenly spread.

    Args:
        count: of all rows.
        most: numbers to give.
    """
    if count <= most:
        return range(count)
    return np.linspace(0, count - 1, most).round().astype(int).tolist()


def _cut(split: Split, most: int) -> Split:
    kept = spread(len(split.texts), most)
    if len(kept) == len(split.texts):
        return split
    labels = split.labels
    return Split(
        texts=[split.texts[row] for row in kept],
        text_pairs=None if split.text_pairs is None else [split.text_pairs[row] for row in kept],
        labels=labels[kept] if isinstance(labels, np.ndarray) else [labels[row] for row in kept],
        origins=[split.origins[row] for row in kept],
    )
