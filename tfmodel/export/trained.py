"""What an export starts from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfmodel import tasks
from tfmodel.export.manifest import Manifest, output_of, package_version


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model, and what must travel with it.

    Attributes:
        model: float32, token batch to outputs (B, C).
        tokenizer: the one it was trained with.
        labels: the name of each output: of `classify` the classes, in the order of the logits.
        max_length: tokens a row at most in the artifacts.
        has_pairs: whether a row is two texts.
        calibration_texts: real texts (train rows) to read the range of activations from.
        calibration_pairs: as many second texts, for a model of pairs.
        facts: what the model card says: data, metrics, seeds, versions, limits.
        task: one of `tasks.TASKS`.
        decoding: what the task's answers are decoded by beside the labels, JSON values.
    """

    model: Any
    tokenizer: Any
    labels: Sequence[str]
    max_length: int
    has_pairs: bool = False
    calibration_texts: Sequence[str] = ()
    calibration_pairs: Sequence[str] | None = None
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    task: str = "classify"
    decoding: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def described(self) -> dict[str, Any]:
        """What the export functions want to know beside model and tokenizer."""
        return {
            "labels": self.labels,
            "max_length": self.max_length,
            "has_pairs": self.has_pairs,
            "task": self.task,
            "decoding": self.decoding,
        }

    def manifest(self, *, precision: str = "float32", output: str = "scores") -> Manifest:
        """What an artifact of it says of itself.

        Args:
            precision: the artifact's number format.
            output: `scores` or `vector`; of a task that gives vectors it is these in any case.
        """
        return Manifest(
            labels=tuple(self.labels),
            max_length=self.max_length,
            lowercase=self.tokenizer.lowercase,
            tokenizer=self.tokenizer.kind,
            has_pairs=self.has_pairs,
            task=self.task,
            decoding=tasks.decoding_of(self.task, self.tokenizer, self.decoding),
            template=self.tokenizer.template,
            precision=precision,
            output=output_of(self.task, output),
            version=package_version(),
        )
