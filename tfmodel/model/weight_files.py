"""A model folder's weights, however they were written: safetensors, torch's, or TensorFlow 1's.

Safetensors are read first, as they hold numbers and nothing else. A PyTorch file is a pickle: it is
read by torch's weights-only loading, which makes tensors and calls nothing that the file names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.model.google_checkpoints import find_checkpoint, read_checkpoint

WEIGHTS_FILE = "model.safetensors"
PYTORCH_FILE = "pytorch_model.bin"
_INDEX_ENDING = ".index.json"


def read_weight_files(folder: Path) -> dict[str, np.ndarray]:
    """Read all tensors of a model folder, by the names they have there.

    Args:
        folder: with `model.safetensors` or `pytorch_model.bin`, or the files that the index of
            either names (`model.safetensors.index.json`), or Google's `bert_model.ckpt.index`,
            whose names become Hugging Face's.

    Returns:
        float32 arrays.

    Raises:
        ConfigError: no weights, weights in another format, a damaged file, an index that names
            what is not in the folder, or a PyTorch file and no torch.
    """
    for name, read in ((WEIGHTS_FILE, _read_safetensors), (PYTORCH_FILE, _read_pytorch)):
        if (folder / name).exists():
            return read(folder / name, None)
        index = folder / f"{name}{_INDEX_ENDING}"
        if index.exists():
            tensors = {}
            for file, names in _shards(index, Path(name).suffix).items():
                tensors |= read(folder / file, names)
            return tensors
    if (checkpoint := find_checkpoint(folder)) is not None:
        return read_checkpoint(checkpoint)
    raise ConfigError(
        f"{folder}: expected weights in {WEIGHTS_FILE} or {PYTORCH_FILE}, or an index of several "
        f"such files. Received: none of them; the folder holds {listing(folder)}. Save the model "
        "with save_pretrained of transformers."
    )


def listing(folder: Path) -> str:
    """What a folder holds, in words."""
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "") if names else "nothing"


def _shards(index: Path, ending: str) -> dict[str, list[str]]:
    """The names of tensors by the file of the folder that holds them."""
    try:
        weight_map = json.loads(index.read_text("utf-8"))["weight_map"]
        entries = [(str(file), str(name)) for name, file in weight_map.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{index}: expected a JSON object with weight_map, a file's name for each tensor. "
            f"Received: {type(error).__name__}: {error}. Fetch or copy the file again."
        ) from None
    shards: dict[str, list[str]] = {}
    for file, name in entries:
        shards.setdefault(file, []).append(name)
    for file in shards:
        # The index comes with the weights, from anywhere: it may name files beside itself alone.
        if Path(file).name != file or "\\" in file or not file.endswith(ending):
            raise ConfigError(
                f"{index}: expected names of files in the same folder that end in {ending}. "
                f"Received: {file!r}. Do not use this folder, or ask its maker."
            )
        if not (index.parent / file).is_file():
            raise ConfigError(
                f"{index}: expected {file}, with {len(shards[file])} tensors, beside it. Received: "
                f"{listing(index.parent)}. Fetch or copy the missing file."
            )
    return shards


def _read_safetensors(path: Path, names: Iterable[str] | None) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as weights:
            held = list(weights.keys())
            wanted = held if names is None else list(names)
            _check_held(path, wanted, held)
            return {name: np.asarray(weights.get_tensor(name), np.float32) for name in wanted}
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"{path}: expected a whole safetensors file. Received: {path.stat().st_size:,} bytes "
            f"that cannot be read ({error}). Fetch or copy the file again."
        ) from None


def _read_pytorch(path: Path, names: Iterable[str] | None) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise ConfigError(
            f"{path}: expected torch, which reads PyTorch's own files. Received: none ({error}). "
            "Install it: pip install 'tfmodel[torch]'; or save the model as safetensors "
            "(save_pretrained of transformers does)."
        ) from None
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch reports damage, and what it will not run, in many types
        first_line = str(error).strip().split("\n")[0][:300]
        raise ConfigError(
            f"{path}: expected a PyTorch file of tensors and nothing else. Received: "
            f"{path.stat().st_size:,} bytes that weights-only loading refuses ({first_line}). "
            "Fetch or copy the file again; a file that needs more than that runs code when it is "
            "read, and is not opened."
        ) from None
    if not isinstance(held, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in held.items()
    ):
        raise ConfigError(
            f"{path}: expected tensors by name (a state dict). Received: "
            f"{_kinds(held)}. Save model.state_dict(), or use save_pretrained of transformers."
        )
    wanted = list(held) if names is None else list(names)
    _check_held(path, wanted, held)
    return {name: held[name].detach().to(torch.float32).numpy() for name in wanted}


def _check_held(path: Path, wanted: Iterable[str], held: Iterable[str]) -> None:
    missing = sorted(set(wanted) - set(held))
    if missing:
        raise ConfigError(
            f"{path}: expected the tensors that the index of the folder names. Received: no "
            f"{', '.join(missing[:5])}{f' and {len(missing) - 5} more' if missing[5:] else ''}. "
            "Fetch or copy the files again: they are not of one model."
        )


def _kinds(held: Any) -> str:
    if not isinstance(held, Mapping):
        return type(held).__name__
    return "values of " + ", ".join(sorted({type(value).__name__ for value in held.values()}))
