"""One label of several for a text or a pair of texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
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
from tfmodel.model.sizes import BertConfig
from tfmodel.tasks.cross_entropy import CrossEntropy

ARCHITECTURE = "BertForSequenceClassification"
_PROBLEM_TYPE = "single_label_classification"
_OWN_KEY = "tfmodel"


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A fine-tuned classifier and what is needed to use it."""

    model: keras.Model
    tokenizer: Any
    labels: list[str]
    has_pairs: bool
    max_length: int
    task: str = "classify"


def build(
    encoder: keras.Model, *, classes: int, dropout: float | None = None, name: str = "classifier"
) -> keras.Model:
    """Put a classification head on an encoder.

    Args:
        encoder: from `build_encoder` or `load_encoder`; only its `pooled` output is used, so
            `sequence=False` saves time.
        classes: number of labels C, 2 or more.
        dropout: share of pooled values dropped in training; the encoder's own by default.
        name: the model's name.

    Returns:
        A functional model from the encoder's batch to float32 logits (B, C).

    Raises:
        ValueError: fewer than two classes, or an encoder of another name than `encoder`, by which
            `save` and the exports find it.

    Example:
        >>> model = classify.build(load_encoder("model/", sequence=False), classes=3)
    """
    if classes < 2:
        raise ValueError(f"classes must be 2 or more. Received: {classes}.")
    if encoder.name != "encoder":
        raise ValueError(
            f"Expected an encoder named encoder. Received: one named {encoder.name!r}."
        )
    if dropout is None:
        dropout = encoder_config(encoder).dropout
    inputs = {key: keras.Input((None,), dtype="int32", name=key) for key in encoder.input}
    pooled = encoder(inputs)["pooled"]
    pooled = Dropout(dropout, name="pooled_dropout")(pooled)
    logits = keras.layers.Dense(
        classes,
        name="head",
        dtype="float32",
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
    )(pooled)
    return keras.Model(inputs, logits, name=name)


def targets(label_ids: np.ndarray) -> np.ndarray:
    """What `loss` takes: int32 (n,) class ids."""
    return np.asarray(label_ids, np.int32)


def loss(*, label_smoothing: float = 0.0, focal_gamma: float = 0.0) -> keras.losses.Loss:
    """Cross-entropy of logits (B, C) against class ids (B,).

    Args:
        label_smoothing: share of each target spread over all classes alike, in [0, 1).
        focal_gamma: focal loss: a row's weight is (1 - probability)^gamma, gamma 0 or more.

    Raises:
        ValueError: a value is out of range.
    """
    if label_smoothing == focal_gamma == 0:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return CrossEntropy(label_smoothing=label_smoothing, focal_gamma=focal_gamma)


def metrics() -> list[keras.metrics.Metric]:
    """What `fit` shows while it trains."""
    return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]


def class_weights(label_ids: np.ndarray, classes: int) -> np.ndarray:
    """Weights that let every class count the same.

    Args:
        label_ids: int (n,) class ids of the training rows.
        classes: C.

    Returns:
        float32 (C,): n / (P * count), where P classes have rows; 1 on the average row, 0 for a
        class without rows.

    Source: King and Zeng 2001; scikit-learn's `class_weight="balanced"`.
    """
    counts = np.bincount(label_ids, minlength=classes).astype(np.float64)
    present = counts > 0
    weights = np.zeros(classes)
    weights[present] = len(label_ids) / (present.sum() * counts[present])
    return weights.astype(np.float32)


