"""Hugging Face BERT folders, in and out: names, fused products, shapes checked one by one."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfmodel.config import ConfigError
from tfmodel.model.encoder import build_encoder, encoder_config, projections
from tfmodel.model.sizes import BertConfig
from tfmodel.run_folder import write_aside

_log = logging.getLogger(__name__)

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
_POOLER = "pooler."
# Weights of heads that an encoder has no place for: left out without a word of warning.
_HEADS = ("cls.", "classifier.", "qa_outputs.", "embeddings.position_ids")


def read_config(folder: str | Path) -> dict[str, Any]:
    """Read a model folder's `config.json`.

    Raises:
        ConfigError: no folder, no file, or no JSON object in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(
            f"Expected a model folder ({CONFIG_FILE}, {WEIGHTS_FILE}, vocab.txt). "
            f"Received: {folder}, which is {'a file' if folder.exists() else 'not there'}."
        )
    path = folder / CONFIG_FILE
    try:
        values = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{folder}: expected a Hugging Face model folder. Received: no {CONFIG_FILE}; "
            f"it holds {_listing(folder)}."
        ) from None
    except ValueError as error:
        raise ConfigError(f"{path}: expected JSON. Received: {error}.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a JSON object. Received: {type(values).__name__}.")
    return values


def read_tensors(folder: str | Path) -> dict[str, np.ndarray]:
    """Read a model folder's `model.safetensors` into float32 arrays.

    Names lose a leading `bert.`, and the older `LayerNorm.gamma` and `beta` are given
    their present names.

    Raises:
        ConfigError: no weights, weights in another format, or a damaged file.
    """
    from safetensors import SafetensorError, safe_open

    folder = Path(folder)
    path = folder / WEIGHTS_FILE
    if not path.exists():
        raise ConfigError(
            f"{folder}: expected weights in {WEIGHTS_FILE}. Received: no such file; the folder "
            f"holds {_listing(folder)}. Save the model with safe serialization "
            "(save_pretrained of transformers does)."
        )
    tensors = {}
    try:
        with safe_open(path, framework="np") as weights:
            for name in weights.keys():
                tensors[_present_name(name)] = np.asarray(weights.get_tensor(name), np.float32)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{path}: expected a whole safetensors file. Received: {path.stat().st_size:,} bytes "
            f"that cannot be read ({error}). Fetch or copy the file again."
        ) from None
    return tensors


def load_encoder(folder: str | Path, **build_arguments: Any) -> keras.Model:
    """Build an encoder of a model folder's shape and give it the folder's weights.

    Args:
        folder: a Hugging Face BERT folder (`config.json`, `model.safetensors`).
        **build_arguments: passed to `build_encoder`: `dtype`, `projection`, `sequence`,
            `recompute`, `name`.

    Returns:
        The encoder. Where the folder has no pooler, its pooler is random: a warning says so.

    Raises:
        ConfigError: no or damaged weights, another architecture, or weights of another size
            than `config.json` says.

    Example:
        >>> encoder = load_encoder("model/", dtype="mixed_bfloat16")
    """
    folder = Path(folder)
    config = BertConfig.from_huggingface(read_config(folder), name=str(folder / CONFIG_FILE))
    tensors = read_tensors(folder)
    encoder = build_encoder(config, **build_arguments)
    assign_encoder(encoder, tensors, name=str(folder))
    return encoder


def assign_encoder(
    encoder: keras.Model, tensors: Mapping[str, np.ndarray], *, name: str = "weights"
) -> list[str]:
    """Give an encoder the tensors of a checkpoint.

    Args:
        encoder: a model of `build_encoder`.
        tensors: arrays by Hugging Face name, as `read_tensors` gives them.
        name: what messages call the checkpoint.

    Returns:
        The names that the encoder has and the checkpoint has not: pooler names or none.

    Raises:
        ConfigError: a tensor other than the pooler's is missing, or one has another shape.
    """
    wrong, missing, assignments, used = [], [], [], set()
    for variable, names, to_ours, to_theirs in _correspondence(encoder):
        used.update(names)
        absent = [n for n in names if n not in tensors]
        if absent:
            missing.extend(absent)
            continue
        # What the checkpoint should hold, seen from the variable's side: a fused product
        # must not take three tensors that only add up to the right size.
        expected = [part.shape for part in to_theirs(np.empty(variable.shape, np.bool_))]
        for part, shape in zip(names, expected, strict=True):
            if tensors[part].shape != shape:
                wrong.append(f"  {part}: {tensors[part].shape} where {shape} is expected")
        if not wrong:
            assignments.append((variable, to_ours([tensors[n] for n in names])))
    lost = [n for n in missing if not n.startswith(_POOLER)]
    if wrong or lost:
        lines = wrong[:5] + [f"  {n}: missing" for n in lost[:5]]
        raise ConfigError(
            f"{name}: expected the weights of a BERT of the size in {CONFIG_FILE}. Received: "
            f"{len(wrong)} tensors of another size and {len(lost)} missing:\n"
            + "\n".join(lines)
            + f"\nUse the {CONFIG_FILE} that was saved with these weights."
        )
    for variable, value in assignments:
        variable.assign(value)
    for layer in projections(encoder):
        if hasattr(layer, "remember_pretrained"):  # such as mixout's, which goes back to them
            layer.remember_pretrained()
    if missing:
        _log.warning("%s: no weights for the pooler; it starts from random ones.", name)
    unused = sorted(n for n in tensors if n not in used and not n.startswith(_HEADS))
    if unused:
        _log.warning("%s: not used: %s.", name, ", ".join(unused[:10]))
    return missing


