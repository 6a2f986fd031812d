"""Files as they stand: plain, gzip, zstd, or a member of a zip, each read as a stream of bytes.

Nothing is unpacked to disk or whole into memory. What unpacks to far more than text does is
refused on the way, so a zip bomb costs neither.
"""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tfmodel.config import ConfigError

# Text packs 3 to 10 to 1, tables that repeat themselves 50 to 1; bombs 1,000 to 1 and more.
RATIO_LIMIT = 200
RATIO_COUNTS_FROM_BYTES = 64 * 2**20
UNPACKED_LIMIT_BYTES = 2**40
MEMBER_COUNT_LIMIT = 1_000_000

_GZIP, _ZSTD, _ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
_PACKED_SUFFIXES = {".gz", ".gzip", ".zst", ".zstd"}
_BLOCK_BYTES = 2**16
# A block of zstd can unpack to 32,000 times its size: few bytes at a time keep memory flat.
_ZSTD_BLOCK_BYTES = 2**11


@dataclass(frozen=True)
class DataFile:
    """A file, or a member of a zip; `str` is what messages call it."""

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}/{self.member}"

    @property
    def name(self) -> str:
        """The name without folders."""
        return PurePosixPath(self.member or self.path).name

    @property
    def suffix(self) -> str:
        """The suffix below that of a compression, in lower case: `.jsonl` of `a.jsonl.gz`."""
        name = PurePosixPath(self.name.lower())
        return (name.with_suffix("") if name.suffix in _PACKED_SUFFIXES else name).suffix


def open_bytes(file: Path | DataFile) -> BinaryIO:
    """Open a file for its unpacked bytes; how it is packed is seen by its first bytes.

    Raises:
        ConfigError: it is a zip of several files, damaged or encrypted, or unpacks to more than
            the limits say; also while it is read.
        OSError: it cannot be read.
    """
    file = file if isinstance(file, DataFile) else DataFile(file)
    raw: BinaryIO = open(file.path, "rb")
    try:
        if raw.read(4) == _ZIP and file.member is None:
            file = DataFile(file.path, only_member(file.path))
        raw.seek(0)
        packed_bytes = file.path.stat().st_size
        if file.member is not None:
            raw = _limited(_open_member(file), file, packed_bytes, raw)
        start = raw.peek(4)[:4]  # type: ignore[attr-defined]
        if start.startswith(_GZIP):
            raw = _limited(gzip.GzipFile(fileobj=raw), file, packed_bytes, raw)
        elif start.startswith(_ZSTD):
            raw = _limited(_ZstdStream(raw), file, packed_bytes, raw)
    except BaseException:
        raw.close()
        raise
    return raw


def is_zip(path: Path) -> bool:
    """Whether a file starts as a zip does."""
    with open(path, "rb") as opened:
        return opened.read(4) == _ZIP


def is_packed(file: DataFile) -> bool:
    """Whether the bytes on disk are not those that `open_bytes` gives."""
    if file.member is not None:
        return True
    with open(file.path, "rb") as opened:
        return opened.read(4).startswith((_GZIP, _ZSTD, _ZIP))


