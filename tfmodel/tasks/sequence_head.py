"""A dense head on the sentence vector: what `BertForSequenceClassification` is, whatever it means.

Tasks that read their answers from one vector a row share it; each says what its outputs are. What
the head is called in the files of each of BERT's family, `tfmodel.model.families` says: what
stands there below its last layer is the encoder's layer of `pooled`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors.numpy

from tfmodel.config import ConfigError
from tfmodel.model.checkpoints import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    assign_encoder,
    encoder_tensors,
    read_config,
    read_tensors,
    write_model_folder,
)
from tfmodel.model.dropout import Dropout
from tfmodel.model.encoder import build_encoder, encoder_config
from tfmodel.model.families import FAMILIES, family_of
from tfmodel.model.google_heads import head_name, head_of_script, require_labels
from tfmodel.model.sentence_folders import (
    HEAD_FOLDER,
    SentenceSettings,
    read_sentence_settings,
    sentence_files,
)
from tfmodel.model.sizes import BertConfig
from tfmodel.tasks.readings import AtGap, Pooled, assign_gap, gap_tensors, reading_of

ARCHITECTURE = "BertForSequenceClassification"
"""Of BERT; `Family.named` says what another family calls it."""
_OWN_KEY = "tfmodel"
_UNITS = "units"


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A fine-tuned model and what is needed to use it.

    Attributes:
        model: token batch to outputs (B, C).
        tokenizer: the one it was trained with.
        labels: the name of each output.
        has_pairs: whether it answers pairs of texts.
        max_length: tokens a row at most.
        task: the module under `tfmodel.tasks` that it belongs to.
        decoding: what the task's `decode` and `served` take beside the labels.
    """

    model: keras.Model
    tokenizer: Any
    labels: list[str]
    has_pairs: bool
    max_length: int
    task: str = "classify"
    decoding: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def build(
    encoder: keras.Model,
    outputs: int,
    *,
    dropout: float | None = None,
    mean: float = 0.0,
    scale: float | Sequence[float] = 1.0,
    reading: Pooled | AtGap | None = None,
    initial_stddev: float | None = None,
    name: str,
) -> keras.Model:
    """Put a dense head on an encoder's `pooled` output.

    Args:
        encoder: from `build_encoder` or `load_encoder`; only its `pooled` output is used, with a
            `reading` only its `sequence`.
        outputs: how many numbers C a row is answered with.
        dropout: share of pooled values dropped in training; the encoder's own by default.
        mean: what is added to the head's numbers.
        scale: what they are multiplied with before, so that it learns numbers around 1; one
            number, or one an output.
        reading: the vector that the head is put on in place of `pooled`.
        initial_stddev: of the head's first weights, a truncated normal distribution; None: as Keras
            draws them (Glorot and Bengio 2010, eq. 16), about 0.07 in a MiniLM. From BERT's 0.02 a
            few hundred steps learn far less (docs/LOG.md, "Few steps on few rows").
        name: the model's name.

    Returns:
        A functional model from the encoder's batch to float32 outputs (B, C).

    Raises:
        ValueError: an encoder of another name than `encoder`, by which `save` and the exports
            find it, or one that does not give what is read.
    """
    if encoder.name != "encoder":
        raise ValueError(
            f"Expected an encoder named encoder. Received: one named {encoder.name!r}."
        )
    if dropout is None:
        dropout = encoder_config(encoder).dropout
    inputs = {key: keras.Input((None,), dtype="int32", name=key) for key in encoder.input}
    if reading is not None and "sequence" not in encoder.output:
        raise ValueError(
            "Expected an encoder that gives all hidden states. Received: one built with "
            "sequence=False. Load it with sequence=True."
        )
    pooled = encoder(inputs)["pooled"] if reading is None else reading.vector(encoder, inputs)
    pooled = Dropout(dropout, name="pooled_dropout")(pooled)
    answers = keras.layers.Dense(
        outputs, name="head", dtype="float32", kernel_initializer=first_weights(initial_stddev)
    )(pooled)
    if mean != 0 or np.any(np.not_equal(scale, 1)):
        answers = keras.layers.Rescaling(scale, mean, name=_UNITS, dtype="float32")(answers)
    return keras.Model(inputs, answers, name=name)