def encoder_tensors(encoder: keras.Model, *, prefix: str = "") -> dict[str, np.ndarray]:
    """An encoder's weights as float32 arrays by Hugging Face name, `prefix` before each."""
    tensors = {}
    for variable, names, _, to_theirs in _correspondence(encoder):
        value = keras.ops.convert_to_numpy(variable).astype(np.float32)
        for name, part in zip(names, to_theirs(value), strict=True):
            tensors[prefix + name] = np.ascontiguousarray(part)
    return tensors


def save_encoder(encoder: keras.Model, folder: str | Path, *, tokenizer=None) -> Path:
    """Write an encoder as a Hugging Face folder that `transformers`' `BertModel` loads.

    Args:
        encoder: a model of `build_encoder`.
        folder: replaced as a whole, once everything is written.
        tokenizer: its vocabulary and settings are written too.

    Returns:
        The folder.
    """
    config = {**encoder_config(encoder).to_huggingface(), "architectures": ["BertModel"]}
    return write_model_folder(folder, config, encoder_tensors(encoder), tokenizer=tokenizer)


def write_model_folder(
    folder: str | Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    *,
    tokenizer=None,
) -> Path:
    """Write `config.json`, `model.safetensors` and the tokenizer's files, all or nothing.

    Args:
        folder: replaced as a whole.
        config: what goes into `config.json`.
        tensors: arrays by Hugging Face name.
        tokenizer: a `Tokenizer`, or None.

    Returns:
        The folder.
    """
    from safetensors.numpy import save_file

    folder = Path(folder)
    with write_aside(folder, replace=True) as temporary:
        temporary.mkdir(parents=True, exist_ok=True)
        text = json.dumps(config, indent=2, ensure_ascii=False)
        (temporary / CONFIG_FILE).write_text(text + "\n", "utf-8")
        # transformers refuses files that do not name the framework.
        save_file(dict(tensors), temporary / WEIGHTS_FILE, metadata={"format": "pt"})
        # It is written for its owner's eyes alone; a server often runs as somebody else.
        (temporary / WEIGHTS_FILE).chmod((temporary / CONFIG_FILE).stat().st_mode)
        if tokenizer is not None:
            tokenizer.save(temporary)
    return folder


def _correspondence(encoder: keras.Model) -> Iterator[tuple]:
    """Yield (variable, Hugging Face names, theirs to ours, ours to theirs)."""
    embeddings = encoder.get_layer("embeddings")
    for table, name in (
        (embeddings.token_table, "word"),
        (embeddings.position_table, "position"),
        (embeddings.segment_table, "token_type"),
    ):
        yield table, [f"embeddings.{name}_embeddings.weight"], _only, _alone
    yield from _norm(embeddings.normalize, "embeddings.LayerNorm")
    for index in range(encoder_config(encoder).layers):
        ours, theirs = f"layer_{index}", f"encoder.layer.{index}"
        attention = encoder.get_layer(f"{ours}_attention")
        feed_forward = encoder.get_layer(f"{ours}_feed_forward")
        fused = [f"{theirs}.attention.self.{part}" for part in ("query", "key", "value")]
        yield from _linear(attention.query_key_value, fused)
        yield from _linear(attention.output_projection, [f"{theirs}.attention.output.dense"])
        norm = encoder.get_layer(f"{ours}_attention_norm").normalize
        yield from _norm(norm, f"{theirs}.attention.output.LayerNorm")
        yield from _linear(feed_forward.widen, [f"{theirs}.intermediate.dense"])
        yield from _linear(feed_forward.narrow, [f"{theirs}.output.dense"])
        norm = encoder.get_layer(f"{ours}_feed_forward_norm").normalize
        yield from _norm(norm, f"{theirs}.output.LayerNorm")
    yield from _linear(encoder.get_layer("pooler"), ["pooler.dense"])


def _linear(layer, names: list[str]) -> Iterator[tuple]:
    def kernel(parts):
        return np.concatenate([part.T for part in parts], axis=1)

    def parts_of_kernel(value):
        return [part.T for part in np.split(value, len(names), axis=1)]

    def parts_of_bias(value):
        return np.split(value, len(names))

    yield layer.kernel, [f"{n}.weight" for n in names], kernel, parts_of_kernel
    yield layer.bias, [f"{n}.bias" for n in names], np.concatenate, parts_of_bias


def _norm(layer, name: str) -> Iterator[tuple]:
    yield layer.gamma, [f"{name}.weight"], _only, _alone
    yield layer.beta, [f"{name}.bias"], _only, _alone


def _only(parts):
    return parts[0]


def _alone(value):
    return [value]


def _present_name(name: str) -> str:
    name = name.removeprefix("bert.")
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
        "LayerNorm.beta", "LayerNorm.bias"
    )


def _listing(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "") if names else "nothing"
