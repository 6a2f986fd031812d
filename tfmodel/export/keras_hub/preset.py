"""The files of a KerasHub preset: its layers as JSON, its weights as HDF5."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfmodel.export.manifest import Manifest
from tfmodel.export.weights import HEAD
from tfmodel.model.pooling import SentencePooling
from tfmodel.model.sizes import BertConfig

NAME = "keras_hub"
"""The artifact, its folder, and the kind of its predictor."""
TASK_FILE = "task.json"
TOKENIZER_FOLDER = "assets/tokenizer"
VOCABULARY = f"{TOKENIZER_FOLDER}/vocabulary.txt"
TASK_WEIGHTS = "task.weights.h5"
BACKBONE_WEIGHTS = "model.weights.h5"

_WRITTEN_AS = "0.32.0"  # the KerasHub whose files these are
_LEARNING_RATE = 5e-5  # of the optimizer that a task is compiled with there


@dataclasses.dataclass(frozen=True)
class Head:
    """What KerasHub puts on its backbone.

    Attributes:
        module: where its class stands, below `keras_hub.src.models.bert`, and its name.
        kind: its class.
        task: what KerasHub calls the kind of task.
        config: the arguments of the class.
    """

    module: str
    kind: str
    task: str
    config: Mapping[str, Any]


def classifier_head(manifest: Manifest, *, dropout: float) -> Head:
    """Logits of labels, with `dropout` before them."""
    config = {"num_classes": len(manifest.labels), "activation": "linear", "dropout": dropout}
    return Head("bert_text_classifier", "BertTextClassifier", "TextClassifier", config)


def embedder_head(pooling: SentencePooling) -> Head:
    """The vector of a text, pooled as `pooling` does."""
    config = {"pooling_mode": pooling.pooling, "normalize": pooling.normalize}
    return Head("bert_text_embedder", "BertTextEmbedder", "TextEmbedder", config)


def configs(
    shape: BertConfig, manifest: Manifest, *, parameters: int, head: Head
) -> dict[str, dict[str, Any]]:
    """The preset's JSON files.

    Args:
        shape: the encoder's.
        manifest: what the artifact says of itself.
        parameters: of the encoder.
        head: what stands on the encoder.

    Returns:
        What goes into each file, by its name.
    """
    backbone = _object(
        "bert_backbone",
        "BertBackbone",
        vocabulary_size=shape.vocabulary_size,
        num_layers=shape.layers,
        num_heads=shape.heads,
        hidden_dim=shape.hidden_size,
        intermediate_dim=shape.intermediate_size,
        dropout=shape.dropout,
        max_sequence_length=shape.max_positions,
        num_segments=shape.segments,
    )
    tokenizer = _object(
        "bert_tokenizer",
        "BertTokenizer",
        dtype="int32",
        config_file="tokenizer.json",
        vocabulary=None,
        sequence_length=None,
        lowercase=manifest.lowercase,
        # Off by default there, which loses every accented word to an uncased vocabulary.
        strip_accents=manifest.lowercase,
        split=True,
        suffix_indicator="##",
        oov_token="[UNK]",
        special_tokens=None,
        special_tokens_in_strings=False,
    )
    preprocessor = _object(
        f"{head.module}_preprocessor",
        f"{head.kind}Preprocessor",
        tokenizer=tokenizer,
        config_file="preprocessor.json",
        sequence_length=manifest.max_length,
        truncate="round_robin",
    )
    task = _object(
        head.module, head.kind, backbone=backbone, preprocessor=preprocessor, **head.config
    )
    del task["config"]["trainable"], task["config"]["dtype"]  # a task takes neither
    return {
        "config.json": backbone,
        "tokenizer.json": tokenizer,
        "preprocessor.json": preprocessor,
        TASK_FILE: task,
        "metadata.json": {
            "keras_version": keras.__version__,
            "keras_hub_version": _WRITTEN_AS,
            "parameter_count": parameters,
            "tasks": [head.task],
        },
    }


def _object(name: str, kind: str, *, dtype: str = "float32", **config: Any) -> dict[str, Any]:
    """A layer of KerasHub as Keras serializes it."""
    policy = {
        "module": "keras",
        "class_name": "DTypePolicy",
        "config": {"name": dtype},
        "registered_name": None,
    }
    return {
        "module": f"keras_hub.src.models.bert.{name}",
        "class_name": kind,
        "config": {"name": name, "trainable": True, "dtype": policy, **config},
        "registered_name": f"keras_hub>{kind}",
    }


Weights = dict[str, tuple[str, list[np.ndarray]]]
"""A layer's place in the file to its name and its arrays."""


