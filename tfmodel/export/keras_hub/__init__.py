"""A KerasHub preset: `keras_hub.models.BertTextClassifier.from_preset(FOLDER)` loads it.

That of sentence vectors is loaded by `BertTextEmbedder`.

It is written without KerasHub, whose files are JSON and HDF5, and proved with it. Two things are
KerasHub's own, and no file changes them: its BERT computes GELU by the tanh approximation (ours
and Hugging Face's mostly compute it exactly), and its tokenizer folds some characters that BERT's
keeps.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.export import graph
from tfmodel.export.card import card_files
from tfmodel.export.keras_hub.loader import import_keras_hub, read_preset, token_skew
from tfmodel.export.keras_hub.preset import (
    BACKBONE_WEIGHTS,
    NAME,
    TASK_WEIGHTS,
    VOCABULARY,
    backbone_weights,
    classifier_head,
    configs,
    dense,
    embedder_head,
    head_weights,
    write_weights,
)
from tfmodel.export.manifest import (
    LABELS_FILE,
    MANIFEST_FILE,
    VOCABULARY_FILE,
    Manifest,
    files_of,
)
from tfmodel.export.places import make_folder
from tfmodel.export.settings import ExportSettings
from tfmodel.export.trained import Trained
from tfmodel.export.weights import HEAD, read_classifier, read_vector_model
from tfmodel.model.encoder import encoder_config
from tfmodel.model.sizes import BertConfig
from tfmodel.run_folder import write_aside
from tfmodel.tokens.tokenizer import Tokenizer

APPROXIMATE = "float32_approximate"
"""Precision of a preset that KerasHub computes by other formulas than the model's own."""

_LARGEST_DIFFERENCE = 1e-4


