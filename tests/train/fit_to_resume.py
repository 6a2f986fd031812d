"""A user's own `fit` that can be interrupted: as a module for tests, as a program to be killed.

python fit_to_resume.py KIND FOLDER OUT.json [WRITE STAGE]: it kills itself in the writing of the
checkpoint with number WRITE (from 1), at STAGE: before, half or after.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import keras
import numpy as np
import toy

from tfmodel.tasks import classify
from tfmodel.tokens.batches import batches
from tfmodel.train import adamw
from tfmodel.train.callbacks import EpochRecorder, KeepBest, Resume, StopOnNaN
from tfmodel.train.regularize import (
    ExponentialMovingAverage,
    GradualUnfreezing,
    LearningRateOnPlateau,
)
from tfmodel.train.step import TrainingModel

STEPS_AN_EPOCH = 6


class Losses(keras.callbacks.Callback):
    """Every number that `fit` gives of every step, exactly; and a line on stdout."""

    def __init__(self):
        super().__init__()
        self.history = []

    def on_train_batch_end(self, batch, logs=None):
        logs = {name: float(value) for name, value in logs.items()}
        self.history.append([int(self.model.optimizer.iterations), logs])
        print("step", len(self.history), flush=True)

    def state(self):
        return {"history": self.history}

    def set_state(self, state):
        self.history[:] = state["history"]


def fit(kind, folder, *, callbacks=(), seconds=60.0, epochs=3):
    """Train a toy classifier as a user would: build all anew, and give `fit` a `Resume`.

    The kind `keras` has nothing of ours but the model, `everything` has accumulation, unfreezing,
    averages and plateaus, `bfloat16` the same but for accumulation.
    """
    keras.config.set_dtype_policy("mixed_bfloat16" if kind == "bfloat16" else "float32")
    try:
        model = toy.new_model()
    finally:
        keras.config.set_dtype_policy("float32")
    train, dev = toy.rows(), toy.rows(40, seed=9)
    fed = batches(
        train.texts, train.labels, tokenizer=toy.tokenizer(), batch_size=16, shuffle=True, seed=3
    )
    held_out = batches(dev.texts, dev.labels, tokenizer=toy.tokenizer())
    losses, figures = Losses(), EpochRecorder()
    if kind == "keras":
        training, optimizer = model, keras.optimizers.Adam(0.02)
        pieces = [
            keras.callbacks.EarlyStopping("val_loss", patience=50),
            keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=0.2),
        ]
    else:
        training = TrainingModel(model, accumulation_steps=3 if kind == "everything" else 1)
        optimizer = adamw(0.02, total_steps=epochs * STEPS_AN_EPOCH)
        pieces = [
            GradualUnfreezing(epochs=2),
            ExponentialMovingAverage(0.9),
            LearningRateOnPlateau("val_loss", min_delta=0.5),
            KeepBest("val_accuracy", patience=50),
        ]
    training.compile(optimizer, loss=classify.loss(), metrics=classify.metrics(), jit_compile=False)
    known = [losses, figures, *pieces]
    resume = Resume(folder, fed, remember=known, seconds=seconds)
    try:
        training.fit(
            fed, validation_data=held_out, epochs=epochs, shuffle=False, verbose=0,
            callbacks=[StopOnNaN(fed), *known, *callbacks, resume],
        )  # fmt: skip
    finally:
        resume.release()  # where it failed a checkpoint may still be on its way
    return {
        "digest": toy.digest(model),
        "losses": losses.history,
        "epochs": figures.history,
    }, resume


def kill_in_write(number, stage):
    """Kill this process in the writing of a checkpoint."""
    import os
    import signal

    from tfmodel.train import checkpoint

    write, count = np.savez, 0

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def savez(file, **arrays):
        nonlocal count
        count += 1
        if count != number:
            return write(file, **arrays)
        if stage == "half":
            write(file, **arrays)
            file.truncate(file.tell() // 2)
        if stage != "after":
            file.flush()
            die()
        write(file, **arrays)
        rename = Path.rename

        def rename_and_die(self, target):
            rename(self, target)
            die()

        Path.rename = rename_and_die

    checkpoint.np.savez = savez


if __name__ == "__main__":
    kind, folder, out = sys.argv[1:4]
    if len(sys.argv) > 4:
        kill_in_write(int(sys.argv[4]), sys.argv[5])
    slow = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: time.sleep(0.02))
    found, _ = fit(kind, folder, callbacks=[slow], seconds=0.05, epochs=6)
    Path(out).write_text(json.dumps(found))
