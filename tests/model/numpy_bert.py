"""A Hugging Face BERT folder made of random numbers, and BERT's arithmetic said in NumPy.

Neither uses any code of tfmodel: they are what the encoder and the checkpoints are held against.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

CONFIG = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 12,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.2,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *"012345678"]


def make_tensors(config: dict = CONFIG, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights by their Hugging Face names; a linear layer's weight is (out, in)."""
    random = np.random.default_rng(seed)
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    tensors = {}

    def draw(name: str, *shape: int) -> None:
        tensors[name] = random.normal(size=shape, scale=0.3).astype(np.float32)

    def linear(name: str, inputs: int, outputs: int) -> None:
        draw(f"{name}.weight", outputs, inputs)
        draw(f"{name}.bias", outputs)

    def norm(name: str) -> None:
        draw(f"{name}.weight", hidden)
        tensors[f"{name}.weight"] += 1
        draw(f"{name}.bias", hidden)

    draw("embeddings.word_embeddings.weight", config["vocab_size"], hidden)
    draw("embeddings.position_embeddings.weight", config["max_position_embeddings"], hidden)
    draw("embeddings.token_type_embeddings.weight", config["type_vocab_size"], hidden)
    norm("embeddings.LayerNorm")
    for index in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{index}"
        for part in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{part}", hidden, hidden)
        linear(f"{layer}.attention.output.dense", hidden, hidden)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", hidden, wide)
        linear(f"{layer}.output.dense", wide, hidden)
        norm(f"{layer}.output.LayerNorm")
    linear("pooler.dense", hidden, hidden)
    return tensors


def write_folder(
    folder: Path, *, tensors: dict | None = None, config: dict | None = None, pieces=PIECES
) -> Path:
    """Write `config.json`, `model.safetensors` and `vocab.txt`."""
    config = CONFIG if config is None else config
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    tensors = make_tensors(config) if tensors is None else tensors
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    return folder


def run_bert(
    tensors: dict, batch: dict, config: dict = CONFIG, *, pool=np.tanh
) -> dict[str, np.ndarray]:
    """BERT on an ordinary batch, row by row and without its padding, in float64.

    `embeddings_project`, where there is one, leads from the tables' width; `pool` is what comes
    after the pooler's dense layer.

    Source: Devlin et al. 2018; Vaswani et al. 2017.
    """
    heads, width = config["num_attention_heads"], config["hidden_size"]
    weights = {name: value.astype(np.float64) for name, value in tensors.items()}

    def linear(name, x):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name, x):
        centred = x - x.mean(-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(-1, keepdims=True) + config["layer_norm_eps"])
        return centred / scale * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def attend(name, x):
        parts = (linear(f"{name}.{part}", x) for part in ("query", "key", "value"))
        query, key, value = (part.reshape(len(x), heads, -1).swapaxes(0, 1) for part in parts)
        scores = query @ key.swapaxes(1, 2) / math.sqrt(width // heads)
        share = np.exp(scores - scores.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        return (share @ value).swapaxes(0, 1).reshape(len(x), width)

    def embed(ids, segments):
        embedded = norm(
            "embeddings.LayerNorm",
            weights["embeddings.word_embeddings.weight"][ids]
            + weights["embeddings.position_embeddings.weight"][: len(ids)]
            + weights["embeddings.token_type_embeddings.weight"][segments],
        )
        if "embeddings_project.weight" in weights:
            return linear("embeddings_project", embedded)
        return embedded

    rows = []
    for ids, segments, mask in zip(
        *(np.asarray(batch[k]) for k in ("token_ids", "segment_ids", "padding_mask")), strict=True
    ):
        x = embed(ids[mask > 0], segments[mask > 0])
        for index in range(config["num_hidden_layers"]):
            layer = f"encoder.layer.{index}"
            attended = linear(
                f"{layer}.attention.output.dense", attend(f"{layer}.attention.self", x)
            )
            x = norm(f"{layer}.attention.output.LayerNorm", x + attended)
            widened = gelu(linear(f"{layer}.intermediate.dense", x))
            x = norm(f"{layer}.output.LayerNorm", x + linear(f"{layer}.output.dense", widened))
        rows.append(x)
    pooled = pool(linear("pooler.dense", np.stack([row[0] for row in rows])))
    return {"sequence": rows, "pooled": pooled}


def gelu(x: np.ndarray) -> np.ndarray:
    """Exact GELU."""
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def random_batch(lengths=(12, 5, 1, 7), *, config: dict = CONFIG, seed: int = 0) -> dict:
    """Rows of these lengths, padded to the longest with ids that must not matter."""
    random = np.random.default_rng(seed)
    shape = (len(lengths), max(lengths))
    real = np.arange(shape[1]) < np.array(lengths)[:, None]
    return {
        "token_ids": random.integers(0, config["vocab_size"], shape).astype(np.int32),
        "segment_ids": random.integers(0, config["type_vocab_size"], shape).astype(np.int32),
        "padding_mask": real.astype(np.int32),
    }