def first_weights(stddev: float | None) -> keras.initializers.Initializer:
    """How a head's weights are drawn: `initial_stddev` of `build`."""
    if stddev is None:
        return keras.initializers.GlorotUniform()
    return keras.initializers.TruncatedNormal(stddev=stddev)


def head_weights(model: keras.Model) -> tuple[np.ndarray, np.ndarray]:
    """The head's kernel (D, C) and bias (C,), with the scale and mean it was built with in them.

    Raises:
        ValueError: the model has no layer named `head`.
    """
    head = model.get_layer("head")
    kernel, bias = map(keras.ops.convert_to_numpy, (head.kernel, head.bias))
    units = next((layer for layer in model.layers if layer.name == _UNITS), None)
    if units is None:
        return kernel, bias
    scale, offset = (np.asarray(each, np.float32) for each in (units.scale, units.offset))
    return kernel * scale, bias * scale + offset


def rescale_head(model: keras.Model, *, scale: float, shift: np.ndarray) -> None:
    """Give the head other weights: its outputs become (outputs + shift) * scale.

    Args:
        model: from `load`.
        scale: of all outputs.
        shift: floats (C,).
    """
    head = model.get_layer("head")
    head.bias.assign((head.bias + keras.ops.cast(shift, head.bias.dtype)) * scale)
    head.kernel.assign(head.kernel * scale)


def save(
    model: keras.Model,
    folder: str | Path,
    *,
    tokenizer,
    labels: Sequence[str],
    problem_type: str,
    has_pairs: bool = False,
    max_length: int | None = None,
    decoding: Mapping[str, Any] | None = None,
) -> Path:
    """Write a folder that `transformers`' `BertForSequenceClassification` loads.

    With an encoder of another family it is that family's: `DistilBertForSequenceClassification`.

    Args:
        model: from `build`.
        folder: replaced as a whole, once everything is written.
        tokenizer: the tokenizer the model was trained with.
        labels: the C names of the outputs.
        problem_type: as `transformers` calls what the outputs are.
        has_pairs: whether the model answers pairs of texts.
        max_length: tokens a row was cut to in training; the tokenizer's by default.
        decoding: what answers are decoded by beside the labels, JSON values.

    Returns:
        The folder.

    Raises:
        ValueError: not as many labels as outputs.
    """
    encoder = model.get_layer("encoder")
    shape = encoder_config(encoder)
    family = FAMILIES[shape.family]
    reading = reading_of(model)
    kernel, bias = head_weights(model)
    if len(labels) != len(bias):
        raise ValueError(f"Expected {len(bias)} labels. Received: {len(labels)}.")
    own: dict[str, Any] = {
        "has_pairs": has_pairs,
        "max_length": max_length or tokenizer.max_length,
        **({"decoding": dict(decoding)} if decoding else {}),
    }
    config = {
        **shape.to_huggingface(),
        **huggingface_head(labels, problem_type, family=shape.family),
        family.head_dropout: model.get_layer("pooled_dropout").rate,
        _OWN_KEY: own,
    }
    head = {"weight": np.ascontiguousarray(kernel.T), "bias": bias}
    if isinstance(reading, Pooled):
        return _save_sentence_head(encoder, folder, config, head, reading, tokenizer=tokenizer)
    tensors = {
        **encoder_tensors(encoder, prefix=family.prefix),
        **{f"{family.classifier}.{name}": values for name, values in head.items()},
    }
    if reading is not None:
        config["architectures"] = [family.named("BertForMaskedLM")]
        config["tie_word_embeddings"] = True
        own["template"] = reading.template
        tensors |= gap_tensors(model)
    return write_model_folder(folder, config, tensors, tokenizer=tokenizer)


