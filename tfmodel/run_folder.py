"""A run's folder: its lock, config, metrics and stages; whatever is written is whole.

Everything goes to a hidden neighbour first and takes its name by one rename, so that a reader
(TF Serving, a second command, the next start after a kill) sees the old or the new, never half.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import math
import os
import platform
import random
import re
import shutil
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydantic

from tfmodel.config import ConfigError, to_yaml

_log = logging.getLogger(__name__)

_PARTIAL = re.compile(r"\.(?P<name>.+)\.(?P<kind>partial|replaced)-(?P<pid>\d+)(?:-\d+)?")
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LARGEST_HASHED_FILE_BYTES = 64 * 2**20


# --- writing ------------------------------------------------------------------------------


@contextmanager
def write_aside(path: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """Write a file or folder beside its place and move it there whole.

    The body writes a file or makes a folder at the path it is given. When the body ends well,
    all of it is flushed to the disk and renamed; when it fails, it is removed and what stood at
    `path` before is untouched.

    Args:
        path: where the result shall stand; its parent folders are made.
        replace: whether a folder that stands there already gives way; a file always does.

    Yields:
        The path to write to, `.NAME.partial-<process id>` in the same folder; nothing is there.

    Raises:
        FileExistsError: a folder stands at `path` and `replace` is false.
        OSError: the disk is full (the message says where and how much is free), or any other
            failure of the body.
    """
    path = Path(os.path.abspath(path))
    if path.is_dir() and not replace:
        raise FileExistsError(errno.EEXIST, "expected no folder of this name yet", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _beside(path, "partial")
    _remove(aside)
    try:
        yield aside
        _flush(aside)
        _take_its_place(aside, path, replace=replace)
    except BaseException as error:
        full = word_full_disk(error, path)
        _remove(aside)
        if full is not None:
            raise full from error
        raise


def clear_leftovers(folder: Path) -> None:
    """Remove what `write_aside` left half done here or below in processes that were killed.

    A folder that was being replaced at that moment is put back.
    """
    for place, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            leftover = _PARTIAL.fullmatch(name)
            if leftover is None or _is_alive(int(leftover["pid"])):
                continue
            if name in folders:
                folders.remove(name)
            path, original = Path(place, name), Path(place, leftover["name"])
            if leftover["kind"] == "replaced" and not os.path.lexists(original):
                _log.info("Put back %s, which a killed process was replacing", original)
                path.rename(original)
            else:
                _log.info("Removed %s, left half written by a killed process", path)
                _remove(path)


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON that every reader takes: NaN and infinity become null; NumPy is understood."""
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    with write_aside(path) as aside:
        # Half a surrogate pair has no UTF-8; JSON's own escape for it is what this writes.
        aside.write_bytes(f"{text}\n".encode("utf-8", "backslashreplace"))


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        ConfigError: there is no such file, or it is not JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        received = error.strerror
    except ValueError as error:
        received = f"{error}"
    raise ConfigError(
        f"{path}: expected a JSON file that tfmodel wrote. Received: {received}. "
        "Restore it, or delete it and run the stage again."
    )


def _beside(path: Path, kind: str) -> Path:
    own = (
        "" if threading.current_thread() is threading.main_thread() else f"-{threading.get_ident()}"
    )
    return path.with_name(f".{path.name}.{kind}-{os.getpid()}{own}")


def _take_its_place(aside: Path, path: Path, *, replace: bool) -> None:
    if aside.is_dir() and replace and os.path.lexists(path):
        # No single call swaps two folders everywhere; a kill between the two renames is mended
        # by the next `Run.open`.
        replaced = _beside(path, "replaced")
        _remove(replaced)
        path.rename(replaced)
        try:
            aside.rename(path)
        except BaseException:
            replaced.rename(path)
            raise
        _remove(replaced)
    else:
        aside.rename(path)
    _sync(path.parent)


