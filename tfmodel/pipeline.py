"""A run's stages in order: what each depends on, what is up to date, what must run again.

This is the whole config's schema, one key a stage, and the only place that knows all stages.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tfmodel import sources
from tfmodel.config import ConfigError, Settings, load_config
from tfmodel.data.settings import DataSettings
from tfmodel.export.publish import PARITY_FILE, ExportSettings
from tfmodel.protection import changes, require_own_folder, require_sources_elsewhere
from tfmodel.run_folder import Run, fingerprint, read_json, seed_everything, write_json
from tfmodel.train.settings import FinetuneSettings

_log = logging.getLogger(__name__)

EVALUATION_FILE = "evaluation.json"
HISTORY_FILE = "history.json"
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


@dataclasses.dataclass(frozen=True)
class Stage:
    """A step of a run: what it depends on, what it does, and what shows that it was done."""

    name: str
    inputs: Callable[[_Context], dict]
    work: Callable[[_Context], None]
    is_made: Callable[[Run], bool]
    metrics: tuple[str, ...] = ()  # its sections of metrics.json


class _Context:
    """A config and its open run folder, with what several stages read."""

    def __init__(self, settings: RunSettings, run: Run, *, restart: bool, config: str):
        self.settings = settings
        self.run = run
        self.restart = restart
        self.config = config  # and overrides, as one types them

    @functools.cached_property
    def encoder_folder(self) -> Path:
        return sources.fetch(self.settings.encoder)

    @functools.cached_property
    def dataset(self):
        from tfmodel.data import load_dataset

        return load_dataset(self.run.data)

    @functools.cached_property
    def trained(self):
        """The trained model in float32, whatever it was trained in."""
        from tfmodel import tasks

        return tasks.load_model(self.run.model)

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        return {name: fingerprint(inputs) for name, inputs in self.inputs.items()}

    @functools.cached_property
    def inputs(self) -> dict[str, dict]:
        """Of every stage: its own inputs and those of the stages before it."""
        found: dict[str, dict] = {}
        for stage in STAGES:
            found[stage.name] = {**found.get(_BEFORE.get(stage.name), {}), **stage.inputs(self)}
        return found

    def up_to_date(self, name: str) -> bool:
        recorded = self.run.stage_fingerprint(name)
        return recorded == self.fingerprints[name] and _BY_NAME[name].is_made(self.run)


# --- the stages ---------------------------------------------------------------------------


def _data_inputs(context: _Context) -> dict:
    settings = context.settings.data
    files = {
        part: _identity_of_source(source)
        for part in ("train", "dev", "test")
        if (source := getattr(settings, part)) is not None
    }
    return {
        "seed": context.settings.seed,
        **{f"data.{key}": value for key, value in settings.model_dump(mode="json").items()},
        **{f"the content of data.{part}": value for part, value in files.items()},
    }


def _identity_of_source(source: str) -> str:
    # A pinned source cannot change; fetching it only to look would cost a download.
    if sources.is_remote(source):
        return source
    return fingerprint(sources.fetch(source))


def _prepare_data(context: _Context) -> None:
    from tfmodel.data import prepare

    context.__dict__.pop("dataset", None)
    prepare(
        context.settings.data, context.run.data, seed=context.settings.seed, locate=sources.fetch
    )


def _finetune_inputs(context: _Context) -> dict:
    settings = context.settings
    return {
        "seed": settings.seed,
        "encoder": settings.encoder,
        "the content of encoder": _identity_of_source(settings.encoder),
        "task.name": settings.task.name,
        **{
            f"train.{key}": value
            for key, value in settings.train.model_dump(mode="json").items()
            if key != "checkpoint_seconds"  # changes no result
        },
    }


def _finetune(context: _Context) -> None:
    from tfmodel import tasks
    from tfmodel.model import encoder_config, load_encoder
    from tfmodel.model.checkpoints import read_config
    from tfmodel.model.sizes import BertConfig
    from tfmodel.tokens.tokenizer import Tokenizer
    from tfmodel.train.finetune import finetune

    run, settings, dataset = context.run, context.settings, context.dataset
    shape = BertConfig.from_huggingface(read_config(context.encoder_folder))
    train = _resolved(context, shape)
    seed_everything(settings.seed)
    policy = {"bfloat16": "mixed_bfloat16"}.get(train.precision, train.precision)
    encoder = load_encoder(context.encoder_folder, sequence=False, dtype=policy)
    tokenizer = Tokenizer.from_folder(context.encoder_folder, max_length=train.max_length)
    _check_vocabulary(tokenizer, encoder_config(encoder), context.encoder_folder)
    task = tasks.find(settings.task.name)
    model = task.build(encoder, classes=len(dataset.labels), dropout=train.dropout)
    result = finetune(
        model,
        tokenizer,
        dataset.split("train"),
        dataset.split("dev") if "dev" in dataset.counts else None,
        task=task,
        labels=dataset.labels,
        settings=train,
        seed=settings.seed,
        checkpoints=run.checkpoints,
        logs=run.logs,
        key=context.fingerprints["finetune"],
    )
    task.save(
        model,
        run.model,
        tokenizer=tokenizer,
        labels=dataset.labels,
        has_pairs=dataset.has_pairs,
        max_length=train.max_length,
    )
    write_json(run.folder / HISTORY_FILE, {"steps": result.steps, "epochs": result.epochs})
    run.update_metrics(
        "train",
        {
            "examples": result.examples,
            "seconds": result.seconds,
            "examples_per_second": result.examples / result.seconds,
            "tokens_per_second": result.tokens / result.seconds,
            "padding_share": result.padding_share,
            "epochs": len(result.epochs),
            "best_epoch": None if result.best_epoch is None else result.best_epoch + 1,
            "resumed_at_steps": result.resumed_at_steps,
        },
    )
    context.__dict__.pop("trained", None)


def _resolved(context: _Context, shape) -> FinetuneSettings:
    """What `auto` means here; decided once, so that a resumed run is one set of settings."""
    run, settings = context.run, context.settings
    key = context.fingerprints["finetune"]
    kept = _training_under_way(run)
    if kept.get("key") == key and not context.restart:
        train = load_config(kept["train"], FinetuneSettings)
    else:
        for folder in (run.checkpoints, run.logs):
            shutil.rmtree(folder, ignore_errors=True)
        train = settings.train.resolve(hidden_size=shape.hidden_size)
        values = {"key": key, "inputs": context.inputs["finetune"], "train": train}
        write_json(run.checkpoints / "settings.json", values)
    if train.max_length > shape.max_positions:
        raise ConfigError(
            f"train.max_length must be at most {shape.max_positions}, the longest row of "
            f"{settings.encoder}. Received: {train.max_length}."
        )
    run.save_config(settings.model_copy(update={"train": train}))
    return train


def _training_under_way(run: Run) -> dict:
    return _read(run.checkpoints / "settings.json")


def _check_vocabulary(tokenizer, shape, folder: Path) -> None:
    if len(tokenizer.vocabulary) > shape.vocabulary_size:
        raise ConfigError(
            f"{folder}: expected a vocabulary of at most {shape.vocabulary_size} pieces, as "
            f"config.json says. Received: {len(tokenizer.vocabulary)}."
        )


def _evaluate_inputs(context: _Context) -> dict:
    return {"parts": ["dev", "test"]}


def _evaluate(context: _Context) -> None:
    from tfmodel import evaluate
    from tfmodel.export import load

    predictor = load(context.run.model)
    found = {}
    for part in ("dev", "test"):
        if part not in context.dataset.counts:
            continue
        split = context.dataset.split(part)
        _log.info("evaluating %s: %d rows", part, len(split.texts))
        found[part] = evaluate.classification(
            split.labels,
            predictor.probabilities(split.texts, split.text_pairs),
            context.dataset.labels,
            texts=split.texts,
            text_pairs=split.text_pairs,
            origins=split.origins,
        )
    write_json(context.run.folder / EVALUATION_FILE, found)
    for part, figures in found.items():
        short = {k: v for k, v in figures.items() if isinstance(v, int | float)}
        context.run.update_metrics(
            part, {**short, "accuracy_interval": figures["accuracy_interval"]}
        )


def _export_inputs(context: _Context) -> dict:
    settings = context.settings.export or ExportSettings()
    return {f"export.{key}": value for key, value in settings.model_dump(mode="json").items()}


def _export(context: _Context) -> None:
    from tfmodel.export import export_all

    trained, dataset = context.trained, context.dataset
    part = next(name for name in ("test", "dev", "train") if name in dataset.counts)
    split = dataset.split(part)
    parity = export_all(
        context.settings.export or ExportSettings(),
        model=trained.model,
        tokenizer=trained.tokenizer,
        labels=trained.labels,
        max_length=trained.max_length,
        texts=split.texts,
        text_pairs=split.text_pairs,
        targets=split.labels,
        folder=context.run.export,
        progress=_log.info,
    )
    context.run.update_metrics("export", parity["artifacts"])


def _is_exported(run: Run) -> bool:
    parity = _read(run.export / PARITY_FILE)
    artifacts = parity.get("artifacts", {}).values()
    return bool(parity) and all((run.export / each["path"]).exists() for each in artifacts)


STAGES = (
    Stage("data", _data_inputs, _prepare_data, lambda run: run.data.exists()),
    Stage("finetune", _finetune_inputs, _finetune, lambda run: run.model.exists(), ("train",)),
    Stage(
        "evaluate",
        _evaluate_inputs,
        _evaluate,
        lambda run: (run.folder / EVALUATION_FILE).exists(),
        ("dev", "test"),
    ),
    Stage("export", _export_inputs, _export, _is_exported, ("export",)),
)
_BY_NAME = {stage.name: stage for stage in STAGES}
# Evaluation and export both depend on the weights, not on each other.
_BEFORE = {"finetune": "data", "evaluate": "finetune", "export": "finetune"}
# No two trainings end with quite the same weights, so what was made from the old ones is void;
# data made anew of the same inputs is the same.
_VOID_WITH = {"finetune": ("evaluate", "export")}


# --- running them -------------------------------------------------------------------------


def run(
    config: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    restart: bool = False,
    only: str | None = None,
) -> RunResult:
    """Do every stage that a config names, in order; those whose inputs did not change rest.

    Args:
        config: path of a YAML file, or its values.
        overrides: `key=value` strings that win over the config.
        restart: replace trained weights whose inputs have changed, and train from the start.
        only: the name of one stage to do alone.

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
    require_own_folder(folder)
    data = {f"data.{part}": getattr(settings.data, part) for part in ("train", "dev", "test")}
    require_sources_elsewhere(folder, {"encoder": settings.encoder, **data})
    with Run.open(folder) as opened:
        context = _Context(settings, opened, restart=restart, config=shlex.join([name, *overrides]))
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
        return [_BY_NAME[only]]
    return [stage for stage in STAGES if stage.name != "export" or settings.export is not None]


