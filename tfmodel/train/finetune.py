"""Fine-tune a task model on labelled rows through `model.fit`, and go on where it stopped."""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfmodel.config import ConfigError
from tfmodel.data import Split
from tfmodel.tasks import TASKS
from tfmodel.tokens.batches import Batches
from tfmodel.tokens.row_tokenizer import RowTokenizer
from tfmodel.train import adversarial
from tfmodel.train.callbacks import (
    DevFigures,
    EpochRecorder,
    KeepBest,
    OneTraining,
    Progress,
    Resume,
    StepRecorder,
    StopOnNaN,
    Stopwatch,
)
from tfmodel.train.checkpoint import Checkpoint
from tfmodel.train.distribute.workers import from_chief, give_chiefs, is_chief
from tfmodel.train.learned import Learned, learned
from tfmodel.train.optimizer import adamw
from tfmodel.train.out_of_fold import select_rows
from tfmodel.train.regularize import assemble
from tfmodel.train.settings import FinetuneSettings
from tfmodel.train.step import TrainingModel
from tfmodel.train.watch.answers import DevRows
from tfmodel.train.watch.from_settings import watch_callback
from tfmodel.train.watch.vectors import sentence_vectors

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class FinetuneResult:
    """What a training run says of itself.

    Attributes:
        steps: one dict a step: step, loss, learning_rate, tokens_per_second.
        epochs: one dict an epoch: epoch, step, loss and dev figures.
        seconds: wall clock from the first batch asked for to the end of the last step; tracing
            and the writing of checkpoints in, dev evaluation out.
        examples: rows trained on, each epoch anew; of long texts in windows, the windows.
        tokens: real tokens trained on.
        padding_share: share of padding among the tokens of an epoch's batches.
        resumed_at_steps: steps at which training was taken up again.
        best_epoch: epoch (from 0) whose weights were kept, None without dev rows.
        stopped_early: whether patience ran out.
        windows: of a task that reads its rows in windows: how many there are, and what was cut.
    """

    steps: list[dict]
    epochs: list[dict]
    seconds: float
    examples: int
    tokens: int
    padding_share: float
    resumed_at_steps: list[int]
    best_epoch: int | None
    stopped_early: bool
    windows: Mapping[str, int] = dataclasses.field(default_factory=dict)


UNTRAINED = FinetuneResult(
    steps=[],
    epochs=[],
    seconds=0.0,
    examples=0,
    tokens=0,
    padding_share=0.0,
    resumed_at_steps=[],
    best_epoch=None,
    stopped_early=False,
)
"""Of a model that is taken as it is."""


