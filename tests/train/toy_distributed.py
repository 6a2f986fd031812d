"""Trainings of a tiny model under the strategy that the environment gives, for tests.

python toy_distributed.py OUT.json DEVICES CASE... : DEVICES are logical processors, whose training
is compared with that of one; or 0 for the workers of TF_CONFIG.
"""

from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from tfmodel.model import BertConfig, build_encoder
from tfmodel.tasks import classify
from tfmodel.tokens.batches import Batches, TokenRows
from tfmodel.train import adamw
from tfmodel.train.adversarial import FGM
from tfmodel.train.callbacks import Resume
from tfmodel.train.distribute import choose_strategy, gather, worker_count
from tfmodel.train.step import TrainingModel


def batches(rows: int, *, size: int, vocabulary_size: int, weighted: bool, seed: int = 0):
    """Rows of 2 to 11 tokens: the last batch is short, so that a replica has none of it."""
    random = np.random.default_rng(seed)
    lengths = random.integers(2, 12, rows)
    ids = random.integers(5, vocabulary_size, lengths.sum()).astype(np.int32)
    return Batches(
        TokenRows(ids, np.concatenate([[0], np.cumsum(lengths)]), lengths),
        random.integers(0, 3, rows).astype(np.int32),
        weights=random.random(rows).astype(np.float32) if weighted else None,
        batch_size=size,
        seed=1,
    )


CASES = {
    "plain": {},
    "parts": {"vocabulary_size": 5000, "accumulation_steps": 3, "weighted": True},
    "fgm": {"accumulation_steps": 2, "adversary": lambda: FGM(0.5)},
    "keras": {"optimizer": lambda: keras.optimizers.Adam(1e-2, global_clipnorm=0.5)},
    "sum": {"loss": lambda: keras.losses.SparseCategoricalCrossentropy(True, reduction="sum")},
    "dropout": {"dropout": 0.3},
    "not a number": {"bad_step": True},
    "whole": {"dropout": 0.3, "accumulation_steps": 2},
}


class Keep(keras.callbacks.Callback):
    """What the logs said of each step and epoch."""

    def __init__(self):
        super().__init__()
        self.steps, self.epochs = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append([float(logs["step_loss"]), float(logs["gradient_norm"])])

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append({name: float(value) for name, value in logs.items()})


class StopAfter(keras.callbacks.Callback):
    """Break off where so many steps were done."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_begin(self, batch, logs=None):
        self.left -= 1
        if self.left < 0:
            raise InterruptedError


def train(
    strategy,
    *,
    vocabulary_size=60,
    accumulation_steps=1,
    weighted=False,
    adversary=None,
    optimizer=None,
    loss=None,
    dropout=0.0,
    bad_step=False,
    folder=None,
    stop_after=None,
) -> dict:
    """Two epochs of 5 batches, 21 rows in all, and their dev figures."""
    keras.utils.set_random_seed(3)
    config = BertConfig(
        vocabulary_size=vocabulary_size,
        hidden_size=16,
        layers=1,
        heads=2,
        intermediate_size=32,
        max_positions=12,
        dropout=dropout,
        attention_dropout=dropout,
    )
    with strategy.scope():
        model = classify.build(build_encoder(config, sequence=False), classes=3)
        model.get_layer("head").kernel.assign(np.random.default_rng(1).normal(size=(16, 3)))
        training = TrainingModel(
            model,
            accumulation_steps=accumulation_steps,
            adversary=None if adversary is None else adversary(),
        )
        training.compile(
            adamw(1e-2) if optimizer is None else optimizer(),
            loss=classify.loss() if loss is None else loss(),
            metrics=["accuracy"],
            jit_compile=False,
        )
    rows = batches(21, size=5, vocabulary_size=vocabulary_size, weighted=weighted)
    if bad_step:
        rows.weights = np.ones(21, np.float32)
        rows.weights[rows.plan(0)[2][-1]] = np.nan
    held_out = batches(7, size=3, vocabulary_size=vocabulary_size, weighted=False, seed=4)
    keep = Keep()
    callbacks = [keep]
    if folder is not None:
        callbacks.append(Resume(folder, rows, seconds=1e-9))
    if stop_after is not None:
        callbacks.insert(0, StopAfter(stop_after))
    try:
        training.fit(
            rows.dataset(),
            validation_data=held_out.dataset(),
            epochs=2,
            shuffle=False,
            verbose=0,
            callbacks=callbacks,
        )
    except InterruptedError:
        callbacks[-1].release()
    weights = [weight.numpy() for weight in model.trainable_weights]
    replicas = [
        [copy.numpy().tobytes() for copy in strategy.experimental_local_results(weight.value)]
        for weight in model.trainable_weights
    ]
    drawn = [
        [copy.numpy().tolist() for copy in strategy.experimental_local_results(state.value)]
        for state in training.dropout_states
    ]
    return {
        "steps": keep.steps,
        "epochs": keep.epochs,
        "weights": [weight.astype(float).ravel().tolist() for weight in weights],
        "replicas_equal": all(len(set(copies)) == 1 for copies in replicas),
        "replicas": strategy.num_replicas_in_sync,
        "iterations": int(training.optimizer.iterations.numpy()),
        "random_states": drawn,
    }


def main(out: str, devices: str, *cases: str) -> None:
    if int(devices) > 1:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * int(devices),
        )
    strategy = choose_strategy("all" if int(devices) > 1 else 1, timeout_seconds=120)
    found = {case: train(strategy, **CASES[case]) for case in cases}
    if int(devices) > 1:
        found["alone"] = {
            case: train(tf.distribute.get_strategy(), **CASES[case])
            for case in cases
            if "dropout" not in CASES[case]
        }
    if "whole" in cases:
        folder = os.path.join(os.path.dirname(out), "checkpoints")
        found["begun"] = train(strategy, **CASES["whole"], folder=folder, stop_after=7)
        found["resumed"] = train(strategy, **CASES["whole"], folder=folder)
    found["workers"] = gather(strategy, {"pid": os.getpid(), "é": worker_count(strategy)})
    with open(out, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