def data_members(path: Path) -> list[str]:
    """List the files in a zip, sorted, without hidden ones.

    Raises:
        ConfigError: it is damaged, holds too many, or one whose path leads outside.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # A damaged name may be empty: `is_dir` looks at its last character.
            names = [name for name in archive.namelist() if name and not name.endswith("/")]
    except (zipfile.BadZipFile, NotImplementedError, UnicodeError, OSError) as error:
        raise damaged_archive(path, error) from None
    if len(names) > MEMBER_COUNT_LIMIT:
        raise ConfigError(
            f"{path}: expected at most {MEMBER_COUNT_LIMIT:,} files in a zip. Received: "
            f"{len(names):,}. Pack the rows into fewer files."
        )
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if ".." in parts or parts[0].startswith("/") or parts[0].endswith(":"):
            raise ConfigError(
                f"{path}: expected files inside the archive. Received: {name!r}, a path that leads "
                f"outside. Such archives are made to overwrite files: do not use it unless you "
                f"know who made it; if so, unpack it yourself and name the file."
            )
    return sorted(name for name in names if not _is_hidden(name))


def only_member(path: Path) -> str:
    """Name the one file of rows in a zip.

    Raises:
        ConfigError: there is none, or there are several.
    """
    names = data_members(path)
    if "[Content_Types].xml" in names or "mimetype" in names:
        raise ConfigError(
            f"{path}: expected a file of text. Received: a spreadsheet or document (.xlsx, .ods, "
            f".docx). Save it as CSV and name that."
        )
    rows = [name for name in names if not _is_about(name)] or names
    if len(rows) != 1:
        shown = ", ".join(rows[:10]) + (f" and {len(rows) - 10} more" if len(rows) > 10 else "")
        fix = f"Name one of them: {path}/{rows[0]}" if rows else "Check how it was packed"
        raise ConfigError(
            f"{path}: expected a zip of one file. Received: {len(rows):,} files"
            f"{': ' if shown else ''}{shown}. {fix}."
        )
    return rows[0]


def _is_hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part.startswith((".", "__MACOSX")) for part in parts)


def _is_about(name: str) -> bool:
    """Whether a file tells about the data: README, LICENSE ..."""
    about = ("readme", "license", "licence", "notice", "changelog", "citation")
    return PurePosixPath(name).name.lower().startswith(about)


def _open_member(file: DataFile) -> BinaryIO:
    names = data_members(file.path)
    if file.member not in names:
        import difflib

        near = difflib.get_close_matches(file.member or "", names, n=1)
        hint = f" Did you mean {file.path}/{near[0]}?" if near else ""
        raise ConfigError(
            f"{file}: expected a file in the zip {file.path}. Received: it holds "
            f"{', '.join(names[:10]) or 'none'}{' ...' if len(names) > 10 else ''}.{hint} "
            f"Check the path after .zip/."
        )
    try:
        return zipfile.ZipFile(file.path).open(file.member)  # type: ignore[return-value]
    except RuntimeError:  # what zipfile says of a password
        raise ConfigError(
            f"{file}: expected a zip without a password. Received: an encrypted one. Unpack it "
            f"yourself and name the file."
        ) from None
    except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
        raise damaged_archive(file, error) from None


# --- unpacking within limits ----------------------------------------------------------------


def _limited(inner: BinaryIO, file: DataFile, packed_bytes: int, below: BinaryIO) -> BinaryIO:
    stream = _LimitedStream(inner, file, packed_bytes, below)
    return io.BufferedReader(stream, _BLOCK_BYTES)  # type: ignore[return-value]


class _LimitedStream(io.RawIOBase):
    """Gives what another stream unpacks; stops at the limits, words its damages, closes both."""

    def __init__(self, inner: BinaryIO, file: DataFile, packed_bytes: int, below: BinaryIO):
        self._inner = inner
        self._file = file
        most_bytes = max(RATIO_COUNTS_FROM_BYTES, RATIO_LIMIT * packed_bytes)
        self._most_bytes = min(most_bytes, UNPACKED_LIMIT_BYTES)
        self._unpacked_bytes = 0
        self._below = below
        # What one step unpacks: more steps would lose theirs to the damage that follows.
        self._read: Callable[[int], bytes] = getattr(inner, "read1", inner.read)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        try:
            block = self._read(len(buffer))
        except (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile) as error:
            raise damaged_archive(self._file, error) from None
        self._unpacked_bytes += len(block)
        if self._unpacked_bytes > self._most_bytes:
            raise ConfigError(
                f"{self._file}: expected data that unpacks to at most {RATIO_LIMIT} times its "
                f"size. Received: more than {self._most_bytes:,} bytes from a file of "
                f"{self._file.path.stat().st_size:,}, as a zip bomb would give. Unpack it "
                f"yourself and name the file, if you know that it is none."
            )
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
            self._below.close()
        super().close()


class _ZstdStream(io.RawIOBase):
    """Unpacks zstd, one frame after another; unlike the library's own, says if the last is cut."""

    def __init__(self, packed: BinaryIO):
        self._packed = packed
        self._new_frame: Callable = _zstd_decompressor().decompressobj
        self._frame = None
        self._ahead = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while not self._ahead:
            block = self._packed.read(_ZSTD_BLOCK_BYTES)
            if not block:
                if self._frame is not None:
                    raise EOFError("it ends in the middle of a frame")
                return 0
            unpacked = []
            while block:
                self._frame = self._frame or self._new_frame()
                unpacked.append(_unpack_zstd(self._frame, block))
                block = self._frame.unused_data if self._frame.eof else b""
                if self._frame.eof:
                    self._frame = None
            self._ahead = memoryview(b"".join(unpacked))
        given, self._ahead = self._ahead[: len(buffer)], self._ahead[len(buffer) :]
        buffer[: len(given)] = given
        return len(given)


def _zstd_decompressor():
    try:
        import zstandard
    except ImportError:
        raise ConfigError(
            "expected the package zstandard, which unpacks zstd. Received: no such package. "
            "Install it: pip install zstandard"
        ) from None
    return zstandard.ZstdDecompressor()


def _unpack_zstd(frame, block: bytes) -> bytes:
    import zstandard

    try:
        return frame.decompress(block)
    except zstandard.ZstdError as error:
        raise EOFError(str(error)) from None


def damaged_archive(file: Path | DataFile, error: Exception) -> ConfigError:
    """Word the error for an archive that cannot be unpacked."""
    return ConfigError(
        f"{file}: expected a complete archive. Received: {str(error)[:200] or type(error).__name__}"
        f". Download or pack it again."
    )
