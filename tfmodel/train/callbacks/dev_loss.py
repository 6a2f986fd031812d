"""How well text that is not trained on is foretold, every so many steps."""

from __future__ import annotations

import logging
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfmodel.train.callbacks.stopwatch import Stopwatch
from tfmodel.train.graph_passes import as_traced
from tfmodel.train.watch.watching import Watch

_log = logging.getLogger(__name__)


class DevLoss(keras.callbacks.Callback):
    """Evaluate a `PretrainingModel` before the first step, every so many, and after the last.

    Args:
        batches: the `PretrainingBatches` to measure on, the same in every epoch.
        every_steps: steps between two evaluations.
        total_steps: steps of the whole run.
        clock: stands still meanwhile.
        watch: where the figures are shown, or None.
        says: whether each evaluation is said in the log; of several workers one does.

    Attributes:
        history: one dict an evaluation: step, loss, perplexity (where there is a masked language
            model), and of each term of the objective TERM_accuracy and, of several, TERM_loss.
    """

    def __init__(
        self,
        batches: Any,
        *,
        every_steps: int,
        total_steps: int,
        clock: Stopwatch | None = None,
        watch: Watch | None = None,
        says: bool = True,
    ):
        super().__init__()
        self.batches = batches
        self.every_steps = every_steps
        self.total_steps = total_steps
        self.clock = clock
        self.watch = watch
        self.says = says
        self.history: list[dict[str, float]] = []
        self._sums = None

    def on_train_begin(self, logs=None):
        """Measure what the weights know before the first step."""
        if not self.history:
            self._measure()

    def on_train_batch_end(self, batch, logs=None):
        """Measure where it is time to."""
        step = int(self.model.optimizer.iterations.numpy())
        if step % self.every_steps == 0 or step == self.total_steps:
            self._measure()

    def _measure(self) -> None:
        if self.clock is not None:
            self.clock.on_test_begin()
        step = int(self.model.optimizer.iterations.numpy())
        figures = self.evaluate()
        self.history.append({"step": step, **figures})
        if self.says:
            words = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
            _log.info("step %d of %d: dev %s", step, self.total_steps, words)
        if self.watch is not None:
            self.watch.tell({f"dev/{name}": value for name, value in figures.items()})
        if self.clock is not None:
            self.clock.on_test_end()

    def evaluate(self) -> dict[str, float]:
        """The figures of the weights as they are."""
        self.batches.epoch = self.batches.skip = 0
        dataset, sums, counts = self.batches.dataset(), 0.0, 0.0
        if self._sums is None:  # once for all lengths
            signature = [dataset.element_spec]
            traced = tf.function(
                self.model.evaluation_sums, input_signature=signature, autograph=False
            )
            self._sums = as_traced(traced)
        for data in dataset:
            found, count = self._sums(data)
            # Of some hundred thousand places float32 would lose the last digits.
            sums = sums + np.asarray(found, np.float64)
            counts = counts + np.asarray(count, np.float64)
        return named_figures(self.model.task.TERMS, sums / np.maximum(counts, 1)[:, None])

    def state(self) -> dict[str, Any]:
        """What `set_state` continues from."""
        return {"dev": self.history}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue where `state()` was taken."""
        self.history[:] = state["dev"]


def named_figures(terms: dict[str, float], means: np.ndarray) -> dict[str, float]:
    """Figures by name of the loss and the accuracy of each term, float (K, 2)."""
    factors = np.array(list(terms.values()))
    figures = {"loss": float(factors @ means[:, 0])}
    for name, (loss, accuracy) in zip(terms, means.tolist(), strict=True):
        if name == "mlm":
            figures["perplexity"] = math.exp(min(loss, 700.0))
        if len(terms) > 1:
            figures[f"{name}_loss"] = loss
        figures[f"{name}_accuracy"] = accuracy
    return figures
