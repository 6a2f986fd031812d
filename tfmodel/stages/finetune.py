"""The stage `finetune`: an encoder and a head, trained on the rows of train."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmodel import sources, tasks
from tfmodel.config import ConfigError, Settings, load_config
from tfmodel.protection import changes
from tfmodel.run_folder import seed_everything, write_json
from tfmodel.stages.context import Context, Stage, identity_of_source
from tfmodel.stages.settling import settle
from tfmodel.stages.workers import hear_chief, start_workers, wait_for_release
from tfmodel.train import few_labels
from tfmodel.train.settings import FinetuneSettings

if TYPE_CHECKING:
    from tfmodel.data import Split
    from tfmodel.model.sizes import BertConfig
    from tfmodel.tokens.row_tokenizer import RowTokenizer
    from tfmodel.train.finetune import FinetuneResult

_log = logging.getLogger(__name__)

# Of devices and workers the result depends by rounding alone, and by which values dropout drops.
CHANGES_NO_RESULT = ("checkpoint_seconds", "watch", "devices", "worker_timeout_seconds")
HISTORY_FILE = "history.json"
PROBABILITIES_FILE = "probabilities.npy"  # what the stage label_noise leaves for this one


def _finetune_inputs(context: Context) -> dict:
    if context.settings.together is not None:  # of which all that the weights depend on is a hash
        return {"together": context.settings.together}
    inputs = training_inputs(context)
    if context.settings.data.changes_labels():
        inputs["data.label_noise.action"] = context.settings.data.label_noise.action
    augment = context.settings.data.augment
    if augment is not None:
        values = augment.model_dump(mode="json").items()
        inputs |= {f"data.augment.{key}": value for key, value in values}
        for key in ("synonyms", "model"):
            if (source := getattr(augment, key)) is not None:
                inputs[f"the content of data.augment.{key}"] = identity_of_source(source)
    return inputs


def training_inputs(context: Context) -> dict:
    """What training depends on besides the rows."""
    settings = context.settings
    return {
        "seed": settings.seed,
        "encoder": settings.encoder,
        "the content of encoder": identity_of_source(settings.encoder),
        **{f"task.{key}": value for key, value in settings.task.chosen().items()},
        **{f"task.{key}": value for key, value in decoding_of(settings).items()},
        **{
            f"train.{key}": value
            for key, value in settings.train.model_dump(mode="json").items()
            if key not in CHANGES_NO_RESULT
        },
    }


def _finetune(context: Context) -> None:
    run = context.run
    if context.settings.together is not None:
        raise _trained_together(run.folder)
    train = _resolved(context, encoder_shape(context))
    key = context.fingerprints["finetune"]
    strategy = start_workers(context, train, key)
    rows, counts = training_rows(context)
    model, tokenizer, result = train_model(
        context,
        train,
        rows,
        checkpoints=run.checkpoints,
        logs=run.logs,
        key=key,
        strategy=strategy,
    )
    keep_model(context, model, tokenizer, train)
    keep_figures(context, result, counts)


def keep_model(
    context: Context, model: Any, tokenizer: RowTokenizer, train: FinetuneSettings
) -> None:
    """Save a trained model, with what is settled by its answers on dev.

    Args:
        context: of the task's run.
        model: from the task's `build`, trained.
        tokenizer: the one it was trained with.
        train: resolved settings.
    """
    run, task, dataset = context.run, context.task, context.dataset
    save = functools.partial(
        task.save,
        folder=run.model,
        tokenizer=tokenizer,
        labels=task.output_labels(dataset.labels),
        has_pairs=dataset.has_pairs,
        max_length=train.max_length,
    )
    decoding = decoding_of(context.settings)
    save(model, **({"decoding": decoding} if decoding else {}))
    context.__dict__.pop("trained", None)
    settled = {}
    if hasattr(task, "tuned"):
        save(context.trained.model, decoding={**decoding, **(_tuned(context) or {})})
        context.__dict__.pop("trained", None)
    elif train.calibrate and hasattr(task, "calibrate") and "dev" in dataset.counts:
        settled = task.calibrate(context.trained.model, *_answered_dev(context), **_none(context))
        save(context.trained.model)
        context.__dict__.pop("trained", None)
    run.update_metrics("train", settled)


def keep_figures(context: Context, result: FinetuneResult, more: Mapping[str, Any]) -> None:
    """Write down what a training says of itself.

    Args:
        context: of the task's run.
        result: of the training.
        more: what else there is to say, as of its rows.
    """
    run = context.run
    write_json(run.folder / HISTORY_FILE, {"steps": result.steps, "epochs": result.epochs})
    run.update_metrics(
        "train",
        {
            **more,
            **result.windows,
            "examples": result.examples,
            "seconds": result.seconds,
            "examples_per_second": result.examples / (result.seconds or 1),
            "tokens_per_second": result.tokens / (result.seconds or 1),
            "padding_share": result.padding_share,
            "epochs": len(result.epochs),
            "best_epoch": None if result.best_epoch is None else result.best_epoch + 1,
            "resumed_at_steps": result.resumed_at_steps,
        },
    )


def _tuned(context: Context) -> dict[str, Any] | None:
    """What the task decides on dev by the weights that are saved; None without dev rows."""
    if "dev" not in context.dataset.counts:
        return None
    return context.task.tuned(*_answered_dev(context))


def _answered_dev(context: Context) -> tuple[Any, Any]:
    """Targets of dev's rows, and the values by which the saved weights answer them."""
    from tfmodel.export import load

    dataset = context.dataset
    dev = dataset.split("dev")
    values = load(context.run.model).values(dev.texts, dev.text_pairs)
    return tasks.right_answers(context.task, dev, dataset.labels), values


