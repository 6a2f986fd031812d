"""A run's stages in order: what each depends on, what is up to date, what must run again.

This is the whole config's schema, one key a stage, and the only place that knows all stages.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tfmodel import sources
from tfmodel.config import ConfigError, Settings, load_config
from tfmodel.data.settings import DataSettings
from tfmodel.export.publish import ExportSettings
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
    product: Callable[[Run], Path]


class _Context:
    """A config and its open run folder, with what several stages read."""

    def __init__(self, settings: RunSettings, run: Run, *, restart: bool, where: str):
        self.settings = settings
        self.run = run
        self.restart = restart
        self.where = where

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
        """Of every stage, from its inputs and those of the stages before it."""
        return {name: fingerprint(inputs) for name, inputs in self.inputs.items()}

    @functools.cached_property
    def inputs(self) -> dict[str, dict]:
        found: dict[str, dict] = {}
        for stage in STAGES:
            before = {"before": fingerprint(found[_BEFORE[stage.name]])} if found else {}
            found[stage.name] = {**stage.inputs(self), **before}
        return found

    def up_to_date(self, stage: Stage) -> bool:
        recorded = self.run.stage_fingerprint(stage.name)
        return recorded == self.fingerprints[stage.name] and stage.product(self.run).exists()


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
    if context.restart:
        shutil.rmtree(run.checkpoints, ignore_errors=True)
        shutil.rmtree(run.logs, ignore_errors=True)
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
    path = run.checkpoints / "settings.json"
    key = context.fingerprints["finetune"]
    kept = read_json(path) if path.exists() else {}
    if kept.get("key") == key:
        train = load_config(kept["train"], FinetuneSettings)
    else:
        train = settings.train.resolve(hidden_size=shape.hidden_size)
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        write_json(path, {"key": key, "train": train.model_dump(mode="json")})
    if train.max_length > shape.max_positions:
        raise ConfigError(
            f"train.max_length must be at most {shape.max_positions}, the longest row of "
            f"{settings.encoder}. Received: {train.max_length}."
        )
    run.save_config(settings.model_copy(update={"train": train}))
    return train


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


STAGES = (
    Stage("data", _data_inputs, _prepare_data, lambda run: run.data),
    Stage("finetune", _finetune_inputs, _finetune, lambda run: run.model),
    Stage("evaluate", _evaluate_inputs, _evaluate, lambda run: run.folder / EVALUATION_FILE),
    Stage("export", _export_inputs, _export, lambda run: run.export / "parity.json"),
)
_BY_NAME = {stage.name: stage for stage in STAGES}
# Evaluation and export both depend on the weights, not on each other.
_BEFORE = {"finetune": "data", "evaluate": "finetune", "export": "finetune"}


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
    where = "the config" if isinstance(config, Mapping) else str(config)
    with Run.open(settings.run) as opened:
        context = _Context(settings, opened, restart=restart, where=where)
        stages = _chosen(settings, only)
        if only is None or only == "finetune":
            _protect_weights(context)
        if only is not None:
            _require_before(context, only)
        _save_config(context)
        opened.environment()
        for stage in stages:
            _do(context, stage)
        return _report(context, stages)


def _chosen(settings: RunSettings, only: str | None) -> list[Stage]:
    if only is not None:
        return [_BY_NAME[only]]
    return [stage for stage in STAGES if stage.name != "export" or settings.export is not None]


def _do(context: _Context, stage: Stage) -> None:
    again = context.restart and stage.name == "finetune"
    if context.up_to_date(stage) and not again:
        _log.info("%s: up to date", stage.name)
        return
    _log.info("%s", stage.name)
    began = time.perf_counter()
    stage.work(context)
    context.run.record_stage(
        stage.name, context.fingerprints[stage.name], context.inputs[stage.name]
    )
    if stage.name == "finetune":
        # The model is saved and recorded: nothing is left to continue from.
        shutil.rmtree(context.run.checkpoints, ignore_errors=True)
    path = context.run.folder / TIMINGS_FILE
    timings = read_json(path) if path.exists() else {}
    write_json(path, {**timings, stage.name: time.perf_counter() - began})


def _protect_weights(context: _Context) -> None:
    """Refuse to replace trained weights, or training under way, by those of another config."""
    if context.restart:
        return
    kept = context.run.checkpoints / "settings.json"
    recorded = context.run.stage_fingerprint("finetune")
    if recorded is not None and context.run.model.exists():
        if recorded == context.fingerprints["finetune"]:
            return
        changed = _changes(context, "data") + _changes(context, "finetune")
        what = "weights trained with another config or other data"
    elif kept.exists() and read_json(kept)["key"] != context.fingerprints["finetune"]:
        changed, what = _changes(context, "data"), "training under way with another config"
    else:
        return
    raise ConfigError(
        f"{context.run.folder}: expected the config that this run was trained with. Received: "
        f"{what}" + (f"; changed: {', '.join(changed)}" if changed else "") + ". "
        "Add --restart to train anew and replace them, or set run: to another folder."
    )


def _changes(context: _Context, name: str) -> list[str]:
    before, now = context.run.stage_inputs(name) or {}, context.inputs[name]
    if not before:
        return []
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return [_word_change(key, before, now) for key in keys if key != "before"]


def _word_change(key: str, before: dict, now: dict) -> str:
    if key.startswith("the content of "):
        return key
    return f"{key} was {before.get(key)!r}, is {now.get(key)!r}"


def _require_before(context: _Context, only: str) -> None:
    name = _BEFORE.get(only)
    while name is not None:
        if not context.up_to_date(_BY_NAME[name]):
            raise ConfigError(
                f"{only} needs the stage {name} done with this config. Received: "
                f"{context.run.folder}, where it is not. Type: tfmodel {name} {context.where} "
                f"(or tfmodel run {context.where} for all stages)."
            )
        name = _BEFORE.get(name)


def _save_config(context: _Context) -> None:
    path = context.run.folder / "config.yaml"
    if not path.exists() or not context.up_to_date(_BY_NAME["finetune"]):
        context.run.save_config(context.settings)


def _report(context: _Context, stages: Sequence[Stage]) -> RunResult:
    from tfmodel.report import Results, summary_text, write_report

    run, settings = context.run, context.settings
    history = _read(run.folder / HISTORY_FILE)
    account = _read(run.data / "account.json")
    exported = context.up_to_date(_BY_NAME["export"])
    evaluated = context.up_to_date(_BY_NAME["evaluate"])
    results = Results(
        title=Path(settings.run).name,
        task=settings.task.name,
        run_folder=settings.run,
        command=" ".join(["tfmodel", *sys.argv[1:]]) if "tfmodel" in sys.argv[0] else "",
        next_command=_next_command(context, exported),
        config=load_config(run.folder / "config.yaml", RunSettings).model_dump(mode="json"),
        environment=_read(run.folder / "environment.json"),
        account=account,
        history=_records(history),
        training=run.metrics().get("train", {}),
        evaluation=_read(run.folder / EVALUATION_FILE) if evaluated else {},
        parity=_read(run.export / "parity.json") if exported else {},
        timings=_read(run.folder / TIMINGS_FILE),
    )
    write_report(run.report, results)
    report = Path(settings.run) / run.report.name
    return RunResult(
        folder=run.folder,
        metrics=run.metrics(),
        report=run.report,
        summary=summary_text(results, report=str(report)),
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


def _next_command(context: _Context, exported: bool) -> str:
    folder = context.settings.run
    if not context.up_to_date(_BY_NAME["finetune"]):
        return f"tfmodel finetune {context.where}"
    if exported and context.dataset.has_pairs:
        return f"tfmodel predict {folder} --input FILE --output answers.jsonl"
    where = f"{folder}/export/savedmodel" if exported else folder
    return f"tfmodel predict {where} 'a text of yours'"
