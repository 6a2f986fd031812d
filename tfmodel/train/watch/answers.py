"""What a model answers on the dev rows, as pictures and as a table of mistakes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tfmodel import evaluate
from tfmodel.train.watch.tracker import Value

_SUM_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class DevRows:
    """The rows of `validation_data`, in its order.

    Args:
        targets: int (n,) ids of the right labels.
        labels: C label names.
        texts: n texts, for the mistakes and the projector, or None.
        text_pairs: n second texts, or None.
    """

    targets: np.ndarray
    labels: Sequence[str]
    texts: Sequence[str] | None = None
    text_pairs: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.targets)


def probabilities(outputs: np.ndarray) -> np.ndarray:
    """Outputs (n, C) as probabilities: as they are if they are some, else softmax."""
    outputs = np.asarray(outputs, np.float32)
    sums = outputs.sum(axis=-1)
    if outputs.min(initial=0) >= 0 and np.abs(sums - 1).max(initial=0) < _SUM_TOLERANCE:
        return outputs
    exponentials = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def pictures(dev: DevRows, outputs: np.ndarray) -> dict[str, bytes]:
    """Confusion matrix, reliability and precision by recall: name to PNG."""
    from tfmodel.evaluate import drawing, plots
    from tfmodel.evaluate.precision_recall import precision_recall, precision_recall_figure

    scores = probabilities(outputs)
    figures = evaluate.classification(dev.targets, scores, dev.labels)
    with drawing.drawing_style():
        drawn = {
            "confusion_matrix": plots.confusion_figure(figures["confusion"], dev.labels),
            "reliability": plots.reliability_figure(figures["calibration"]),
            "precision_recall": precision_recall_figure(
                precision_recall(dev.targets, scores, dev.labels)
            ),
        }
        return {name: drawing.to_png(figure) for name, figure in drawn.items()}


def mistakes(dev: DevRows, outputs: np.ndarray, *, count: int) -> list[Mapping[str, Value]]:
    """The wrong answers that the model is surest of, the surest first."""
    found = evaluate.classification(
        dev.targets,
        probabilities(outputs),
        dev.labels,
        texts=dev.texts,
        text_pairs=dev.text_pairs,
    )["mistakes"][:count]
    columns = [name for name in ("text", "text_pair") if found and name in found[0]]
    return [
        {
            "label": row["label"],
            "predicted": row["predicted"],
            "score": row["score"],
            **{name: row[name] for name in columns},
        }
        for row in found
    ]