def decoding_of(settings: Any) -> dict[str, Any]:
    """What is settled before the training of how a task's answers are read; mostly nothing."""
    if settings.task.name != "span":
        return {}
    keys = {"doc_stride", "max_query_length", "max_answer_length"}
    return settings.task.model_dump(mode="json", include=keys)


def _none(context: Context) -> dict[str, int]:
    """The index of the label of rows that have none of the others, where there is such a label."""
    name = context.settings.data.none_label
    return {} if name is None else {"none": context.dataset.labels.index(name)}


def train_along(context: Context) -> str:
    """Train with the chief, in another worker, and write nothing.

    Args:
        context: of the worker, with the chief's run folder.

    Returns:
        What was done, in words.
    """
    heard = hear_chief(context)
    if heard is None:
        return "nothing to train: the chief has trained weights of this config"
    train, key = heard
    rows, _ = training_rows(context)
    train_model(
        context,
        train,
        rows,
        checkpoints=context.run.checkpoints,
        key=key,
        strategy=context.strategy,
    )
    wait_for_release(context)
    return f"trained along; the chief writes {context.run.folder}"


def training_rows(context: Context) -> tuple[Split, dict[str, int]]:
    """The rows to train on, and what there is to say of them: left out, labelled anew, new."""
    return _augmented(context, *_train_rows(context))


def _train_rows(context: Context) -> tuple[Split, dict[str, int]]:
    """The rows to train on, and how many of those prepared were left out or labelled anew."""
    split, settings = context.dataset.split("train"), context.settings.data
    if not settings.changes_labels():
        return split, {}
    import numpy as np

    from tfmodel.data.confident_learning import find_label_issues
    from tfmodel.data.label_noise import corrected
    from tfmodel.train.out_of_fold import select_rows

    noise = settings.label_noise
    probabilities = np.load(context.run.data_review / PROBABILITIES_FILE, allow_pickle=False)
    issues = find_label_issues(
        split.labels, probabilities, method=noise.method, ranking=noise.ranking
    )
    kept, labels = corrected(split.labels, issues, noise.action)
    counts = {
        "rows": len(kept),
        "rows_dropped": len(split.labels) - len(kept),
        "rows_relabelled": int((labels != split.labels[kept]).sum()),
    }
    _log.info(
        "trains on %s rows: %s dropped and %s labelled anew, for their label is disputed",
        *(f"{count:,}" for count in counts.values()),
    )
    return dataclasses.replace(select_rows(split, kept), labels=labels), counts