def effective_class_weights(label_ids: np.ndarray, classes: int, beta: float) -> np.ndarray:
    """Weights by the effective number of rows: what a row adds falls with those there are.

    Args:
        label_ids: int (n,) class ids of the training rows.
        classes: C.
        beta: in [0, 1): 0 weights no class; the closer to 1, the closer to `class_weights`.

    Returns:
        float32 (C,): proportional to (1 - beta) / (1 - beta^count), 1 on the average row, 0 for a
        class without rows.

    Raises:
        ValueError: `beta` is out of range.

    Source: Cui et al. 2019, equation (3). Deviation: there the weights add up to C; here the
    average row has weight 1, so that the learning rate means the same.
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta must be in [0, 1). Received: {beta}.")
    counts = np.bincount(label_ids, minlength=classes).astype(np.float64)
    present = counts > 0
    weights = np.zeros(classes)
    weights[present] = (1 - beta) / (1 - beta ** counts[present])
    return (weights * counts.sum() / (weights * counts).sum()).astype(np.float32)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of logits (n, C), in float32 like the exported graphs."""
    logits = np.asarray(logits, np.float32)
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def decode(scores: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Turn probabilities into answers.

    Args:
        scores: float (n, C) probabilities.
        labels: the C label names in the order of the columns.

    Returns:
        For each row `{"label": …, "score": …, "scores": {label: score}}`.
    """
    answers = []
    for row in np.asarray(scores):
        values = [float(value) for value in row]
        best = int(np.argmax(row))
        answers.append(
            {
                "label": labels[best],
                "score": values[best],
                "scores": dict(zip(labels, values, strict=True)),
            }
        )
    return answers


def save(
    model: keras.Model,
    folder: str | Path,
    *,
    tokenizer,
    labels: Sequence[str],
    has_pairs: bool = False,
    max_length: int | None = None,
) -> Path:
    """Write a folder that `transformers`' `BertForSequenceClassification` loads.

    Args:
        model: from `build`.
        folder: replaced as a whole, once everything is written.
        tokenizer: the `Tokenizer` the model was trained with.
        labels: the C label names.
        has_pairs: whether the model answers pairs of texts.
        max_length: tokens a row was cut to in training; the tokenizer's by default.

    Returns:
        The folder.
    """
    encoder = model.get_layer("encoder")
    head = model.get_layer("head")
    if len(labels) != head.units:
        raise ValueError(f"Expected {head.units} labels. Received: {len(labels)}.")
    config = {
        **encoder_config(encoder).to_huggingface(),
        "architectures": [ARCHITECTURE],
        "problem_type": _PROBLEM_TYPE,
        "classifier_dropout": model.get_layer("pooled_dropout").rate,
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
        _OWN_KEY: {"has_pairs": has_pairs, "max_length": max_length or tokenizer.max_length},
    }
    tensors = {
        **encoder_tensors(encoder, prefix="bert."),
        "classifier.weight": np.ascontiguousarray(keras.ops.convert_to_numpy(head.kernel).T),
        "classifier.bias": keras.ops.convert_to_numpy(head.bias),
    }
    return write_model_folder(folder, config, tensors, tokenizer=tokenizer)


def load(folder: str | Path, *, dtype: str = "float32") -> LoadedModel:
    """Load what `save`, or `transformers`' `save_pretrained`, wrote.

    Args:
        folder: a `BertForSequenceClassification` folder.
        dtype: Keras dtype policy to build with.

    Returns:
        The model, its tokenizer and labels.

    Raises:
        ConfigError: no weights, no head or another kind of head, no pooler under it, weights or
            a vocabulary of another size.
    """
    from tfmodel.tokens.tokenizer import Tokenizer

    folder = Path(folder)
    config = read_config(folder)
    tensors = read_tensors(folder)
    try:
        kernel, bias = tensors["classifier.weight"], tensors["classifier.bias"]
    except KeyError as error:
        raise ConfigError(
            f"{folder}: expected a classification head. Received: no {error.args[0]}."
        ) from None
    labels = _labels(config, kernel.shape[0], folder)
    shape = BertConfig.from_huggingface(config, name=str(folder / CONFIG_FILE))
    if kernel.shape[1] != shape.hidden_size or bias.shape != kernel.shape[:1]:
        raise ConfigError(
            f"{folder}: expected a head on {shape.hidden_size} values. Received: "
            f"classifier.weight {kernel.shape}, classifier.bias {bias.shape}."
        )
    encoder = build_encoder(shape, sequence=False, dtype=dtype)
    if missing := assign_encoder(encoder, tensors, name=str(folder)):
        raise ConfigError(
            f"{folder}: expected the pooler that the head was trained on. "
            f"Received: no {', '.join(missing)}."
        )
    model = build(encoder, classes=len(labels), dropout=config.get("classifier_dropout"))
    head = model.get_layer("head")
    head.kernel.assign(kernel.T)
    head.bias.assign(bias)
    own = config.get(_OWN_KEY, {})
    max_length = min(own.get("max_length", shape.max_positions), shape.max_positions)
    tokenizer = Tokenizer.from_folder(folder, max_length=max_length)
    if len(tokenizer.vocabulary) > shape.vocabulary_size:
        raise ConfigError(
            f"{folder}: expected a vocabulary of at most {shape.vocabulary_size} pieces, as "
            f"{CONFIG_FILE} says. Received: {len(tokenizer.vocabulary)}."
        )
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        labels=labels,
        has_pairs=bool(own.get("has_pairs", False)),
        max_length=max_length,
    )


def _labels(config: Mapping[str, Any], classes: int, folder: Path) -> list[str]:
    kind = config.get("problem_type") or _PROBLEM_TYPE
    if kind != _PROBLEM_TYPE or classes < 2:
        raise ConfigError(
            f"{folder}: expected a head that gives one of several labels ({_PROBLEM_TYPE}). "
            f"Received: problem_type {kind}, {classes} outputs."
        )
    named = config.get("id2label") or {str(i): f"LABEL_{i}" for i in range(classes)}
    if set(named) != {str(i) for i in range(classes)}:
        raise ConfigError(
            f"{folder / CONFIG_FILE}: expected id2label to name the {classes} classes of "
            f"classifier.weight. Received: {len(named)} labels."
        )
    return [named[str(i)] for i in range(classes)]
