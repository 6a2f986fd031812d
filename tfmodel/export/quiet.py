"""TensorFlow's C++ code writes to the terminal past Python; here it does not."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator

_log = logging.getLogger(__name__)
_KEPT_CHARACTERS = 20_000


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send everything that is written to the terminal inside to the debug log.

    Whatever goes wrong inside still raises. Other threads are silenced as well, for they
    share the terminal.
    """
    with tempfile.TemporaryFile() as sink:
        saved = {}
        _flush()
        for stream in (1, 2):
            # A process without a terminal may have either closed.
            with contextlib.suppress(OSError):
                saved[stream] = os.dup(stream)
                os.dup2(sink.fileno(), stream)
        try:
            yield
        finally:
            _flush()
            for stream, copy in saved.items():
                os.dup2(copy, stream)
                os.close(copy)
            sink.seek(0)
            written = sink.read(_KEPT_CHARACTERS).decode("utf-8", "replace").strip()
            if written:
                _log.debug("%s", written)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
