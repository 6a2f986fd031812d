"""Does a converted file hold the weights, and answer as the model does?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfmodel.export.tflite.litert import LiteRT
from tfmodel.export.tflite.variants import VARIANTS, ConversionError
from tfmodel.tokens.vocabulary import Vocabulary

# Matrices below this size stay float32 when quantizing.
_SMALLEST_QUANTIZED = 1024


def verify(
    path: Path,
    answer: tf.types.experimental.ConcreteFunction,
    weights: Sequence[tf.Variable],
    *,
    variant: str,
    vocabulary: Vocabulary,
    max_length: int,
) -> None:
    """Load a file and compare it with the model: on its size, and on two rows of any ids.

    Args:
        path: the file.
        answer: the model, a batch to scores, vectors or logits of tokens, or to the logits of a
            gap.
        weights: what the file must hold.
        variant: its number format.
        vocabulary: the ids there are.
        max_length: tokens a row at most.

    Raises:
        ConversionError: the weights are not in the file, or its answers are others.
    """
    _check_size(path, weights, variant)
    run = LiteRT(path, threads=1)
    for batch in _probes(vocabulary, max_length):
        if run.takes_gap:
            batch = {**batch, "masked_positions": np.array([[1]], np.int32)}
        wanted = answer(**{name: tf.constant(rows) for name, rows in batch.items()}).numpy()
        given = run(batch)
        if wanted.ndim == 3:  # what is said of padding is nobody's to read
            real = int(np.count_nonzero(batch["padding_mask"]))
            given, wanted = given[:, :real], wanted[:, :real]
        # A number of a hundred is as near by a hundred times as much.
        limit = VARIANTS[variant].probe_limit * max(1.0, float(np.max(np.abs(wanted))))
        difference = float(np.max(np.abs(given - wanted)))
        if not difference <= limit:
            raise ConversionError(
                f"{variant}: expected the model's {run.output} within {limit:.3g}. Received: a "
                f"file whose {run.output} differ by {difference:.3g}. This is a fault of "
                "TensorFlow's converter; report it with the model's config."
            )


def _check_size(path: Path, weights: Sequence[tf.Variable], variant: str) -> None:
    sizes = [int(np.prod(weight.shape)) for weight in weights]
    small = VARIANTS[variant].bytes_a_weight
    expected_bytes = sum(size * (small if size >= _SMALLEST_QUANTIZED else 4) for size in sizes)
    # Half: the converter stores equal tensors once, and may fold some away.
    if path.stat().st_size < expected_bytes / 2:
        raise ConversionError(
            f"{variant}: expected about {expected_bytes:,} bytes for {sum(sizes):,} weights. "
            f"Received: a file of {path.stat().st_size:,} bytes, so weights are missing. "
            "TensorFlow's converter dropped them, or they are all alike: was the model trained?"
        )


def _probes(vocabulary: Vocabulary, max_length: int) -> Iterator[Mapping[str, np.ndarray]]:
    """A full row and a short one, padded."""
    generator = np.random.default_rng(0)
    for real in (max_length, max(max_length // 4, 2)):
        ids = generator.integers(0, len(vocabulary), (1, max_length), dtype=np.int32)
        mask = (np.arange(max_length)[np.newaxis] < real).astype(np.int32)
        yield {
            "token_ids": np.where(mask == 1, ids, vocabulary.padding_id).astype(np.int32),
            "segment_ids": np.zeros_like(ids),
            "padding_mask": mask,
        }