def finetune(
    model: keras.Model,
    tokenizer: RowTokenizer,
    train: Split,
    dev: Split | None = None,
    *,
    task: Any,
    labels: Sequence[str],
    settings: FinetuneSettings,
    seed: int = 0,
    checkpoints: str | Path,
    logs: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    loss_arguments: Mapping[str, Any] | None = None,
    key: str = "",
    decoding: Mapping[str, Any] | None = None,
) -> FinetuneResult:
    """Train a task model; the best dev epoch's weights are in it afterwards.

    Interrupted (Ctrl-C, SIGTERM, kill -9) and called again with the same arguments, it
    continues from the last checkpoint.

    Args:
        model: from the task's `build`, with the encoder's weights.
        tokenizer: the encoder's tokenizer.
        train: rows to train on.
        dev: rows to choose the best epoch by, or None.
        task: the task's module, such as `tasks.classify`.
        labels: label names in the order of their ids; none where the task has none.
        settings: resolved settings (no `auto` left but that of `monitor`).
        seed: of the order of rows; the model's own random states are the caller's.
        checkpoints: folder for what an interrupted run continues from.
        logs: TensorBoard folder, or None: not watched.
        config: settings beside these, to show where the training is watched.
        loss_arguments: what the task's `loss` takes beside what the settings say.
        key: fingerprint of everything that the result depends on; a checkpoint of another
            key is refused.
        decoding: how a task that reads its rows in windows cuts them.

    Returns:
        Figures and history.

    Raises:
        ConfigError: the checkpoint is another run's, or a class weight names no label.
        FloatingPointError: the loss is no longer a number.
        ValueError: the settings are not resolved, or name no epoch.
    """
    start = time.perf_counter()
    strategy = model.distribute_strategy
    chief = is_chief(strategy)  # of several workers: it alone writes
    if not settings.epochs:
        raise ValueError("Expected an epoch or more. Received: 0. The model is as it is.")
    if "auto" in (settings.learning_rate, settings.precision, settings.jit):
        raise ValueError(
            "Expected settings without auto. Received: "
            f"{settings!r}. Call settings.resolve(hidden_size=encoder_config(encoder).hidden_size)."
        )
    chain = task.chain_of(model) if hasattr(task, "chain_of") else None
    read = functools.partial(
        learned,
        task,
        tokenizer,
        labels=labels,
        max_length=settings.max_length,
        decoding=decoding,
        crf=chain is not None,
    )
    rows = read(train)
    if rows.counts:
        words = (f"{name.replace('_', ' ')}: {count:,}" for name, count in rows.counts.items())
        _log.info("trains on %s of %d rows", ", ".join(words), len(train.texts))
    batches = _batches(rows, task, labels, settings, seed)
    total_steps = settings.epochs * len(batches)
    with strategy.scope():
        assemble.prepare(model, settings.regularize, seed=seed)
        training = _training_model(model, settings, seed)
        _compile(training, task, settings, total_steps, loss_arguments or {}, chain)
    give_chiefs(strategy, training.variables)

    if settings.monitor == "auto":
        natural = TASKS[task.__name__.rpartition(".")[2]].figures[0]
        settings = settings.model_copy(update={"monitor": natural})
    best = KeepBest(
        f"val_{settings.monitor}",
        patience=settings.patience,
        min_delta=settings.min_delta,
        checkpoint=Checkpoint(Path(checkpoints) / "best"),
    )
    choosing = [] if dev is None else [best]
    measuring = []
    regularizing = assemble.callbacks(settings.regularize, has_dev=dev is not None)
    recorder = StepRecorder(batches)
    clock = Stopwatch(start)
    epochs = EpochRecorder()
    dev_batches = shown = None
    if dev is not None:
        size = 2 * (settings.batch_size or 32)
        dev_batches, shown, measuring = _dev(read(dev), dev, task, labels, size, chain)
    watching = _watching(
        model,
        tokenizer,
        shown,
        task,
        settings,
        total_steps,
        logs if chief else None,
        config,
        seed,
    )
    resume = Resume(
        checkpoints,
        batches,
        remember=[clock, *regularizing, recorder, epochs, *choosing, *watching],
        seconds=settings.checkpoint_seconds,
        key=key,
    )
    stop = StopOnNaN(
        batches,
        folder=checkpoints if chief else None,
        describe=lambda row: {
            "origin": train.origins[rows.texts[row]],
            "text": train.texts[rows.texts[row]],
        },
        before=resume.save,
    )
    progress = [Progress(recorder, total_steps=total_steps, epochs=settings.epochs)] * chief
    callbacks = OneTraining(
        [
            clock,
            stop,
            *measuring,
            *regularizing,
            recorder,
            *progress,
            epochs,
            *choosing,
            *watching,
            resume,
        ],
        model=training,
        epochs=settings.epochs,
    )
    try:
        callbacks.begin()
        training.watched = from_chief(strategy, training.watched)  # the step is the same for all
        for epoch in range(resume.epoch, settings.epochs):
            training.fit(
                batches.dataset(),
                initial_epoch=epoch,
                epochs=epoch + 1,
                validation_data=None if dev_batches is None else dev_batches.dataset(),
                callbacks=callbacks,
                shuffle=False,
                verbose=0,
            )
            if training.stop_training:
                break
        callbacks.end()
    finally:
        resume.release()
        for each in watching:
            each.close()
    return FinetuneResult(
        steps=recorder.history,
        epochs=epochs.history,
        seconds=clock.seconds,
        examples=recorder.examples,
        tokens=recorder.tokens,
        padding_share=batches.padding_share,
        resumed_at_steps=resume.resumed_at_steps,
        best_epoch=best.best_epoch,
        stopped_early=len(epochs.history) < settings.epochs,
        windows=rows.counts,
    )


def _dev(
    rows: Learned, dev: Split, task, labels, size: int, chain
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


def _watching(model, tokenizer, shown, task, settings, total_steps, logs, config, seed) -> list:
    """The callback that shows the training, where it is to be shown."""
    monitor = None if shown is None else f"val_{settings.monitor}"
    own = settings.model_dump(mode="json", exclude={"watch", "checkpoint_seconds"})
    watch = watch_callback(
        settings.watch,
        logs=logs,
        config={**(config or {}), "seed": seed, "train": own},
        dev=shown,
        monitor=monitor,
        total_steps=total_steps,
        embed=None
        if shown is not None and shown.values is not None  # no sentence vector is read
        else sentence_vectors(
            getattr(task, "answering", _encoder_of)(model),
            tokenizer,
            max_length=settings.max_length,
        ),
    )
    return [] if watch is None else [watch]


def _encoder_of(model: keras.Model) -> keras.Model:
    return model.get_layer("encoder")


def _batches(rows: Learned, task, labels, settings, seed) -> Batches:
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


def _training_model(model: keras.Model, settings: FinetuneSettings, seed: int) -> TrainingModel:
    adversary, more = adversarial.from_settings(settings.adversarial, seed=seed)
    return TrainingModel(
        model,
        accumulation_steps=settings.accumulation_steps,
        adversary=adversary,
        regularizers=[*assemble.regularizers(settings.regularize, seed=seed), *more],
    )


def _compile(training, task, settings, total_steps, loss_arguments, chain) -> None:
    own = assemble.optimizer_arguments(training, settings.regularize)
    if chain is not None:
        factors = own.get("rate_factors", {})
        rates = {path: rate * factors.get(path, 1.0) for path, rate in chain.rates().items()}
        own["rate_factors"] = {**factors, **rates}
        loss_arguments = {**loss_arguments, "chain": chain}
    optimizer = adamw(
        settings.learning_rate,
        total_steps=total_steps,
        warmup_share=settings.warmup_share,
        weight_decay=settings.weight_decay,
        global_clipnorm=settings.clip_norm,
        **own,
    )
    loss = task.loss(**assemble.loss_arguments(settings.regularize), **loss_arguments)
    # Variables made inside the step would have TensorFlow trace it twice.
    optimizer.build(training.trainable_variables)
    for each in (training, training.model):  # the task's model, for the caller to evaluate
        each.compile(optimizer, loss=loss, metrics=task.metrics(), jit_compile=bool(settings.jit))