def _flush(aside: Path) -> None:
    if not os.path.lexists(aside):
        raise FileNotFoundError(errno.ENOENT, "nothing was written", str(aside))
    written = [aside]
    for folder, folders, names in os.walk(aside):
        written += [Path(folder, name) for name in (*folders, *names)]
    # Flushes that wait together share one commit of the file system's journal: thousands of
    # small files take a second instead of a minute.
    with ThreadPoolExecutor(max_workers=16) as pool:
        list(pool.map(_sync, (path for path in written if not path.is_symlink())))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and overlay file systems do not know the call; they keep what they can.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):
            raise
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def word_full_disk(error: BaseException, path: Path) -> OSError | None:
    """Word the error of a full disk; None for any other.

    TensorFlow reports a full disk with an error of its own, known only by its words.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number not in _DISK_FULL:
        if not isinstance(error, Exception) or "No space left on device" not in str(error):
            return None
        number = errno.ENOSPC
    there = next(parent for parent in path.parents if parent.exists())
    free = shutil.disk_usage(there).free
    return OSError(
        number,
        f"{path.parent}: expected room on the disk to write {path.name}. Received: "
        f"{os.strerror(number)}, {free:,} bytes free. Free some space or choose another folder, "
        "then run the same command again; what was there before is unharmed",
    )


def _is_alive(process: int) -> bool:
    # Our own number on a leftover is that of an earlier container or boot: we have just begun.
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _plain(value: Any) -> Any:
    """A value in JSON's own types."""
    if isinstance(value, pydantic.BaseModel):
        return _plain(value.model_dump(mode="json"))
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, set | frozenset):
        return sorted(_plain(inner) for inner in value)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


# --- fingerprints -------------------------------------------------------------------------


def fingerprint(value: Any) -> str:
    """A hash that changes when, and only when, a stage's inputs do.

    Args:
        value: JSON-like data, settings, and `Path` objects. A path stands for what is there:
            a file by its name and content (beyond 64 MB by size and time of change), a folder
            by all its files. A path as text, as in settings, is only text.

    Returns:
        64 hexadecimal digits.
    """
    canonical = json.dumps(_identity(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "backslashreplace")).hexdigest()


