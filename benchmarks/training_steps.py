"""One training step of MiniLM on full rows, by tfmodel, Hugging Face in torch and KerasHub.

Each peer is a process that stays: it is told a number of rows, their length and a number of steps,
and answers with the seconds and its peak memory. So peers take turns without starting anew.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

LEARNING_RATE = 1e-4
VOCABULARY = 30_522
Step = Callable[[dict[str, np.ndarray], np.ndarray, int], float]


def tfmodel_steps(folder: str, recompute: bool = False) -> Step:
    import tfmodel as tm

    options = {"recompute": True} if recompute else {}
    encoder = tm.load_encoder(folder, sequence=False, dtype="mixed_bfloat16", **options)
    model = tm.TrainingModel(tm.tasks.classify.build(encoder, classes=2))
    optimizer = tm.adamw(LEARNING_RATE, total_steps=100_000)
    optimizer.build(model.trainable_variables)
    model.compile(
        optimizer,
        loss=tm.tasks.classify.loss(),
        metrics=tm.tasks.classify.metrics(),
        jit_compile=False,
    )
    return _fit(model)


def keras_hub_steps(folder: str) -> Step:
    import keras
    import keras_hub

    keras.config.set_dtype_policy("mixed_bfloat16")
    backbone = keras_hub.models.BertBackbone.from_preset(folder)
    model = keras_hub.models.BertTextClassifier(backbone, num_classes=2, preprocessor=None)
    optimizer = keras.optimizers.AdamW(
        LEARNING_RATE, weight_decay=0.01, epsilon=1e-8, global_clipnorm=1.0
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(
        optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    return _fit(model)


def _fit(model) -> Step:
    import tensorflow as tf

    def run(rows, labels, steps: int) -> float:
        model.make_train_function()
        # One trace for all shapes, as in a training on rows of many lengths.
        signature = tf.nest.map_structure(
            lambda values: tf.TensorSpec([None] * values.ndim, values.dtype), (rows, labels)
        )
        data = tf.data.Dataset.from_generator(
            lambda: iter([(rows, labels)] * steps), output_signature=signature
        )
        iterator = iter(data.prefetch(2))
        began = time.perf_counter()
        for _ in range(steps):
            logs = model.train_function(iterator)
        float(logs["loss"])
        return time.perf_counter() - began

    return run


def hugging_face_steps(folder: str, recompute: bool = False) -> Step:
    import torch
    import transformers

    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    if recompute:
        model.gradient_checkpointing_enable()
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.01},
            {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=LEARNING_RATE,
        fused=True,
    )
    model.train()

    def run(rows, labels, steps: int) -> float:
        names = {"token_ids": "input_ids", "segment_ids": "token_type_ids"}
        names |= {"padding_mask": "attention_mask"}
        batch = {names[key]: torch.tensor(value.astype(np.int64)) for key, value in rows.items()}
        targets = torch.tensor(labels.astype(np.int64))
        began = time.perf_counter()
        for _ in range(steps):
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(**batch, labels=targets).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        loss.item()
        return time.perf_counter() - began

    return run


MAKERS = {
    "tfmodel": tfmodel_steps,
    "huggingface": hugging_face_steps,
    "kerashub": keras_hub_steps,
    "tfmodel_recompute": lambda folder: tfmodel_steps(folder, recompute=True),
    "huggingface_recompute": lambda folder: hugging_face_steps(folder, recompute=True),
}


def serve(peer: str, folder: str) -> None:
    """Answer lines of `rows length steps` until there are no more."""
    step = MAKERS[peer](folder)
    random = np.random.default_rng(0)
    before = peak_bytes()
    print(json.dumps({"before": before}), flush=True)
    for line in sys.stdin:
        rows, length, steps = map(int, line.split())
        shape = (rows, length)
        batch = {
            "token_ids": random.integers(1000, VOCABULARY, shape).astype(np.int32),
            "segment_ids": np.zeros(shape, np.int32),
            "padding_mask": np.ones(shape, np.int32),
        }
        labels = random.integers(0, 2, rows).astype(np.int32)
        seconds = step(batch, labels, steps)
        print(json.dumps({"seconds": seconds, "peak": peak_bytes()}), flush=True)


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Peer:
    """A peer's process."""

    def __init__(self, name: str, folder: str):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, __file__, name, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.before = self._answer()["before"]

    def steps(self, rows: int, length: int, steps: int) -> dict:
        """Seconds of `steps` steps, and the process' peak of memory in bytes so far."""
        self.process.stdin.write(f"{rows} {length} {steps}\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with exit code {self.process.wait()}.")
        return json.loads(line)


def bfloat16_rate(size: int = 4096, repeats: int = 5) -> float:
    """The machine's own bfloat16 matrix product, in floating-point operations a second."""
    code = (
        "import time, tensorflow as tf\n"
        f"a, b = (tf.cast(tf.random.normal(({size}, {size})), tf.bfloat16) for _ in 'ab')\n"
        "f = tf.function(lambda a, b: tf.matmul(a, b)); f(a, b); best = []\n"
        f"for _ in range({repeats}):\n"
        "    began = time.perf_counter(); f(a, b); best.append(time.perf_counter() - began)\n"
        f"print(2 * {size}**3 / sorted(best)[len(best) // 2])"
    )
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    return float(done.stdout)


def step_operations(rows: int, length: int, *, layers=6, hidden=384, wide=1536) -> float:
    """Floating-point operations in the matrix products of a step, way back included.

    All layers on all tokens, as the peers compute them; tfmodel computes the last one for the first
    token of each row alone, and is credited with the whole.
    """
    products = 2 * (4 * hidden * hidden + 2 * hidden * wide) + 4 * length * hidden
    return 3.0 * rows * length * layers * products


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2])