def export_keras_hub(
    model: keras.Model,
    tokenizer: Tokenizer,
    folder: str | Path,
    *,
    labels: Sequence[str],
    max_length: int,
    has_pairs: bool = False,
    task: str = "classify",
    decoding: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model as a preset of KerasHub, which need not be installed.

    Args:
        model: float32 model of a task on an encoder from `build_encoder`.
        tokenizer: the tokenizer the model was trained with.
        folder: replaced as a whole, once everything is written.
        labels: the name of each output: of `classify` the classes, in the order of the logits.
            The format has no place for them: `labels.txt` and `tfmodel.json` beside its own files
            hold them.
        max_length: tokens a row: KerasHub's preprocessor pads and cuts to it.
        has_pairs: whether a row is two texts.
        task: one of `tasks.TASKS`; of `regress` the classifier's one logit is the number, and
            `embed` is KerasHub's `BertTextEmbedder`.
        decoding: what the task's answers are decoded by beside the labels.

    Returns:
        `folder`. `load(folder).precision` is `float32_approximate` where KerasHub computes the
        model by other formulas, with scores that are about 1e-3 off.

    Raises:
        ConfigError: labels or `max_length` do not fit the model, it is not one of ours, or it has
            an activation or a vocabulary that KerasHub's BERT does not have.
        OSError: the disk is full.

    Example:
        >>> export_keras_hub(model, tokenizer, "preset", labels=["no", "yes"], max_length=128)
        PosixPath('preset')
        >>> keras_hub.models.BertTextClassifier.from_preset("preset").predict(["Fine."])
    """
    graph.check_exportable(
        model, labels=labels, max_length=max_length, positions=graph.positions_of(model), task=task
    )
    pooling = None
    if tasks.gives_vectors(task):
        shape, tensors, pooling = read_vector_model(model, door="KerasHub")
    else:
        shape, tensors = read_classifier(model, door="KerasHub")
    _check_shape(shape)
    _check_pieces(tokenizer.vocabulary.pieces)
    manifest = Trained(
        model,
        tokenizer,
        labels,
        max_length,
        has_pairs,
        task=task,
        decoding=decoding or {},
    ).manifest(precision="float32" if keras_hub_shape(shape) == shape else APPROXIMATE)
    written = files_of(manifest, tokenizer)
    folder = Path(folder)
    make_folder(folder.parent)
    with write_aside(folder, replace=True) as aside:
        (aside / VOCABULARY).parent.mkdir(parents=True)
        (aside / VOCABULARY).write_bytes(written[VOCABULARY_FILE])
        for name in (LABELS_FILE, MANIFEST_FILE):
            (aside / name).write_bytes(written[name])
        parameters = sum(value.size for name, value in tensors.items() if HEAD not in name)
        head = (
            classifier_head(manifest, dropout=model.get_layer("pooled_dropout").rate)
            if pooling is None
            else embedder_head(pooling)
        )
        for name, values in configs(shape, manifest, parameters=parameters, head=head).items():
            (aside / name).write_text(json.dumps(values, indent=4) + "\n", "utf-8")
        write_weights(aside / BACKBONE_WEIGHTS, backbone_weights(shape, tensors))
        if pooling is None:
            write_weights(aside / TASK_WEIGHTS, head_weights(tensors))
    return folder


def write_artifacts(
    settings: ExportSettings, trained: Trained, aside: Path, tell: Callable[[str], None]
) -> dict[str, Path]:
    """The preset, where the settings ask for it: name to folder below `aside`.

    Raises:
        ConfigError: as `export_keras_hub`, or KerasHub is not installed: what was not loaded
            with it is not published.
    """
    if not settings.keras_hub:
        return {}
    require_extra(settings)
    tell("writing a KerasHub preset")
    folder = export_keras_hub(trained.model, trained.tokenizer, aside / NAME, **trained.described)
    _verify(folder, trained.model, trained.tokenizer)
    limits = _limits(folder, trained)
    for limit in limits:
        tell(limit)
    precision = Manifest.from_json((folder / MANIFEST_FILE).read_bytes(), name=NAME).precision
    card = card_files(
        trained, precision=precision, signatures={}, call=_call(trained), limits=limits
    )
    for name, content in card.items():
        (folder / name).write_bytes(content)
    return {NAME: folder}


def _call(trained: Trained) -> str:
    """How a preset is asked, in Markdown."""
    texts = '(["some text"], ["another"])' if trained.has_pairs else '["some text"]'
    if tasks.gives_vectors(trained.task):
        return """
```python
import keras_hub

embedder = keras_hub.models.BertTextEmbedder.from_preset("this folder")
vectors = embedder.predict(["some text"])
```
"""
    asked = {
        "classes": f"scores = keras.ops.softmax(classifier.predict({texts}))"
        "  # in the order of labels.txt",
        "number": f"numbers = classifier.predict({texts})[:, 0]",
        "sets": f"scores = keras.ops.sigmoid(classifier.predict({texts}))"
        "  # in the order of labels.txt",
    }[tasks.find(trained.task).ANSWERS]
    return f"""
```python
import keras, keras_hub

classifier = keras_hub.models.BertTextClassifier.from_preset("this folder")
{asked}
```
"""


def _limits(folder: Path, trained: Trained) -> list[str]:
    """What KerasHub does otherwise, counted on train rows: sentences."""
    limits = []
    if keras_hub_shape(shape := encoder_config(trained.model.get_layer("encoder"))) != shape:
        limits.append(
            "KerasHub computes GELU by the tanh approximation, in training it was computed "
            f"exactly: {_given(trained.task)} are about 0.001 off, and near-ties may fall the "
            "other way."
        )
    if texts := trained.calibration_texts:
        differ = token_skew(folder, texts, trained.calibration_pairs)
        limits.append(
            f"KerasHub's own tokenizer gives {differ:,} of {len(texts):,} training rows other "
            "tokens than those of training."
        )
    return limits


def _given(task: str) -> str:
    return "vectors" if tasks.gives_vectors(task) else "scores"


def require_extra(settings: ExportSettings) -> None:
    """Refuse to begin an export that could not be checked.

    Raises:
        ConfigError: a preset is asked for, and KerasHub is not installed.
    """
    if settings.keras_hub:
        import_keras_hub()


def keras_hub_shape(shape: BertConfig) -> BertConfig:
    """The shape as KerasHub's BERT computes it: it has one GELU and one epsilon for all."""
    return dataclasses.replace(shape, activation="gelu_new", layer_norm_epsilon=1e-12)


def _check_shape(shape: BertConfig) -> None:
    if shape.activation not in ("gelu", "gelu_new") or shape.layer_norm_epsilon > 1e-5:
        raise ConfigError(
            "KerasHub: expected an encoder with GELU and an epsilon of at most 1e-5, for its BERT "
            f"has no other. Received: activation {shape.activation}, epsilon "
            f"{shape.layer_norm_epsilon}. Leave it out: export.keras_hub=false."
        )


def _check_pieces(pieces: Sequence[str]) -> None:
    """Refuse lines that KerasHub reads as other pieces."""
    if "[MASK]" not in pieces:
        raise ConfigError(
            "KerasHub: expected a vocabulary with [MASK], which its BertTokenizer demands. "
            "Received: one without. Leave it out: export.keras_hub=false."
        )
    split = next((piece for piece in pieces if "\r" in piece), None)
    if split is not None:
        raise ConfigError(
            "KerasHub: expected pieces without line breaks, for it reads them a line each. "
            f"Received: {split!r}. Leave it out: export.keras_hub=false."
        )


def _verify(folder: Path, model: keras.Model, tokenizer: Tokenizer) -> None:
    """Compare what KerasHub loads with our own model, computed by KerasHub's formulas.

    The gate compares it with the model as trained, and must allow for those formulas; this does
    not.

    Raises:
        RuntimeError: a score is off by more than 1e-4.
    """
    from tfmodel.model.checkpoints import assign_encoder
    from tfmodel.model.encoder import build_encoder
    from tfmodel.tasks import embed, sequence_head

    manifest, _, loaded = read_preset(folder)
    task = tasks.find(manifest.task)
    is_embedder = tasks.gives_vectors(manifest.task)
    read = read_vector_model if is_embedder else read_classifier
    shape, tensors, *pooling = read(model, door="KerasHub")
    encoder = build_encoder(keras_hub_shape(shape), sequence=is_embedder, dtype="float32")
    assign_encoder(encoder, {name: value for name, value in tensors.items() if HEAD not in name})
    if is_embedder:
        (how,) = pooling
        same = embed.build(encoder, pooling=how.pooling, normalize=how.normalize)
    else:
        same = sequence_head.build(encoder, len(manifest.labels), name="same")
        same.get_layer("head").set_weights(dense(tensors, HEAD))
    generator = np.random.default_rng(0)
    length = manifest.max_length
    ids = generator.integers(0, len(tokenizer.vocabulary), (2, length), dtype=np.int32)
    real = np.arange(length) < np.array([[length], [max(length // 4, 2)]])
    batch = {
        "token_ids": np.where(real, ids, tokenizer.vocabulary.padding_id).astype(np.int32),
        "segment_ids": (real & (np.arange(length) >= length // 2)).astype(np.int32),
        "padding_mask": real.astype(np.int32),
    }
    wanted, given = (
        np.asarray(task.activate(each(batch, training=False))) for each in (same, loaded)
    )
    difference = float(np.max(np.abs(given - wanted)) / max(1.0, np.max(np.abs(wanted))))
    if not difference <= _LARGEST_DIFFERENCE:
        raise RuntimeError(
            f"KerasHub: expected the model's {_given(manifest.task)} within {_LARGEST_DIFFERENCE}. "
            f"Received: a preset whose {_given(manifest.task)} differ by {difference:.3g}. This is "
            "a fault of tfmodel's; report it with the model's config."
        )
