"""The stages of a run of several tasks: those of each task's own run, but for one training of all.

Each task has an ordinary run folder, `RUN/tasks/NAME`. What a stage does there is what the stage of
that name does in a run of one task; `RUN` itself has the training, and the encoder of all.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tfmodel.config import ConfigError, mistakes_of
from tfmodel.run_folder import Run, seed_everything, write_json
from tfmodel.stages.context import Context, Stage
from tfmodel.stages.data import DATA
from tfmodel.stages.doing import do_stage, note_time, save_config
from tfmodel.stages.evaluate import EVALUATE
from tfmodel.stages.export import EXPORT
from tfmodel.stages.finetune import (
    CHANGES_NO_RESULT,
    FINETUNE,
    HISTORY_FILE,
    check_length,
    decoding_of,
    encoder_shape,
    keep_figures,
    keep_model,
    read_encoder,
    training_rows,
    with_head,
)
from tfmodel.stages.label_noise import LABEL_NOISE
from tfmodel.stages.settling import settle

if TYPE_CHECKING:
    from tfmodel.train.settings import FinetuneSettings

_log = logging.getLogger(__name__)

TASKS_FOLDER = "tasks"
STAGES_OF_A_TASK = (DATA, LABEL_NOISE, FINETUNE, EVALUATE, EXPORT)
# Of a task's inputs those that are of all tasks.
_OF_ALL = ("seed", "encoder", "the content of encoder")


# --- the runs of the tasks ----------------------------------------------------------------


def tasks_of(context: Context) -> dict[str, Context]:
    """The run of each task by its name, as what was trained together has it."""
    return _runs_of(context, together=context.fingerprints[TRAIN_SEVERAL.name])


def _runs_of(context: Context, together: str | None = None) -> dict[str, Context]:
    """The run of each task; without the training's fingerprint, what that is made of."""
    kind = "data" if together is None else "trained"
    if kind not in context.tasks:
        context.tasks[kind] = {
            name: Context(
                context.settings.run_of(name, together=together),
                Run(context.run.folder / TASKS_FOLDER / name, lock=None),
                STAGES_OF_A_TASK,
                restart=context.restart,
                config=shlex.quote(f"{context.settings.run}/{TASKS_FOLDER}/{name}/config.yaml"),
                beam=context.beam,
            )
            for name in context.settings.tasks
        }
    return context.tasks[kind]


def _inputs_of(context: Context, stage: Stage, shared: tuple[str, ...] = _OF_ALL) -> dict:
    """What a stage of each task's run depends on; what all have in common once."""
    found: dict[str, Any] = {"tasks": [*context.settings.tasks]}
    for name, run in _runs_of(context).items():
        for key, value in stage.inputs(run).items():
            found[key if key in shared else f"tasks.{name}.{key}"] = value
    return found


@contextlib.contextmanager
def _held(runs: dict[str, Context]) -> Iterator[None]:
    """Hold the folders of tasks, so that no other command changes them meanwhile."""
    with contextlib.ExitStack() as stack:
        for run in runs.values():
            stack.enter_context(Run.open(run.run.folder))
        yield


def _do_in_each(context: Context, stage: Stage) -> None:
    """Do a stage in the run of each task that wants it; of all where none does, for it is asked."""
    runs = tasks_of(context)
    wanting = {name: run for name, run in runs.items() if stage.is_wanted(run.settings)}
    for name, run in (wanting or runs).items():
        _log.info("task %s", name)
        with _held({name: run}):
            run.run.environment()  # it marks the folder as a run's
            save_config(run)
            do_stage(run, stage)


def _is_done_in_each(context: Context, stage: Stage) -> bool:
    runs = tasks_of(context).values()
    return all(run.up_to_date(stage.name) for run in runs if stage.is_wanted(run.settings)) and any(
        run.up_to_date(stage.name) for run in runs
    )


def _figures_of_each(context: Context, section: str) -> dict[str, Any]:
    found = {name: run.run.metrics().get(section) for name, run in tasks_of(context).items()}
    return {name: figures for name, figures in found.items() if figures}


