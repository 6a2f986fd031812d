"""The stages of a run: what each depends on, what it does, and what shows that it was done.

In what order they run, and which of them rest, is `pipeline`'s.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfmodel import sources
from tfmodel.config import ConfigError, load_config
from tfmodel.export.publish import PARITY_FILE, ExportSettings
from tfmodel.run_folder import Run, fingerprint, read_json, seed_everything, write_json
from tfmodel.train.settings import FinetuneSettings

_log = logging.getLogger(__name__)

EVALUATION_FILE = "evaluation.json"
HISTORY_FILE = "history.json"


@dataclasses.dataclass(frozen=True)
class Stage:
    """A step of a run.

    Attributes:
        name: as on the command line.
        inputs: what it depends on besides the stages before it, by a name for the user.
        work: does it.
        is_made: whether what it leaves is there.
        after: the stage whose result it takes.
        metrics: its sections of `metrics.json`.
    """

    name: str
    inputs: Callable[[Context], dict]
    work: Callable[[Context], None]
    is_made: Callable[[Run], bool]
    after: str | None = None
    metrics: tuple[str, ...] = ()


class Context:
    """A config and its open run folder, with what several stages read.

    Args:
        settings: the `pipeline.RunSettings`.
        run: the open folder.
        restart: whether trained weights may be replaced.
        config: the config file and its overrides, as one types them.
    """

    def __init__(self, settings: Any, run: Run, *, restart: bool, config: str):
        self.settings = settings
        self.run = run
        self.restart = restart
        self.config = config

    @functools.cached_property
    def encoder_folder(self) -> Path:
        """The pretrained encoder, fetched."""
        return sources.fetch(self.settings.encoder)

    @functools.cached_property
    def dataset(self):
        """The prepared dataset."""
        from tfmodel.data import load_dataset

        return load_dataset(self.run.data)

    @functools.cached_property
    def trained(self):
        """The trained model in float32, whatever it was trained in."""
        from tfmodel import tasks

        return tasks.load_model(self.run.model)

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        """Of every stage: the hash of its inputs."""
        return {name: fingerprint(inputs) for name, inputs in self.inputs.items()}

    @functools.cached_property
    def inputs(self) -> dict[str, dict]:
        """Of every stage: its own inputs and those of the stages before it."""
        found: dict[str, dict] = {}
        for stage in STAGES:
            before = found[stage.after] if stage.after else {}
            found[stage.name] = {**before, **stage.inputs(self)}
        return found

    def up_to_date(self, name: str) -> bool:
        """Whether a stage was done with these inputs, and what it left is there."""
        recorded = self.run.stage_fingerprint(name)
        return recorded == self.fingerprints[name] and BY_NAME[name].is_made(self.run)


# --- data ---------------------------------------------------------------------------------


def _data_inputs(context: Context) -> dict:
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


def _prepare_data(context: Context) -> None:
    from tfmodel.data import prepare

    context.__dict__.pop("dataset", None)
    prepare(
        context.settings.data, context.run.data, seed=context.settings.seed, locate=sources.fetch
    )


# --- finetune -----------------------------------------------------------------------------


def _finetune_inputs(context: Context) -> dict:
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


def _finetune(context: Context) -> None:
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


def _resolved(context: Context, shape) -> FinetuneSettings:
    """What `auto` means here; decided once, so that a resumed run is one set of settings."""
    run, settings = context.run, context.settings
    key = context.fingerprints["finetune"]
    kept = training_under_way(run)
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


def training_under_way(run: Run) -> dict:
    """The key, inputs and settings of a training that began and has not ended; else empty."""
    return read_if_there(run.checkpoints / "settings.json")


def _check_vocabulary(tokenizer, shape, folder: Path) -> None:
    if len(tokenizer.vocabulary) > shape.vocabulary_size:
        raise ConfigError(
            f"{folder}: expected a vocabulary of at most {shape.vocabulary_size} pieces, as "
            f"config.json says. Received: {len(tokenizer.vocabulary)}."
        )


# --- evaluate and export ------------------------------------------------------------------


def _evaluate_inputs(context: Context) -> dict:
    return {"parts": ["dev", "test"]}


def _evaluate(context: Context) -> None:
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


def _export_inputs(context: Context) -> dict:
    settings = context.settings.export or ExportSettings()
    return {f"export.{key}": value for key, value in settings.model_dump(mode="json").items()}


def _export(context: Context) -> None:
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
    parity = read_if_there(run.export / PARITY_FILE)
    artifacts = parity.get("artifacts", {}).values()
    return bool(parity) and all((run.export / each["path"]).exists() for each in artifacts)


def read_if_there(path: Path) -> dict:
    """Read a JSON file; empty where there is none."""
    return read_json(path) if path.exists() else {}


STAGES = (
    Stage("data", _data_inputs, _prepare_data, lambda run: run.data.exists()),
    Stage(
        "finetune",
        _finetune_inputs,
        _finetune,
        lambda run: run.model.exists(),
        after="data",
        metrics=("train",),
    ),
    Stage(
        "evaluate",
        _evaluate_inputs,
        _evaluate,
        lambda run: (run.folder / EVALUATION_FILE).exists(),
        after="finetune",
        metrics=("dev", "test"),
    ),
    # It depends on the weights alone, not on what was measured.
    Stage("export", _export_inputs, _export, _is_exported, after="finetune", metrics=("export",)),
)
BY_NAME = {stage.name: stage for stage in STAGES}
