"""One step of several tasks on one encoder: a batch of one task, and an update by it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from tfmodel.train.graph_passes import as_traced
from tfmodel.train.optimizer import AdamW
from tfmodel.train.step import STEP_FIGURES, TrainingModel


@dataclasses.dataclass(frozen=True)
class Weighted:
    """A regularizer that multiplies the loss by a number: how much a task counts."""

    weight: float

    def __call__(self, rows: Any, outputs: Any, loss: tf.Tensor) -> tf.Tensor:
        """The loss, times the weight."""
        return loss * self.weight


@dataclasses.dataclass(frozen=True)
class _Parts:
    """The models of the tasks, where Keras does not look for layers: it would count them twice."""

    by_name: dict[str, TrainingModel]


@keras.saving.register_keras_serializable("tfmodel")
class SeveralModel(keras.Model):
    """Several tasks' models on one encoder, for one `fit` of the dataset of `tm.mixed_batches`.

    A step is a batch of one task, with that task's own loss: its gradient changes the encoder and
    this task's head, and no other head. The optimizer is one, and so is its learning rate; the
    moments of a head are corrected by the head's own steps (`AdamW.count_apart`).

    Args:
        tasks: by name each task's model, from its `build` on the same encoder, or a
            `TrainingModel` of it.
        weights: by name what a task's loss is multiplied with, above 0; others 1.

    Attributes:
        parts: by name the `TrainingModel` of each task: `parts[NAME].evaluate(batches)` measures
            one.

    Raises:
        ValueError: fewer than two tasks, models that do not share an encoder, or a weight of no
            task or not above 0.

    Example:
        >>> encoder = tm.load_encoder("model/", sequence=False)
        >>> topics = tm.tasks.classify.build(encoder, classes=4)
        >>> stars = tm.tasks.regress.build(encoder, mean=3.0)
        >>> model = tm.SeveralModel({"topics": topics, "stars": stars})
        >>> loss = {"topics": tm.tasks.classify.loss(), "stars": tm.tasks.regress.loss()}
        >>> model.compile(tm.adamw(2e-4), loss=loss, jit_compile=False)
        >>> model.fit(tm.mixed_batches({"topics": ..., "stars": ...}), shuffle=False)
    """

    def __init__(
        self,
        tasks: Mapping[str, keras.Model],
        *,
        weights: Mapping[str, float] | None = None,
        **kwargs,
    ):
        parts = {
            name: model if isinstance(model, TrainingModel) else TrainingModel(model)
            for name, model in tasks.items()
        }
        _require_one_encoder(parts)
        weights = dict(weights or {})
        if unfit := {n: w for n, w in weights.items() if n not in parts or not w > 0}:
            raise ValueError(
                f"Expected weights above 0 of {', '.join(parts)}. Received: {unfit}. Name only "
                "these tasks."
            )
        super().__init__(**kwargs)
        self._parts = _Parts(parts)
        self.models = [part.model for part in parts.values()]
        for name, weight in weights.items():
            if weight != 1:
                parts[name].regularizers = (*parts[name].regularizers, Weighted(weight))
        self.watched = False  # set by `callbacks.Watch`
        self.built = True

    @property
    def parts(self) -> dict[str, TrainingModel]:
        """By name the `TrainingModel` of each task."""
        return self._parts.by_name

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer,
        loss: Mapping[str, Any],
        *,
        metrics: Mapping[str, list] | None = None,
        jit_compile: bool = False,
    ) -> None:
        """Say how the tasks are trained.

        Args:
            optimizer: the one of all; not built yet.
            loss: each task's, by its name.
            metrics: each task's for its `evaluate`, by its name.
            jit_compile: whether XLA compiles the steps.

        Raises:
            ValueError: a task without a loss, or a loss of no task.
        """
        if {*loss} != {*self.parts}:
            raise ValueError(
                f"Expected a loss for each of {', '.join(self.parts)}. Received: those of "
                f"{', '.join(loss) or 'none'}."
            )
        if isinstance(optimizer, AdamW) and not optimizer.built:
            optimizer.count_apart([*self.heads().values()])
        super().compile(optimizer, jit_compile=jit_compile)
        # Variables made inside a step would have TensorFlow trace it twice.
        optimizer.build(self.trainable_variables)
        for name, part in self.parts.items():
            own = (metrics or {}).get(name, [])
            # The task's model too, for the caller to evaluate.
            for each in (part, part.model):
                each.compile(optimizer, loss=loss[name], metrics=own, jit_compile=jit_compile)

    def heads(self) -> dict[str, list[keras.Variable]]:
        """By name of a task the weights that no other task has."""
        found = {}
        for name, part in self.parts.items():
            others = {
                id(variable)
                for other, model in self.parts.items()
                if other != name
                for variable in model.trainable_variables
            }
            found[name] = [v for v in part.trainable_variables if id(v) not in others]
        return found

    def make_train_function(self, force: bool = False):
        """Trace the step of each task, when it is first taken."""
        if self.train_function is not None and not force:
            return
        for part in self.parts.values():
            part.watched = self.watched
        names = [*self.parts]
        traced: dict[int, Callable] = {}

        def step(iterator: Iterator) -> dict[str, Any]:
            number, batches = next(iterator)
            task = int(number)
            if task not in traced:
                # Of known shapes: otherwise the first batches would each be traced.
                signature = [iterator.element_spec[1][task]]
                traced[task] = tf.function(
                    self.parts[names[task]].train_step,
                    input_signature=signature,
                    autograph=False,
                    jit_compile=self.jit_compile,
                )
            logs = traced[task](batches[task])
            figures = {name: value for name, value in logs.items() if name in STEP_FIGURES}
            self._loss_tracker.update_state(figures["step_loss"])
            return {**self.get_metrics_result(), **figures}

        self.train_function = as_traced(step)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        pass  # nothing would have to be made

    def get_config(self) -> dict:
        """Not saved: save the tasks' models."""
        raise NotImplementedError("Save the tasks' models, not the one that trains them.")


def _require_one_encoder(parts: Mapping[str, TrainingModel]) -> None:
    if len(parts) < 2:
        raise ValueError(
            f"Expected two tasks or more. Received: {', '.join(parts) or 'none'}. One task alone "
            "is trained by tm.TrainingModel."
        )
    encoders = {
        id(layer)
        for part in parts.values()
        for layer in part.model.layers
        if layer.name == "encoder"
    }
    if len(encoders) != 1:
        raise ValueError(
            "Expected models that share one encoder. Received: "
            f"{len(encoders)} of them. Build each task on the same one: "
            "encoder = tm.load_encoder(FOLDER); tm.tasks.classify.build(encoder, …)."
        )
