"""Which rows a step was fed: `Batches` know their own epochs, `fit` only counts its steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfmodel.tokens.batches import Batches


def check_fed(batches: Batches, params: Mapping[str, Any], *, skipped: int = 0) -> None:
    """Check that an epoch of `fit` is one of the batches.

    Args:
        batches: what `fit` should be given.
        params: Keras's, of the callback.
        skipped: batches that the first epoch may have fewer.

    Raises:
        ValueError: it has another number of steps.
    """
    steps = params.get("steps", len(batches))
    if steps not in (len(batches), len(batches) - skipped):
        raise ValueError(
            f"Expected fit to be given these batches, {len(batches)} an epoch. Received: "
            f"{steps} steps an epoch. Pass the dataset from tm.batches, without "
            "steps_per_epoch."
        )


class Fed:
    """The rows of each step of an epoch.

    The batches count their epochs by themselves: whoever looked at a first batch before `fit`, or
    calls `fit` again, is an epoch further than Keras counts.

    Args:
        batches: the `Batches` that feed `fit`.
        epoch: as Keras counts, when it begins.
    """

    def __init__(self, batches: Batches, epoch: int):
        self._batches = batches
        self.skip = batches.skip if epoch == batches.epoch else 0
        self._plan: list[np.ndarray] | None = None
        self._lengths: np.ndarray | None = None

    def rows(self, batch: int, steps: int = 1) -> np.ndarray:
        """The rows of the last steps up to one; after the step, when its batches were made.

        Args:
            batch: number of the step in this `fit`'s epoch.
            steps: how many.
        """
        if self._plan is None:
            self._plan = self._batches.plan(self._batches.epoch - 1)[self.skip :]
        return np.concatenate(self._plan[batch + 1 - steps : batch + 1])

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """Real tokens of rows as they were fed in this epoch; once its batches were made.

        Args:
            rows: from `rows`.
        """
        if self._lengths is None:
            self._lengths = self._batches.row_lengths(self._batches.epoch - 1)
        return self._lengths[rows]
