"""A dense head on every hidden state: `BertForTokenClassification`, `BertForQuestionAnswering`.

Tasks that read their answers from the tokens themselves share it; each says what its outputs are.
It stands on an encoder of any of BERT's family, whose own class the folder then is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras
import numpy as np

from tfmodel.config import ConfigError
from tfmodel.model.checkpoints import (
    CONFIG_FILE,
    assign_encoder,
    encoder_tensors,
    read_config,
    read_tensors,
    write_model_folder,
)
from tfmodel.model.dropout import Dropout
from tfmodel.model.encoder import build_encoder, encoder_config
from tfmodel.model.families import FAMILIES
from tfmodel.model.google_heads import head_name, head_of_script
from tfmodel.model.sizes import BertConfig
from tfmodel.tasks.sequence_head import LoadedModel, first_weights, with_tokenizer

CLASSIFIER, ANSWERER = "classifier", "qa_outputs"
"""What Hugging Face calls the head of either architecture."""
_OWN_KEY = "tfmodel"


def build(
    encoder: keras.Model,
    outputs: int,
    *,
    dropout: float | None = None,
    above: keras.layers.Layer | None = None,
    initial_stddev: float | None = None,
    name: str,
) -> keras.Model:
    """Put a dense head on an encoder's `sequence` output.

    Args:
        encoder: from `build_encoder` or `load_encoder`, with its `sequence`.
        outputs: how many numbers C a token is answered with.
        dropout: share of hidden values dropped in training; the encoder's own by default.
        above: a layer that the head's numbers go through.
        initial_stddev: as of `sequence_head.build`.
        name: the model's name.

    Returns:
        A functional model from the encoder's batch to float32 outputs (B, T, C).

    Raises:
        ValueError: an encoder without `sequence`, or of another name than `encoder`, by which
            `save` and the exports find it.
    """
    if encoder.name != "encoder" or "sequence" not in encoder.output:
        raise ValueError(
            "Expected an encoder named encoder that gives the hidden states of all tokens. "
            f"Received: one named {encoder.name!r} that gives {', '.join(encoder.output)}. Make "
            "it with sequence=True."
        )
    if dropout is None:
        dropout = encoder_config(encoder).dropout
    inputs = {key: keras.Input((None,), dtype="int32", name=key) for key in encoder.input}
    hidden = encoder(inputs)["sequence"]
    hidden = Dropout(dropout, name="sequence_dropout")(hidden)
    answers = keras.layers.Dense(
        outputs, name="head", dtype="float32", kernel_initializer=first_weights(initial_stddev)
    )(hidden)
    return keras.Model(inputs, answers if above is None else above(answers), name=name)


def save(
    model: keras.Model,
    folder: str | Path,
    *,
    tokenizer,
    head: str,
    architecture: str,
    config: Mapping[str, Any] = MappingProxyType({}),
    above: Mapping[str, np.ndarray] = MappingProxyType({}),
    max_length: int | None = None,
    **own: Any,
) -> Path:
    """Write a folder that `transformers` loads as an architecture of the encoder's family.

    Args:
        model: from `build`.
        folder: replaced as a whole, once everything is written.
        tokenizer: the `Tokenizer` the model was trained with.
        head: `CLASSIFIER` or `ANSWERER`.
        architecture: what it is called for BERT.
        config: what else `config.json` says of the head.
        above: tensors of what stands above it, by name.
        max_length: tokens a window at most in training; the tokenizer's by default.
        **own: what `load` gives back beside it, JSON values: `has_pairs`, `decoding`.

    Returns:
        The folder.
    """
    encoder = model.get_layer("encoder")
    kernel, bias = map(
        keras.ops.convert_to_numpy, (model.get_layer("head").kernel, model.get_layer("head").bias)
    )
    shape = encoder_config(encoder)
    family = FAMILIES[shape.family]
    kept = {key: value for key, value in own.items() if value}
    config = {
        **shape.to_huggingface(),
        "architectures": [family.named(architecture)],
        **config,
        family.token_dropout[head]: model.get_layer("sequence_dropout").rate,
        _OWN_KEY: {"max_length": max_length or tokenizer.max_length, **kept},
    }
    pooler = family.name_under_head(family.pooler[-1])
    tensors = {  # the pooler was not asked, and the architecture has none
        name: value
        for name, value in encoder_tensors(encoder, prefix=family.prefix).items()
        if not name.startswith(f"{pooler}.")
    }
    tensors |= {f"{head}.weight": np.ascontiguousarray(kernel.T), f"{head}.bias": bias, **above}
    return write_model_folder(folder, config, tensors, tokenizer=tokenizer)


def load(
    folder: str | Path,
    *,
    task: str,
    head: str,
    labels_of: Callable[[Mapping[str, Any], int, Path], list[str]],
    above_of: Callable[..., keras.layers.Layer | None] | None = None,
    dtype: str = "float32",
) -> LoadedModel:
    """Load what `save`, or `transformers`' `save_pretrained`, wrote.

    Args:
        folder: a folder of BERT, or one of its family, with a head on its hidden states.
        task: the task that it is loaded for.
        head: `CLASSIFIER` or `ANSWERER`.
        labels_of: (config, number of outputs, folder) to the name of each output; refuses what is
            no head of the task.
        above_of: (tensors, labels, name=…) to a layer that stands above the head, or None; it takes
            its own out of the tensors.
        dtype: Keras dtype policy to build with.

    Raises:
        ConfigError: no weights, no head or another kind of head, weights or a vocabulary of
            another size.
    """
    folder = Path(folder)
    config, tensors = read_config(folder), read_tensors(folder)
    try:
        kernel, bias = tensors[f"{head}.weight"], tensors[f"{head}.bias"]
    except KeyError as error:
        name = error.args[0]
        raise ConfigError(
            f"{folder}: expected a head on the hidden states ({head})"
            f"{head_of_script(name, folder)}. Received: no {head_name(name, folder)}."
        ) from None
    shape = BertConfig.from_huggingface(config, name=str(folder / CONFIG_FILE))
    if kernel.shape[1:] != (shape.hidden_size,) or bias.shape != kernel.shape[:1]:
        raise ConfigError(
            f"{folder}: expected a head on {shape.hidden_size} values. Received: "
            f"{head_name(f'{head}.weight', folder)} {kernel.shape}, "
            f"{head_name(f'{head}.bias', folder)} {bias.shape}."
        )
    labels = labels_of(config, len(bias), folder)
    above = None if above_of is None else above_of(tensors, labels, name=str(folder))
    encoder = build_encoder(shape, dtype=dtype)
    assign_encoder(encoder, tensors, name=str(folder), pooled=False)
    dropout = config.get(FAMILIES[shape.family].token_dropout[head])
    model = build(encoder, len(labels), dropout=dropout, above=above, name=task)
    model.get_layer("head").kernel.assign(kernel.T)
    model.get_layer("head").bias.assign(bias)
    return with_tokenizer(model, folder, config, shape, labels=labels, task=task)


def id_labels(labels: Sequence[str]) -> dict[str, Any]:
    """The names of outputs as `config.json` has them."""
    return {
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }
