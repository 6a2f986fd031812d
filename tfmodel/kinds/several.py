"""A run of several tasks: one encoder, trained by all of them, and a head for each."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from tfmodel import sources
from tfmodel.config import ConfigError, Settings, load_config
from tfmodel.data.settings import DataSettings
from tfmodel.export.settings import ExportSettings
from tfmodel.kinds.kind import Kind, unfinished_command
from tfmodel.kinds.supervised import SUPERVISED, RunSettings, TaskSettings
from tfmodel.stages import (
    EVALUATE_SEVERAL,
    EXPORT_SEVERAL,
    HISTORY_FILE,
    PREPARE_SEVERAL,
    TASKS_FOLDER,
    TRAIN_SEVERAL,
    Context,
    check_tasks,
    read_if_there,
    tasks_of,
)
from tfmodel.tasks import span_windows
from tfmodel.tokens.mixing import MixingSettings
from tfmodel.train.regularize.settings import FIGURES
from tfmodel.train.settings import FinetuneSettings

# Keys of `train` that are each task's own, or of a training of one task alone.
_OWN_ALONE = ("monitor", "class_weights")
_OF_ONE_TASK = (
    "few_labels",
    "devices",
    "regularize.unfreeze_epochs",
    "regularize.moving_average",
    "regularize.swa",
    "regularize.plateau",
)
_NAME = re.compile(r"(?!dev_|val_)[a-z0-9][a-z0-9_-]*")


class OwnTrainSettings(Settings):
    """What of a training is a task's own; where it is not said, it is as `train` says."""

    max_length: int | None = Field(
        None, ge=4, le=100_000, description="Tokens a row is cut to; of span 384 by default."
    )
    batch_size: int | None = Field(None, ge=1, le=65536, description="Rows a batch of the task.")
    batch_tokens: int | None = Field(
        None, ge=16, description="Tokens a batch of the task at most, in place of batch_size."
    )
    dropout: float | None = Field(None, ge=0, lt=1, description="Dropout before the task's head.")
    class_weights: Literal["none", "balanced"] | dict[str, float] | None = Field(
        None, description="Weight of each class in the loss: balanced, or a number by label."
    )
    calibrate: bool | None = Field(
        None, description="Whether scores are made as high as the answers on dev are right."
    )
    monitor: Literal[("auto", *FIGURES)] | None = Field(
        None,
        description="The dev figure that counts where the best epoch is chosen; auto: the task's "
        "first one.",
    )


class TaskOfSeveral(Settings):
    """A task of a run of several."""

    data: DataSettings = Field(description="Labelled rows: where they are, how they are read.")
    task: TaskSettings = Field(default_factory=TaskSettings, description="What to learn.")
    train: OwnTrainSettings = Field(
        default_factory=OwnTrainSettings, description="What of the training is the task's own."
    )
    weight: float = Field(1.0, gt=0, le=1000, description="What the task's loss is multiplied by.")
    export: ExportSettings | None = Field(
        None, description="What to export of the task; none: what export says for all."
    )


