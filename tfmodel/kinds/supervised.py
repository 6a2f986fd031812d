"""A supervised run: labelled rows to a model that answers, measured and exported."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from tfmodel import sources
from tfmodel.config import Settings, load_config
from tfmodel.data.settings import DataSettings
from tfmodel.export.publish import PARITY_FILE
from tfmodel.export.settings import ExportSettings
from tfmodel.kinds.kind import Kind, unfinished_command
from tfmodel.stages import (
    DATA,
    EVALUATE,
    EVALUATION_FILE,
    EXPORT,
    FINETUNE,
    HISTORY_FILE,
    LABEL_NOISE,
    LABEL_NOISE_FILE,
    PAGE_FILE,
    Context,
    read_if_there,
    train_along,
    write_page,
)
from tfmodel.train.settings import FinetuneSettings


class TaskSettings(Settings):
    """What the model answers."""

    name: Literal["classify"] = Field(
        "classify", description="classify: one label of several for a text or a pair of texts."
    )


class RunSettings(Settings):
    """The config of a supervised run."""

    run: str = Field(
        min_length=1, description="Folder for everything the run makes.", examples=["runs/news"]
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Of splits, order, dropout and new weights.")
    encoder: str = Field(
        sources.DEFAULT_ENCODER,
        min_length=1,
        description="Pretrained BERT: a Hugging Face model folder or a source; MiniLM by default.",
    )
    data: DataSettings = Field(description="Labelled rows: where they are, how they are read.")
    task: TaskSettings = Field(default_factory=TaskSettings, description="What to learn.")
    train: FinetuneSettings = Field(
        default_factory=FinetuneSettings, description="How the encoder is fine-tuned."
    )
    export: ExportSettings | None = Field(
        None, description="What to export; without this key `tfmodel run` exports nothing."
    )


def _sources(settings: RunSettings) -> dict[str, str | None]:
    data = {f"data.{part}": getattr(settings.data, part) for part in ("train", "dev", "test")}
    return {"encoder": settings.encoder, **data}


def _tell(context: Context, only: str | None) -> str:
    from tfmodel.report import Results, summary_text, write_report

    run, settings = context.run, context.settings
    trained, evaluated, exported = map(context.up_to_date, ("finetune", "evaluate", "export"))
    results = Results(
        title=run.folder.name,
        task=settings.task.name,
        run_folder=settings.run,
        command=f"tfmodel {only or 'run'} {context.config}",
        next_command=_next_command(context),
        config=load_config(run.folder / "config.yaml", RunSettings).model_dump(mode="json"),
        environment=read_if_there(run.folder / "environment.json"),
        account=read_if_there(run.data / "account.json"),
        label_noise=_label_noise(context),
        history=_records(read_if_there(run.folder / HISTORY_FILE)) if trained else [],
        training=run.metrics().get("train", {}) if trained else {},
        evaluation=read_if_there(run.folder / EVALUATION_FILE) if evaluated else {},
        parity=read_if_there(run.export / PARITY_FILE) if exported else {},
        timings=context.timings(),
    )
    write_report(run.report, results)
    if results.account and not (run.folder / PAGE_FILE).exists():
        write_page(context)  # it was removed, or the data prepared by a version that wrote none
    return summary_text(
        results,
        report=str(Path(settings.run) / run.report.name),
        data_report=str(Path(settings.run) / PAGE_FILE),
    )


def _label_noise(context: Context) -> dict:
    wanted = context.settings.data.label_noise is not None
    if not wanted or not context.up_to_date("label_noise"):
        return {}
    return read_if_there(context.run.data_review / LABEL_NOISE_FILE)


def _records(history: Mapping[str, list[dict]]) -> list[dict]:
    """Steps and dev figures as one list of records for the learning curves."""
    steps = [
        {key: step[key] for key in ("step", "loss", "learning_rate")}
        for step in history.get("steps", [])
    ]
    epochs = [
        {key: value for key, value in epoch.items() if key == "step" or key.startswith("dev_")}
        for epoch in history.get("epochs", [])
    ]
    return steps + epochs


def _next_command(context: Context) -> str:
    if context.up_to_date("data") and context.dataset.target != "class":
        # No task learns these labels yet; the rows are there for a script of one's own.
        where = str(Path(context.settings.run) / "data")
        return f"in Python: tfmodel.load_dataset({where!r}).split('train')"
    if unfinished := unfinished_command(context):
        return unfinished
    where = Path(context.settings.run)
    if context.dataset.has_pairs:
        return f"tfmodel predict {shlex.quote(str(where))} --input FILE --output answers.jsonl"
    if "savedmodel" in context.run.metrics().get("export", {}):
        where = where / "export" / "savedmodel"
    return f"tfmodel predict {shlex.quote(str(where))} 'a text of yours'"


SUPERVISED = Kind(
    name="supervised",
    settings=RunSettings,
    stages=(DATA, LABEL_NOISE, FINETUNE, EVALUATE, EXPORT),
    places=("data", "data_review", "export", PAGE_FILE, EVALUATION_FILE),
    sources=_sources,
    tell=_tell,
    train_along=train_along,
)