def _do(context: _Context, stage: Stage) -> None:
    again = context.restart and stage.name == "finetune"
    if context.up_to_date(stage.name) and not again:
        _log.info("%s: up to date", stage.name)
        return
    _log.info("%s", stage.name)
    began = time.perf_counter()
    # A kill in the middle must not leave a record that vouches for what is being replaced.
    for name in (stage.name, *_VOID_WITH.get(stage.name, ())):
        context.run.forget_stage(name, metrics=_BY_NAME[name].metrics)
    stage.work(context)
    context.run.record_stage(
        stage.name, context.fingerprints[stage.name], context.inputs[stage.name]
    )
    if stage.name == "finetune":
        # The model is saved and recorded: nothing is left to continue from.
        shutil.rmtree(context.run.checkpoints, ignore_errors=True)
    path = context.run.folder / TIMINGS_FILE
    write_json(path, {**_read(path), stage.name: time.perf_counter() - began})


def _protect_weights(context: _Context) -> None:
    """Refuse to replace trained weights, or training under way, by those of another config."""
    run = context.run
    trained = run.stage_fingerprint("finetune") if run.model.exists() else None
    # Weights without a record are those that a training under way was started to replace.
    begun = run.model.exists() or (run.checkpoints / "last").exists()
    under_way = _training_under_way(run) if begun else {}
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


