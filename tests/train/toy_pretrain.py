"""A toy language that a tiny BERT learns: every word has one that always follows it.

Run as a program it pretrains, for tests of runs in another process:
python toy_pretrain.py OBJECTIVE CHECKPOINTS OUT.json [STEP_TO_DIE_AT]
With DEVICES=2 in the environment it does so on two logical processors; without dropout then.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import keras
import numpy as np
import toy

from tfmodel.model import BertConfig, build_encoder
from tfmodel.tasks import find_objective
from tfmodel.tokens import Tokenizer, Vocabulary
from tfmodel.tokens.pretraining_batches import PretrainingBatches
from tfmodel.tokens.token_documents import TokenDocuments, write_token_documents
from tfmodel.train.pretrain import pretrain
from tfmodel.train.pretrain_settings import PretrainSettings

WORDS = [f"{first}{second}" for first in "bdfgklmn" for second in "aeiou"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *WORDS]
SETTINGS = {
    "steps": 30,
    "learning_rate": 0.01,
    "batch_size": 16,
    "max_length": 24,
    "precision": "float32",
    "jit": False,
    "dev_every_steps": 10,
}


def tokenizer() -> Tokenizer:
    return Tokenizer(Vocabulary(PIECES), max_length=24)


def texts(count: int = 120, *, seed: int = 0) -> list[str]:
    """Texts of 1 to 4 sentences of 2 to 5 pairs: of words with even and the next odd number."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        sentences = []
        for _ in range(random.integers(1, 5)):
            chosen = 2 * random.integers(0, len(WORDS) // 2, random.integers(2, 6))
            words = " ".join(f"{WORDS[i]} {WORDS[i + 1]}" for i in chosen)
            sentences.append(f"{words.capitalize()}.")
        found.append(" ".join(sentences))
    return found


def documents(folder, *, seed: int = 0, count: int = 120) -> TokenDocuments:
    folder = Path(folder)
    if not folder.exists():
        write_token_documents(texts(count, seed=seed), tokenizer(), folder, sentences=True)
    return TokenDocuments(folder)


def batches(found: TokenDocuments, *, objective: str = "mlm", seed: int = 5, fixed: bool = False):
    from pydantic import TypeAdapter

    from tfmodel.tokens.objectives import ObjectiveSettings

    return PretrainingBatches(
        found,
        objective=TypeAdapter(ObjectiveSettings).validate_python({"name": objective}),
        vocabulary=tokenizer().vocabulary,
        max_length=SETTINGS["max_length"],
        batch_size=SETTINGS["batch_size"],
        seed=seed,
        fixed=fixed,
    )


def new_model(objective: str = "mlm", *, seed: int = 1, dtype: str = "float32") -> keras.Model:
    keras.utils.set_random_seed(seed)
    config = BertConfig(
        vocabulary_size=len(PIECES), hidden_size=32, layers=2, heads=4, intermediate_size=64,
        max_positions=24, dropout=0.1, attention_dropout=0.1,
    )  # fmt: skip
    return find_objective(objective).build(build_encoder(config, dtype=dtype))


def train(checkpoints, folder, *, objective="mlm", model=None, key="toy", logs=None, **changed):
    """Pretrain on the toy language with `SETTINGS`, some of them changed."""
    model = new_model(objective) if model is None else model
    settings = {**SETTINGS, **changed}
    if "seconds" in changed:
        del settings["steps"]
    result = pretrain(
        model,
        batches(documents(Path(folder) / "train"), objective=objective),
        batches(documents(Path(folder) / "dev", seed=9, count=40), objective=objective, fixed=True),
        task=find_objective(objective),
        settings=PretrainSettings(**settings),
        checkpoints=checkpoints,
        logs=logs,
        key=key,
    )
    return model, result


def model_on(devices: int, objective: str) -> keras.Model:
    """A fresh model on that many logical processors."""
    import tensorflow as tf

    (processor,) = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration()] * devices
    tf.config.set_logical_device_configuration(processor, parts)
    names = [f"CPU:{number}" for number in range(devices)]
    strategy = (
        tf.distribute.MirroredStrategy(names) if devices > 1 else tf.distribute.get_strategy()
    )
    with strategy.scope():
        return new_model(objective)


def main(objective: str, checkpoints: str, out: str, die_at: str | None = None) -> None:
    changed = {}
    if die_at is not None:
        import signal

        from tfmodel.train.callbacks import StepRecorder

        changed["checkpoint_seconds"] = 1e-6
        record = StepRecorder.on_train_batch_end

        def record_or_die(self, batch, logs=None):
            record(self, batch, logs)
            if self.history[-1]["step"] == int(die_at):
                os.kill(os.getpid(), signal.SIGKILL)

        StepRecorder.on_train_batch_end = record_or_die
    model = None
    if devices := int(os.environ.get("DEVICES", "0")):
        changed["dropout"] = 0.0  # what is dropped differs from device to device
        model = model_on(devices, objective)
    model, result = train(
        checkpoints, Path(out).parent / "tokens", objective=objective, model=model, **changed
    )
    found = {"digest": toy.digest(model), "steps": result.steps, "dev": result.dev}
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
