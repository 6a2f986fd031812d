"""A preset that tfmodel wrote, loaded and asked with KerasHub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.export import graph
from tfmodel.export.keras_hub.preset import NAME, VOCABULARY
from tfmodel.export.manifest import (
    MANIFEST_FILE,
    VOCABULARY_FILE,
    Manifest,
    read_files,
    read_tokenizer,
)
from tfmodel.export.predictor import Predictor
from tfmodel.tokens.row_tokenizer import RowTokenizer


def import_keras_hub() -> Any:
    """Import KerasHub.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import keras_hub
    except ImportError as error:
        raise ConfigError(
            "A KerasHub preset is loaded with KerasHub before anyone can use it. Expected the "
            f"package keras-hub. Received: none ({error}). Install it: "
            "pip install 'tfmodel[keras-hub]'; or leave it out: export.keras_hub=false."
        ) from None
    return keras_hub


def load_keras_hub(folder: Path) -> Predictor:
    """Load a preset that tfmodel wrote, with KerasHub.

    The predictor feeds it the ids of the training's tokenizer, as `load` does with a `.tflite`:
    `token_skew` counts the texts to which KerasHub's own gives others.

    Raises:
        ConfigError: KerasHub is not installed or refuses the folder, or the folder is not ours.
    """
    from tfmodel.export.artifacts import _utf8

    manifest, tokenizer, model = read_preset(folder)
    tokenize = graph.batch_function(
        tokenizer, max_length=manifest.max_length, has_pairs=manifest.has_pairs
    ).get_concrete_function()
    scores = graph.scores_function(model, manifest.task).get_concrete_function()

    def answer(texts: list[str], text_pairs: list[str] | None) -> np.ndarray:
        return scores(**tokenize(*_utf8(texts, text_pairs))).numpy()

    answer.model = model  # a traced function does not keep its weights alive
    return Predictor(answer, manifest, kind=NAME, where=str(folder))


def token_skew(
    folder: str | Path, texts: Sequence[str], text_pairs: Sequence[str] | None = None
) -> int:
    """How many rows KerasHub's own preprocessor gives other ids than the training's tokenizer.

    Args:
        folder: a preset that tfmodel wrote.
        texts: n texts.
        text_pairs: n second texts, for a model of pairs.

    Returns:
        A number from 0 to n.

    Raises:
        ConfigError: as `load`.
    """
    from tfmodel.export.artifacts import _utf8

    manifest, tokenizer, model = read_preset(Path(folder))
    ours = tokenizer(texts, text_pairs, length=manifest.max_length)
    columns = _utf8(list(texts), None if text_pairs is None else list(text_pairs))
    # Called as a layer it would take the second of two for labels.
    model.preprocessor.build(None)
    theirs = model.preprocessor.call(tuple(columns))
    ours, theirs = (np.asarray(batch["token_ids"]) for batch in (ours, theirs))
    return int(np.sum(np.any(ours != theirs, axis=1)))


def read_preset(folder: Path) -> tuple[Manifest, RowTokenizer, Any]:
    """A preset's manifest, tokenizer, and the model that KerasHub makes of it.

    Raises:
        ConfigError: as `load_keras_hub`.
    """
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    if (folder / VOCABULARY).is_file():
        files[VOCABULARY_FILE] = (folder / VOCABULARY).read_bytes()
    manifest = read_files(files, name=str(folder))
    tokenizer = read_tokenizer(files, manifest, name=str(folder))
    keras_hub = import_keras_hub()
    try:
        kind = "BertTextEmbedder" if tasks.gives_vectors(manifest.task) else "BertTextClassifier"
        model = getattr(keras_hub.models, kind).from_preset(str(folder), dtype="float32")
    except MemoryError:
        raise
    except Exception as error:  # Keras and h5py report damage with errors of any type
        raise ConfigError(
            f"{folder}: expected a preset that KerasHub {keras_hub.__version__} loads. Received: "
            f"{' '.join(str(error).split())[:300]}. Copy or export it again."
        ) from None
    pieces = tokenizer.vocabulary.pieces
    _check_preprocessor(folder, model.preprocessor, manifest, pieces)
    return manifest, tokenizer, model


def _check_preprocessor(
    folder: Path, preprocessor: Any, manifest: Manifest, pieces: list[str]
) -> None:
    """Refuse a tokenizer in the preset that is not the one `tfmodel.json` tells of."""
    tokenizer = preprocessor.tokenizer
    told = {
        "lower-casing": (tokenizer.lowercase, manifest.lowercase),
        "stripping of accents": (tokenizer.strip_accents, manifest.lowercase),
        "tokens a row": (preprocessor.sequence_length, manifest.max_length),
        # It strips every line it reads.
        "vocabulary": (tokenizer.vocabulary, [piece.rstrip() for piece in pieces]),
    }
    other = [name for name, (received, expected) in told.items() if received != expected]
    if other:
        raise ConfigError(
            f"{folder}: expected the tokenizer that {MANIFEST_FILE} tells of. Received: another "
            f"{' and '.join(other)}. Export it again."
        )