def check_tasks(context: Context) -> None:
    """Refuse, before any work, what the training of a task would refuse.

    Raises:
        ConfigError: as `encoder_shape` and `check_length`; or a task was trained alone since.
    """
    from tfmodel import sources

    for name, run in tasks_of(context).items():
        before = run.run.stage_inputs(FINETUNE.name) or {}
        if before and "together" not in before and not context.restart:
            raise ConfigError(
                f"{run.run.folder}: expected weights that were trained with those of the other "
                f"tasks. Received: weights of {name} alone. Add --restart to train all tasks anew "
                "and replace them, or set run: to another folder."
            )
        is_here = not sources.is_remote(context.settings.encoder)
        if is_here and not context.up_to_date(TRAIN_SEVERAL.name):
            with mistakes_of(f"tasks.{name}"):
                check_length(run, run.settings.train, encoder_shape(run))


# --- training -----------------------------------------------------------------------------


def _training_inputs(context: Context) -> dict:
    settings = context.settings
    own = {f"train.{key}" for key in settings.own_keys()}
    shared = tuple(f"train.{key}" for key in type(settings.train).model_fields)
    return {
        **_inputs_of(context, FINETUNE, (*_OF_ALL, *(key for key in shared if key not in own))),
        **{f"tasks.{name}.weight": task.weight for name, task in settings.tasks.items()},
        **{f"mixing.{key}": value for key, value in settings.mixing.model_dump().items()},
    }


def _train(context: Context) -> None:
    runs = tasks_of(context)
    with _held(runs):
        for run in runs.values():
            for stage in (FINETUNE, EVALUATE, EXPORT):
                run.run.forget_stage(stage.name, metrics=stage.metrics)
        _train_held(context, runs)


def _train_held(context: Context, runs: dict[str, Context]) -> None:
    from tfmodel.model import save_encoder
    from tfmodel.tasks import reads_tokens
    from tfmodel.tokens import load_tokenizer
    from tfmodel.train.several import Lesson, train_several

    run, settings = context.run, context.settings
    shapes = {name: encoder_shape(each) for name, each in runs.items()}
    width = next(iter(shapes.values())).hidden_size
    train = settle(context, free=CHANGES_NO_RESULT, hidden_size=width, task=None)
    run.save_config(settings.model_copy(update={"train": train}))
    own = {}
    for name, each in runs.items():
        with mistakes_of(f"tasks.{name}"):
            own[name] = _settled(each, train, width)
            check_length(each, own[name], shapes[name])
        each.run.save_config(each.settings.model_copy(update={"train": own[name]}))

    seed_everything(settings.seed)
    tokens = {name: reads_tokens(each.task_name) for name, each in runs.items()}
    sequence = {
        name: tokens[name] or getattr(each.task, "NEEDS_SEQUENCE", False)
        for name, each in runs.items()
    }
    encoder, tokenizer = read_encoder(
        context, train, sequence=any(sequence.values()), pooled=not all(sequence.values())
    )
    lessons, counts = {}, {}
    for name, each in runs.items():
        with mistakes_of(f"tasks.{name}"):
            rows, counts[name] = training_rows(each)
            model, own_loss = with_head(each, encoder, rows, own[name])
        dataset = each.dataset
        lessons[name] = Lesson(
            model,
            each.task,
            rows,
            dataset.labels,
            own[name],
            dev=dataset.split("dev") if "dev" in dataset.counts else None,
            weight=settings.tasks[name].weight,
            loss_arguments=own_loss,
            decoding=decoding_of(each.settings),
        )
    result = train_several(
        lessons,
        tokenizer,
        mixing=settings.mixing,
        settings=train,
        seed=settings.seed,
        checkpoints=run.checkpoints,
        logs=run.logs,
        config={
            "encoder": settings.encoder,
            "tasks": {name: each.settings.task.name for name, each in runs.items()},
            "rows": {name: len(lesson.train.texts) for name, lesson in lessons.items()},
        },
        key=context.fingerprints[TRAIN_SEVERAL.name],
    )
    for name, each in runs.items():
        others = [other for other in runs if other != name]
        keep_figures(each, result.tasks[name], {**counts[name], "trained_with": others})
        own_tokenizer = load_tokenizer(context.encoder_folder, max_length=own[name].max_length)
        keep_model(each, lessons[name].model, own_tokenizer, own[name])
        each.run.record_stage(
            FINETUNE.name, each.fingerprints[FINETUNE.name], each.inputs[FINETUNE.name]
        )
        note_time(each, FINETUNE.name, result.tasks[name].seconds)
    save_encoder(encoder, run.model, tokenizer=tokenizer)
    _keep_figures_of_all(context, result)


