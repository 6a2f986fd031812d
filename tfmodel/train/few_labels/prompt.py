"""PET's and LM-BFF's way: a masked language model says which label's word fills a gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfmodel.config import ConfigError
from tfmodel.data import Split
from tfmodel.model.checkpoints import read_tensors
from tfmodel.model.encoder import encoder_config
from tfmodel.tasks import classify
from tfmodel.tasks.masked_head import find_head
from tfmodel.tasks.readings import GAP_STATE, AtGap, assign_gap
from tfmodel.tokens.prompts import PromptTokenizer, check_template
from tfmodel.tokens.row_tokenizer import RowTokenizer
from tfmodel.train.few_labels.settings import PromptSettings
from tfmodel.train.finetune import UNTRAINED, FinetuneResult, finetune
from tfmodel.train.settings import FinetuneSettings


def train(
    encoder: keras.Model,
    tokenizer: RowTokenizer,
    rows: Split,
    *,
    method: PromptSettings,
    labels: Sequence[str],
    settings: FinetuneSettings,
    seed: int,
    checkpoints: Path,
    folder: Path,
    dev: Split | None = None,
    **watched: Any,
) -> tuple[keras.Model, RowTokenizer, FinetuneResult]:
    """Train a masked language model to fill the gap of a template with its label's word.

    Args:
        encoder: with `sequence`, and the weights to begin with.
        tokenizer: the encoder's.
        rows: labelled rows.
        method: its settings.
        labels: names of the classes.
        settings: resolved settings of the training; with 0 epochs the model is taken as it is.
        seed: of the order of rows.
        checkpoints: folder for what an interrupted run continues from.
        folder: the encoder's, with a masked language model's head.
        dev: rows to choose the epoch by, or None.
        **watched: what else `finetune` takes of a run: `logs`, `config`, `key`.

    Returns:
        A classifier of `classify.build` whose head reads the gap, a `PromptTokenizer`, and what the
        training says of itself.

    Raises:
        ConfigError: the folder has no such head or one that is not tied to the token table, a label
            has no word, or a word is not one piece.

    Source: Schick and Schütze 2021, section 3; Gao et al. 2021, section 4. Deviation: the vectors
    of the words begin as those of the token table and are trained apart from it.
    """
    check_template(method.template, has_pairs=rows.text_pairs is not None)
    words = word_ids(tokenizer, labels, method.words)
    prompts = PromptTokenizer(tokenizer, method.template)
    tensors = read_tensors(folder)
    find_head(tensors, encoder_config(encoder), name=str(folder))  # refuses one that is not tied
    reading = AtGap(prompts.vocabulary.mask_id, method.template)
    with encoder.distribute_strategy.scope():
        model = classify.build(
            encoder, classes=len(labels), dropout=settings.dropout, reading=reading
        )
        assign_gap(model, tensors, name=str(folder))
        table = keras.ops.convert_to_numpy(encoder.get_layer("embeddings").token_table)
        biases = keras.ops.convert_to_numpy(model.get_layer(GAP_STATE).bias)
        head = model.get_layer("head")
        head.kernel.assign(np.asarray(table, np.float32)[words].T)
        head.bias.assign(np.asarray(biases, np.float32)[words])
    if settings.epochs == 0:
        return model, prompts, UNTRAINED
    result = finetune(
        model,
        prompts,
        rows,
        dev,
        task=classify,
        labels=labels,
        settings=settings,
        seed=seed,
        checkpoints=checkpoints,
        **watched,
    )
    return model, prompts, result


def word_ids(
    tokenizer: RowTokenizer, labels: Sequence[str], words: Mapping[str, str] | None
) -> np.ndarray:
    """The piece that stands for each label: int (C,).

    Args:
        tokenizer: the model's.
        labels: names of the classes.
        words: label to word; None: each label is its own.

    Raises:
        ConfigError: a label has no word, a word is of no label, is not one piece, or stands for
            two.
    """
    named = words or {label: label for label in labels}
    missing, unknown = sorted({*labels} - {*named}), sorted({*named} - {*labels})
    if missing or unknown:
        received = f"none for {', '.join(missing)}" if missing else f"one for {', '.join(unknown)}"
        raise ConfigError(
            f"few_labels.words: expected a word for each label of the data ({', '.join(labels)}). "
            f"Received: {received}."
        )
    pieces = tokenizer.vocabulary.pieces
    # A word is asked for, not a part of one.
    before = " " if tokenizer.has_blanks and not tokenizer.puts_blank else ""
    found = tokenizer.tokenize([before + named[label] for label in labels]).to_list()
    for label, ids in zip(labels, found, strict=True):
        if len(ids) != 1 or ids[0] == tokenizer.vocabulary.unknown_id:
            raise ConfigError(
                "few_labels.words: expected words that are one piece of the vocabulary each. "
                f"Received: {named[label]!r} for {label}, which is "
                f"{' '.join(pieces[index] for index in ids) or 'none'}. Choose another word."
            )
    ids = [piece for (piece,) in found]
    twice = next((pieces[piece] for piece in ids if ids.count(piece) > 1), None)
    if twice is not None:
        raise ConfigError(
            "few_labels.words: expected a word of its own for each label. Received: words that are "
            f"the piece {twice!r} twice. Choose another word."
        )
    return np.array(ids)