class SeveralSettings(Settings):
    """The config of a run of several tasks."""

    run: str = Field(
        min_length=1, description="Folder for everything the run makes.", examples=["runs/support"]
    )
    seed: int = Field(
        0, ge=0, lt=2**31, description="Of splits, order, tasks, dropout and new weights."
    )
    encoder: str = Field(
        sources.DEFAULT_ENCODER,
        min_length=1,
        description="The pretrained encoder of all tasks: a Hugging Face folder or a source; "
        "MiniLM by default.",
    )
    tasks: dict[str, TaskOfSeveral] = Field(
        min_length=2,
        description="The tasks by name, which is that of their folder in RUN/tasks, each with data",
    )
    mixing: MixingSettings = Field(
        default_factory=MixingSettings, description="By which rule steps are given to the tasks."
    )
    train: FinetuneSettings = Field(
        default_factory=FinetuneSettings, description="How encoder and heads are trained."
    )
    export: ExportSettings | None = Field(
        None,
        description="What to export of each task that does not say so itself; without it and "
        "theirs `tfmodel run` exports nothing.",
    )

    @model_validator(mode="before")
    @classmethod
    def _length_of_windows(cls, values: Any) -> Any:
        """Where the config does not say how long a window of span is, it is BERT's."""
        try:
            if "max_length" in (values.get("train") or {}):
                return values
            tasks = {name: dict(task or {}) for name, task in values["tasks"].items()}
            for task in tasks.values():
                own = dict(task.get("train") or {})
                name = (task.get("task") or {}).get("name")
                if name == "span" and own.get("max_length") is None:
                    task["train"] = {**own, "max_length": span_windows.MAX_LENGTH}
        except (KeyError, TypeError, AttributeError, ValueError):
            return values
        return {**values, "tasks": tasks}

    @field_validator("tasks", mode="before")
    @classmethod
    def _empty_sections(cls, tasks: Any) -> Any:
        """A task with every line under it commented out is one without keys."""
        if not isinstance(tasks, Mapping):
            return tasks
        return {name: {} if task is None else task for name, task in tasks.items()}

    @field_validator("tasks")
    @classmethod
    def _names_of_folders(cls, tasks: dict[str, TaskOfSeveral]) -> dict[str, TaskOfSeveral]:
        if wrong := [name for name in tasks if not _NAME.fullmatch(name)]:
            raise ValueError(
                "a task's name must be small letters, digits, - and _, which do not begin with "
                f"dev_ or val_: it names its folder and its figures. Received: {', '.join(wrong)}. "
                "Change it"
            )
        return tasks

    @model_validator(mode="after")
    def _each_task_alone(self) -> SeveralSettings:
        self._check_train()
        for name, task in self.tasks.items():
            self._check_task(name, task)
        if self.export is not None and all(task.export for task in self.tasks.values()):
            raise ValueError(
                "export: expected a task without an export of its own, which it would be for. "
                "Received: every task has one. Leave export out, or theirs"
            )
        return self

    def _check_train(self) -> None:
        default = FinetuneSettings()
        for path in (*_OWN_ALONE, *_OF_ONE_TASK):
            value, usual = self.train, default
            for key in path.split("."):
                value, usual = getattr(value, key), getattr(usual, key)
            if value == usual:
                continue
            shown = getattr(value, "name", value)
            if path in _OWN_ALONE:
                raise ValueError(
                    f"train.{path}: expected it of each task, in tasks.NAME.train.{path}. "
                    f"Received: {shown} for all. Move it there"
                )
            raise ValueError(
                f"train.{path}: expected a training of one task, which has it. Received: "
                f"{shown if isinstance(shown, str | int | float) else 'some'}, with "
                f"{len(self.tasks)} tasks. Leave it out"
            )
        if self.train.epochs == 0:
            raise ValueError("train.epochs must be at least 1 with several tasks. Received: 0")

    def _check_task(self, name: str, task: TaskOfSeveral) -> None:
        if task.data.label_noise is not None:
            raise ValueError(
                f"tasks.{name}.data.label_noise: expected none: rows with a disputed label are "
                "looked for by models of one task. Received: some settings. Run the task alone "
                "with them, and leave them out here"
            )
        if task.train.monitor == "loss":
            raise ValueError(
                f"tasks.{name}.train.monitor: expected a figure of which more is better, to be "
                "averaged with those of the other tasks. Received: loss. Leave it out"
            )
        try:
            self.run_of(name)
        except ConfigError as error:
            lines = str(error).splitlines()
            said = "; ".join(line.removeprefix("config: ").rstrip(".") for line in lines)
            of_all = {key for key in self.own_keys() if getattr(task.train, key) is None}
            if found := re.match(r"train\.(\w+):", said):
                if found[1] in of_all:
                    said += f", or say it of the tasks that have it, by tasks.NAME.{found[0][:-1]}"
            raise ValueError(f"tasks.{name}: {said}") from None

    def own_keys(self) -> list[str]:
        """Keys of `train` that a task may have of its own."""
        return list(OwnTrainSettings.model_fields)

    def exports(self) -> bool:
        """Whether a task is to be exported."""
        return self.export is not None or any(task.export for task in self.tasks.values())

    def run_of(self, name: str, *, together: str | None = None) -> RunSettings:
        """The config of a task's own run folder.

        Args:
            name: of the task.
            together: the fingerprint of the training of all; None: not trained yet.

        Raises:
            ConfigError: the task could not be learned so in a run of its own either.
        """
        task = self.tasks[name]
        train = self.train.model_dump(mode="json")
        own = task.train.model_dump(mode="json", exclude_none=True)
        for key, other in (("batch_size", "batch_tokens"), ("batch_tokens", "batch_size")):
            if key in own:
                train.pop(other, None)
        export = task.export or self.export
        return load_config(
            {
                "run": f"{self.run}/{TASKS_FOLDER}/{name}",
                "seed": self.seed,
                "encoder": self.encoder,
                # Without defaults: that a label is named is read as that there is one.
                "data": task.data.model_dump(mode="json", exclude_defaults=True),
                "task": task.task.model_dump(mode="json"),
                "train": {**train, **own},
                "export": None if export is None else export.model_dump(mode="json"),
                "together": together,
            },
            RunSettings,
        )


