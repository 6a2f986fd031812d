"""Real tokens a second in pretraining: tfmodel, KerasHub and Hugging Face in torch, in one run.

BERT-mini (4 layers, D 256) as a masked language model, 64 rows of 128 tokens, bfloat16, each peer
with its own way from text to batch: KerasHub's `BertMaskedLM` with its preprocessor (20 places a
row, padded to 128), Hugging Face's `BertForMaskedLM` with bfloat16 autocast, fused AdamW and
`DataCollatorForLanguageModeling` (padded to the batch's longest row), tfmodel with packed rows.
Texts are tokenized before by tfmodel and Hugging Face, inside the step's input by KerasHub; masks
are drawn for each batch by all, within the time.

Real tokens are those that are not padding, special tokens included, of all peers alike.

--case wiki: one line of Wikipedia is one text. --case full: texts that fill every row.
Each peer is a process that stays; they take turns, so that a slow minute of the machine hits all.

Run: pip install -e '.[parity,keras-hub]'
     TFMODEL_DATA=... python benchmarks/pretrain_speed.py --case wiki --rounds 5
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROWS, LENGTH, PLACES = 64, 128, 20
LAYERS, WIDTH, HEADS, WIDE, VOCABULARY = 4, 256, 4, 1024, 30_522
LEARNING_RATE = 5e-4
LINES = 40_000
Step = Callable[[int], dict]


def data(name: str) -> Path:
    return Path(os.environ["TFMODEL_DATA"]) / name


def texts_of(case: str) -> list[str]:
    """Lines of Wikipedia; `full`: so many together that each fills a row whatever tokenizes it."""
    lines = []
    for path in sorted(p for p in data("wiki_en").rglob("*") if p.is_file()):
        for line in path.read_text("utf-8", errors="replace").split("\n"):
            if line.strip() and not re.match(r"</?doc\b", line):
                lines.append(line.strip())
        if len(lines) >= LINES:
            break
    lines = lines[:LINES]
    if case == "full":
        joined, words = [[]], 0
        for line in lines:
            joined[-1].append(line)
            words += len(line.split())
            if words >= 200:
                joined.append([])
                words = 0
        lines = [" ".join(part) for part in joined[:-1]]
    random.Random(0).shuffle(lines)
    return lines


def vocabulary() -> str:
    (path,) = data("vocabs").glob("*base-uncased*")
    return str(path)


# --- peers --------------------------------------------------------------------------------


def tfmodel_steps(texts: list[str]) -> Step:
    import tensorflow as tf

    import tfmodel as tm
    from tfmodel.model import SIZES, build_encoder
    from tfmodel.tasks import fill
    from tfmodel.tokens.objectives import MlmSettings
    from tfmodel.tokens.pretraining_batches import PretrainingBatches
    from tfmodel.tokens.token_documents import write_token_documents
    from tfmodel.tokens.vocabulary import Vocabulary
    from tfmodel.train.pretrain_step import PretrainingModel

    own = Vocabulary.from_file(vocabulary())
    folder = tempfile.TemporaryDirectory()
    began = time.perf_counter()
    documents = write_token_documents(texts, tm.Tokenizer(own), Path(folder.name) / "tokens")
    tokenized = time.perf_counter() - began
    batches = PretrainingBatches(
        documents,
        objective=MlmSettings(),
        vocabulary=own,
        max_length=LENGTH,
        batch_size=ROWS,
    )
    model = PretrainingModel(
        fill.build(build_encoder(SIZES["mini"], dtype="mixed_bfloat16")), task=fill
    )
    optimizer = tm.adamw(LEARNING_RATE, total_steps=1_000_000)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, jit_compile=False)
    model.make_train_function()
    some = [batches.batch(0, index)[0] for index in range(min(20, len(batches) - 1))]
    per_step = float(np.mean([(inputs["padding_mask"] > 0).sum() for inputs in some]))
    places = some[0]["masked_positions"].shape[1]
    iterator = None

    def run(steps: int) -> dict:
        nonlocal iterator
        if iterator is None:
            iterator = iter(batches.dataset())
        done, began = 0, time.perf_counter()
        while done < steps:
            try:
                logs = model.train_function(iterator)
                done += 1
            except tf.errors.OutOfRangeError:  # the epoch is over
                iterator = iter(batches.dataset())
        loss = float(logs["loss"])
        seconds = time.perf_counter() - began
        return {
            "seconds": seconds,
            "real": per_step * steps,
            "padded": ROWS * LENGTH * steps,
            "loss": loss,
            "places": places,
            "tokenized": len(documents.ids) / tokenized,
        }

    run.keep = folder
    return run


def keras_hub_steps(texts: list[str], jit: bool = False) -> Step:
    import keras
    import keras_hub
    import tensorflow as tf

    keras.config.set_dtype_policy("mixed_bfloat16")
    tokenizer = keras_hub.models.BertTokenizer(vocabulary(), lowercase=True)
    preprocessor = keras_hub.models.BertMaskedLMPreprocessor(
        tokenizer, sequence_length=LENGTH, mask_selection_length=PLACES
    )
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=VOCABULARY,
        num_layers=LAYERS,
        num_heads=HEADS,
        hidden_dim=WIDTH,
        intermediate_dim=WIDE,
        dropout=0.1,
        max_sequence_length=512,
    )
    model = keras_hub.models.BertMaskedLM(backbone, preprocessor=None)
    optimizer = keras.optimizers.AdamW(
        LEARNING_RATE, weight_decay=0.01, epsilon=1e-8, global_clipnorm=1.0
    )
    model.compile(
        optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy()],
        jit_compile=jit,
    )
    model.make_train_function()
    dataset = tf.data.Dataset.from_tensor_slices(texts).shuffle(len(texts)).repeat()
    dataset = dataset.batch(ROWS).map(preprocessor, num_parallel_calls=tf.data.AUTOTUNE)
    lengths = [int(np.sum(x["padding_mask"])) for x, _, _ in dataset.take(20)]
    per_step = float(np.mean(lengths))
    iterator = iter(dataset.prefetch(tf.data.AUTOTUNE))

    def run(steps: int) -> dict:
        began = time.perf_counter()
        for _ in range(steps):
            logs = model.train_function(iterator)
        loss = float(logs["loss"])
        seconds = time.perf_counter() - began
        return {
            "seconds": seconds,
            "real": per_step * steps,
            "padded": ROWS * LENGTH * steps,
            "loss": loss,
            "places": PLACES,
        }

    return run


def hugging_face_steps(texts: list[str]) -> Step:
    import torch
    import transformers

    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    tokenizer = transformers.BertTokenizerFast(vocab=vocabulary(), do_lower_case=True)
    began = time.perf_counter()
    rows = tokenizer(texts, truncation=True, max_length=LENGTH, return_special_tokens_mask=True)
    tokenized = time.perf_counter() - began
    rows = [{name: rows[name][index] for name in rows} for index in range(len(texts))]
    collator = transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=WIDE,
    )
    model = transformers.BertForMaskedLM(config)
    model.train()
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.01},
            {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=LEARNING_RATE,
        fused=True,
    )
    loader = torch.utils.data.DataLoader(
        rows, batch_size=ROWS, shuffle=True, drop_last=True, collate_fn=collator
    )

    def forever():
        while True:
            yield from loader

    batches = forever()

    def run(steps: int) -> dict:
        real = padded = 0
        began = time.perf_counter()
        for _ in range(steps):
            batch = next(batches)
            real += int(batch["attention_mask"].sum())
            padded += batch["input_ids"].numel()
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        loss = loss.item()
        seconds = time.perf_counter() - began
        return {
            "seconds": seconds,
            "real": real,
            "padded": padded,
            "loss": loss,
            "places": padded / steps / ROWS,  # of a row: all of them
            "tokenized": sum(len(row["input_ids"]) for row in rows) / tokenized,
        }

    return run


MAKERS = {
    "tfmodel": tfmodel_steps,
    "kerashub": keras_hub_steps,
    "kerashub_jit": lambda texts: keras_hub_steps(texts, jit=True),
    "huggingface": hugging_face_steps,
}


def serve(peer: str, case: str) -> None:
    """Answer lines that hold a number of steps until there are no more."""
    step = MAKERS[peer](texts_of(case))
    print(json.dumps({}), flush=True)
    for line in sys.stdin:
        print(json.dumps(step(int(line))), flush=True)


# torch asks the system for 1 GB of logits anew in each step, and waits for its pages: kept by the
# allocator, a step takes half the time. TensorFlow's peers do not change with it.
KEEPS_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**33),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**28),
}


class Peer:
    """A peer's process."""

    def __init__(self, name: str, case: str):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
        if name == "huggingface":
            environment |= KEEPS_MEMORY
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--peer", name, "--case", case],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._answer()

    def steps(self, count: int) -> dict:
        """What so many steps took."""
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> dict:
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"{self.name} ended with exit code {self.process.wait()}.")


