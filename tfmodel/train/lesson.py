"""A task's part of a training: its rows in batches, its dev figures, its step and its loss."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfmodel.config import ConfigError
from tfmodel.data import Split
from tfmodel.tokens.batches import Batches
from tfmodel.train import adversarial
from tfmodel.train.callbacks import DevFigures
from tfmodel.train.learned import Learned
from tfmodel.train.optimizer import AdamW, adamw
from tfmodel.train.out_of_fold import select_rows
from tfmodel.train.regularize import assemble
from tfmodel.train.settings import FinetuneSettings
from tfmodel.train.step import TrainingModel
from tfmodel.train.watch.answers import DevRows


def chain_of(task: Any, model: keras.Model) -> Any | None:
    """What a task's model learns of which answer follows another; None where it does not."""
    return task.chain_of(model) if hasattr(task, "chain_of") else None


def dev_rows(
    rows: Learned, dev: Split, task, labels, size: int, chain: Any | None
) -> tuple[Batches, DevRows, list]:
    """The batches of dev, what is shown of it, and what measures its figures."""
    batches = Batches(
        rows.rows, rows.targets, weights=rows.weights, batch_size=size, order="length"
    )
    order = np.concatenate(batches.plan(0))  # of the outputs
    if rows.read is None:
        dev, right = select_rows(dev, order), rows.right[order]
        shown = DevRows(right, labels, dev.texts, dev.text_pairs, task=task)
        if not hasattr(task, "dev_figures"):
            return batches, shown, []
        return batches, shown, [DevFigures(functools.partial(task.dev_figures, right))]

    def values(outputs: np.ndarray) -> Any:
        return rows.read(outputs[np.argsort(order)])

    decoding = dict if chain is None else chain.decoding  # as it is when it is asked

    def figures(outputs: np.ndarray) -> dict[str, float]:
        return task.dev_figures(rows.right, values(outputs), labels, **decoding())

    shown = DevRows(
        rows.right,
        labels,
        dev.texts,
        dev.text_pairs,
        task=task,
        values=values,
        outputs=len(order),
        decoding=decoding,
    )
    return batches, shown, [DevFigures(figures)]


def learned_batches(rows: Learned, task, labels, settings, seed) -> Batches:
    """The batches to train on, their rows or classes weighted as the settings say.

    Raises:
        ConfigError: a class weight names no label.
    """
    weights, right = rows.weights, rows.right
    if settings.class_weights == "balanced":
        weights = task.class_weights(right, len(labels))[right]
    elif isinstance(settings.class_weights, dict):
        unknown = sorted(set(settings.class_weights) - set(labels))
        if unknown:
            raise ConfigError(
                f"train.class_weights must name labels of the data ({', '.join(labels[:20])}). "
                f"Received: {', '.join(unknown)}."
            )
        by_label = [settings.class_weights.get(label, 1.0) for label in labels]
        weights = np.array(by_label, np.float32)[right]
    elif (beta := settings.regularize.class_balance) is not None:
        weights = task.effective_class_weights(right, len(labels), beta)[right]
    return Batches(
        rows.rows,
        rows.targets,
        weights=weights,
        batch_size=settings.batch_size,
        batch_tokens=settings.batch_tokens,
        order=getattr(task, "ORDER", "random"),
        seed=seed,
    )


def training_model(model: keras.Model, settings: FinetuneSettings, seed: int) -> TrainingModel:
    """A task's model with all that its step does beside the plain one."""
    adversary, more = adversarial.from_settings(settings.adversarial, seed=seed)
    return TrainingModel(
        model,
        accumulation_steps=settings.accumulation_steps,
        adversary=adversary,
        regularizers=[*assemble.regularizers(settings.regularize, seed=seed), *more],
    )


def optimizer_of(settings: FinetuneSettings, total_steps: int, **by_weight: Any) -> AdamW:
    """The optimizer that the settings ask for.

    Args:
        settings: resolved.
        total_steps: of the whole training.
        **by_weight: rates and decays of single weights, from `assemble.optimizer_arguments`.
    """
    return adamw(
        settings.learning_rate,
        total_steps=total_steps,
        warmup_share=settings.warmup_share,
        weight_decay=settings.weight_decay,
        global_clipnorm=settings.clip_norm,
        **by_weight,
    )


def rates_and_decays(
    training: TrainingModel, settings: FinetuneSettings, chain: Any | None
) -> dict[str, Any]:
    """Rates and decays of single weights, as `optimizer_of` takes them."""
    own = assemble.optimizer_arguments(training, settings.regularize)
    if chain is not None:
        factors = own.get("rate_factors", {})
        rates = {path: rate * factors.get(path, 1.0) for path, rate in chain.rates().items()}
        own["rate_factors"] = {**factors, **rates}
    return own


def loss_of(
    task: Any, settings: FinetuneSettings, arguments: Mapping[str, Any], chain: Any | None
) -> Any:
    """The loss of a task, as the settings and the rows want it."""
    more = {} if chain is None else {"chain": chain}
    return task.loss(**assemble.loss_arguments(settings.regularize), **arguments, **more)
