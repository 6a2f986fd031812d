"""The loss that one time budget buys: a finished pretraining run beside KerasHub's own loop.

KerasHub's `BertMaskedLM` of the run's size is trained on the run's documents, one paragraph a row
(its preprocessor cuts rows at 128 tokens and knows no packing), with the run's vocabulary, batch
size, dropout, peak learning rate, linear warm-up and decay, share of masked tokens, bfloat16, for
the seconds that the run trained; tracing counts for both, evaluation for neither. Both losses are
of the same masked tokens of the run's held-out documents, each text alone in its row: for our
model, which lets no packed text see another, that is the loss the run itself reports. Give both
the same processors (`taskset`).

Run: pip install -e '.[keras-hub]'
     tfmodel pretrain configs/pretrain_wiki_en.yaml
     python benchmarks/pretraining_curve.py runs/pretrain_wiki_en --output curve.jsonl \
         --picture curve.png

Wikitext-2, if TFMODEL_DATA is set: perplexity of our model on its masked tokens, before (random
weights) and after.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

POINTS = 12
DEV_TOKENS = 4_000  # masked ones that the loss is of


def read(path: Path) -> dict:
    return json.loads(path.read_text("utf-8"))


def own_vocabulary(run: Path):
    from tfmodel.tokens.vocabulary import Vocabulary

    return Vocabulary.from_file(run / "model" / "vocab.txt")


def run_config(run: Path) -> dict:
    import yaml

    return yaml.safe_load((run / "config.yaml").read_text("utf-8"))


def dev_rows(
    documents, run: Path, max_length: int, seed: int, mask_rate: float = 0.15
) -> dict[str, np.ndarray]:
    """Masked texts of documents, each alone in its row, padded to `max_length`."""
    from tfmodel.tokens.objectives import MlmSettings
    from tfmodel.tokens.pretraining_batches import PretrainingBatches

    batches = PretrainingBatches(
        documents,
        objective=MlmSettings(mask_rate=mask_rate),
        vocabulary=own_vocabulary(run),
        max_length=max_length,
        batch_size=64,
        seed=seed,
        fixed=True,
    )
    rows: dict[str, list] = {name: [] for name in ("token_ids", "places", "ids")}
    found = 0
    for index in range(len(batches)):
        inputs, ids, weights = batches.batch(0, index)
        for row in range(len(ids)):
            mask = inputs["padding_mask"][row]
            for text in range(1, mask.max() + 1):
                (own,) = np.nonzero(mask == text)
                used = weights[row] > 0
                places = inputs["masked_positions"][row][used] - own[0]
                inside = (places >= 0) & (places < len(own))
                rows["token_ids"].append(inputs["token_ids"][row][own])
                rows["places"].append(places[inside])
                rows["ids"].append(ids[row][used][inside])
                found += int(inside.sum())
        if found > DEV_TOKENS:
            break
    widest = max(map(len, rows["places"]))
    lengths = np.array([len(ids) for ids in rows["token_ids"]])
    counts = np.array([len(places) for places in rows["places"]])
    return {
        "token_ids": padded(rows["token_ids"], max_length),
        "padding_mask": (np.arange(max_length) < lengths[:, None]).astype(np.int32),
        "masked_positions": padded(rows["places"], widest),
        "masked_ids": padded(rows["ids"], widest),
        "weights": (np.arange(widest) < counts[:, None]).astype(np.float32),
    }


def padded(rows: list, length: int) -> np.ndarray:
    found = np.zeros((len(rows), length), np.int32)
    for place, row in enumerate(rows):
        found[place, : len(row)] = row
    return found


def mean_loss(model, rows: dict[str, np.ndarray], positions: str) -> float:
    """Cross-entropy of the masked tokens, in float64 from the model's logits."""
    total = 0.0
    for start in range(0, len(rows["token_ids"]), 64):
        part = {name: values[start : start + 64] for name, values in rows.items()}
        inputs = {name: part[name] for name in ("token_ids", "padding_mask")}
        inputs["segment_ids"] = np.zeros_like(part["token_ids"])
        inputs[positions] = part["masked_positions"]
        logits = np.asarray(model(inputs, training=False), np.float64)
        logits -= logits.max(-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
        chosen = np.take_along_axis(logits, part["masked_ids"][..., None], -1)[..., 0]
        total -= float((chosen * part["weights"]).sum())
    return total / float(rows["weights"].sum())


# --- the run, and KerasHub ----------------------------------------------------------------


def our_curve(run: Path) -> Iterator[dict]:
    history, training = read(run / "history.json"), read(run / "metrics.json")["train"]
    for point in history["dev"]:
        share = point["step"] / training["steps"]
        yield {
            "peer": "tfmodel",
            "seconds": round(share * training["seconds"], 1),
            "step": point["step"],
            "real_tokens": round(share * training["tokens"]),
            "loss": point["loss"],
        }


def paragraphs(run: Path) -> list[str]:
    from tfmodel.data.corpus import load_corpus

    corpus = load_corpus(run / "corpus")
    return [line for text in corpus.texts("train") for line in text.split("\n") if line.strip()]


def keras_hub_model(shape: dict, policy: str, dropout: float = 0.0):
    import keras
    import keras_hub

    keras.config.set_dtype_policy(policy)
    return keras_hub.models.BertMaskedLM(
        keras_hub.models.BertBackbone(
            vocabulary_size=shape["vocab_size"],
            num_layers=shape["num_hidden_layers"],
            num_heads=shape["num_attention_heads"],
            hidden_dim=shape["hidden_size"],
            intermediate_dim=shape["intermediate_size"],
            dropout=dropout,
            max_sequence_length=shape["max_position_embeddings"],
        ),
        preprocessor=None,
    )


def keras_hub_curve(run: Path, dev: dict[str, np.ndarray]) -> Iterator[dict]:
    """Train as KerasHub's guide does, for as long as the run did."""
    import keras
    import keras_hub
    import tensorflow as tf

    from tfmodel.model.checkpoints import read_config
    from tfmodel.train.schedule import linear_schedule

    config = run_config(run)
    settings, shape = config["train"], read_config(run / "model")
    budget, batch_size = read(run / "metrics.json")["train"]["seconds"], settings["batch_size"]
    keras.utils.set_random_seed(config["seed"])
    texts = paragraphs(run)
    tokenizer = keras_hub.models.BertTokenizer(str(run / "model" / "vocab.txt"), lowercase=True)
    preprocessor = keras_hub.models.BertMaskedLMPreprocessor(
        tokenizer,
        sequence_length=settings["max_length"],
        mask_selection_rate=config["objective"]["mask_rate"],
        mask_selection_length=math.ceil(config["objective"]["mask_rate"] * settings["max_length"]),
    )
    began = time.perf_counter()
    dropout = settings["dropout"]
    dropout = shape["hidden_dropout_prob"] if dropout is None else dropout
    model = keras_hub_model(shape, "mixed_bfloat16", dropout)
    # Answers in float32, as ours.
    answering = keras_hub_model(shape, "float32")
    dataset = tf.data.Dataset.from_tensor_slices(texts)
    dataset = dataset.shuffle(len(texts), seed=config["seed"]).repeat().batch(batch_size)
    dataset = dataset.map(preprocessor, num_parallel_calls=tf.data.AUTOTUNE)
    iterator = iter(dataset.prefetch(tf.data.AUTOTUNE))

    def compile_for(total_steps: int) -> None:
        rate = linear_schedule(
            settings["learning_rate"],
            total_steps=total_steps,
            warmup_share=settings["warmup_share"],
        )
        optimizer = keras.optimizers.AdamW(
            rate, weight_decay=settings["weight_decay"], epsilon=1e-6, global_clipnorm=1.0
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss=loss, jit_compile=False)
        model.make_train_function(force=True)

    # How many steps fit is measured by the first ones, which are kept: the rate rises from zero.
    compile_for(1_000_000)
    took = []
    for _ in range(8):
        asked = time.perf_counter()
        float(model.train_function(iterator)["loss"])
        took.append(time.perf_counter() - asked)
    spent = time.perf_counter() - began
    total = int((budget - spent) / float(np.median(took[2:])))
    compile_for(total)
    every, tokens, step = max(total // POINTS, 1), 0, 0
    per_batch = [int(np.sum(x["padding_mask"])) for x, _, _ in dataset.take(20)]
    clock = spent
    while clock < budget:
        asked = time.perf_counter()
        float(model.train_function(iterator)["loss"])
        clock += time.perf_counter() - asked
        step += 1
        if step % every == 0 or clock >= budget:
            tokens = round(step * float(np.mean(per_batch)))
            answering.set_weights(model.get_weights())
            yield {
                "peer": "kerashub",
                "seconds": round(clock, 1),
                "step": step,
                "real_tokens": tokens,
                "loss": mean_loss(answering, dev, "mask_positions"),
            }


# --- wikitext-2 ---------------------------------------------------------------------------


def wikitext(run: Path) -> Iterator[dict]:
    """Perplexity on masked tokens of Wikitext-2's test part, of random weights and of the run's."""
    import keras

    import tfmodel as tm
    from tfmodel.model import build_encoder, encoder_config
    from tfmodel.tasks import fill
    from tfmodel.tokens.token_documents import write_token_documents

    (path,) = (Path(os.environ["TFMODEL_DATA"]) / "wikitext2").glob("*test*")
    lines = [line.strip().replace("<unk>", "[UNK]") for line in path.open(encoding="utf-8")]
    texts = [line for line in lines if len(line.split()) > 20]
    loaded = fill.load(run / "model")
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = tm.Tokenizer.from_folder(run / "model")
        documents = write_token_documents(texts, tokenizer, Path(folder) / "tokens")
        rows = dev_rows(documents, run, loaded.max_length, seed=0)
    keras.utils.set_random_seed(0)
    random = fill.build(build_encoder(encoder_config(loaded.model.encoder)))
    for name, model in (("random weights", random), ("the run's", loaded.model)):
        loss = mean_loss(model, rows, "masked_positions")
        yield {"wikitext2": name, "loss": loss, "perplexity": math.exp(loss)}


def draw(points: list[dict], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for peer, name in (("tfmodel", "tfmodel"), ("kerashub", "KerasHub BertMaskedLM")):
        own = [point for point in points if point.get("peer") == peer]
        minutes = [point["seconds"] / 60 for point in own]
        axes.plot(minutes, [point["loss"] for point in own], marker="o", markersize=3, label=name)
    axes.set_xlabel("minutes of training")
    axes.set_ylabel("loss of masked tokens, held-out documents")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished pretraining run")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()

    from tfmodel.tasks import fill
    from tfmodel.tokens.token_documents import TokenDocuments

    loaded = fill.load(options.run / "model")
    dev = dev_rows(
        TokenDocuments(options.run / "tokens" / "dev"),
        options.run,
        loaded.max_length,
        seed=0,
        mask_rate=run_config(options.run)["objective"]["mask_rate"],
    )
    points = []

    def keep(point: dict) -> None:
        points.append(point)
        with options.output.open("a") as file:
            file.write(json.dumps(point) + "\n")
        print(point, flush=True)

    for point in our_curve(options.run):
        keep(point)
    keep({"peer": "tfmodel, same rows", "loss": mean_loss(loaded.model, dev, "masked_positions")})
    if "TFMODEL_DATA" in os.environ:
        for point in wikitext(options.run):
            keep(point)
    for point in keras_hub_curve(options.run, dev):
        keep(point)
    if options.picture:
        draw(points, options.picture)


if __name__ == "__main__":
    main()
