"""Pretrain an encoder on token documents through `model.fit`, and go on where it stopped."""

from __future__ import annotations

import dataclasses
import json
import logging
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from tfmodel.config import ConfigError
from tfmodel.model.dropout import Dropout
from tfmodel.run_folder import write_aside
from tfmodel.train.callbacks import (
    OneTraining,
    Progress,
    Resume,
    StepRecorder,
    StopOnNaN,
    Stopwatch,
)
from tfmodel.train.callbacks.dev_loss import DevLoss
from tfmodel.train.distribute.workers import from_chief, give_chiefs, is_chief
from tfmodel.train.optimizer import AdamW
from tfmodel.train.pretrain_settings import PretrainSettings, check_logits
from tfmodel.train.pretrain_step import PretrainingModel
from tfmodel.train.schedule import linear_schedule
from tfmodel.train.watch.from_settings import watch_callback

_log = logging.getLogger(__name__)

_BUDGET_FILE = "budget.json"
_POINTS = 5_000  # of a history, at least; at most twice as many
_EVALUATIONS = 20
# The steps that a time budget is measured by: so many at most, and of the time no more than this.
_TIMED_STEPS, _TIMED_SHARE = 12, 0.05


@dataclasses.dataclass(frozen=True)
class PretrainResult:
    """What a pretraining says of itself.

    Attributes:
        steps: one dict a step (in long runs a mean over several): step, loss, learning_rate,
            tokens_per_second, gradient_norm.
        dev: one dict an evaluation: step, loss, perplexity (of objectives with a masked language
            model), and the loss and accuracy of each part of the objective.
        total_steps: steps of the whole run.
        seconds: wall clock from the first batch asked for to the end of the last step; tracing
            and the writing of checkpoints in, dev evaluation out.
        examples: rows trained on, each epoch anew.
        tokens: real tokens trained on.
        padding_share: share of padding among the tokens of an epoch's batches.
        left_out_share: share of the documents' tokens that are in no row.
        resumed_at_steps: steps at which training was taken up again.
    """

    steps: list[dict]
    dev: list[dict]
    total_steps: int
    seconds: float
    examples: int
    tokens: int
    padding_share: float
    left_out_share: float
    resumed_at_steps: list[int]


