"""A run: the whole config's schema, its stages in order, what is up to date, what runs again."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tfmodel import sources
from tfmodel.config import ConfigError, Settings, load_config
from tfmodel.data.settings import DataSettings
from tfmodel.export.publish import PARITY_FILE
from tfmodel.export.settings import ExportSettings
from tfmodel.protection import changes, require_own_folder, require_sources_elsewhere
from tfmodel.run_folder import Run, write_json
from tfmodel.stages import (
    BY_NAME,
    EVALUATION_FILE,
    HISTORY_FILE,
    LABEL_NOISE_FILE,
    PAGE_FILE,
    STAGES,
    Context,
    Stage,
    dismiss_workers,
    join_workers,
    read_if_there,
    train_along,
    training_under_way,
    write_page,
)
from tfmodel.train.distribute.cluster import Cluster
from tfmodel.train.settings import FinetuneSettings

_log = logging.getLogger(__name__)

TIMINGS_FILE = "timings.json"


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


@dataclasses.dataclass(frozen=True)
class RunResult:
    """What `run` made.

    Attributes:
        folder: the run folder.
        metrics: what stands in `metrics.json`.
        report: path of `report.html`.
        summary: the short table a run ends with, as text.
    """

    folder: Path
    metrics: dict
    report: Path
    summary: str


# No two trainings end with quite the same weights, so what was made from the old ones is void;
# data made anew of the same inputs is the same.
_VOID_WITH = {"finetune": ("evaluate", "export")}


def run(
    config: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    restart: bool = False,
    only: str | None = None,
    beam: Sequence[str] | None = None,
) -> RunResult:
    """Do every stage that a config names, in order; those whose inputs did not change rest.

    Args:
        config: path of a YAML file, or its values.
        overrides: `key=value` strings that win over the config.
        restart: replace trained weights whose inputs have changed, and train from the start.
        only: the name of one stage to do alone.
        beam: flags of an Apache Beam runner that prepares the data; None: this machine does.

    Returns:
        The run's folder, figures and report.

    Raises:
        ConfigError: the config or its data is wrong, or trained weights would be replaced
            without `restart`.
        ParityError: an export does not answer as the model does.

    Example:
        >>> tfmodel.run("configs/quickstart.yaml", ["train.epochs=3"]).metrics["test"]
    """
    settings = load_config(config, RunSettings, overrides=overrides)
    name = "CONFIG" if isinstance(config, Mapping) else str(config)
    folder = Path(settings.run).expanduser()
    command = shlex.join([name, *overrides])
    cluster = Cluster.from_environment()
    strategy = None
    if cluster is not None and only in (None, "finetune"):
        if restart or not _is_trained(settings, folder, command):
            strategy = join_workers(settings)
    if cluster is not None and not cluster.is_chief:
        return _train_along(settings, folder, strategy, command)
    with _lost_worker_in_words(strategy):
        return _do_stages(settings, folder, strategy, command, restart, only, beam)


def _is_trained(settings: RunSettings, folder: Path, command: str) -> bool:
    """Whether nothing is left to train: each worker sees it in the folder that they share.

    So a chief that was killed while it exported needs no others, who have ended, to go on.
    """
    opened = Run(folder, lock=None)
    if opened.stage_fingerprint("finetune") is None:
        return False
    try:
        return Context(settings, opened, STAGES, restart=False, config=command).up_to_date(
            "finetune"
        )
    except ConfigError:  # the raw rows are not to be seen here
        return False


def _lost_worker_in_words(strategy: Any):
    if strategy is None:
        return contextlib.nullcontext()
    from tfmodel.train.distribute import lost_worker_in_words

    return lost_worker_in_words()


def _train_along(settings, folder: Path, strategy: Any, command: str) -> RunResult:
    """What a worker does that is not the chief."""
    summary = "nothing to train; the chief does the rest alone"
    if strategy is not None:
        context = Context(
            settings,
            Run(folder, lock=None),
            STAGES,
            restart=False,
            config=command,
            strategy=strategy,
        )
        with _lost_worker_in_words(strategy):
            summary = train_along(context)
    return RunResult(folder=folder, metrics={}, report=folder / "report.html", summary=summary)


def _do_stages(
    settings: RunSettings,
    folder: Path,
    strategy: Any,
    command: str,
    restart: bool,
    only: str | None,
    beam: Sequence[str] | None,
) -> RunResult:
    require_own_folder(folder)
    data = {f"data.{part}": getattr(settings.data, part) for part in ("train", "dev", "test")}
    require_sources_elsewhere(folder, {"encoder": settings.encoder, **data})
    with Run.open(folder) as opened:
        context = Context(
            settings,
            opened,
            STAGES,
            restart=restart,
            config=command,
            beam=beam,
            strategy=strategy,
        )
        if only is None or only == "finetune":
            _protect_weights(context)
        if only is not None:
            _require_before(context, only)
        opened.environment()  # first of all: it marks the folder as a run's
        _save_config(context)
        for stage in _chosen(settings, only):
            _do(context, stage)
        return _report(context, only)


def _chosen(settings: RunSettings, only: str | None) -> list[Stage]:
    if only is not None:
        also = [each for each in STAGES if each.part_of == only and each.is_wanted(settings)]
        return [BY_NAME[only], *also]
    return [stage for stage in STAGES if stage.is_wanted(settings)]


def _do(context: Context, stage: Stage) -> None:
    again = context.restart and stage.name == "finetune"
    if context.up_to_date(stage.name) and not again:
        _log.info("%s: up to date", stage.name)
        if stage.name == "finetune":
            dismiss_workers(context)
        return
    _log.info("%s", stage.name)
    began = time.perf_counter()
    # A kill in the middle must not leave a record that vouches for what is being replaced.
    for name in (stage.name, *_VOID_WITH.get(stage.name, ())):
        context.run.forget_stage(name, metrics=BY_NAME[name].metrics)
    stage.work(context)
    context.run.record_stage(
        stage.name, context.fingerprints[stage.name], context.inputs[stage.name]
    )
    if stage.name == "finetune":
        dismiss_workers(context)
        # The model is saved and recorded: nothing is left to continue from.
        shutil.rmtree(context.run.checkpoints, ignore_errors=True)
    path = context.run.folder / TIMINGS_FILE
    write_json(path, {**read_if_there(path), stage.name: time.perf_counter() - began})


def _protect_weights(context: Context) -> None:
    """Refuse to replace trained weights, or training under way, by those of another config."""
    run = context.run
    trained = run.stage_fingerprint("finetune") if run.model.exists() else None
    # Weights without a record are those that a training under way was started to replace.
    begun = run.model.exists() or (run.checkpoints / "last").exists()
    under_way = training_under_way(run) if begun else {}
    key = trained or under_way.get("key")
    if context.restart or not begun or key == context.fingerprints["finetune"]:
        return
    before = run.stage_inputs("finetune") if trained else under_way.get("inputs")
    what = "weights trained" if trained else "training under way"
    received = (
        "weights of which it is not recorded how they were trained"
        if before is None
        else f"{what} with others ({changes(before, context.inputs['finetune'])})"
    )
    raise ConfigError(
        f"{run.folder}: expected the config and data that this run was trained with. Received: "
        f"{received}. Add --restart to train anew and replace them, or set run: to another folder."
    )


def _require_before(context: Context, only: str) -> None:
    name = BY_NAME[only].after(context.settings)
    while name is not None:
        if not context.up_to_date(name):
            before = context.run.stage_inputs(name) if name == "finetune" else None
            fix = (
                f"tfmodel {BY_NAME[name].command} {context.config} "
                f"(or tfmodel run {context.config} for all stages)"
            )
            raise ConfigError(
                f"{only} needs the stage {name} done with this config. Received: "
                f"{context.run.folder}, where it "
                + (
                    f"was done with another ({changes(before, context.inputs['finetune'])})"
                    if before
                    else "is not"
                )
                + f". Type: {fix}."
            )
        name = BY_NAME[name].after(context.settings)


def _save_config(context: Context) -> None:
    """Keep the config of the weights; what `auto` meant in their training stays as it was."""
    run, settings = context.run, context.settings
    path = run.folder / "config.yaml"
    if path.exists() and context.up_to_date("finetune"):
        settings = settings.model_copy(update={"train": load_config(path, RunSettings).train})
    elif path.exists() and run.model.exists():
        return  # until other weights are trained
    run.save_config(settings)


def _report(context: Context, only: str | None) -> RunResult:
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
        timings={
            name: seconds
            for name, seconds in read_if_there(run.folder / TIMINGS_FILE).items()
            if context.up_to_date(name)
        },
    )
    write_report(run.report, results)
    if results.account and not (run.folder / PAGE_FILE).exists():
        write_page(context)  # it was removed, or the data prepared by a version that wrote none
    return RunResult(
        folder=run.folder,
        metrics=run.metrics(),
        report=run.report,
        summary=summary_text(
            results,
            report=str(Path(settings.run) / run.report.name),
            data_report=str(Path(settings.run) / PAGE_FILE),
        ),
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
    for stage in _chosen(context.settings, None):
        if not context.up_to_date(stage.name):
            others = stage.name == "finetune" and context.run.stage_fingerprint(stage.name)
            return f"tfmodel {stage.command} {context.config}" + (" --restart" if others else "")
    where = Path(context.settings.run)
    if context.dataset.has_pairs:
        return f"tfmodel predict {shlex.quote(str(where))} --input FILE --output answers.jsonl"
    if "savedmodel" in context.run.metrics().get("export", {}):
        where = where / "export" / "savedmodel"
    return f"tfmodel predict {shlex.quote(str(where))} 'a text of yours'"
