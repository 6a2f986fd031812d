"""Do two segments of text belong together, and which tokens are hidden: BERT's own pretraining.

Next sentence (`nsp`) and sentence order (`sop`) are one model; what its labels say is the data's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from tfmodel.config import ConfigError
from tfmodel.model.at_positions import encode_at
from tfmodel.model.checkpoints import (
    CONFIG_FILE,
    assign_encoder,
    encoder_tensors,
    read_config,
    read_tensors,
    write_model_folder,
)
from tfmodel.model.encoder import build_encoder, encoder_config
from tfmodel.model.sizes import BertConfig
from tfmodel.tasks.masked_head import (
    assign_head,
    find_head,
    head_tensors,
    masked_inputs,
    masked_logits,
    masked_loss,
    masked_vectors,
)

ARCHITECTURE = "BertForPreTraining"
TERMS = {"mlm": 1.0, "pair": 1.0}
"""What the loss of pretraining is made of, and the factor of each."""

_PAIR = "cls.seq_relationship"


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A pretraining model and what is needed to use it."""

    model: keras.Model
    tokenizer: Any
    max_length: int
    task: str = "pair"


@keras.saving.register_keras_serializable("tfmodel")
class WithFirst(keras.layers.Layer):
    """Position 0 before the positions asked for: (B, P) to (B, 1 + P)."""

    def call(self, positions):
        """Put it there."""
        return ops.concatenate([ops.zeros_like(positions[:, :1]), positions], axis=1)

    def compute_output_shape(self, input_shape):
        """(B, 1 + P), P not known."""
        return (input_shape[0], None)

    def compute_output_spec(self, positions):
        """Of the type of positions."""
        return keras.KerasTensor(self.compute_output_shape(positions.shape), positions.dtype)

    def get_config(self) -> dict:
        """Arguments of `__init__`: Keras finds them by itself only where none is an object."""
        return super().get_config()


@keras.saving.register_keras_serializable("tfmodel")
class FirstAndOthers(keras.layers.Layer):
    """What is known at position 0, (B, D), and at the others, (B * P, D)."""

    def call(self, hidden, positions):
        """Part (B * (1 + P), D) by the shape of `positions`, (B, P)."""
        batch, width = ops.shape(positions)[0], hidden.shape[-1]
        rows = ops.reshape(hidden, (batch, ops.shape(positions)[1] + 1, width))
        return rows[:, 0], ops.reshape(rows[:, 1:], (-1, width))

    def compute_output_shape(self, hidden_shape, positions_shape):
        """(B, D) and (B * P, D)."""
        return (positions_shape[0], hidden_shape[-1]), (None, hidden_shape[-1])

    def get_config(self) -> dict:
        """Arguments of `__init__`: Keras finds them by itself only where none is an object."""
        return super().get_config()


class PairModel(keras.Model):
    """The functional model of `build`; it remembers its `encoder`, and stops before the logits."""

    def __init__(self, *args, encoder: keras.Model, vectors, pairs, **kwargs):
        super().__init__(*args, **kwargs)
        self.encoder = encoder
        self.to_vectors = keras.Model(self.input, (vectors, pairs), name="to_vectors")


def build(encoder: keras.Model, *, name: str = "pair") -> keras.Model:
    """Put both heads of BERT's pretraining on an encoder.

    Args:
        encoder: from `build_encoder` or `load_encoder`, with `sequence`.
        name: the model's name.

    Returns:
        A functional model from the encoder's batch, one pair of segments a row, and
        `masked_positions`, int32 (B, P), to `masked_ids`, float32 logits (B, P, V), and
        `pair_labels`, float32 logits (B, 2); `model.encoder` is the encoder.

    Raises:
        ValueError: the encoder gives no `sequence`.

    Source: Devlin et al. 2018, section 3.1; sentence order: Lan et al. 2020, section 3.1.
    """
    inputs = masked_inputs(encoder)
    positions = inputs["masked_positions"]
    hidden = encode_at(encoder, inputs, WithFirst(name="with_first")(positions))
    dtype = encoder.get_layer("embeddings").dtype_policy
    first, others = FirstAndOthers(name="first_and_others", dtype=dtype)(hidden, positions)
    pairs = keras.layers.Dense(
        2,
        name="pair_head",
        dtype="float32",
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
    )(encoder.get_layer("pooler")(first))
    vectors = masked_vectors(encoder, others)
    logits = masked_logits(encoder, vectors, positions)
    outputs = {"masked_ids": logits, "pair_labels": pairs}
    return PairModel(inputs, outputs, encoder=encoder, vectors=vectors, pairs=pairs, name=name)


def counts(inputs: Mapping, targets: Mapping, weights: Mapping) -> list:
    """What each term of the loss is a mean over: one float32 scalar for each of `TERMS`."""
    return [ops.sum(ops.cast(weights[name], "float32")) for name in ("masked_ids", "pair_labels")]


