"""Memory in use by this process and on its GPU."""

from __future__ import annotations

import functools
import os

_GIB = 2**30


def memory_figures() -> dict[str, float]:
    """Resident memory of the process in GiB, and of the first GPU where there is one."""
    figures = {}
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            figures["system/memory_gib"] = int(file.read().split()[1]) * _page_size() / _GIB
    except OSError:
        pass
    if _has_gpu():
        import tensorflow as tf

        figures["system/gpu_memory_gib"] = (
            tf.config.experimental.get_memory_info("GPU:0")["current"] / _GIB
        )
    return figures


@functools.cache
def _page_size() -> int:
    return os.sysconf("SC_PAGE_SIZE")


@functools.cache
def _has_gpu() -> bool:
    import tensorflow as tf

    return bool(tf.config.list_logical_devices("GPU"))
