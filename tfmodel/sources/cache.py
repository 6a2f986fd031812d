"""Where fetched sources are kept, and how two processes fetch one of them together."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfmodel.config import ConfigError

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where fetched sources are kept: `TFMODEL_CACHE`, or `~/.cache/tfmodel`."""
    return Path(expand_home(os.environ.get("TFMODEL_CACHE") or "~/.cache/tfmodel")).absolute()


def expand_home(text: str) -> Path:
    """Read `~` at the start of a path, or leave it where nobody has such a home."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # `~someone` who is not here, or no home at all
        return Path(text)


def word_by_hand(source: str, place: Path, where: str) -> str:
    """Say how a source comes to a machine that cannot fetch it itself.

    Args:
        source: as the config names it.
        place: the folder of the cache that holds all of it.
        where: what the other machine has to reach.
    """
    inside = place.relative_to(cache_folder())
    return (
        f'Or bring it by hand: where {where} can be reached, run `python -c "import tfmodel; '
        f"tfmodel.fetch('{source}')\"`, and copy ~/.cache/tfmodel/{inside} from there to {place}"
    )


@contextmanager
def sole_fetcher(place: Path, name: str) -> Iterator[None]:
    """Let one process fetch into a folder while others wait; the lock ends with the process.

    Args:
        place: a folder of the cache; made where it is missing.
        name: what is fetched, for the line that those who wait show.

    Raises:
        ConfigError: the cache cannot be written.
    """
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
            _log.info("Another process is fetching %s: waiting for it", name)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            _log.warning("%s: no locks on this file system (%s)", place, error.strerror)
        yield
    finally:
        os.close(lock)
