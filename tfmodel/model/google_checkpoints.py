"""Google's own BERT checkpoints (`bert_model.ckpt.index`), by Hugging Face's names."""

from __future__ import annotations

import re
from pathlib import Path

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

    Raises:
        ConfigError: there are several, and none is called `bert_model.ckpt`.
    """
    found = sorted(path.with_suffix("") for path in folder.glob(f"*{_ENDING}"))
    usual = [path for path in found if path.name == _USUAL]
    if len(found) > 1 and not usual:
        raise ConfigError(
            f"{folder}: expected one checkpoint. Received: {', '.join(p.name for p in found)}. "
            "Move the one that is meant to a folder of its own, with bert_config.json and vocab.txt"
        )
    return next(iter(usual or found), None)


def read_checkpoint(prefix: Path) -> dict[str, np.ndarray]:
    """Read a checkpoint that google-research/bert wrote.

    Args:
        prefix: the path of its files, without `.index`.

    Returns:
        float32 arrays by Hugging Face name, heads included; what an optimizer kept is left out.

    Raises:
        ConfigError: damaged or missing files, or a checkpoint of other names.
    """
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(str(prefix))
        names = [
            name for name in reader.get_variable_to_shape_map() if not _NO_WEIGHTS.fullmatch(name)
        ]
        tensors = {name: np.asarray(reader.get_tensor(name), np.float32) for name in names}
    except (tf.errors.OpError, ValueError, RuntimeError, TypeError, IndexError) as error:
        first_line = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"{prefix}: expected a whole checkpoint, {prefix.name}.index and "
            f"{prefix.name}.data-00000-of-00001. Received: {first_line}. Fetch or copy both again."
        ) from None
    if not any(name.startswith("bert/") for name in tensors):
        raise ConfigError(
            f"{prefix}: expected a checkpoint of google-research/bert, whose names begin with "
            f"bert/. Received: {', '.join(sorted(tensors)[:5]) or 'no tensors'}. One of TensorFlow "
            "Models (TF 2) has other names: take the model's TF 1 checkpoint, or its Hugging Face "
            "folder."
        )
    return dict(_present(name, value) for name, value in tensors.items())


def _present(name: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    for pattern, new in _RENAMED:
        name = re.sub(pattern, new, name)
    if name.endswith("/kernel"):  # Hugging Face's are (out, in)
        name, value = name.removesuffix("kernel") + "weight", np.ascontiguousarray(value.T)
    return name.replace("/", "."), value