def backbone_weights(shape: BertConfig, tensors: Mapping[str, np.ndarray]) -> Weights:
    """The backbone's arrays, from those by Hugging Face name."""
    heads, width = shape.heads, shape.hidden_size // shape.heads
    weights: Weights = {
        "reversible_embedding": ("token_embedding", [_table(tensors, "word")]),
        "position_embedding": ("position_embedding", [_table(tensors, "position")]),
        "embedding": ("segment_embedding", [_table(tensors, "token_type")]),
        "layer_normalization": ("embeddings_layer_norm", _norm(tensors, "embeddings.LayerNorm")),
        "dense": ("pooled_dense", dense(tensors, "pooler.dense")),
    }
    for index in range(shape.layers):
        theirs = f"transformer_encoder_{index}" if index else "transformer_encoder"
        ours = f"encoder.layer.{index}"
        for part in ("query", "key", "value"):
            kernel, bias = dense(tensors, f"{ours}.attention.self.{part}")
            split = [kernel.reshape(-1, heads, width), bias.reshape(heads, width)]
            weights[f"{theirs}/_self_attention_layer/{part}_dense"] = (part, split)
        kernel, bias = dense(tensors, f"{ours}.attention.output.dense")
        joined = [kernel.reshape(heads, width, -1), bias]
        weights[f"{theirs}/_self_attention_layer/output_dense"] = ("attention_output", joined)
        for place, values in {
            "self_attention_layer_norm": _norm(tensors, f"{ours}.attention.output.LayerNorm"),
            "feedforward_intermediate_dense": dense(tensors, f"{ours}.intermediate.dense"),
            "feedforward_output_dense": dense(tensors, f"{ours}.output.dense"),
            "feedforward_layer_norm": _norm(tensors, f"{ours}.output.LayerNorm"),
        }.items():
            weights[f"{theirs}/_{place}"] = (place, values)
    return {f"layers/{place}": entry for place, entry in weights.items()}


def _table(tensors: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    return tensors[f"embeddings.{name}_embeddings.weight"]


def _norm(tensors: Mapping[str, np.ndarray], name: str) -> list[np.ndarray]:
    return [tensors[f"{name}.weight"], tensors[f"{name}.bias"]]


def dense(tensors: Mapping[str, np.ndarray], name: str) -> list[np.ndarray]:
    """Kernel (in, out) and bias of a dense layer."""
    return [tensors[f"{name}.weight"].T, tensors[f"{name}.bias"]]


def head_weights(tensors: Mapping[str, np.ndarray]) -> Weights:
    """The head's arrays."""
    return {"layers/dense": ("logits", dense(tensors, HEAD))} | _OPTIMIZER


# KerasHub compiles a task as it loads it, and warns where the file has no state for that.
_OPTIMIZER: Weights = {"optimizer": ("adam", [np.int64(0), np.float32(_LEARNING_RATE)])}


def write_weights(path: Path, weights: Weights) -> None:
    """Write arrays where Keras looks for them."""
    import h5py  # Keras needs it, too

    with h5py.File(path, "w") as file:
        for place, (name, arrays) in weights.items():
            group = file.create_group(f"{place}/vars")
            group.attrs["name"] = name
            for index, array in enumerate(arrays):
                group.create_dataset(str(index), data=np.asarray(array, order="C"))