def _augmented(
    context: Context, rows: Split, counts: dict[str, int]
) -> tuple[Split, dict[str, int]]:
    """The rows and their new versions, where the config asks for some, and how many."""
    from tfmodel.data.augmentation import augment_split
    from tfmodel.tasks import fill

    settings, dataset = context.settings, context.dataset
    if settings.data.augment is None:
        return rows, counts
    apart = [dataset.split(part) for part in ("dev", "test") if part in dataset.counts]
    replace = None
    if (source := settings.data.augment.model) is not None:
        loaded = fill.load(sources.fetch(source))
        replace = fill.replacer(loaded.model, loaded.tokenizer)
    more = augment_split(
        rows,
        settings.data.augment,
        seed=settings.seed,
        apart=apart,
        target=dataset.target,
        replace=replace,
    )
    return more, {**counts, "new_rows": len(more.texts) - len(rows.texts)}


def train_model(
    context: Context,
    train: FinetuneSettings,
    rows: Split,
    *,
    checkpoints: Path,
    key: str,
    logs: Path | None = None,
    strategy: Any = None,
) -> tuple[Any, RowTokenizer, FinetuneResult]:
    """Train the encoder and a new head on rows; dev chooses the epoch."""
    from tfmodel.tasks import reads_tokens
    from tfmodel.train.finetune import UNTRAINED, finetune

    settings, dataset = context.settings, context.dataset
    seed_everything(settings.seed)
    scope = contextlib.nullcontext if strategy is None else strategy.scope
    with scope():
        tokens, few = reads_tokens(context.task_name), train.few_labels is not None
        encoder, tokenizer = read_encoder(
            context,
            train,
            sequence=tokens or few or getattr(context.task, "NEEDS_SEQUENCE", False),
            pooled=not (tokens or few),
        )
    dev = dataset.split("dev") if "dev" in dataset.counts else None
    watched = {
        "checkpoints": checkpoints,
        "logs": logs,
        "config": {
            "encoder": settings.encoder,
            "task": settings.task.name,
            "rows": len(rows.texts),
        },
        "key": key,
    }
    if (method := train.few_labels) is not None:
        return few_labels.find(method.name).train(
            encoder,
            tokenizer,
            rows,
            dev=dev,
            method=method,
            labels=dataset.labels,
            settings=train,
            seed=settings.seed,
            folder=sources.fetch(settings.encoder),
            **watched,
        )
    with scope():
        model, own_loss = with_head(context, encoder, rows, train)
    if train.epochs == 0:
        return model, tokenizer, UNTRAINED
    result = finetune(
        model,
        tokenizer,
        rows,
        dev,
        task=context.task,
        labels=dataset.labels,
        settings=train,
        seed=settings.seed,
        loss_arguments=own_loss,
        **watched,
        decoding=decoding_of(settings),
    )
    return model, tokenizer, result


def read_encoder(
    context: Context, train: FinetuneSettings, *, sequence: bool, pooled: bool
) -> tuple[Any, RowTokenizer]:
    """The pretrained encoder and its tokenizer.

    Args:
        context: of the run.
        train: resolved settings.
        sequence: whether all hidden states are wanted.
        pooled: whether `pooled` will be asked for.

    Raises:
        ConfigError: the vocabulary is larger than the encoder's table.
    """
    from tfmodel.model import encoder_config, load_encoder
    from tfmodel.tokens import load_tokenizer
    from tfmodel.train.regularize import mixout

    folder, rate = context.encoder_folder, train.regularize.mixout
    encoder = load_encoder(
        folder,
        sequence=sequence,
        pooled=pooled,
        recompute=train.recompute,
        dtype={"bfloat16": "mixed_bfloat16"}.get(train.precision, train.precision),
        **({} if rate is None else {"projection": mixout(rate)}),
    )
    tokenizer = load_tokenizer(folder, max_length=train.max_length)
    _check_vocabulary(tokenizer, encoder_config(encoder), folder)
    return encoder, tokenizer


def with_head(
    context: Context, encoder: Any, rows: Split, train: FinetuneSettings
) -> tuple[Any, dict[str, Any]]:
    """The task's model on an encoder, with a new head, and what its loss takes beside."""
    task, settings = context.task, context.settings
    options = settings.task.model_dump()
    head, own_loss = task.head_arguments(context.dataset.labels, rows.labels), {}
    if hasattr(task, "own_head"):
        head |= task.own_head(options, sources.fetch(settings.encoder))
    if hasattr(task, "loss_arguments"):
        own_loss = task.loss_arguments(options, task.targets_of(rows))
    return task.build(encoder, dropout=train.dropout, **head, **_none(context)), own_loss


