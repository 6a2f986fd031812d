"""Hugging Face folders of BERT and its family, in and out: names, fused products, shapes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfmodel.config import ConfigError
from tfmodel.model import google_checkpoints
from tfmodel.model.encoder import build_encoder, encoder_config, projections
from tfmodel.model.families import FAMILIES, Family
from tfmodel.model.google_heads import with_head
from tfmodel.model.sizes import BertConfig
from tfmodel.model.weight_files import WEIGHTS_FILE, listing, read_weight_files
from tfmodel.run_folder import write_aside

_log = logging.getLogger(__name__)

CONFIG_FILE = "config.json"
_PREFIXES = tuple(family.prefix for family in FAMILIES.values())
# No weights, though older files hold them.
_NUMBERS = ("embeddings.position_ids", "embeddings.token_type_ids")
_SHOWN = 10


def read_config(folder: str | Path) -> dict[str, Any]:
    """Read a model folder's `config.json`, or Google's `bert_config.json`, which has BERT's keys.

    What Google's does not say of a head, its checkpoint does: see `google_heads`.

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
    if not path.exists() and (folder / google_checkpoints.CONFIG_FILE).exists():
        path = folder / google_checkpoints.CONFIG_FILE
    try:
        values = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{folder}: expected a Hugging Face model folder. Received: no {CONFIG_FILE}; "
            f"it holds {listing(folder)}."
        ) from None
    except ValueError as error:
        raise ConfigError(f"{path}: expected JSON. Received: {error}.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a JSON object. Received: {type(values).__name__}.")
    return with_head(values, folder) if path.name == google_checkpoints.CONFIG_FILE else values


def read_tensors(folder: str | Path) -> dict[str, np.ndarray]:
    """Read a model folder's weights into float32 arrays.

    They stand in `model.safetensors`, or in several such files and `model.safetensors.index.json`,
    or where there are none in `pytorch_model.bin` or several of those: see `read_weight_files`.
    Names lose the prefix that they have where a head stands on the encoder (`bert.`), and the
    older `LayerNorm.gamma` and `beta` are given their present names.

    Raises:
        ConfigError: no weights, weights in another format, a damaged file, or a PyTorch file
            and no torch.
    """
    tensors = read_weight_files(Path(folder))
    return {_present_name(name): value for name, value in tensors.items()}


