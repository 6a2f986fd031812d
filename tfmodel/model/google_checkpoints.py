"""Google's own BERT checkpoints (`bert_model.ckpt.index`), by Hugging Face's names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfmodel.config import ConfigError

CONFIG_FILE = "bert_config.json"
_ENDING = ".index"
_USUAL = "bert_model.ckpt"
# What an optimizer kept beside the weights.
_NO_WEIGHTS = re.compile(
    r"(.*/)?(adam_[mv]|AdamWeightDecayOptimizer(_\d+)?|LAMB\w*|global_step|good_steps|"
    r"loss_scale|beta[12]_power)"
)
_RENAMED = (
    (r"^cls/squad/output_(weights|bias)$", r"qa_outputs/\1"),
    (r"^cls/predictions/output_bias$", "cls/predictions/bias"),
    (r"^output_(weights|bias)$", r"classifier/\1"),
    (r"/output_(weights|bias)$", r"/\1"),
    (r"/weights$", "/weight"),
    (r"/layer_(\d+)/", r"/layer/\1/"),
    (r"/gamma$", "/weight"),
    (r"/beta$", "/bias"),
    (r"/(\w+_embeddings)$", r"/\1/weight"),
)


def find_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of a folder, as `tf.train.load_checkpoint` takes it; None: there is none.

    Of several it is the last that a training wrote, by its file `checkpoint`, else
    `bert_model.ckpt`, which trainings begin from.

    Raises:
        ConfigError: there are several, and nothing says which is meant.
    """
    found = sorted(path.with_suffix("") for path in folder.glob(f"*{_ENDING}"))
    if len(found) < 2:
        return next(iter(found), None)
    by_name = {path.name: path for path in found}
    chosen = by_name.get(_last_written(folder), by_name.get(_USUAL))
    if chosen is None:
        raise ConfigError(
            f"{folder}: expected one checkpoint. Received: {', '.join(p.name for p in found)}. "
            "Move the one that is meant to a folder of its own, with bert_config.json and vocab.txt"
        )
    return chosen


def _last_written(folder: Path) -> str | None:
    """The name that TensorFlow's own file about a folder's checkpoints gives the newest."""
    file = folder / "checkpoint"
    text = file.read_text("utf-8", "replace") if file.is_file() else ""
    named = re.search(r'^model_checkpoint_path: "(.*)"$', text, re.M)
    return Path(named[1]).name if named else None


def read_checkpoint(prefix: Path) -> dict[str, np.ndarray]:
    """Read a checkpoint that google-research/bert wrote.

    Args:
        prefix: the path of its files, without `.index`.

    Returns:
        float32 arrays by Hugging Face name, heads included; what an optimizer kept is left out.

    Raises:
        ConfigError: damaged or missing files, or a checkpoint of other names.
    """
    tensors = _read(
        prefix,
        lambda reader, names: {
            name: np.asarray(reader.get_tensor(name), np.float32) for name in names
        },
    )
    if not any(name.startswith("bert/") for name in tensors):
        raise ConfigError(
            f"{prefix}: expected a checkpoint of google-research/bert, whose names begin with "
            f"bert/. Received: {', '.join(sorted(tensors)[:5]) or 'no tensors'}. One of TensorFlow "
            "Models (TF 2) has other names: take the model's TF 1 checkpoint, or its Hugging Face "
            "folder."
        )
    return dict(_present(name, value) for name, value in tensors.items())


def read_shapes(prefix: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a checkpoint's weights by Google's own names.

    Args:
        prefix: the path of its files, without `.index`.

    Raises:
        ConfigError: damaged or missing files.
    """
    return _read(prefix, lambda reader, names: {name: tuple(names[name]) for name in names})


def _read(prefix: Path, found: Callable[[Any, Mapping[str, list[int]]], dict]) -> dict:
    """What is found of a reader and of the shapes of all weights, by name."""
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(str(prefix))
        shapes = reader.get_variable_to_shape_map()
        return found(reader, {n: s for n, s in shapes.items() if not _NO_WEIGHTS.fullmatch(n)})
    except (tf.errors.OpError, ValueError, RuntimeError, TypeError, IndexError) as error:
        first_line = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"{prefix}: expected a whole checkpoint, {prefix.name}.index and "
            f"{prefix.name}.data-00000-of-00001. Received: {first_line}. Fetch or copy both again."
        ) from None


def _present(name: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    for pattern, new in _RENAMED:
        name = re.sub(pattern, new, name)
    if name.endswith("/kernel"):  # Hugging Face's are (out, in)
        name, value = name.removesuffix("kernel") + "weight", np.ascontiguousarray(value.T)
    return name.replace("/", "."), value
