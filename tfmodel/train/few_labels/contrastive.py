"""SetFit's recipe: an encoder that tells pairs of rows apart, and a logistic regression on it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfmodel.data import Split
from tfmodel.model.encoder import build_encoder, encoder_config
from tfmodel.tasks import classify, embed
from tfmodel.tasks.readings import Pooled
from tfmodel.tokens.row_tokenizer import RowTokenizer
from tfmodel.train.few_labels.logistic import fit_logistic
from tfmodel.train.few_labels.pairs import labelled_pairs
from tfmodel.train.few_labels.settings import ContrastiveSettings
from tfmodel.train.finetune import UNTRAINED, FinetuneResult, finetune
from tfmodel.train.settings import FinetuneSettings

_log = logging.getLogger(__name__)

_ROWS_AT_ONCE = 64


def train(
    encoder: keras.Model,
    tokenizer: RowTokenizer,
    rows: Split,
    *,
    method: ContrastiveSettings,
    labels: Sequence[str],
    settings: FinetuneSettings,
    seed: int,
    checkpoints: Path,
    folder: Path,
    dev: Split | None = None,
    **watched: Any,
) -> tuple[keras.Model, RowTokenizer, FinetuneResult]:
    """Train an encoder on pairs of rows, then a head on its vectors.

    Args:
        encoder: with `sequence`, and the weights to begin with.
        tokenizer: the encoder's.
        rows: labelled rows of one text.
        method: its settings.
        labels: names of the classes.
        settings: resolved settings of the training on pairs.
        seed: of the pairs and their order.
        checkpoints: folder for what an interrupted run continues from.
        folder: the encoder's, which may say how its sentence vectors are made.
        dev: not read: no figure of rows chooses among epochs of pairs.
        **watched: what else `finetune` takes of a run: `logs`, `config`, `key`.

    Returns:
        A classifier of `classify.build` in float32 whose head reads the sentence vector, the
        tokenizer, and what the training on pairs says of itself.

    Raises:
        ConfigError: all rows are of one class, or the folder pools in a way that cannot be had.

    Source: Tunstall et al. 2022, section 3: pairs of rows, the squared error of their cosine
    against 1 or 0, then logistic regression.
    """
    options = embed.own_head({"pooling": "auto", "normalize": "auto"}, folder)
    pairs = labelled_pairs(rows, pairs=method.pairs, seed=seed)
    model = embed.build(encoder, texts=2, **options)
    result = UNTRAINED
    if settings.epochs:
        _log.info("trains on %s pairs of %s rows", f"{len(pairs.texts):,}", f"{len(rows.texts):,}")
        # Of pairs no dev figure is asked: the last weights are taken.
        result = finetune(
            model,
            tokenizer,
            pairs,
            None,
            task=embed,
            labels=[],
            settings=settings.model_copy(update={"monitor": "loss", "few_labels": None}),
            seed=seed,
            checkpoints=checkpoints,
            loss_arguments={"name": "cosine", "low": 0.0, "high": 1.0},
            **watched,
        )
    trained = in_float32(encoder)
    answering = embed.build(trained, **options)
    vectors = _vectors(answering, tokenizer, rows.texts, settings.max_length)
    weights, biases = fit_logistic(
        vectors, np.asarray(rows.labels), classes=len(labels), penalty=method.penalty
    )
    classifier = classify.build(trained, classes=len(labels), reading=Pooled(**options))
    head = classifier.get_layer("head")
    head.kernel.assign(weights)
    head.bias.assign(biases)
    return classifier, tokenizer, result


def in_float32(encoder: keras.Model) -> keras.Model:
    """An encoder with the same weights that computes in float32."""
    copy = build_encoder(encoder_config(encoder), dtype="float32")
    copy.set_weights(encoder.get_weights())
    return copy


def _vectors(
    model: keras.Model, tokenizer: RowTokenizer, texts: Sequence[str], max_length: int
) -> np.ndarray:
    """The vectors of texts, float32 (n, D)."""
    found: list[np.ndarray] = []
    order = np.argsort([len(text) for text in texts], kind="stable")
    for start in range(0, len(texts), _ROWS_AT_ONCE):
        chunk = [texts[row] for row in order[start : start + _ROWS_AT_ONCE]]
        batch: Mapping[str, Any] = tokenizer(chunk, max_length=max_length)
        found.append(np.asarray(model(batch, training=False), np.float32))
    return np.concatenate(found)[np.argsort(order)]