def _sources(settings: SeveralSettings) -> dict[str, str | None]:
    data = {
        f"tasks.{name}.data.{part}": getattr(task.data, part)
        for name, task in settings.tasks.items()
        for part in ("train", "dev", "test")
    }
    return {"encoder": settings.encoder, **data}


def _tell(context: Context, only: str | None) -> str:
    from tfmodel.report import SeveralResults, TaskResults, several_summary, write_several_report

    run, settings = context.run, context.settings
    trained = context.up_to_date("finetune")
    tasks = {}
    for name, each in tasks_of(context).items():
        if not (each.run.data / "account.json").exists():
            continue
        SUPERVISED.tell(each, only)
        figures = each.run.metrics()
        tasks[name] = TaskResults(
            task=each.task_name,
            rows=each.dataset.counts,
            weight=settings.tasks[name].weight,
            history=read_if_there(each.run.folder / HISTORY_FILE) if trained else {},
            evaluation={
                part: figures[part]
                for part in ("dev", "test")
                if part in figures and each.up_to_date("evaluate")
            },
            exported=len(figures.get("export", {})) if each.up_to_date("export") else 0,
        )
    results = SeveralResults(
        title=run.folder.name,
        run_folder=settings.run,
        command=f"tfmodel {only or 'run'} {context.config}",
        next_command=_next_command(context),
        config=load_config(run.folder / "config.yaml", SeveralSettings).model_dump(mode="json"),
        environment=read_if_there(run.folder / "environment.json"),
        history=read_if_there(run.folder / HISTORY_FILE) if trained else {},
        training=run.metrics().get("train", {}) if trained else {},
        tasks=tasks,
        timings=context.timings(),
    )
    write_several_report(run.report, results)
    return several_summary(results, report=str(Path(settings.run) / run.report.name))


def _next_command(context: Context) -> str:
    if unfinished := unfinished_command(context):
        return unfinished
    name = next(iter(context.settings.tasks))
    where = shlex.quote(f"{context.settings.run}/{TASKS_FOLDER}/{name}")
    return f"tfmodel predict {where} 'a text of yours'"


SEVERAL = Kind(
    name="multi-task",
    settings=SeveralSettings,
    stages=(PREPARE_SEVERAL, TRAIN_SEVERAL, EVALUATE_SEVERAL, EXPORT_SEVERAL),
    places=(TASKS_FOLDER,),
    sources=_sources,
    tell=_tell,
    check=check_tasks,
    train_along=None,
)