def load_encoder(folder: str | Path, *, pooled: bool = True, **build_arguments: Any) -> keras.Model:
    """Build an encoder of a model folder's shape and give it the folder's weights.

    Args:
        folder: a Hugging Face folder of a BERT or one of its family (`config.json`,
            `model.safetensors` or what else `read_tensors` reads).
        pooled: whether `pooled` will be asked for; see the warning.
        **build_arguments: passed to `build_encoder`: `dtype`, `projection`, `sequence`,
            `recompute`, `name`.

    Returns:
        The encoder. Where the folder has no weights for the layer of `pooled`, that layer is
        random: a warning says so.

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
    assign_encoder(encoder, tensors, name=str(folder), pooled=pooled)
    return encoder


def assign_encoder(
    encoder: keras.Model,
    tensors: Mapping[str, np.ndarray],
    *,
    under_head: bool = False,
    pooled: bool = True,
    name: str = "weights",
) -> list[str]:
    """Give an encoder the tensors of a checkpoint.

    Args:
        encoder: a model of `build_encoder`.
        tensors: arrays by Hugging Face name, as `read_tensors` gives them.
        under_head: of the layer of `pooled`, take the one of the family's classification head,
            though the base model's be there too.
        name: what messages call the checkpoint.
        pooled: whether `pooled` will be asked for: a warning says where its layer is random.

    Returns:
        The names that the encoder has and the checkpoint has not: those of the layer of `pooled`
        or none. What the checkpoint has and the encoder has not is logged by name and shape, but
        for known heads.

    Raises:
        ConfigError: a tensor of another layer is missing, or one has another shape; each is named
            with its shape.
    """
    family = FAMILIES[encoder_config(encoder).family]
    named = family.pooler[-1:] if under_head else family.pooler
    pooler = next((n for n in named if f"{n}.weight" in tensors), named[0])
    wrong, missing, assignments, used = [], {}, [], set()
    for variable, names, to_ours, to_theirs in _correspondence(encoder, pooler):
        used.update(names)
        # What the checkpoint should hold, seen from the variable's side: a fused product
        # must not take three tensors that only add up to the right size.
        expected = [part.shape for part in to_theirs(np.empty(variable.shape, np.bool_))]
        absent = {n: s for n, s in zip(names, expected, strict=True) if n not in tensors}
        if absent:
            missing |= absent
            continue
        for part, shape in zip(names, expected, strict=True):
            if tensors[part].shape != shape:
                wrong.append(f"{part}: {tensors[part].shape} where {shape} is expected")
        if not wrong:
            assignments.append((variable, to_ours([tensors[n] for n in names])))
    lost = {n: shape for n, shape in missing.items() if not n.startswith(f"{pooler}.")}
    unused = {
        n: tensors[n].shape
        for n in sorted(tensors)
        if n not in used and not n.startswith((*family.heads, *family.pooler, *_NUMBERS))
    }
    if wrong or lost:
        absent = [f"{n}: missing, {shape} is expected" for n, shape in lost.items()]
        more = [f"{n}: {shape}, not known" for n, shape in unused.items()]
        raise ConfigError(
            f"{name}: expected the weights of a {family.architecture.upper()} of the size in "
            f"{CONFIG_FILE}. Received: {len(wrong)} tensors of another size and {len(lost)} "
            f"missing:\n{_shown(wrong)}{_shown(absent)}{_shown(more)}"
            f"Use the {CONFIG_FILE} that was saved with these weights."
        )
    for variable, value in assignments:
        variable.assign(value)
    for layer in projections(encoder):
        if hasattr(layer, "remember_pretrained"):  # such as mixout's, which goes back to them
            layer.remember_pretrained()
    if missing and pooled:
        _log.warning("%s: no weights for the pooler; it starts from random ones.", name)
    if unused:
        named = [f"{n} {shape}" for n, shape in unused.items()]
        more = f" and {len(named) - _SHOWN} more" if named[_SHOWN:] else ""
        _log.warning("%s: not used: %s%s.", name, ", ".join(named[:_SHOWN]), more)
    return list(missing)


def encoder_tensors(encoder: keras.Model, *, prefix: str = "") -> dict[str, np.ndarray]:
    """An encoder's weights as float32 arrays by Hugging Face name.

    Args:
        encoder: a model of `build_encoder`.
        prefix: that of the encoder's family (`bert.`), to name them as where a head stands on the
            encoder; the layer of `pooled` is then the one of the family's classification head.

    Raises:
        ValueError: the prefix of another family.
    """
    kind = encoder_config(encoder).family
    family = FAMILIES[kind]
    if prefix not in ("", family.prefix):
        raise ValueError(
            f"Expected the prefix of the encoder's family, {kind}: {family.prefix!r}. "
            f"Received: {prefix!r}."
        )
    tensors = {}
    pooler = family.pooler[-1 if prefix else 0]
    for variable, names, _, to_theirs in _correspondence(encoder, pooler):
        value = keras.ops.convert_to_numpy(variable).astype(np.float32)
        for name, part in zip(names, to_theirs(value), strict=True):
            name = family.name_under_head(name) if prefix else name
            tensors[name] = np.ascontiguousarray(part)
    return tensors


def save_encoder(
    encoder: keras.Model,
    folder: str | Path,
    *,
    tokenizer=None,
    files: Mapping[str, str] | None = None,
) -> Path:
    """Write an encoder as a Hugging Face folder of its family, which `transformers` loads.

    Args:
        encoder: a model of `build_encoder`.
        folder: replaced as a whole, once everything is written.
        tokenizer: its vocabulary and settings are written too.
        files: what else goes into the folder: name to text.

    Returns:
        The folder.
    """
    shape = encoder_config(encoder)
    architecture = FAMILIES[shape.family].named("BertModel")
    config = {**shape.to_huggingface(), "architectures": [architecture]}
    tensors = encoder_tensors(encoder)
    return write_model_folder(folder, config, tensors, tokenizer=tokenizer, files=files)


def write_model_folder(
    folder: str | Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    *,
    tokenizer=None,
    files: Mapping[str, str | bytes] | None = None,
) -> Path:
    """Write `config.json`, `model.safetensors` and the tokenizer's files, all or nothing.

    Args:
        folder: replaced as a whole.
        config: what goes into `config.json`.
        tensors: arrays by Hugging Face name.
        tokenizer: a `Tokenizer`, or None.
        files: what else goes into the folder: name to text, or to bytes.

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
        for name, content in (files or {}).items():
            (temporary / name).parent.mkdir(exist_ok=True)
            content = content.encode() if isinstance(content, str) else content
            (temporary / name).write_bytes(content)
    return folder


