"""A toy set that a tiny BERT learns in seconds: the label is which of two words the text holds.

Run as a program it trains, for tests of runs in another process:
python toy.py CHECKPOINTS OUT.json [STEP_TO_DIE_AT]
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import keras
import numpy as np

from tfmodel.data import Split
from tfmodel.model import BertConfig, build_encoder
from tfmodel.tasks import classify
from tfmodel.tokens import Tokenizer, Vocabulary
from tfmodel.train import FinetuneSettings
from tfmodel.train.finetune import finetune

WORDS = ["good", "bad", "the", "film", "was", "very", "long", "and", "a", "plot"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
LABELS = ["bad", "good"]
SETTINGS = {
    "epochs": 4,
    "learning_rate": 0.03,
    "batch_size": 16,
    "max_length": 12,
    "precision": "float32",
    "jit": False,
}


def rows(count: int = 90, *, seed: int = 0) -> Split:
    """Texts of 2 to 9 words, each with one of the two that decide."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count).astype(np.int32)
    texts = []
    for label in labels:
        words = list(random.choice(WORDS[2:], random.integers(1, 9)))
        words.insert(random.integers(0, len(words) + 1), LABELS[label])
        texts.append(" ".join(words))
    return Split(texts, None, labels, [""] * count)


def tokenizer() -> Tokenizer:
    return Tokenizer(Vocabulary(PIECES), max_length=12)


def new_model(*, seed: int = 1, vocabulary_size: int = len(PIECES)) -> keras.Model:
    """A classifier with dropout, as fresh as the seed says."""
    keras.utils.set_random_seed(seed)
    config = BertConfig(
        vocabulary_size=vocabulary_size,
        hidden_size=16,
        layers=1,
        heads=2,
        intermediate_size=32,
        max_positions=12,
    )
    return classify.build(build_encoder(config, sequence=False), classes=2)


def train(
    checkpoints, *, model=None, train=None, dev=None, seed=3, key="toy", logs=None, **changed
):
    """Fine-tune on the toy set with `SETTINGS`, some of them changed."""
    model = new_model() if model is None else model
    result = finetune(
        model,
        tokenizer(),
        rows() if train is None else train,
        rows(40, seed=9) if dev is None else dev,
        task=classify,
        labels=LABELS,
        settings=FinetuneSettings(**{**SETTINGS, **changed}),
        seed=seed,
        checkpoints=checkpoints,
        logs=logs,
        key=key,
    )
    return model, result


def digest(model) -> str:
    """A hash of every bit of the weights."""
    found = hashlib.sha256()
    for weight in model.trainable_weights:
        found.update(weight.numpy().tobytes())
    return found.hexdigest()


def main(checkpoints: str, out: str, die_at: str | None = None) -> None:
    changed = {}
    if die_at is not None:
        import os
        import signal

        from tfmodel.train.callbacks import StepRecorder

        changed["checkpoint_seconds"] = 1e-6
        record = StepRecorder.on_train_batch_end

        def record_or_die(self, batch, logs=None):
            record(self, batch, logs)
            if self.history[-1]["step"] == int(die_at):
                os.kill(os.getpid(), signal.SIGKILL)

        StepRecorder.on_train_batch_end = record_or_die
    model, result = train(checkpoints, **changed)
    Path(out).write_text(json.dumps({"digest": digest(model), "steps": result.steps}))


if __name__ == "__main__":
    main(*sys.argv[1:])
