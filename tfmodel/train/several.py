"""Train several tasks on one encoder through one `model.fit`, and go on where it stopped."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfmodel.config import ConfigError, mistakes_of
from tfmodel.data import Split
from tfmodel.tasks import TASKS
from tfmodel.tokens.mixing import MixedBatches, MixingSettings
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
from tfmodel.train.callbacks.task_figures import TaskDev, TaskFigures, TaskLosses
from tfmodel.train.checkpoint import Checkpoint
from tfmodel.train.finetune import FinetuneResult
from tfmodel.train.learned import Learned, learned
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
from tfmodel.train.several_step import SeveralModel
from tfmodel.train.watch.from_settings import watch_callback

_log = logging.getLogger(__name__)

_POINTS = 5_000  # of a task's curve, at most


@dataclasses.dataclass(frozen=True)
class Lesson:
    """A task of a training of several.

    Attributes:
        model: from the task's `build`, on the encoder of all.
        task: the task's module, such as `tasks.classify`.
        train: rows to train on.
        labels: label names in the order of their ids; none where the task has none.
        settings: the task's resolved settings: length and size of batches, class weights, the dev
            figure that counts; the others are those of all.
        dev: rows to choose the best epoch by, or None.
        weight: what the loss is multiplied with.
        loss_arguments: what the task's `loss` takes beside what the settings say.
        decoding: how a task that reads its rows in windows cuts them.
    """

    model: keras.Model
    task: Any
    train: Split
    labels: Sequence[str]
    settings: FinetuneSettings
    dev: Split | None = None
    weight: float = 1.0
    loss_arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    decoding: Mapping[str, Any] | None = None

    def read(self, tokenizer: RowTokenizer, rows: Split) -> Learned:
        """What of rows goes into batches."""
        return learned(
            self.task,
            tokenizer,
            rows,
            self.labels,
            max_length=self.settings.max_length,
            decoding=self.decoding,
            crf=self.chain is not None,
        )

    @property
    def chain(self) -> Any | None:
        """What the model learns of which answer follows another, or None."""
        return chain_of(self.task, self.model)

    @property
    def monitor(self) -> str:
        """The dev figure that counts."""
        if self.settings.monitor != "auto":
            return self.settings.monitor
        return TASKS[self.task.__name__.rpartition(".")[2]].figures[0]


@dataclasses.dataclass(frozen=True)
class SeveralResult:
    """What a training of several tasks says of itself.

    Attributes:
        whole: of all steps; its `epochs` have the figures of each task as `NAME/FIGURE`.
        tasks: of each task's own steps; its seconds are those of its steps.
        mean: the mean of the dev figures that count, in the epoch that is kept; None without dev
            rows.
    """

    whole: FinetuneResult
    tasks: dict[str, FinetuneResult]
    mean: float | None


def train_several(
    lessons: Mapping[str, Lesson],
    tokenizer: RowTokenizer,
    *,
    mixing: MixingSettings,
    settings: FinetuneSettings,
    seed: int = 0,
    checkpoints: str | Path,
    logs: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    key: str = "",
) -> SeveralResult:
    """Train the models of several tasks; the weights of the best epoch are in them afterwards.

    The best epoch is that with the highest mean of the tasks' dev figures, of each the one that
    counts. Interrupted (Ctrl-C, SIGTERM, kill -9) and called again with the same arguments, it
    continues from the last checkpoint, bit for bit as if it had not been.

    Args:
        lessons: the tasks, by name.
        tokenizer: the encoder's tokenizer.
        mixing: by which rule steps are given to the tasks.
        settings: resolved settings of the training of all (no `auto` left but that of `monitor`).
        seed: of the order of rows and tasks; the models' own random states are the caller's.
        checkpoints: folder for what an interrupted run continues from.
        logs: TensorBoard folder, or None: not watched.
        config: settings beside these, to show where the training is watched.
        key: fingerprint of everything that the result depends on; a checkpoint of another
            key is refused.

    Returns:
        Figures and history, of all and of each task.

    Raises:
        ConfigError: the checkpoint is another run's, or a task would not be trained in any step.
        FloatingPointError: the loss is no longer a number.
    """
    start = time.perf_counter()
    rows, own_batches = {}, {}
    for name, lesson in lessons.items():
        with mistakes_of(f"tasks.{name}"):
            found = rows[name] = lesson.read(tokenizer, lesson.train)
            own_batches[name] = learned_batches(
                found, lesson.task, lesson.labels, lesson.settings, seed
            )
    batches = MixedBatches(
        own_batches,
        alpha=mixing.alpha,
        cap=mixing.cap,
        epochs=settings.epochs,
        seed=seed,
    )
    total_steps = settings.epochs * len(batches)
    _tell_shares(batches, settings.epochs, total_steps)
    weights = {name: lesson.weight for name, lesson in lessons.items()}
    training = _compiled(lessons, settings, total_steps, seed=seed, weights=weights)

    dev = {}
    for name, lesson in lessons.items():
        if lesson.dev is not None:
            size = 2 * (lesson.settings.batch_size or 32)
            found = lesson.read(tokenizer, lesson.dev)
            of_dev, _, measuring = dev_rows(
                found, lesson.dev, lesson.task, lesson.labels, size, lesson.chain
            )
            dev[name] = TaskDev(of_dev, measuring, lesson.monitor)
    best = KeepBest(
        "val_mean",
        patience=settings.patience,
        min_delta=settings.min_delta,
        checkpoint=Checkpoint(Path(checkpoints) / "best"),
    )
    choosing = [best] if dev else []
    recorder, clock, epochs = StepRecorder(batches), Stopwatch(start), EpochRecorder()
    watch = watch_callback(
        settings.watch,
        logs=logs,
        config={
            **(config or {}),
            "seed": seed,
            "mixing": mixing.model_dump(mode="json"),
            "train": settings.model_dump(mode="json", exclude={"watch", "checkpoint_seconds"}),
        },
        dev=None,
        monitor="val_mean" if dev else None,
        total_steps=total_steps,
        embed=None,
    )
    watching, curves = [], []
    if watch is not None:
        every = settings.watch.every_steps or -(-total_steps // _POINTS)
        watching = [watch]
        curves = [TaskLosses(recorder, batches, weights=weights, watch=watch, every_steps=every)]
    resume = Resume(
        checkpoints,
        batches,
        remember=[clock, recorder, epochs, *choosing, *watching],
        seconds=settings.checkpoint_seconds,
        key=key,
    )
    stop = StopOnNaN(
        batches,
        folder=checkpoints,
        describe=lambda number: _described(lessons, rows, batches.row(number)),
        before=resume.save,
    )
    callbacks = OneTraining(
        [
            clock,
            stop,
            recorder,
            TaskFigures(recorder, batches, dev=dev, weights=weights, clock=clock),
            Progress(recorder, total_steps=total_steps, epochs=settings.epochs),
            epochs,
            *choosing,
            *watching,
            *curves,
            resume,
        ],
        model=training,
        epochs=settings.epochs,
    )
    callbacks.fit(batches, resume=resume, watching=watching)
    whole = FinetuneResult(
        steps=recorder.history,
        epochs=epochs.history,
        seconds=clock.seconds,
        examples=recorder.examples,
        tokens=recorder.tokens,
        padding_share=batches.padding_share,
        resumed_at_steps=resume.resumed_at_steps,
        best_epoch=best.best_epoch,
        stopped_early=len(epochs.history) < settings.epochs,
    )
    return SeveralResult(
        whole=whole,
        tasks=_by_task(whole, batches, rows, weights),
        mean=None if best.best is None else best.best[0],
    )


def _tell_shares(batches: MixedBatches, epochs: int, total_steps: int) -> None:
    """Log how often each task is trained; refuse one that never is."""
    found = batches.steps(epochs)
    for name, steps in found.items():
        own = batches.tasks[name]
        _log.info(
            "%s: %s rows, %s of %s steps, %.1f times its rows",
            name,
            f"{len(own.rows):,}",
            f"{steps:,}",
            f"{total_steps:,}",
            steps / len(own),
        )
    if never := [name for name, steps in found.items() if not steps]:
        raise ConfigError(
            f"mixing: expected steps of every task. Received: none of {', '.join(never)} among "
            f"{total_steps}. Lower mixing.alpha, set mixing.cap, or raise train.epochs."
        )


def _compiled(
    lessons: Mapping[str, Lesson],
    settings: FinetuneSettings,
    total_steps: int,
    *,
    seed: int,
    weights: Mapping[str, float],
) -> SeveralModel:
    parts, by_weight = {}, {}
    for name, lesson in lessons.items():
        assemble.prepare(lesson.model, settings.regularize, seed=seed)
        parts[name] = training_model(lesson.model, lesson.settings, seed)
        own = rates_and_decays(parts[name], settings, lesson.chain)
        for argument, found in own.items():
            by_weight[argument] = {**by_weight.get(argument, {}), **found}
    training = SeveralModel(parts, weights=weights)
    training.compile(
        optimizer_of(settings, total_steps, **by_weight),
        loss={
            name: loss_of(lesson.task, lesson.settings, lesson.loss_arguments, lesson.chain)
            for name, lesson in lessons.items()
        },
        metrics={name: lesson.task.metrics() for name, lesson in lessons.items()},
        jit_compile=bool(settings.jit),
    )
    return training


def _described(
    lessons: Mapping[str, Lesson], rows: Mapping[str, Learned], row: Mapping[str, Any]
) -> dict[str, Any]:
    """Where a row is from, and its text."""
    split, text = lessons[row["task"]].train, rows[row["task"]].texts[row["row"]]
    return {"origin": split.origins[text], "text": split.texts[text]}


def _by_task(
    whole: FinetuneResult,
    batches: MixedBatches,
    rows: Mapping[str, Learned],
    weights: Mapping[str, float],
) -> dict[str, FinetuneResult]:
    """What the steps and epochs of each task did."""
    plans = [batches.plan(epoch) for epoch in range(len(whole.epochs))]
    steps = [step for plan in plans for step in plan]
    drawn = np.concatenate([batches.drawn(epoch) for epoch in range(len(whole.epochs))])
    found = {}
    for number, name in enumerate(batches.tasks):
        own = np.flatnonzero(drawn == number)
        tokens = [int(batches.rows.lengths[steps[step]].sum()) for step in own]
        entries = [whole.steps[step] for step in own]
        rates = [entry["tokens_per_second"] for entry in entries]
        found[name] = dataclasses.replace(
            whole,
            steps=[{**entry, "loss": entry["loss"] / weights.get(name, 1.0)} for entry in entries],
            epochs=[_epoch_of(name, epoch) for epoch in whole.epochs],
            seconds=sum(count / rate for count, rate in zip(tokens, rates, strict=True)),
            examples=sum(len(steps[step]) for step in own),
            tokens=sum(tokens),
            padding_share=batches.tasks[name].padding_share,
            windows=rows[name].counts,
        )
    return found


def _epoch_of(name: str, epoch: Mapping[str, float]) -> dict[str, float]:
    """An epoch's figures of one task, called as those of a task that is trained alone."""
    own = {"epoch": epoch["epoch"], "step": epoch["step"]}
    for key, value in epoch.items():
        for before in ("", "dev_"):
            if key.startswith(f"{before}{name}/"):
                own[before + key.partition("/")[2]] = value
    return own