def _require_before(context: _Context, only: str) -> None:
    name = _BEFORE.get(only)
    while name is not None:
        if not context.up_to_date(name):
            before = context.run.stage_inputs(name) if name == "finetune" else None
            fix = (
                f"tfmodel {name} {context.config} (or tfmodel run {context.config} for all stages)"
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
        name = _BEFORE.get(name)


def _save_config(context: _Context) -> None:
    """Keep the config of the weights; what `auto` meant in their training stays as it was."""
    run, settings = context.run, context.settings
    path = run.folder / "config.yaml"
    if path.exists() and context.up_to_date("finetune"):
        settings = settings.model_copy(update={"train": load_config(path, RunSettings).train})
    elif path.exists() and run.model.exists():
        return  # until other weights are trained
    run.save_config(settings)


def _report(context: _Context, only: str | None) -> RunResult:
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
        environment=_read(run.folder / "environment.json"),
        account=_read(run.data / "account.json"),
        history=_records(_read(run.folder / HISTORY_FILE)) if trained else [],
        training=run.metrics().get("train", {}) if trained else {},
        evaluation=_read(run.folder / EVALUATION_FILE) if evaluated else {},
        parity=_read(run.export / PARITY_FILE) if exported else {},
        timings={
            name: seconds
            for name, seconds in _read(run.folder / TIMINGS_FILE).items()
            if context.up_to_date(name)
        },
    )
    write_report(run.report, results)
    return RunResult(
        folder=run.folder,
        metrics=run.metrics(),
        report=run.report,
        summary=summary_text(results, report=str(Path(settings.run) / run.report.name)),
    )


def _read(path: Path) -> dict:
    return read_json(path) if path.exists() else {}


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


def _next_command(context: _Context) -> str:
    for stage in _chosen(context.settings, None):
        if not context.up_to_date(stage.name):
            others = stage.name == "finetune" and context.run.stage_fingerprint(stage.name)
            return f"tfmodel {stage.name} {context.config}" + (" --restart" if others else "")
    where = Path(context.settings.run)
    if context.dataset.has_pairs:
        return f"tfmodel predict {shlex.quote(str(where))} --input FILE --output answers.jsonl"
    if "savedmodel" in context.run.metrics().get("export", {}):
        where = where / "export" / "savedmodel"
    return f"tfmodel predict {shlex.quote(str(where))} 'a text of yours'"