def _save_sentence_head(encoder, folder, config, head, reading: Pooled, *, tokenizer) -> Path:
    """A folder whose vectors sentence-transformers computes, and the logits by a dense module."""
    shape, length = encoder_config(encoder), config[_OWN_KEY]["max_length"]
    family = FAMILIES[shape.family]
    settings = SentenceSettings(Path(folder), reading.pooling, reading.normalize, length)
    written = sentence_files(settings, width=shape.hidden_size, outputs=len(head["bias"]))
    files: dict[str, str | bytes] = {
        name: json.dumps(content, indent=2) + "\n" for name, content in written.items()
    }
    files[f"{HEAD_FOLDER}/{WEIGHTS_FILE}"] = safetensors.numpy.save(
        {f"linear.{name}": values for name, values in head.items()}, metadata={"format": "pt"}
    )
    config = {**config, "architectures": [family.named("BertModel")]}
    tensors = encoder_tensors(encoder)
    return write_model_folder(folder, config, tensors, tokenizer=tokenizer, files=files)


def own_settings(config: Mapping[str, Any], folder: str | Path) -> Mapping[str, Any]:
    """What a model folder says under `tfmodel`; its user may have written some of it.

    Args:
        config: from `read_config`.
        folder: what messages call it.

    Raises:
        ConfigError: a value of another kind than is written there.
    """
    own = config.get(_OWN_KEY) or {}
    kinds = {"max_length": int, "has_pairs": bool, "decoding": Mapping, "template": str}
    wrong = not isinstance(own, Mapping) or any(
        not isinstance(own[key], kind) or (kind is int and isinstance(own[key], bool))
        for key, kind in kinds.items()
        if key in own
    )
    if wrong:
        raise ConfigError(
            f"{folder}: expected under {_OWN_KEY} of the model's config has_pairs, true or false, "
            f"and max_length, a whole number. Received: {json.dumps(own)[:200]}. Correct it."
        )
    return own


def has_own_reading(folder: str | Path) -> bool:
    """Whether a folder is of a head of `save` that reads a sentence vector, or a gap."""
    if (Path(folder) / HEAD_FOLDER / WEIGHTS_FILE).is_file():
        return "id2label" in read_config(folder)
    is_here = (Path(folder) / CONFIG_FILE).is_file()
    return is_here and "template" in own_settings(read_config(folder), folder)