# --- what the products alone take ---------------------------------------------------------


def product_shapes(tokens: int, length: int, places: int, *, last_at_places: bool):
    """(how often, batch, m, k, n) of the products of a step's way forward.

    Args:
        tokens: of a step, padding included.
        length: of a row.
        places: of a step, that logits are computed at.
        last_at_places: whether the last layer is computed for them alone.
    """
    rows = tokens // length
    for layer in range(LAYERS):
        asking = places if last_at_places and layer == LAYERS - 1 else tokens
        yield 1, 1, tokens, WIDTH, 3 * WIDTH
        yield 1, 1, asking, WIDTH, WIDTH
        yield 1, 1, asking, WIDTH, WIDE
        yield 1, 1, asking, WIDE, WIDTH
        yield 2, rows * HEADS, asking // rows, WIDTH // HEADS, length
    yield 1, 1, places, WIDTH, WIDTH
    yield 1, 1, places, WIDTH, VOCABULARY


def seconds_of_products(shapes, repeats: int = 5) -> float:
    """What all products of a step take by themselves, both ways, in bfloat16 in TensorFlow."""
    import tensorflow as tf

    def product(a, b):
        out = tf.matmul(a, b)
        back = tf.matmul(out, b, transpose_b=True), tf.matmul(a, out, transpose_a=True)
        return out[0, 0], back[0][0, 0], back[1][0, 0]

    product = tf.function(product)
    total = 0.0
    for often, batch, m, k, n in shapes:
        first = (m, k) if batch == 1 else (batch, m, k)
        second = (k, n) if batch == 1 else (batch, k, n)
        a, b = (tf.cast(tf.random.normal(shape), tf.bfloat16) for shape in (first, second))
        product(a, b)
        took = []
        for _ in range(repeats):
            began = time.perf_counter()
            product(a, b)
            took.append(time.perf_counter() - began)
        total += often * statistics.median(took)
    return total