def _identity(value: Any) -> Any:
    if isinstance(value, Path):
        return _path_identity(value)
    if isinstance(value, Mapping):
        return {str(key): _identity(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_identity(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return f"float {value}"
    return _plain(value)


def _path_identity(path: Path) -> Any:
    if path.is_dir():
        found, visited = {}, set()
        for folder, folders, names in os.walk(path, followlinks=True):
            real = os.path.realpath(folder)
            if real in visited:  # a link that leads back up
                folders.clear()
                continue
            visited.add(real)
            folders[:] = [name for name in folders if not _PARTIAL.fullmatch(name)]
            for name in names:
                member = Path(folder, name)
                found[str(member.relative_to(path))] = _file_identity(member)
        return {"folder": found}
    return {"file": path.name, "content": _file_identity(path)}


def _file_identity(path: Path) -> Any:
    try:
        status = path.stat()
        if status.st_size > _LARGEST_HASHED_FILE_BYTES:
            return {"bytes": status.st_size, "changed_ns": status.st_mtime_ns}
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return {"unreadable": error.errno}


# --- the run ------------------------------------------------------------------------------


class Run:
    """A run's folder, held by one process at a time.

    Example:
        ```python
        with Run.open("runs/news") as run:
            run.save_config(settings)
            run.update_metrics("dev", {"accuracy": 0.97})
        ```
    """

    def __init__(self, folder: Path, lock: int | None):
        self.folder = folder
        self._lock = lock

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Take a run folder, made if need be, and clear away what killed processes left.

        The lock is the operating system's: it ends with the process, however that ends.

        Raises:
            ConfigError: the folder cannot be written, or another live process has it.
        """
        folder = Path(folder).absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            full = word_full_disk(error, folder)
            if full is not None:
                raise full from error
            raise ConfigError(
                f"{folder}: expected a run folder that can be written. Received: "
                f"{error.strerror}. Set run: to a folder of yours, or change its permissions."
            ) from None
        try:
            _take_lock(lock, folder)
        except BaseException:
            os.close(lock)
            raise
        _held_locks.add(lock)
        run = cls(folder, lock)
        clear_leftovers(folder)
        return run

    def close(self) -> None:
        """Give the folder free; further calls do nothing."""
        # In a forked child the descriptor is closed already, and its number may be another's.
        if self._lock in _held_locks:
            _held_locks.discard(self._lock)
            os.close(self._lock)
        self._lock = None

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # A run dropped without close() must not keep its folder for the life of a notebook.
        if os is not None:
            self.close()

    @property
    def data(self) -> Path:
        """The prepared dataset, a TFDS builder folder."""
        return self.folder / "data"

    @property
    def data_review(self) -> Path:
        """Rows of the data that somebody should look at, and what they were found by."""
        return self.folder / "data_review"

    @property
    def model(self) -> Path:
        """The trained model, a Hugging Face folder."""
        return self.folder / "model"

    @property
    def checkpoints(self) -> Path:
        """What training resumes from."""
        return self.folder / "checkpoints"

    @property
    def logs(self) -> Path:
        """TensorBoard's event files."""
        return self.folder / "logs"

    @property
    def export(self) -> Path:
        """SavedModel, TFLite files and `parity.json`."""
        return self.folder / "export"

    @property
    def report(self) -> Path:
        """The page about this run."""
        return self.folder / "report.html"

    @property
    def metrics_path(self) -> Path:
        """The file behind `metrics`."""
        return self.folder / "metrics.json"

    def metrics(self) -> dict:
        """All figures so far, by section (`train`, `dev`, `test`, `export`)."""
        return read_json(self.metrics_path) if self.metrics_path.exists() else {}

    def update_metrics(self, section: str, values: Mapping) -> None:
        """Set some figures of a section; its other figures stay."""
        metrics = self.metrics()
        metrics[section] = {**metrics.get(section, {}), **values}
        write_json(self.metrics_path, metrics)

    def stage_fingerprint(self, name: str) -> str | None:
        """The fingerprint under which a stage last ended well; None if it never did."""
        return self._stages().get(name, {}).get("fingerprint")

    def stage_inputs(self, name: str) -> dict | None:
        """The inputs under which a stage last ended well, to tell what has changed since."""
        return self._stages().get(name, {}).get("inputs")

    def record_stage(self, name: str, fingerprint: str, inputs: Mapping) -> None:
        """Note that a stage ended well with these inputs."""
        stages = self._stages()
        stages[name] = {"fingerprint": fingerprint, "inputs": inputs}
        write_json(self.folder / "stages.json", stages)

    def forget_stage(self, name: str, *, metrics: Iterable[str] = ()) -> None:
        """Take back that a stage ended well, and with it sections of the metrics."""
        stages, figures = self._stages(), self.metrics()
        if stages.pop(name, None) is not None:
            write_json(self.folder / "stages.json", stages)
        kept = {section: values for section, values in figures.items() if section not in metrics}
        if kept != figures:
            write_json(self.metrics_path, kept)

    def _stages(self) -> dict:
        path = self.folder / "stages.json"
        return read_json(path) if path.exists() else {}

    def save_config(self, settings: pydantic.BaseModel) -> None:
        """Keep the resolved config as `config.yaml`."""
        with write_aside(self.folder / "config.yaml") as aside:
            aside.write_text(to_yaml(settings), encoding="utf-8")

    def environment(self) -> dict:
        """Record this machine and its versions in `environment.json`; see `environment`."""
        found = environment()
        write_json(self.folder / "environment.json", found)
        return found


_held_locks: set[int] = set()


def _drop_inherited_locks() -> None:
    # A forked worker that outlives its killed parent would otherwise keep the run locked.
    for lock in _held_locks:
        os.close(lock)
    _held_locks.clear()


os.register_at_fork(after_in_child=_drop_inherited_locks)


def _take_lock(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 200).decode("utf-8", "replace").strip() or "another process"
        raise ConfigError(
            f"{folder}: expected a run folder that nobody else is using. Received: one in use by "
            f"{holder}. Wait until it ends or stop it, or set run: to another folder."
        ) from None
    except OSError as error:
        _log.warning(
            "%s: this file system has no locks (%s); start one command at a time here",
            folder,
            error.strerror,
        )
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


# --- the machine --------------------------------------------------------------------------

_PACKAGES = ("tfmodel", "tensorflow", "tensorflow-text", "keras", "numpy")
_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def environment() -> dict:
    """What this machine has, read without importing TensorFlow.

    Returns:
        `python`, one entry per package (None where it is not installed), `platform`, `cpu`,
        `cpu_cores` (those this process may use), `cpu_flags` (those that decide about speed).
    """
    model, flags = platform.processor() or platform.machine(), []
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, text = line.partition(":")
            if key.strip() == "model name":
                model = text.strip()
            elif key.strip() == "flags":
                flags = [flag for flag in _CPU_FLAGS if flag in text.split()]
                break
    except OSError:
        pass
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "cpu": model,
        "cpu_cores": len(os.sched_getaffinity(0)),
        "cpu_flags": flags,
    }


def _version(package: str) -> str | None:
    for name in (package, f"{package}-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and, where it is installed, Keras with its backend.

    Args:
        seed: 0 to 2**32 - 1, the range that NumPy takes.

    Raises:
        ConfigError: `seed` is outside that range.
    """
    if not 0 <= seed < 2**32:
        raise ConfigError(
            f"seed: expected a whole number from 0 to {2**32 - 1}. Received: {seed}. "
            "Choose one in this range."
        )
    import numpy

    random.seed(seed)
    numpy.random.seed(seed)
    if importlib.util.find_spec("keras") is not None:
        import keras

        keras.utils.set_random_seed(seed)
