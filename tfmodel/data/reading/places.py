"""From a source as the config names it to the files that hold its rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tfmodel.config import ConfigError
from tfmodel.data.reading.archives import DataFile
from tfmodel.data.settings import DataSettings
from tfmodel.run_folder import fingerprint
from tfmodel.sources import split_of

_IN_ZIP = re.compile(r"(?P<zip>.+?\.zip)/(?P<member>[^#]+)(?P<hash>#.*)?", re.IGNORECASE)
_IN_JSON = re.compile(
    r"(?P<file>.+?\.json(?:\.(?:gz|zst))?)/(?P<records>[^#]+)(?P<hash>#.*)?", re.IGNORECASE
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+-]+:")


@dataclass(frozen=True)
class Place:
    """Where rows are.

    Attributes:
        path: a file or a folder; of several files the folder they have in common.
        member: the file in the zip that `path` is; None: its only one.
        split: of a TFDS folder: a split's name or a part of it; None: by the role. Of a JSON file:
            the field with the array of rows; None: as `data.records` says.
        files: several files that are read one after another, in order; else empty.
    """

    path: Path
    member: str | None = None
    split: str | None = None
    files: tuple[Path, ...] = ()

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}/{self.member}"

    @property
    def name(self) -> str:
        """What messages and the rows' origins call it; each of several files has its own name."""
        if self.files:
            return f"{len(self.files)} files of {self.path.name}"
        return DataFile(self.path, self.member).name

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, or the file or folder, that are read."""
        return self.files or (self.path,)

    def fingerprint(self) -> str:
        """A hash of what is read: another one when a file changes."""
        files = {str(number): path for number, path in enumerate(self.paths)}
        return fingerprint({"files": files, "member": self.member, "split": self.split})

    def data_files(self) -> tuple[DataFile, ...]:
        """Give the files to read, in order."""
        if self.files:
            return tuple(DataFile(path) for path in self.files)
        return (DataFile(self.path, self.member),)


def find_place(source: str, locate: Callable[[str], Path] = Path) -> Place:
    """Find the files of a source.

    Args:
        source: what the config names: anything that `locate` takes, with the split of a TFDS
            folder in brackets; a path into a zip (`rows.zip/train.tsv`) or a JSON file
            (`rows.json/train`); paths with `*` and `**` for several files, of one format.
        locate: turns a source into a local path.

    Raises:
        ConfigError: there is nothing there.
    """
    inside = _IN_ZIP.fullmatch(source)
    if inside:
        path = Path(locate(inside["zip"] + (inside["hash"] or "")))
        if path.is_file():
            return Place(path, member=inside["member"])
    inside = _IN_JSON.fullmatch(source)
    if inside:
        path = Path(locate(inside["file"] + (inside["hash"] or "")))
        if path.is_file():
            return Place(path, split=inside["records"].replace("/", "."))
    if "*" in source and not _SCHEME.match(source):
        return _find_files(source, locate)
    path, split = Path(locate(source)), split_of(source)
    if "*" in source and path.is_dir() and split is None:
        pattern = source.partition("#")[0].rpartition("/")[2]
        return _files_below(source, path, f"**/{pattern}")
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ConfigError(
            f"{source}: expected a file or folder. Received: a pipe or a device, which can be read "
            f"once at most, and rows are read more often. Save them to a file and name that."
        )
    return Place(path, split=split)


def settings_at(place: Place, settings: DataSettings) -> DataSettings:
    """Give the settings, with the field that the place names in a JSON file as `records`."""
    if place.split is None or place.path.is_dir():
        return settings
    return settings.model_copy(update={"records": place.split})


def _find_files(source: str, locate: Callable[[str], Path]) -> Place:
    parts = source.split("/")
    first = next(number for number, part in enumerate(parts) if "*" in part)
    base = "/".join(parts[:first]) or ("/" if source.startswith("/") else ".")
    return _files_below(source, Path(locate(base)), "/".join(parts[first:]))


def _files_below(source: str, folder: Path, pattern: str) -> Place:
    # Brackets and question marks are characters of names here: only the star stands for others.
    escaped = re.sub(r"[\[?]", r"[\g<0>]", pattern)
    found = sorted(
        path
        for path in folder.glob(escaped)
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    )
    if not found:
        raise ConfigError(
            f"{source}: expected files of that name. Received: none in {folder}. Check the path "
            f"and what stands for `*`."
        )
    return Place(folder, files=tuple(found)) if len(found) > 1 else Place(found[0])