def _correspondence(encoder: keras.Model, pooler: str) -> Iterator[tuple]:
    """Yield (variable, Hugging Face names, theirs to ours, ours to theirs)."""
    config = encoder_config(encoder)
    family = FAMILIES[config.family]
    yield from _embeddings(encoder.get_layer("embeddings"), family)
    numbers: dict[int, int] = {}  # of the layers that have weights of their own
    for index in range(config.layers):
        if config.shares_with(index) < index:
            continue
        number = numbers.setdefault(index, len(numbers))
        theirs = {part: name.format(number) for part, name in family.layer.items()}
        ours = f"layer_{index}"
        attention = encoder.get_layer(f"{ours}_attention")
        feed_forward = encoder.get_layer(f"{ours}_feed_forward")
        fused = [theirs[part] for part in ("query", "key", "value")]
        yield from _linear(attention.query_key_value, fused)
        yield from _linear(attention.output_projection, [theirs["output"]])
        norm = encoder.get_layer(f"{ours}_attention_norm").normalize
        yield from _norm(norm, theirs["attention_norm"])
        yield from _linear(feed_forward.widen, [theirs["widen"]])
        yield from _linear(feed_forward.narrow, [theirs["narrow"]])
        norm = encoder.get_layer(f"{ours}_feed_forward_norm").normalize
        yield from _norm(norm, theirs["feed_forward_norm"])
    yield from _linear(encoder.get_layer("pooler"), [pooler])


def _embeddings(embeddings, family: Family) -> Iterator[tuple]:
    def without_first(parts):
        return parts[0][family.first_position :]

    def with_first(value):
        # Of padding and of what comes before it: never looked at.
        return [np.pad(value, [(family.first_position, 0), (0, 0)])]

    theirs = {part: [f"{name}.weight"] for part, name in family.embeddings.items()}
    yield embeddings.token_table, theirs["token_table"], _only, _alone
    yield embeddings.position_table, theirs["position_table"], without_first, with_first
    if embeddings.segments:
        yield embeddings.segment_table, theirs["segment_table"], _only, _alone
    yield from _norm(embeddings.normalize, family.embeddings["normalize"])
    if embeddings.projection is not None:
        yield from _linear(embeddings.projection, [family.projection])


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
    prefix = next((each for each in _PREFIXES if name.startswith(each)), "")
    return (
        name.removeprefix(prefix)
        .replace("LayerNorm.gamma", "LayerNorm.weight")
        .replace("LayerNorm.beta", "LayerNorm.bias")
    )


def _shown(lines: Sequence[str]) -> str:
    more = [f"and {len(lines) - _SHOWN} more"] if lines[_SHOWN:] else []
    return "".join(f"  {line}\n" for line in [*lines[:_SHOWN], *more])
