"""One label of several for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from tfmodel.config import ConfigError
from tfmodel.tasks import sequence_head
from tfmodel.tasks.cross_entropy import CrossEntropy
from tfmodel.tasks.readings import AtGap, Pooled
from tfmodel.tasks.sequence_head import LoadedModel, label_names, problem_type_of

ARCHITECTURE = sequence_head.ARCHITECTURE
PROBLEM_TYPE = "single_label_classification"
ANSWERS = "classes"
VALUES = "scores"
SERVED = ("label", "score", "scores")
MISTAKE = ("label", "predicted", "score")
TITLE = "text classifier"
GIVES = "{} labels"
SAYS = "Probability of each label, in the order of labels.txt."


def build(
    encoder: keras.Model,
    *,
    classes: int,
    none: int | None = None,
    dropout: float | None = None,
    reading: Pooled | AtGap | None = None,
    name: str = "classifier",
) -> keras.Model:
    """Put a classification head on an encoder.

    Args:
        encoder: from `build_encoder` or `load_encoder`; only its `pooled` output is used, so
            `sequence=False` saves time.
        classes: number of labels C, 2 or more.
        none: the index of "none of these", if a label means that: its logit is 0 whatever the
            text, so that a text has none of the others where all their logits are below.
        dropout: share of pooled values dropped in training; the encoder's own by default.
        reading: the vector that the head is put on in place of `pooled`; of an encoder that gives
            `sequence`.
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
    scale = [float(index != none) for index in range(classes)]
    return sequence_head.build(
        encoder, classes, dropout=dropout, scale=scale, reading=reading, name=name
    )


def head_arguments(labels: Sequence[str], targets: Any = None) -> dict[str, Any]:
    """What `build` takes of a data set: one output a label."""
    return {"classes": len(labels)}


def output_labels(labels: Sequence[str]) -> list[str]:
    """The name of each output: the data set's labels."""
    return list(labels)


def targets(label_ids: np.ndarray, labels: Sequence[str] = ()) -> np.ndarray:
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


def calibrate(
    model: keras.Model, targets: np.ndarray, scores: np.ndarray, *, none: int | None = None
) -> dict[str, float]:
    """Change the head so that scores are as high as answers are right; their order stays.

    What is found goes into the head's own weights, so that every artifact, and every other
    library that loads the folder, gives such scores.

    Args:
        model: from `load`.
        targets: int (n,) class ids of rows that it was not trained on.
        scores: float (n, C), its probabilities for them.
        none: the index of "none of these"; its bias is chosen first.

    Returns:
        `temperature`; `none_bias` where there is such a label, before the temperature; `log_loss`
        of these rows before and after.

    Source: `tfmodel.evaluate.calibration`.
    """
    from tfmodel.evaluate import calibration

    found, shift = {}, np.zeros(scores.shape[1], np.float32)
    logits = calibration.log_scores(scores)
    before = _log_loss(targets, logits)
    if none is not None:
        shift[none] = found["none_bias"] = calibration.none_bias(targets, scores, none)
    logits = logits + shift
    found["temperature"] = calibration.temperature(targets, probabilities(logits))
    sequence_head.rescale_head(model, scale=1 / found["temperature"], shift=shift)
    after = _log_loss(targets, logits / found["temperature"])
    return {**found, "log_loss_before": before, "log_loss_after": after}


def _log_loss(targets: np.ndarray, logits: np.ndarray) -> float:
    likelihood = np.take_along_axis(probabilities(logits), np.asarray(targets)[:, None], axis=1)
    return float(-np.log(np.maximum(likelihood, np.finfo(np.float32).tiny)).mean())


def activate(logits):
    """Logits (B, C) to what every artifact gives: probabilities, float32 (B, C)."""
    return ops.softmax(ops.cast(logits, "float32"), axis=-1)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of logits (n, C), in float32 like the exported graphs."""
    logits = np.asarray(logits, np.float32)
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


values = probabilities
"""`activate` outside of a graph."""


def served(scores, labels: Sequence[str]) -> dict[str, Any]:
    """The named outputs of a SavedModel, of probabilities (B, C), inside its graph.

    Returns:
        `label` (B,) string, `score` (B,) and `scores` (B, C).
    """
    import tensorflow as tf

    return {
        "label": tf.gather(tf.constant(labels), tf.argmax(scores, axis=-1)),
        "score": tf.reduce_max(scores, axis=-1),
        "scores": scores,
    }


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


def evaluate(
    targets: np.ndarray, scores: np.ndarray, labels: Sequence[str], **rows: Any
) -> dict[str, Any]:
    """Measure answers; see `tfmodel.evaluate.classification`, which takes the same."""
    from tfmodel.evaluate.classification import classification

    return classification(targets, scores, labels, **rows)


def pictures(targets: np.ndarray, scores: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Confusion matrix, reliability and precision by recall: name to figure.

    Call it inside `tfmodel.evaluate.drawing.drawing_style`.
    """
    from tfmodel.evaluate import plots
    from tfmodel.evaluate.precision_recall import precision_recall, precision_recall_figure

    figures = evaluate(targets, scores, labels)
    return {
        "confusion_matrix": plots.confusion_figure(figures["confusion"], labels),
        "reliability": plots.reliability_figure(figures["calibration"]),
        "precision_recall": precision_recall_figure(precision_recall(targets, scores, labels)),
    }


def described(
    targets: np.ndarray, scores: np.ndarray | None, labels: Sequence[str]
) -> dict[str, list[str]]:
    """What is shown of each row beside its texts: column to n words.

    Args:
        targets: int (n,) ids of the right labels.
        scores: float (n, C) probabilities, or None where the rows were not answered.
        labels: C label names.
    """
    found = {"label": [labels[target] for target in targets]}
    if scores is not None:
        predicted = np.argmax(scores, axis=-1)
        right = predicted == np.asarray(targets)
        found["predicted"] = [labels[index] for index in predicted]
        found["right"] = ["yes" if each else "no" for each in right]
    return found


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
    return sequence_head.save(
        model,
        folder,
        tokenizer=tokenizer,
        labels=labels,
        problem_type=PROBLEM_TYPE,
        has_pairs=has_pairs,
        max_length=max_length,
    )


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
    return sequence_head.load(folder, task="classify", labels_of=_labels, dtype=dtype)


def _labels(config: Mapping[str, Any], classes: int, folder: Path) -> list[str]:
    kind = problem_type_of(config)
    if kind != PROBLEM_TYPE or classes < 2:
        raise ConfigError(
            f"{folder}: expected a head that gives one of several labels ({PROBLEM_TYPE}). "
            f"Received: problem_type {kind}, {classes} outputs."
        )
    return label_names(config, classes, folder)
