"""Any number of labels for a text or a pair of texts: `classify` of rows with several classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from tfmodel.config import ConfigError
from tfmodel.tasks import sequence_head
from tfmodel.tasks.sequence_head import LoadedModel, label_names, problem_type_of

ARCHITECTURE = sequence_head.ARCHITECTURE
PROBLEM_TYPE = "multi_label_classification"
ANSWERS = "sets"
VALUES = "scores"
SERVED = ("labels", "scores")
MISTAKE = ("labels", "predicted")
TITLE = "text classifier"
GIVES = "any of {} labels"
SAYS = "Probability of each label by itself, in the order of labels.txt."

_HALF = 0.5


def build(
    encoder: keras.Model, *, classes: int, dropout: float | None = None, name: str = "multilabel"
) -> keras.Model:
    """Put a head on an encoder that says yes or no to each label.

    Args:
        encoder: from `build_encoder` or `load_encoder`; only its `pooled` output is used, so
            `sequence=False` saves time.
        classes: number of labels C, 1 or more.
        dropout: share of pooled values dropped in training; the encoder's own by default.
        name: the model's name.

    Returns:
        A functional model from the encoder's batch to float32 logits (B, C).

    Raises:
        ValueError: no class, or an encoder of another name than `encoder`, by which `save` and
            the exports find it.

    Example:
        >>> model = multilabel.build(load_encoder("model/", sequence=False), classes=28)
    """
    if classes < 1:
        raise ValueError(f"classes must be 1 or more. Received: {classes}.")
    return sequence_head.build(encoder, classes, dropout=dropout, name=name)


def head_arguments(labels: Sequence[str], targets: Any = None) -> dict[str, Any]:
    """What `build` takes of a data set: one output a label."""
    return {"classes": len(labels)}


def output_labels(labels: Sequence[str]) -> list[str]:
    """The name of each output: the data set's labels."""
    return list(labels)