def sums(
    model: keras.Model, inputs: Mapping, targets: Mapping, weights: Mapping, *, training: bool
):
    """Each term of the loss, and what was answered right, summed over what `counts` counts.

    Args:
        model: from `build`.
        inputs: its inputs.
        targets: `masked_ids`, int32 (B, P), and `pair_labels`, int32 (B,).
        weights: of the same names and shapes, float32.
        training: whether dropout is on.

    Returns:
        For each of `TERMS` a float32 (2,): loss and right answers.
    """
    vectors, pairs = model.to_vectors(inputs, training=training)
    labels = ops.cast(targets["pair_labels"], "int32")
    weight = ops.cast(weights["pair_labels"], "float32")
    losses = ops.sparse_categorical_crossentropy(labels, pairs, from_logits=True)
    right = ops.cast(ops.equal(ops.cast(ops.argmax(pairs, axis=-1), "int32"), labels), "float32")
    return [
        masked_loss(model, vectors, targets["masked_ids"], weights["masked_ids"]),
        ops.stack([ops.sum(losses * weight), ops.sum(right * weight)]),
    ]


def save(
    model: keras.Model, folder: str | Path, *, tokenizer, max_length: int | None = None
) -> Path:
    """Write a folder that `transformers`' `BertForPreTraining` loads; `load_encoder` does too.

    Args:
        model: from `build`.
        folder: replaced as a whole, once everything is written.
        tokenizer: the `Tokenizer` the model was trained with.
        max_length: tokens of a row in training; the tokenizer's by default.

    Returns:
        The folder.
    """
    head = model.get_layer("pair_head")
    config = {
        **encoder_config(model.encoder).to_huggingface(),
        "architectures": [ARCHITECTURE],
        "tie_word_embeddings": True,
        "tfmodel": {"max_length": max_length or tokenizer.max_length},
    }
    tensors = {
        **encoder_tensors(model.encoder, prefix="bert."),
        **head_tensors(model),
        f"{_PAIR}.weight": np.ascontiguousarray(ops.convert_to_numpy(head.kernel).T),
        f"{_PAIR}.bias": ops.convert_to_numpy(head.bias),
    }
    return write_model_folder(folder, config, tensors, tokenizer=tokenizer)


def load(folder: str | Path, *, dtype: str = "float32") -> LoadedModel:
    """Load what `save`, or `transformers`' `save_pretrained`, wrote.

    Args:
        folder: a `BertForPreTraining` folder.
        dtype: Keras dtype policy to build with.

    Returns:
        The model and its tokenizer.

    Raises:
        ConfigError: no weights, a head missing or of another size, or no pooler.
    """
    from tfmodel.tokens.tokenizer import Tokenizer

    folder = Path(folder)
    config = read_config(folder)
    tensors = read_tensors(folder)
    shape = BertConfig.from_huggingface(config, name=str(folder / CONFIG_FILE))
    encoder = build_encoder(shape, dtype=dtype)
    missing = assign_encoder(encoder, tensors, name=str(folder))
    model = build(encoder)
    if missing or not assign_head(model, tensors, name=str(folder)):
        raise ConfigError(
            f"{folder}: expected BERT's two heads of pretraining and the pooler under one. "
            f"Received: {'no pooler' if missing else 'no masked language model head'}."
        )
    if not _assign_pair_head(model, tensors, name=str(folder)):
        raise ConfigError(
            f"{folder}: expected a head for pairs of segments. Received: no {_PAIR}.weight."
        )
    own = config.get("tfmodel", {})
    max_length = min(own.get("max_length", shape.max_positions), shape.max_positions)
    tokenizer = Tokenizer.from_folder(folder, max_length=max_length)
    return LoadedModel(model=model, tokenizer=tokenizer, max_length=max_length)


def take_up_head(model: keras.Model, folder: str | Path) -> bool:
    """Give the heads the weights that a folder has for them, to train on where it stopped.

    Args:
        model: from `build`, on the encoder of that folder.
        folder: a Hugging Face model folder.

    Returns:
        Whether it has any; those it has not begin from random ones.

    Raises:
        ConfigError: some are missing, of another size, or not tied.
    """
    tensors = read_tensors(folder)
    found = assign_head(model, tensors, name=str(folder))
    return _assign_pair_head(model, tensors, name=str(folder)) or found


def check_head(folder: str | Path) -> None:
    """Refuse what `take_up_head` would, before a model is built.

    Args:
        folder: a Hugging Face model folder.

    Raises:
        ConfigError: some of the heads' weights are missing, of another size, or not tied.
    """
    shape, tensors = BertConfig.from_huggingface(read_config(folder)), read_tensors(folder)
    find_head(tensors, shape, name=str(folder))
    _find_pair_head(tensors, shape.hidden_size, name=str(folder))


def _find_pair_head(tensors: Mapping, width: int, *, name: str) -> tuple | None:
    """Kernel and bias of the head for pairs; None where there are none."""
    kernel, bias = (tensors.get(f"{_PAIR}.{part}") for part in ("weight", "bias"))
    if kernel is None and bias is None:
        return None
    wanted = (2, width)
    if kernel is None or bias is None or kernel.shape != wanted or bias.shape != (2,):
        raise ConfigError(
            f"{name}: expected {_PAIR}.weight {wanted} and bias (2,). Received: "
            f"{', '.join('none' if each is None else str(each.shape) for each in (kernel, bias))}."
        )
    return kernel, bias


def _assign_pair_head(model: keras.Model, tensors: Mapping, *, name: str) -> bool:
    head = model.get_layer("pair_head")
    found = _find_pair_head(tensors, head.kernel.shape[0], name=name)
    if found is None:
        return False
    head.kernel.assign(found[0].T)
    head.bias.assign(found[1])
    return True