def pretrain(
    model: keras.Model,
    batches: Any,
    dev_batches: Any | None = None,
    *,
    task: Any,
    settings: PretrainSettings,
    seed: int = 0,
    checkpoints: str | Path,
    logs: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    key: str = "",
) -> PretrainResult:
    """Train a model of an objective; its last weights are in it afterwards.

    Interrupted (Ctrl-C, SIGTERM, kill -9) and called again with the same arguments, it
    continues from the last checkpoint, bit for bit as if it had not been.

    Args:
        model: from the task's `build`.
        batches: the `PretrainingBatches` to train on.
        dev_batches: those to measure on, the same masks each time (`fixed=True`), or None.
        task: the objective's module, of `tasks.find_objective(name)`.
        settings: resolved settings (no `auto` left).
        seed: shown where the training is watched; of rows and masks it is the batches', the
            model's own random states are the caller's.
        checkpoints: folder for what an interrupted run continues from.
        logs: TensorBoard folder, or None: not watched.
        config: settings beside these, to show where the training is watched.
        key: fingerprint of everything that the result depends on; a checkpoint of another
            key is refused.

    Returns:
        Figures and history.

    Raises:
        ConfigError: the checkpoint is another run's, or batches ask for too many logits at a time.
        FloatingPointError: the loss is no longer a number.
        ValueError: the settings are not resolved.
    """
    start = time.perf_counter()
    strategy = model.distribute_strategy
    chief = is_chief(strategy)  # of several workers: it alone writes
    if "auto" in (settings.learning_rate, settings.precision, settings.jit) or (
        settings.steps is None and settings.seconds is None
    ):
        raise ValueError(
            "Expected settings without auto. Received: "
            f"{settings!r}. Call settings.resolve(hidden_size=encoder_config(encoder).hidden_size)."
        )
    check_logits(
        batches.objective,
        rows=batches.batch_size,
        parts=settings.accumulation_steps * strategy.num_replicas_in_sync,
        max_length=batches.max_length,
        pieces=len(batches.vocabulary),
    )
    with strategy.scope():
        training = PretrainingModel(
            model, task=task, accumulation_steps=settings.accumulation_steps
        )
        if settings.dropout is not None:
            for layer in model._flatten_layers():
                if isinstance(layer, Dropout):
                    layer.set_rate(settings.dropout)
    give_chiefs(strategy, training.variables)
    total_steps = settings.steps
    if total_steps is None:
        total_steps = _steps_of_budget(training, batches, settings, Path(checkpoints), start, key)
    _compile(training, settings, total_steps)

    recorder = ThinnedRecorder(batches.dataset())
    clock = Stopwatch(start)
    watch = _watch(settings, total_steps, logs if chief else None, config, seed)
    watching = [] if watch is None else [watch]
    dev = []
    if dev_batches is not None:
        every = settings.dev_every_steps or max(total_steps // _EVALUATIONS, 1)
        dev = [
            DevLoss(
                dev_batches,
                every_steps=every,
                total_steps=total_steps,
                clock=clock,
                watch=watch,
                says=chief,
            )
        ]
    resume = Resume(
        checkpoints,
        batches.dataset(),
        remember=[clock, recorder, *watching, *dev],
        seconds=settings.checkpoint_seconds,
        key=key,
    )
    stop = StopOnNaN(batches.dataset(), before=resume.save)
    epochs = -(-total_steps // len(batches))
    progress = [Progress(recorder, total_steps=total_steps, epochs=epochs)] * chief
    callbacks = OneTraining(
        [clock, stop, recorder, *progress, *watching, *dev, EndAt(total_steps), resume],
        model=training,
        epochs=epochs,
    )
    try:
        callbacks.begin()
        training.watched = from_chief(strategy, training.watched)  # the step is the same for all
        for epoch in range(resume.epoch, epochs):
            training.fit(
                batches.dataset(),
                initial_epoch=epoch,
                epochs=epoch + 1,
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
    return PretrainResult(
        steps=recorder.history,
        dev=dev[0].history if dev else [],
        total_steps=total_steps,
        seconds=clock.seconds,
        examples=recorder.examples,
        tokens=recorder.tokens,
        padding_share=batches.padding_share,
        left_out_share=batches.left_out_share,
        resumed_at_steps=resume.resumed_at_steps,
    )


class EndAt(keras.callbacks.Callback):
    """End training after a step, in the middle of an epoch too.

    Args:
        step: of the optimizer, from 1.
    """

    def __init__(self, step: int):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        """Look at the step."""
        if int(self.model.optimizer.iterations.numpy()) >= self.step:
            self.model.stop_training = True


class ThinnedRecorder(StepRecorder):
    """Each step's own loss, rate and speed; of a long run, means over neighbouring steps.

    Whenever the history has 10,000 entries, every two become one, which has the later one's step.
    """

    def on_train_batch_end(self, batch, logs=None):
        """Record the step."""
        super().on_train_batch_end(batch, logs)
        if len(self.history) >= 2 * _POINTS:
            pairs = zip(self.history[::2], self.history[1::2], strict=True)
            self.history[:] = [
                {name: (one[name] + two[name]) / 2 for name in one} | {"step": two["step"]}
                for one, two in pairs
            ]


def _compile(training: PretrainingModel, settings: PretrainSettings, total_steps: int) -> None:
    with training.distribute_strategy.scope():
        optimizer = AdamW(
            linear_schedule(
                settings.learning_rate,
                total_steps=total_steps,
                warmup_share=settings.warmup_share,
            ),
            weight_decay=settings.weight_decay,
            beta_2=settings.beta_2,
            epsilon=1e-6,  # as BERT's and RoBERTa's
            global_clipnorm=settings.clip_norm,
        )
        # Variables made inside the step would have TensorFlow trace it twice.
        optimizer.build(training.trainable_variables)
        training.compile(optimizer, jit_compile=bool(settings.jit))


def _steps_of_budget(training, batches, settings, folder: Path, start: float, key: str) -> int:
    """How many steps fit into `settings.seconds`: found once, and read when a run continues.

    The first steps are taken to be timed, and taken back. So the rate of learning follows from the
    step alone, and the run is that of `steps`, bit for bit.
    """
    path, strategy = folder / _BUDGET_FILE, training.distribute_strategy
    asked = {"seconds": settings.seconds, "key": key}
    known = None
    if is_chief(strategy) and path.exists():
        try:
            known = json.loads(path.read_text("utf-8"))
            known = int(known["steps"]) if {**known, **asked} == known else None
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path}: expected the number of steps of this run. Received: {error}. Start anew "
                "with --restart; in a script of your own, delete the folder."
            ) from None
    known = from_chief(strategy, known)
    if known is not None:
        return known
    first, seconds_a_step = _timed(training, batches, settings)
    # What was traced to be timed is traced again, with the number of steps in it.
    left = settings.seconds - (time.perf_counter() - start) - (first - seconds_a_step)
    steps = from_chief(strategy, max(1, int(left / seconds_a_step)))
    _log.info("%.3f s a step: %d steps in %g s", seconds_a_step, steps, settings.seconds)
    if is_chief(strategy):
        with write_aside(path) as aside:
            found = {**asked, "steps": steps, "seconds_a_step": seconds_a_step}
            aside.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    return steps


def _timed(training, batches, settings) -> tuple[float, float]:
    """The seconds of the first step and the median of some more; nothing remains of them."""
    _compile(training, settings, 1_000_000)
    place = batches.epoch, batches.skip
    before = [keras.ops.convert_to_numpy(variable) for variable in training.variables]
    dataset = training.distribute_strategy.experimental_distribute_dataset(batches.dataset())
    training.make_train_function(force=True)
    took, began = [], time.perf_counter()
    iterator = iter(dataset)
    for _ in range(min(_TIMED_STEPS, len(batches))):
        asked = time.perf_counter()
        logs = training.train_function(iterator)
        float(logs["loss"])
        now = time.perf_counter()
        took.append(now - asked)
        if len(took) > 1 and now - began - took[0] > _TIMED_SHARE * settings.seconds:
            break
    for variable, value in zip(training.variables, before, strict=True):
        variable.assign(value)
    training.reset_metrics()
    batches.epoch, batches.skip = place
    return took[0], statistics.median(took[1:] or took)


def _watch(settings, total_steps, logs, config, seed):
    """The callback that shows the training, or None."""
    own = settings.model_dump(mode="json", exclude={"watch", "checkpoint_seconds"})
    return watch_callback(
        settings.watch,
        logs=logs,
        config={**(config or {}), "seed": seed, "train": own},
        dev=None,
        monitor=None,
        total_steps=total_steps,
        embed=None,
    )
