"""What a model answers on the dev rows, as pictures and as a table of mistakes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfmodel.train.watch.tracker import Value

_SUM_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class DevRows:
    """The rows of `validation_data`, in its order.

    Args:
        targets: int (n,) ids of the right labels; for `regress` the right numbers, float (n,); of
            any task what its `targets` gives.
        labels: C label names; for `regress` none.
        texts: n texts, for the mistakes and the projector, or None.
        text_pairs: n second texts, or None.
        task: the task's module, such as `tasks.regress`; by default `tasks.classify`, of a model
            that may give probabilities, too.
        values: (outputs in the order of `validation_data`) -> the task's values, where a text is
            answered by several rows of it; by default the task's own `values`.
        outputs: how many rows those are.
        decoding: () -> what the task's answers are read by beside the labels, as it is now.
    """

    targets: np.ndarray
    labels: Sequence[str]
    texts: Sequence[str] | None = None
    text_pairs: Sequence[str] | None = None
    task: Any = None
    values: Callable[[np.ndarray], Any] | None = None
    outputs: int | None = None
    decoding: Callable[[], Mapping[str, Any]] = dict

    def __len__(self) -> int:
        """Texts."""
        return len(self.targets)

    @property
    def answered(self) -> int:
        """How many outputs an evaluation gives."""
        return len(self) if self.outputs is None else self.outputs


def probabilities(outputs: np.ndarray) -> np.ndarray:
    """Outputs (n, C) as probabilities: as they are if they are some, else softmax."""
    outputs = np.asarray(outputs, np.float32)
    sums = outputs.sum(axis=-1)
    if outputs.min(initial=0) >= 0 and np.abs(sums - 1).max(initial=0) < _SUM_TOLERANCE:
        return outputs
    exponentials = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def pictures(dev: DevRows, outputs: np.ndarray) -> dict[str, bytes]:
    """What the task draws of its answers: name to PNG."""
    from tfmodel.evaluate import drawing

    task, values = _read(dev, outputs)
    with drawing.drawing_style():
        drawn = task.pictures(dev.targets, values, dev.labels, **dev.decoding())
        return {name: drawing.to_png(figure) for name, figure in drawn.items()}


def mistakes(dev: DevRows, outputs: np.ndarray, *, count: int) -> list[Mapping[str, Value]]:
    """The wrong answers that the model is surest of, or the farthest off: the worst first."""
    task, values = _read(dev, outputs)
    found = task.evaluate(
        dev.targets,
        values,
        dev.labels,
        texts=dev.texts,
        text_pairs=dev.text_pairs,
        **dev.decoding(),
    )["mistakes"][:count]
    columns = [name for name in ("text", "text_pair") if found and name in found[0]]
    shown = [name for name in task.MISTAKE if found and name in found[0]]
    return [{name: _plain(row[name]) for name in (*shown, *columns)} for row in found]


def _plain(value: Any) -> Value:
    """A cell of a table: labels are listed in one."""
    return ", ".join(value) or "none" if isinstance(value, list) else value


def described(dev: DevRows, outputs: np.ndarray | None) -> dict[str, list[str]]:
    """What is known of each row and, where it was answered, of the answer: column to n words."""
    task, values = _read(dev, outputs)
    return task.described(dev.targets, values, dev.labels, **dev.decoding())


def _read(dev: DevRows, outputs: np.ndarray | None) -> tuple[Any, np.ndarray | None]:
    """The task, and the outputs as its values."""
    from tfmodel.tasks import classify

    to_values = dev.values or (probabilities if dev.task is None else dev.task.values)
    return dev.task or classify, None if outputs is None else to_values(outputs)
