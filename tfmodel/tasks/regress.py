"""A number for a text or a pair of texts: a rating, or how alike two sentences are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from tfmodel.config import ConfigError
from tfmodel.tasks import sequence_head
from tfmodel.tasks.sequence_head import LoadedModel, problem_type_of

ARCHITECTURE = sequence_head.ARCHITECTURE
PROBLEM_TYPE = "regression"
ANSWERS = "number"
VALUES = "score"
SERVED = ("score",)
MISTAKE = ("score", "predicted")
TITLE = "text regressor"
GIVES = "a number"
SAYS = "The number."

_OUTPUT_LABELS = ("score",)


def build(
    encoder: keras.Model,
    *,
    mean: float = 0.0,
    scale: float = 1.0,
    dropout: float | None = None,
    name: str = "regressor",
) -> keras.Model:
    """Put a head with one number on an encoder.

    The head learns the number in units of `scale`, away from `mean`: a new head finds prices in
    thousands as easily as shares of one. `save` and the exports write both into its weights.

    Args:
        encoder: from `build_encoder` or `load_encoder`; only its `pooled` output is used, so
            `sequence=False` saves time.
        mean: of the numbers to learn.
        scale: their standard deviation, above 0.
        dropout: share of pooled values dropped in training; the encoder's own by default.
        name: the model's name.

    Returns:
        A functional model from the encoder's batch to float32 numbers (B, 1).

    Raises:
        ValueError: `scale` is not above 0, or an encoder of another name than `encoder`, by which
            `save` and the exports find it.

    Example:
        >>> model = regress.build(load_encoder("model/", sequence=False), mean=2.5, scale=1.5)
    """
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale must be above 0, and finite. Received: {scale}.")
    return sequence_head.build(
        encoder,
        1,
        dropout=dropout,
        mean=float(mean),
        scale=float(scale),
        # From larger ones answers begin far from the mean, and the first steps lead back there.
        initial_stddev=0.02,
        name=name,
    )


def head_arguments(labels: Sequence[str], targets: np.ndarray) -> dict[str, Any]:
    """What `build` takes of a data set: mean and standard deviation of its numbers.

    Args:
        labels: none.
        targets: the training rows' numbers, float (n,).
    """
    numbers = np.asarray(targets, np.float64)
    # Rows that all have one number have no deviation to measure by.
    return {"mean": float(numbers.mean()), "scale": float(numbers.std()) or 1.0}


def output_labels(labels: Sequence[str]) -> list[str]:
    """The name of the output, whatever the data set."""
    return list(_OUTPUT_LABELS)


def targets(numbers: np.ndarray, labels: Sequence[str] = ()) -> np.ndarray:
    """What `loss` takes: float32 (n,)."""
    return np.asarray(numbers, np.float32)


def loss() -> keras.losses.Loss:
    """The mean squared error of outputs (B, 1) against numbers (B,)."""
    return keras.losses.MeanSquaredError()


def metrics() -> list[keras.metrics.Metric]:
    """What `fit` shows while it trains: the root of the mean squared error."""
    return [keras.metrics.RootMeanSquaredError(name="rmse")]


def dev_figures(targets: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    """Figures of a whole part, which no sum over batches gives: `pearson` and `spearman`.

    Args:
        targets: the right numbers, float (n,).
        outputs: the model's, float (n, 1).
    """
    from tfmodel.evaluate.regression import pearson, spearman

    given = np.reshape(outputs, -1)
    return {"pearson": pearson(targets, given), "spearman": spearman(targets, given)}


def activate(outputs):
    """Outputs (B, 1) to what every artifact gives: the number itself, float32 (B, 1)."""
    return ops.cast(outputs, "float32")


def values(outputs: np.ndarray) -> np.ndarray:
    """`activate` outside of a graph."""
    return np.asarray(outputs, np.float32)


def served(values, labels: Sequence[str]) -> dict[str, Any]:
    """The named outputs of a SavedModel, of numbers (B, 1), inside its graph.

    Returns:
        `score` (B,).
    """
    return {"score": values[:, 0]}


def decode(values: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Turn numbers into answers.

    Args:
        values: float (n, 1).
        labels: the name of the output.

    Returns:
        For each row `{"score": …}`.
    """
    return [{"score": float(value)} for value in np.reshape(values, -1)]


def evaluate(
    targets: np.ndarray, values: np.ndarray, labels: Sequence[str], **rows: Any
) -> dict[str, Any]:
    """Measure answers; see `tfmodel.evaluate.regression`, which takes the same without labels."""
    from tfmodel.evaluate.regression import regression

    return regression(targets, np.reshape(values, -1), **rows)


def pictures(targets: np.ndarray, values: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Answers by right numbers: name to figure.

    Call it inside `tfmodel.evaluate.drawing.drawing_style`.
    """
    from tfmodel.evaluate.scatter import scatter_figure

    return {"scatter": scatter_figure(evaluate(targets, values, labels)["points"])}


def described(
    targets: np.ndarray, values: np.ndarray | None, labels: Sequence[str]
) -> dict[str, list[str]]:
    """What is shown of each row beside its texts: column to n words.

    Args:
        targets: the right numbers, float (n,).
        values: the given ones, float (n, 1), or None where the rows were not answered.
        labels: not read.
    """
    found = {"score": [f"{target:g}" for target in targets]}
    if values is not None:
        found["predicted"] = [f"{value:.3g}" for value in np.reshape(values, -1)]
    return found


def save(
    model: keras.Model,
    folder: str | Path,
    *,
    tokenizer,
    labels: Sequence[str] = _OUTPUT_LABELS,
    has_pairs: bool = False,
    max_length: int | None = None,
) -> Path:
    """Write a folder that `transformers`' `BertForSequenceClassification` loads as a regressor.

    Args:
        model: from `build`.
        folder: replaced as a whole, once everything is written.
        tokenizer: the `Tokenizer` the model was trained with.
        labels: the name of the output.
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
        folder: a `BertForSequenceClassification` folder with one output.
        dtype: Keras dtype policy to build with.

    Returns:
        The model and its tokenizer.

    Raises:
        ConfigError: no weights, no head or another kind of head, no pooler under it, weights or
            a vocabulary of another size.
    """
    return sequence_head.load(folder, task="regress", labels_of=_labels, dtype=dtype)


def _labels(config: Mapping[str, Any], outputs: int, folder: Path) -> list[str]:
    kind = problem_type_of(config)
    if kind != PROBLEM_TYPE or outputs != 1:
        raise ConfigError(
            f"{folder}: expected a head that gives one number ({PROBLEM_TYPE}). "
            f"Received: problem_type {kind}, {outputs} outputs."
        )
    return list(_OUTPUT_LABELS)
