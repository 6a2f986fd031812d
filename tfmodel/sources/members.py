"""The files that a wheel or a repository holds: which may be taken, which are near a name.

Taken is what has a safe name, is neither code nor a pickle, and keeps to limits of size.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

MEMBER_LIMIT_BYTES = 2 * 2**30
TOTAL_LIMIT_BYTES = 8 * 2**30
MEMBER_COUNT_LIMIT = 200_000

CODE_SUFFIXES = frozenset(
    ".py .pyc .pyo .pyd .pyx .pth .so .dll .dylib .exe .msi .com .sh .bash .bat .cmd .ps1 "
    ".js .jar .class .whl .egg .pkl .pickle .joblib .dill .pt .bin .ckpt .keras".split()
)


def is_safe(name: str) -> bool:
    """Whether a name from elsewhere stays inside the folder it is put into."""
    parts = name.split("/")
    return not ({"", ".", ".."} & set(parts) or re.search(r"[\\\x00-\x1f]|^[A-Za-z]:", name))


def is_code(name: str) -> bool:
    """Whether a file is code, or a pickle, which runs code when it is read."""
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes]
    # `libx.so.1` is code too.
    return ".so" in suffixes or (bool(suffixes) and suffixes[-1] in CODE_SUFFIXES)


def excess(sizes_bytes: Mapping[str, int]) -> str | None:
    """Say in words which limit on number and size some files exceed; None for none.

    Args:
        sizes_bytes: the size of each file by its name, as whoever sends them states it.
    """
    if len(sizes_bytes) > MEMBER_COUNT_LIMIT:
        return f"{len(sizes_bytes):,} files, more than {MEMBER_COUNT_LIMIT:,}"
    for name, size_bytes in sizes_bytes.items():
        if size_bytes > MEMBER_LIMIT_BYTES:
            return f"{name} of {size_bytes:,} bytes, more than {MEMBER_LIMIT_BYTES:,}"
    total_bytes = sum(sizes_bytes.values())
    if total_bytes > TOTAL_LIMIT_BYTES:
        return f"{total_bytes:,} bytes in all, more than {TOTAL_LIMIT_BYTES:,}"
    return None


def nearest_entries(path: str, files: Iterable[str]) -> list[str]:
    """The five files and folders whose names are nearest to a path; the topmost where none is."""
    names = {name.rstrip("/") for name in files}
    names |= {str(parent) for name in names for parent in PurePosixPath(name).parents}
    names = {name for name in names if is_safe(name)}
    near = difflib.get_close_matches(path, sorted(names), n=5, cutoff=0.4)
    return near or sorted(names, key=lambda name: (name.count("/"), name))[:5]
