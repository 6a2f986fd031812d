"""Where exports are put: served folders, their versions, and a place to prepare them."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tfmodel.config import ConfigError

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


def make_folder(folder: str | Path) -> Path:
    """Make a folder that exports go to, where it is missing.

    Raises:
        ConfigError: it cannot be made or written.
        OSError: the disk is full.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        if error.errno in _FULL_DISK:
            raise
        raise ConfigError(
            f"{folder}: expected a folder that can be written. Received: {error.strerror}. "
            "Choose another folder, or change its permissions."
        ) from None
    return folder


def task_runs(run: Path) -> list[Path]:
    """The run folders of the tasks of a run of several; none of any other."""
    return sorted(path.parent for path in run.glob("tasks/*/config.yaml"))


def is_version(name: str) -> bool:
    """Whether TF Serving takes a folder of this name for a version: a number of 63 bits."""
    return name.isascii() and name.isdigit() and len(name) < 20 and int(name) < 2**63


def versions(base: Path) -> list[int]:
    """The version numbers in a served folder, ascending."""
    names = [entry.name for entry in base.iterdir()] if base.is_dir() else []
    return sorted(int(name) for name in names if is_version(name))


def next_version(base: Path) -> int:
    """The number after the highest version in a served folder; 1 where there is none."""
    return max(versions(base), default=0) + 1


def publish_version(version: Path, base: Path) -> Path:
    """Move a version that was written and checked elsewhere into a served folder.

    Args:
        version: a whole version folder on the same disk.
        base: the served folder; made where missing.

    Returns:
        Its place there: the highest number so far plus one.
    """
    make_folder(base)
    while True:
        target = base / str(next_version(base))
        try:
            # The system refuses this where somebody else has just taken the number.
            return version.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def replace(path: Path, target: Path) -> Path:
    """Move a whole file or folder over what stands at `target`, on the same disk; its new place."""
    if target.is_dir():
        older = path.with_name(f"{path.name}.older")
        target.rename(older)
    return path.replace(target)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all it holds; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A folder on the same disk as `folder` that is gone afterwards, whatever happens.

    Its name is one that `Run.open` clears away should the process be killed.
    """
    path = make_folder(folder) / f".staging.partial-{os.getpid()}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
