"""The stage `pretrain`: an encoder that learns from token documents."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.run_folder import seed_everything, write_json
from tfmodel.stages.context import Context, Stage, identity_of_source
from tfmodel.stages.finetune import HISTORY_FILE
from tfmodel.stages.settling import settle
from tfmodel.stages.token_documents import TOKENS
from tfmodel.stages.vocabulary import VOCABULARY, given_tokenizer, tokenizer_of
from tfmodel.stages.workers import hear_chief, start_workers, wait_for_release
from tfmodel.tokens.vocabulary_training import VocabularySettings, require_trainer
from tfmodel.train.pretrain_settings import check_logits

if TYPE_CHECKING:
    from tfmodel.model.sizes import BertConfig
    from tfmodel.tokens.pretraining_batches import PretrainingBatches
    from tfmodel.tokens.tokenizer import Tokenizer
    from tfmodel.tokens.vocabulary import Vocabulary
    from tfmodel.train.pretrain import PretrainResult
    from tfmodel.train.pretrain_settings import PretrainSettings

_log = logging.getLogger(__name__)

# Of devices the result depends by rounding alone, and by which values dropout drops.
_CHANGES_NO_RESULT = ("checkpoint_seconds", "watch", "devices", "worker_timeout_seconds")


def _pretrain_inputs(context: Context) -> dict:
    settings = context.settings
    inputs: dict[str, Any] = {"seed": settings.seed, "model": settings.model}
    if settings.encoder is not None:
        inputs["encoder"] = settings.encoder
        inputs["the content of encoder"] = identity_of_source(settings.encoder)
    sections = {"objective": settings.objective, "train": settings.train}
    return inputs | {
        f"{section}.{key}": value
        for section, chosen in sections.items()
        for key, value in chosen.model_dump(mode="json").items()
        if not (section == "train" and key in _CHANGES_NO_RESULT)
    }


def _pretrain(context: Context) -> None:
    run, settings = context.run, context.settings
    tokenizer = tokenizer_of(run.folder, max_length=settings.train.max_length)
    shape = _shape(context, tokenizer)
    train = settle(
        context,
        free=_CHANGES_NO_RESULT,
        hidden_size=shape.hidden_size,
        continued=settings.encoder is not None,
    )
    run.save_config(settings.model_copy(update={"train": train}))
    key = context.fingerprints[PRETRAIN.name]
    strategy = start_workers(context, train, key)
    task = tasks.find_objective(settings.objective.name)
    model, batches, result = _trained(
        context, train, tokenizer, shape, key=key, strategy=strategy, logs=run.logs
    )
    task.save(model, run.model, tokenizer=tokenizer, max_length=train.max_length)
    write_json(run.folder / HISTORY_FILE, {"steps": result.steps, "dev": result.dev})
    run.update_metrics(
        "train",
        {
            "steps": result.total_steps,
            "examples": result.examples,
            "tokens": result.tokens,
            "seconds": result.seconds,
            "examples_per_second": result.examples / result.seconds,
            "tokens_per_second": result.tokens / result.seconds,
            "padding_share": result.padding_share,
            "left_out_share": result.left_out_share,
            "epochs": result.total_steps / len(batches),
            "parameters": sum(math.prod(weight.shape) for weight in model.trainable_weights),
            "resumed_at_steps": result.resumed_at_steps,
        },
    )
    if result.dev:
        run.update_metrics("dev", {k: v for k, v in result.dev[-1].items() if k != "step"})


def pretrain_along(context: Context) -> str:
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
    tokenizer = tokenizer_of(context.run.folder, max_length=train.max_length)
    shape = _shape(context, tokenizer)
    _trained(context, train, tokenizer, shape, key=key, strategy=context.strategy)
    wait_for_release(context)
    return f"trained along; the chief writes {context.run.folder}"


def _trained(
    context: Context,
    train: PretrainSettings,
    tokenizer: Tokenizer,
    shape: BertConfig,
    *,
    key: str,
    strategy: Any,
    logs: Path | None = None,
) -> tuple[Any, PretrainingBatches, PretrainResult]:
    """Train on the token documents; the model, the batches and what came of it."""
    from tfmodel.tokens.pretraining_batches import PretrainingBatches
    from tfmodel.tokens.token_documents import TokenDocuments
    from tfmodel.train.pretrain import pretrain

    run, settings = context.run, context.settings
    batches, dev_batches = (
        PretrainingBatches(
            TokenDocuments(run.folder / TOKENS.name / split),
            objective=settings.objective,
            vocabulary=tokenizer.vocabulary,
            max_length=train.max_length,
            batch_size=rows,
            seed=settings.seed,
            fixed=split == "dev",
        )
        for split, rows in (
            ("train", train.batch_size),
            ("dev", train.dev_rows(settings.objective, shape.vocabulary_size)),
        )
    )
    task = tasks.find_objective(settings.objective.name)
    seed_everything(settings.seed)
    with contextlib.nullcontext() if strategy is None else strategy.scope():
        model = _model(context, train, shape, task)
    result = pretrain(
        model,
        batches,
        dev_batches,
        task=task,
        settings=train,
        seed=settings.seed,
        checkpoints=run.checkpoints,
        logs=logs,
        config={
            "model": settings.model,
            "encoder": settings.encoder,
            "objective": settings.objective.model_dump(mode="json"),
            "corpus": settings.corpus.train,
            "pieces": len(tokenizer.vocabulary),
        },
        key=key,
    )
    return model, batches, result


def check_beginning(context: Context) -> None:
    """Refuse an encoder or a vocabulary that training would refuse, before hours of work.

    Raises:
        ConfigError: rows longer than the encoder's positions, a head that cannot be trained on, a
            vocabulary without [MASK], none to be trained for want of the trainer, or more logits
            at a time than can be counted.
    """
    settings = context.settings
    if context.up_to_date(PRETRAIN.name):
        return
    if settings.encoder is not None:
        vocabulary, shape = given_tokenizer(settings.encoder).vocabulary, _encoder_shape(context)
        pieces = shape.vocabulary_size
        _require_room(context, vocabulary, shape)
        _require_mask(vocabulary)
        _require_head(context)
    elif isinstance(settings.vocabulary, str):
        vocabulary = given_tokenizer(settings.vocabulary).vocabulary
        pieces = len(vocabulary)
        _require_mask(vocabulary)
    else:
        pieces = (settings.vocabulary or VocabularySettings()).size
        if not context.up_to_date(VOCABULARY.name):
            require_trainer()
    check_logits(
        settings.objective,
        rows=settings.train.batch_size,
        parts=settings.train.accumulation_steps * _devices(context),
        max_length=settings.train.max_length,
        pieces=pieces,
    )


def _devices(context: Context) -> int:
    """How many share each batch; that there are as many is seen when they are taken."""
    if context.strategy is not None:
        return context.strategy.num_replicas_in_sync
    devices = context.settings.train.devices
    if devices != "all":
        return devices
    import tensorflow as tf

    return max(len(tf.config.list_physical_devices("GPU")), 1)


def _require_head(context: Context) -> None:
    """Refuse an encoder whose own head the objective could not go on with."""
    task, folder = tasks.find_objective(context.settings.objective.name), context.encoder_folder
    if not hasattr(task, "check_head"):
        return
    try:
        task.check_head(folder)
    except ConfigError as error:
        raise ConfigError(
            f"{error}\nTrain its encoder with a new head, from a folder without this one: "
            f"tm.save_encoder(tm.load_encoder({str(folder)!r}), {f'{folder.name}-alone'!r}, "
            f"tokenizer=tm.Tokenizer.from_folder({str(folder)!r}))"
        ) from None


def _require_mask(vocabulary: Vocabulary) -> None:
    if vocabulary.mask_id is None:
        raise ConfigError(
            "vocabulary: expected one with [MASK], which stands for what is to be predicted. "
            f"Received: {len(vocabulary)} pieces without it. Add the line [MASK], or train a "
            "vocabulary."
        )


def _require_room(context: Context, vocabulary: Vocabulary, shape: BertConfig) -> None:
    if len(vocabulary) > shape.vocabulary_size:
        raise ConfigError(
            f"{context.encoder_folder}: expected a vocabulary of at most {shape.vocabulary_size} "
            f"pieces, as config.json says. Received: {len(vocabulary)}."
        )


def _encoder_shape(context: Context) -> BertConfig:
    """The sizes of the encoder to train on."""
    longest = context.settings.train.max_length
    shape = context.encoder_shape
    if longest > shape.max_positions:
        raise ConfigError(
            f"train.max_length must be at most {shape.max_positions}, the longest row of "
            f"{context.settings.encoder}. Received: {longest}."
        )
    return shape


def _shape(context: Context, tokenizer: Tokenizer) -> BertConfig:
    """The encoder's sizes."""
    from tfmodel.model.sizes import SIZES

    settings, pieces = context.settings, len(tokenizer.vocabulary)
    if settings.encoder is None:
        size, longest = SIZES[settings.model], settings.train.max_length
        positions = max(size.max_positions, longest)
        if positions > longest:
            _log.info(
                "rows have %d tokens: positions beyond stay untrained. For longer texts go on from "
                "this run's model (encoder:) with a larger train.max_length",
                longest,
            )
        return dataclasses.replace(size, vocabulary_size=pieces, max_positions=positions)
    shape = _encoder_shape(context)
    _require_room(context, tokenizer.vocabulary, shape)
    return shape


def _model(context: Context, train: PretrainSettings, shape: BertConfig, task: Any) -> Any:
    """The encoder, new or trained before, with the head of the objective."""
    from tfmodel.model import build_encoder, load_encoder

    policy = {"bfloat16": "mixed_bfloat16"}.get(train.precision, train.precision)
    chosen = {"dtype": policy, "recompute": train.recompute}
    if context.settings.encoder is None:
        return task.build(build_encoder(shape, **chosen))
    folder = context.encoder_folder
    model = task.build(load_encoder(folder, **chosen))
    if hasattr(task, "take_up_head") and task.take_up_head(model, folder):
        _log.info("goes on with the encoder's own head")
    return model


PRETRAIN = Stage(
    "pretrain",
    _pretrain_inputs,
    _pretrain,
    lambda run: run.model.exists(),
    after=lambda settings: "tokens",
    metrics=("train", "dev"),
    trains=True,
)
