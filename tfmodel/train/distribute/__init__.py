"""Training on several devices of one host, and on several hosts."""

__all__ = [
    "Cluster",
    "SharedCheckpoint",
    "choose_strategy",
    "gather",
    "is_chief",
    "lost_worker_in_words",
    "worker_count",
]

_LAZY = {
    "Cluster": "cluster",
    "SharedCheckpoint": "workers",
    "choose_strategy": "strategy",
    "gather": "workers",
    "is_chief": "workers",
    "lost_worker_in_words": "strategy",
    "worker_count": "workers",
}


def __getattr__(name: str):
    """Import TensorFlow only when a name that needs it is used."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
