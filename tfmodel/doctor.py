"""What this machine has, and what a run on it will use."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from tfmodel.config import ConfigError


def examine() -> dict[str, str]:
    """Look at the machine.

    Returns:
        What was looked at -> what was found, in words, in the order to be shown.
    """
    import tensorflow as tf

    from tfmodel.run_folder import environment
    from tfmodel.sources import DEFAULT_ENCODER, cache_folder
    from tfmodel.train.settings import FinetuneSettings

    found = {name.replace("_", " "): _words(value) for name, value in environment().items()}
    gpus = tf.config.list_physical_devices("GPU")
    found["GPUs"] = ", ".join(gpu.name for gpu in gpus) or "none: the processor is used"
    settings = FinetuneSettings().resolve(hidden_size=384)
    found["workers"] = _workers()
    found["for pretraining"] = _extras()
    found["train.precision auto"] = settings.precision
    found["train.jit auto"] = str(settings.jit).lower()
    found["memory"] = _memory()
    disk = shutil.disk_usage(Path.cwd())
    found["disk here"] = f"{disk.free / 1e9:.0f} GB free of {disk.total / 1e9:.0f} GB"
    cache = cache_folder()
    found["cache"] = f"{cache} ({_size(cache)})"
    found["default encoder"] = DEFAULT_ENCODER.split("#")[0]
    return found


# Extra -> what it brings.
_FOR_PRETRAINING = {
    "vocabulary": ("tokenizers",),
    "privacy": ("phonenumbers", "stdnum"),
    "chinese": ("rjieba",),
    "language": ("py3langid",),
    "beam": ("apache_beam",),
}


def _extras() -> str:
    """Which extras of a pretraining are installed, and how to have the others."""
    there = [
        extra
        for extra, modules in _FOR_PRETRAINING.items()
        if all(importlib.util.find_spec(module) for module in modules)
    ]
    missing = [extra for extra in _FOR_PRETRAINING if extra not in there]
    found = [f"extras {', '.join(there)}"] if there else []
    if missing:
        found.append(f"not installed: {', '.join(missing)}")
    return "; ".join(found)


def _words(value: str | int | list | None) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return "not installed" if value is None else str(value)


def _workers() -> str:
    from tfmodel.train.distribute.cluster import Cluster

    try:
        cluster = Cluster.from_environment()
    except ConfigError as error:
        return f"not to be used: {error}"
    if cluster is None:
        return "this process alone (TF_CONFIG names no others)"
    role = ", the chief" if cluster.is_chief else ""
    return f"{', '.join(cluster.addresses)}; this is {cluster.addresses[cluster.rank]}{role}"


def _memory() -> str:
    amounts = {}
    try:
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            name, _, rest = line.partition(":")
            amounts[name] = int(rest.split()[0]) / 1e6
        return f"{amounts['MemAvailable']:.1f} GB available of {amounts['MemTotal']:.1f} GB"
    except (OSError, KeyError, ValueError, IndexError):
        return "unknown"


def _size(folder: Path) -> str:
    if not folder.exists():
        return "empty"
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{total / 1e6:.0f} MB"