def _resolved(context: Context, shape: BertConfig) -> FinetuneSettings:
    """What `auto` means here; decided once, so that a resumed run is one set of settings."""
    train = settle(
        context,
        free=CHANGES_NO_RESULT,
        hidden_size=shape.hidden_size,
        task=context.task_name,
    )
    check_length(context, train, shape)
    context.run.save_config(context.settings.model_copy(update={"train": train}))
    return train


def check_task(context: Context) -> None:
    """Refuse, before any work, what would be refused later, or not be done.

    Raises:
        ConfigError: as `check_encoder`; or one of several tasks is given another config than they
            were trained by, of which the record of its training knows nothing.
    """
    kept = context.run.folder / "config.yaml"
    if context.settings.together is not None and kept.exists():
        _require_config_of_all(context, load_config(kept, type(context.settings)))
        if context.restart:  # or the stage would have forgotten the weights before it refuses
            raise _trained_together(context.run.folder)
    check_encoder(context)


def _trained_together(run: Path) -> ConfigError:
    return ConfigError(
        f"{run}: expected a task that is trained alone. Received: one of several on one encoder, "
        "trained together (together). Train all of them by their own config: tfmodel run CONFIG, "
        f"whose copy is {run.parents[1] / 'config.yaml'}."
    )


def check_encoder(context: Context) -> None:
    """Refuse an encoder that training or an export would refuse, before the rows are prepared.

    One that is not on this machine yet is looked at when training begins.

    Raises:
        ConfigError: as `encoder_shape`.
    """
    is_here = not sources.is_remote(context.settings.encoder)
    if is_here and not context.up_to_date("finetune"):
        encoder_shape(context)


def _require_config_of_all(context: Context, kept: Settings) -> None:
    before, now = (
        {
            f"{section}.{key}" if isinstance(values, Mapping) else section: value
            for section, values in each.model_dump(mode="json").items()
            if section not in ("run", "together", "export")
            for key, value in (values.items() if isinstance(values, Mapping) else [("", values)])
        }
        for each in (kept, context.settings)
    )
    free = [f"train.{key}" for key in CHANGES_NO_RESULT]
    others = {key for key in now if key not in free and now[key] not in (before[key], "auto")}
    if others:
        before, now = ({key: each[key] for key in now if key in others} for each in (before, now))
        run = context.run.folder
        raise ConfigError(
            f"{run}: expected the config that several tasks were trained by together. Received: "
            f"another ({changes(before, now)}). Leave it out, or train all of them anew by their "
            f"own config, whose copy is {run.parents[1] / 'config.yaml'}."
        )


def encoder_shape(context: Context) -> BertConfig:
    """The sizes of the pretrained encoder, with which all that the config asks for can be done.

    Raises:
        ConfigError: it is of a family that the task cannot be trained on or an export cannot be
            made of, or texts cannot be split as it wants them.
    """
    shape, export = context.encoder_shape, context.settings.export
    if shape.family != "bert" or not (context.encoder_folder / "vocab.txt").exists():
        from tfmodel.tokens import load_tokenizer

        tokenizer = load_tokenizer(context.encoder_folder)
        if export is not None:
            from tfmodel.export.tflite.phone_runtimes import check_tokenizer

            export.check_family(shape.family, tokenizer.kind)
            check_tokenizer(export.runtime if export.tflite else "auto", tokenizer)
    return shape


def check_length(context: Context, train: FinetuneSettings, shape: BertConfig) -> None:
    """Refuse rows longer than the encoder has positions for."""
    if train.max_length > shape.max_positions:
        raise ConfigError(
            f"train.max_length must be at most {shape.max_positions}, the longest row of "
            f"{context.settings.encoder}. Received: {train.max_length}."
        )


def _check_vocabulary(tokenizer, shape, folder: Path) -> None:
    if len(tokenizer.vocabulary) > shape.vocabulary_size:
        raise ConfigError(
            f"{folder}: expected a vocabulary of at most {shape.vocabulary_size} pieces, as "
            f"config.json says. Received: {len(tokenizer.vocabulary)}."
        )


def _after(settings: Any) -> str:
    # A review of the labels that changes nothing trained on is nothing to wait for.
    return "label_noise" if settings.data.changes_labels() else "data"


FINETUNE = Stage(
    "finetune",
    _finetune_inputs,
    _finetune,
    lambda run: run.model.exists(),
    after=_after,
    metrics=("train",),
    trains=True,
)