def huggingface_head(
    labels: Sequence[str], problem_type: str, *, family: str = "bert"
) -> dict[str, Any]:
    """What Hugging Face's `config.json` says of the head."""
    return {
        "architectures": [FAMILIES[family].named(ARCHITECTURE)],
        "problem_type": problem_type,
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def problem_type_of(config: Mapping[str, Any]) -> str:
    """What a folder's outputs are, as `transformers` reads its `config.json`.

    Where nothing is said, one output is a number, and several are one label of several.
    """
    named = config.get("id2label")
    outputs = config.get("num_labels", 2) if named is None else len(named)
    default = "regression" if outputs == 1 else "single_label_classification"
    return config.get("problem_type") or default


def load(
    folder: str | Path,
    *,
    task: str,
    labels_of: Callable[[Mapping[str, Any], int, Path], list[str]],
    dtype: str = "float32",
) -> LoadedModel:
    """Load what `save`, or `transformers`' `save_pretrained`, wrote.

    Args:
        folder: a `BertForSequenceClassification` folder, or that of another of BERT's family.
        task: the task that it is loaded for.
        labels_of: (config, number of outputs, folder) to the name of each output; refuses what is
            no head of the task.
        dtype: Keras dtype policy to build with.

    Raises:
        ConfigError: no weights, no head or another kind of head, no pooler under it, weights or
            a vocabulary of another size.
    """
    folder = Path(folder)
    config = read_config(folder)
    family = FAMILIES[family_of(config, name=str(folder / CONFIG_FILE))]
    tensors = read_tensors(folder)
    template = own_settings(config, folder).get("template")
    sentence = read_sentence_settings(folder, with_head=True)
    held, prefix = tensors, f"{family.classifier}."
    if sentence is not None:
        held, prefix = read_tensors(folder / HEAD_FOLDER), "linear."
    try:
        kernel, bias = (held[f"{prefix}{each}"] for each in ("weight", "bias"))
    except KeyError as error:
        name = error.args[0]
        raise ConfigError(
            f"{folder}: expected a classification head{head_of_script(name, folder)}. Received: no "
            f"{head_name(name, folder)}."
        ) from None
    shape = BertConfig.from_huggingface(config, name=str(folder / CONFIG_FILE))
    if kernel.shape[1:] != (shape.hidden_size,) or bias.shape != kernel.shape[:1]:
        raise ConfigError(
            f"{folder}: expected a head on {shape.hidden_size} values. Received: "
            f"{head_name(f'{prefix}weight', folder)} {kernel.shape}, "
            f"{head_name(f'{prefix}bias', folder)} {bias.shape}."
        )
    labels = labels_of(config, len(bias), folder)
    reading: Pooled | AtGap | None = None
    if sentence is not None:
        reading = Pooled(sentence.pooling, sentence.normalize)
    elif template is not None:
        reading = AtGap(_mask_id(folder), template)
    encoder = build_encoder(shape, sequence=reading is not None, dtype=dtype)
    missing = assign_encoder(
        encoder,
        tensors,
        under_head=reading is None,
        pooled=reading is None,
        name=str(folder),
    )
    if missing and reading is None:
        raise ConfigError(
            f"{folder}: expected the pooler that the head was trained on. "
            f"Received: no {', '.join(missing)}."
        )
    dropout = config.get(family.head_dropout)
    model = build(encoder, len(labels), dropout=dropout, reading=reading, name=task)
    if template is not None:
        assign_gap(model, tensors, name=str(folder))
    head = model.get_layer("head")
    head.kernel.assign(kernel.T)
    head.bias.assign(bias)
    return with_tokenizer(model, folder, config, shape, labels=labels, task=task)


def _mask_id(folder: Path) -> int:
    from tfmodel.tokens.folders import load_tokenizer

    mask_id = load_tokenizer(folder).vocabulary.mask_id
    if mask_id is None:
        raise ConfigError(
            f"{folder}: expected a vocabulary with [MASK], for the model reads its answers there. "
            "Received: one without. Copy the folder again."
        )
    return mask_id


def with_tokenizer(
    model: keras.Model,
    folder: Path,
    config: Mapping[str, Any],
    shape: BertConfig,
    *,
    labels: list[str],
    task: str,
) -> LoadedModel:
    """A loaded model with its folder's tokenizer and what else `config.json` says of it.

    Raises:
        ConfigError: the vocabulary is larger than the table.
    """
    from tfmodel.tokens.folders import load_tokenizer

    own = own_settings(config, folder)
    max_length = min(own.get("max_length", shape.max_positions), shape.max_positions)
    tokenizer = load_tokenizer(folder, max_length=max_length)
    if len(tokenizer.vocabulary) > shape.vocabulary_size:
        raise ConfigError(
            f"{folder}: expected a vocabulary of at most {shape.vocabulary_size} pieces, as "
            f"{CONFIG_FILE} says. Received: {len(tokenizer.vocabulary)}."
        )
    if own.get("template"):
        from tfmodel.tokens.prompts import PromptTokenizer

        tokenizer = PromptTokenizer(tokenizer, own["template"])
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        labels=labels,
        has_pairs=bool(own.get("has_pairs", False)),
        max_length=max_length,
        task=task,
        decoding=own.get("decoding", {}),
    )


def label_names(config: Mapping[str, Any], outputs: int, folder: Path) -> list[str]:
    """The names of the classes in `config.json`; `LABEL_0` and so on where it has none.

    Raises:
        ConfigError: it names others than there are outputs.
    """
    require_labels(config, outputs, folder)
    named = config.get("id2label") or {str(i): f"LABEL_{i}" for i in range(outputs)}
    if set(named) != {str(i) for i in range(outputs)}:
        raise ConfigError(
            f"{folder / CONFIG_FILE}: expected id2label to name the {outputs} classes of "
            f"classifier.weight. Received: {len(named)} labels."
        )
    return [str(named[str(i)]) for i in range(outputs)]