def _settled(run: Context, train: FinetuneSettings, width: int) -> FinetuneSettings:
    """A task's settings, without `auto`: what is of all tasks is as it was resolved for all."""
    own = run.settings.train.resolve(hidden_size=width, task=run.task_name)
    of_all = ("learning_rate", "precision", "jit", *CHANGES_NO_RESULT)
    return own.model_copy(update={key: getattr(train, key) for key in of_all})


def _keep_figures_of_all(context: Context, result: Any) -> None:
    whole, run = result.whole, context.run
    write_json(run.folder / HISTORY_FILE, {"steps": whole.steps, "epochs": whole.epochs})
    run.update_metrics(
        "train",
        {
            "steps": len(whole.steps),
            "examples": whole.examples,
            "seconds": whole.seconds,
            "examples_per_second": whole.examples / (whole.seconds or 1),
            "tokens_per_second": whole.tokens / (whole.seconds or 1),
            "padding_share": whole.padding_share,
            "epochs": len(whole.epochs),
            "best_epoch": None if whole.best_epoch is None else whole.best_epoch + 1,
            "dev_mean": result.mean,
            "resumed_at_steps": whole.resumed_at_steps,
            "tasks": {
                name: {"steps": len(each.steps), "examples": each.examples}
                for name, each in result.tasks.items()
            },
        },
    )


# --- figures and exports ------------------------------------------------------------------


def _evaluate(context: Context) -> None:
    _do_in_each(context, EVALUATE)
    for part in EVALUATE.metrics:
        if figures := _figures_of_each(context, part):
            context.run.update_metrics(part, figures)


def _export(context: Context) -> None:
    _do_in_each(context, EXPORT)
    context.run.update_metrics("export", _figures_of_each(context, "export"))


def _exports_inputs(context: Context) -> dict:
    """Which tasks are exported is an input, too."""
    wanting = [n for n, r in _runs_of(context).items() if EXPORT.is_wanted(r.settings)]
    return {**_inputs_of(context, EXPORT), "exported": wanting}


PREPARE_SEVERAL = Stage(
    "data",
    lambda context: _inputs_of(context, DATA),
    lambda context: _do_in_each(context, DATA),
    lambda run: (run.folder / TASKS_FOLDER).is_dir(),
    is_whole=lambda context: _is_done_in_each(context, DATA),
)
TRAIN_SEVERAL = Stage(
    "finetune",
    _training_inputs,
    _train,
    lambda run: run.model.exists(),
    after=lambda settings: "data",
    metrics=("train",),
    trains=True,
    is_whole=lambda context: _is_done_in_each(context, FINETUNE),
)
EVALUATE_SEVERAL = Stage(
    "evaluate",
    lambda context: _inputs_of(context, EVALUATE),
    _evaluate,
    lambda run: (run.folder / TASKS_FOLDER).is_dir(),
    after=lambda settings: "finetune",
    metrics=EVALUATE.metrics,
    is_whole=lambda context: _is_done_in_each(context, EVALUATE),
)
EXPORT_SEVERAL = Stage(
    "export",
    _exports_inputs,
    _export,
    lambda run: (run.folder / TASKS_FOLDER).is_dir(),
    after=lambda settings: "finetune",
    metrics=EXPORT.metrics,
    is_wanted=lambda settings: settings.exports(),
    is_whole=lambda context: _is_done_in_each(context, EXPORT),
)