def products(figures: dict) -> None:
    """Print the seconds of the products of each peer's step."""
    found = {}
    for name, (tokens, length, places) in figures.items():
        shapes = product_shapes(tokens, length, places, last_at_places=name == "tfmodel")
        found[name] = seconds_of_products(shapes)
    print(json.dumps(found))


# --- the run ------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=("wiki", "full"), default="wiki")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="of a turn, about")
    parser.add_argument("--peers", default="tfmodel,kerashub,huggingface")
    parser.add_argument("--output", type=Path, default=Path("pretrain_speed.jsonl"))
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--products", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        serve(options.peer, options.case)
        return
    if options.products:
        products(json.loads(options.products))
        return
    names = options.peers.split(",")
    running = [Peer(name, options.case) for name in names]
    steps, found = {}, {name: [] for name in names}
    for peer in running:
        peer.steps(2)  # traces
        steps[peer.name] = max(2, round(options.seconds / peer.steps(2)["seconds"] * 2))
    for _ in range(options.rounds):
        for peer in running:
            figures = peer.steps(steps[peer.name])
            figures["steps"] = steps[peer.name]
            found[peer.name].append(figures)
            with open(options.output, "a", encoding="utf-8") as lines:
                lines.write(json.dumps({"case": options.case, "peer": peer.name, **figures}) + "\n")
    for peer in running:
        peer.close()
    shapes = {}
    for name in names:
        last = found[name][-1]
        tokens = round(last["padded"] / last["steps"])
        length = round(tokens / ROWS)
        shapes[name] = (ROWS * length, length, round(ROWS * last["places"]))
    alone = json.loads(
        subprocess.run(
            [sys.executable, __file__, "--products", json.dumps(shapes)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        ).stdout.splitlines()[-1]
    )
    print(f"\n{options.case}: medians of {options.rounds} turns, lowest and highest in brackets")
    print(
        f"{'peer':<14}{'real tokens/s':>26}{'ratio':>8}{'padding':>9}{'ms a step':>11}"
        f"{'products':>10}{'outside':>9}"
    )
    rates = {name: [each["real"] / each["seconds"] for each in found[name]] for name in names}
    for name in names:
        last = found[name][-1]
        ratios = [ours / other for ours, other in zip(rates[names[0]], rates[name], strict=True)]
        step = statistics.median(each["seconds"] / each["steps"] for each in found[name])
        padding = 1 - sum(e["real"] for e in found[name]) / sum(e["padded"] for e in found[name])
        shown = f"{statistics.median(rates[name]):,.0f} ({min(rates[name]):,.0f} to "
        shown += f"{max(rates[name]):,.0f})"
        print(
            f"{name:<14}{shown:>26}{statistics.median(ratios):>8.2f}{padding:>9.1%}"
            f"{1e3 * step:>11.0f}{1e3 * alone[name]:>10.0f}{1 - alone[name] / step:>9.0%}"
        )
    for name in names:
        if "tokenized" in found[name][-1]:
            print(f"{name}: tokenizes {found[name][-1]['tokenized']:,.0f} tokens/s beforehand")


if __name__ == "__main__":
    main()