def targets(rows: Sequence[Sequence[str]] | np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """What `loss` takes: float32 (n, C), 1 where a label is right.

    Args:
        rows: the right labels of each row; or what this gives.
        labels: the C label names.
    """
    if isinstance(rows, np.ndarray):
        return rows.astype(np.float32)
    place = {label: index for index, label in enumerate(labels)}
    found = np.zeros((len(rows), len(labels)), np.float32)
    for row, names in enumerate(rows):
        found[row, [place[name] for name in names]] = 1
    return found


def loss() -> keras.losses.Loss:
    """Binary cross-entropy of logits (B, C) against yes or no to each label, (B, C)."""
    return keras.losses.BinaryCrossentropy(from_logits=True)


def metrics() -> list[keras.metrics.Metric]:
    """What `fit` shows while it trains: the share of right decisions, at a score of one half."""
    return [keras.metrics.BinaryAccuracy(name="decisions", threshold=0.0)]


def dev_figures(targets: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    """Figures of a whole part, at the one threshold that is best for it: `micro_f1`, `macro_f1`.

    A threshold for each label would fit a small part whatever the weights are.

    Args:
        targets: 0 or 1, (n, C).
        outputs: the model's logits, float (n, C).
    """
    if not np.isfinite(outputs).all():
        return {"micro_f1": float("nan"), "macro_f1": float("nan")}
    from tfmodel.evaluate.labelling import best_threshold

    scores = values(outputs)
    names = [str(index) for index in range(scores.shape[1])]
    right = np.asarray(targets).reshape(-1) > 0
    threshold = best_threshold(right, scores.reshape(-1).astype(np.float64))
    found = evaluate(targets, scores, names, thresholds=[threshold] * len(names))
    return {name: found[name] for name in ("micro_f1", "macro_f1")}


def activate(logits):
    """Logits (B, C) to what every artifact gives: a probability for each label, float32 (B, C)."""
    return ops.sigmoid(ops.cast(logits, "float32"))


def values(logits: np.ndarray) -> np.ndarray:
    """`activate` outside of a graph."""
    logits = np.asarray(logits, np.float32)
    small = np.exp(-np.abs(logits))  # never overflows
    return np.where(logits >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)


def tuned(targets: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """What `decode` and `served` take: the threshold of each label, by rows that were not learned.

    Args:
        targets: 0 or 1, (n, C).
        scores: float (n, C).
    """
    from tfmodel.evaluate.labelling import tuned_thresholds

    return {"thresholds": tuned_thresholds(targets, scores)}


def served(
    scores, labels: Sequence[str], *, thresholds: Sequence[float] | None = None
) -> dict[str, Any]:
    """The named outputs of a SavedModel, of probabilities (B, C), inside its graph.

    Returns:
        `labels` (B, C) string, those given first, by their scores, and "" for the others, and
        `scores` (B, C).
    """
    import tensorflow as tf

    given = scores >= tf.constant(_limits(labels, thresholds))
    order = tf.argsort(scores, direction="DESCENDING", stable=True)
    first = tf.cast(tf.gather(given, order, batch_dims=1), tf.int32)
    given_first = tf.argsort(first, direction="DESCENDING", stable=True)
    order = tf.gather(order, given_first, batch_dims=1)
    names = tf.gather(tf.constant(list(labels)), order)
    return {
        "labels": tf.where(tf.gather(given, order, batch_dims=1), names, ""),
        "scores": scores,
    }


def decode(
    scores: np.ndarray, labels: Sequence[str], *, thresholds: Sequence[float] | None = None
) -> list[dict[str, Any]]:
    """Turn probabilities into answers.

    Args:
        scores: float (n, C) probabilities.
        labels: the C label names in the order of the columns.
        thresholds: what the score of each label has to reach; 0.5 by default.

    Returns:
        For each row `{"labels": [label, …], "scores": {label: score}}`, the labels by their
        scores, the highest first; none where no score reaches its threshold.
    """
    scores = np.asarray(scores, np.float32)
    given = scores >= _limits(labels, thresholds)
    order = np.argsort(-scores, axis=-1, kind="stable")
    return [
        {
            "labels": [labels[index] for index in best if chosen[index]],
            "scores": dict(zip(labels, map(float, row), strict=True)),
        }
        for row, chosen, best in zip(scores, given, order, strict=True)
    ]


def _limits(labels: Sequence[str], thresholds: Sequence[float] | None) -> np.ndarray:
    given = [_HALF] * len(labels) if thresholds is None else thresholds
    return np.asarray(given, np.float32)


def evaluate(
    targets: np.ndarray, scores: np.ndarray, labels: Sequence[str], **rows: Any
) -> dict[str, Any]:
    """Measure answers; see `tfmodel.evaluate.labelling`, which takes the same."""
    from tfmodel.evaluate.labelling import labelling

    return labelling(targets, scores, labels, **rows)


def pictures(targets: np.ndarray, scores: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Precision by recall: name to figure.

    Call it inside `tfmodel.evaluate.drawing.drawing_style`.
    """
    from tfmodel.evaluate.precision_recall import precision_recall, precision_recall_figure

    return {"precision_recall": precision_recall_figure(precision_recall(targets, scores, labels))}


def described(
    targets: np.ndarray, scores: np.ndarray | None, labels: Sequence[str]
) -> dict[str, list[str]]:
    """What is shown of each row beside its texts: column to n words.

    Args:
        targets: 0 or 1, (n, C).
        scores: float (n, C) probabilities, or None where the rows were not answered.
        labels: C label names.
    """
    right = np.asarray(targets) > 0
    found = {"labels": _in_words(right, labels)}
    if scores is not None:
        given = np.asarray(scores) >= _limits(labels, **tuned(targets, scores))
        found["predicted"] = _in_words(given, labels)
        found["right"] = ["yes" if each else "no" for each in (given == right).all(axis=1)]
    return found


def _in_words(chosen: np.ndarray, labels: Sequence[str]) -> list[str]:
    rows = (np.flatnonzero(row) for row in chosen)
    return [", ".join(labels[index] for index in row) or "none" for row in rows]


def save(
    model: keras.Model,
    folder: str | Path,
    *,
    tokenizer,
    labels: Sequence[str],
    has_pairs: bool = False,
    max_length: int | None = None,
    decoding: Mapping[str, Any] | None = None,
) -> Path:
    """Write a folder that `transformers`' `BertForSequenceClassification` loads.

    Args:
        model: from `build`.
        folder: replaced as a whole, once everything is written.
        tokenizer: the `Tokenizer` the model was trained with.
        labels: the C label names.
        has_pairs: whether the model answers pairs of texts.
        max_length: tokens a row was cut to in training; the tokenizer's by default.
        decoding: what `tuned` gives; without it every threshold is 0.5.

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
        decoding=decoding,
    )


def load(folder: str | Path, *, dtype: str = "float32") -> LoadedModel:
    """Load what `save`, or `transformers`' `save_pretrained`, wrote.

    Args:
        folder: a `BertForSequenceClassification` folder.
        dtype: Keras dtype policy to build with.

    Returns:
        The model, its tokenizer and labels, and the thresholds in `decoding`.

    Raises:
        ConfigError: no weights, no head or another kind of head, no pooler under it, weights or
            a vocabulary of another size, or other thresholds than one a label.
    """
    loaded = sequence_head.load(folder, task="multilabel", labels_of=_labels, dtype=dtype)
    thresholds = loaded.decoding.get("thresholds")
    if thresholds is not None and len(thresholds) != len(loaded.labels):
        raise ConfigError(
            f"{folder}: expected a threshold for each of {len(loaded.labels)} labels. Received: "
            f"{len(thresholds)}."
        )
    return loaded


def _labels(config: Mapping[str, Any], classes: int, folder: Path) -> list[str]:
    kind = problem_type_of(config)
    if kind != PROBLEM_TYPE:
        raise ConfigError(
            f"{folder}: expected a head that gives any number of labels ({PROBLEM_TYPE}). "
            f"Received: problem_type {kind}, {classes} outputs."
        )
    return label_names(config, classes, folder)
