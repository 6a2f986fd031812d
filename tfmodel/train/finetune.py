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

from tfmodel.data import Split
from tfmodel.tasks import TASKS
from tfmodel.tokens.row_tokenizer import RowTokenizer
from tfmodel.train.callbacks import (
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
from tfmodel.train.distribute.workers import give_chiefs, is_chief
from tfmodel.train.learned import learned
from tfmodel.train.lesson import (
    chain_of,
    dev_rows,
    learned_batches,
    loss_of,
    optimizer_of,
    rates_and_decays,
    training_model,
)
from tfmodel.train.regularize import assemble
from tfmodel.train.settings import FinetuneSettings
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
    chain = chain_of(task, model)
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
    batches = learned_batches(rows, task, labels, settings, seed)
    total_steps = settings.epochs * len(batches)
    with strategy.scope():
        assemble.prepare(model, settings.regularize, seed=seed)
        training = training_model(model, settings, seed)
        by_weight = rates_and_decays(training, settings, chain)
        optimizer = optimizer_of(settings, total_steps, **by_weight)
        # Variables made inside the step would have TensorFlow trace it twice.
        optimizer.build(training.trainable_variables)
        loss, jit = loss_of(task, settings, loss_arguments or {}, chain), bool(settings.jit)
        for each in (training, training.model):  # the task's model, for the caller to evaluate
            each.compile(optimizer, loss=loss, metrics=task.metrics(), jit_compile=jit)
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
        dev_batches, shown, measuring = dev_rows(read(dev), dev, task, labels, size, chain)
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
    callbacks.fit(batches, resume=resume, validation=dev_batches, watching=watching)
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
