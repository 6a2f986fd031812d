"""The toy set in a plain `fit`: a model that surely learns it in 20 epochs, and what it learned."""

from __future__ import annotations

import keras
import toy

from tfmodel.model import BertConfig, build_encoder
from tfmodel.tasks import classify
from tfmodel.tokens.batches import batches
from tfmodel.train import adamw

EPOCHS = 20


def new_model(*, dropout: float = 0.1, dtype: str = "float32", seed: int = 3) -> keras.Model:
    """Word embeddings as large as a trained BERT's, so that words tell apart from the start."""
    keras.utils.set_random_seed(seed)
    config = BertConfig(
        vocabulary_size=len(toy.PIECES), hidden_size=16, layers=1, heads=2, intermediate_size=32,
        max_positions=12, dropout=dropout, attention_dropout=dropout,
    )  # fmt: skip
    model = classify.build(build_encoder(config, sequence=False, dtype=dtype), classes=2)
    table = model.get_layer("encoder").get_layer("embeddings").token_table
    table.assign(20 * table)
    return model


def compiled(training, *, optimizer=None):
    """The model, ready to train."""
    optimizer = adamw(0.01, total_steps=6 * EPOCHS) if optimizer is None else optimizer
    training.compile(optimizer, loss=classify.loss(), metrics=classify.metrics(), jit_compile=False)
    return training


def fit(training, *, epochs: int = EPOCHS) -> keras.callbacks.History:
    """Train on 90 rows of many lengths, in batches of 16 and a last one of 10."""
    rows = toy.rows(90)
    given = batches(rows.texts, rows.labels, tokenizer=toy.tokenizer(), batch_size=16, shuffle=True)
    return training.fit(given, epochs=epochs, shuffle=False, verbose=0)


def accuracy(model) -> float:
    """On rows that it has not seen."""
    rows = toy.rows(60, seed=7)
    given = batches(rows.texts, rows.labels, tokenizer=toy.tokenizer(), batch_size=60)
    model.compile(loss=classify.loss(), metrics=["accuracy"], jit_compile=False)
    return model.evaluate(given, verbose=0, return_dict=True)["accuracy"]
