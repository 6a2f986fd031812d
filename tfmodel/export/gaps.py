"""Texts with gaps to what may stand in them, whatever computes the logits of a gap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfmodel.config import ConfigError
from tfmodel.tasks import fill
from tfmodel.tokens.gaps import pieces_with_gaps, written_with
from tfmodel.tokens.row_tokenizer import RowTokenizer

Found = Mapping[str, tf.RaggedTensor]
"""`tokens` and `scores` of each gap of each text: (B, None, k), ragged in the gaps."""


class Filler:
    """How texts become rows with gaps, and what a model says of the gaps.

    Args:
        tokenizer: strings to pieces, whose vocabulary has a mask.
        max_length: tokens a row at most.
        decoding: `top`, answers for each gap.

    Raises:
        ConfigError: the vocabulary has none, or texts are cut in a way that knows no gaps.
    """

    def __init__(self, tokenizer: RowTokenizer, *, max_length: int, decoding: Mapping[str, Any]):
        self._vocabulary = tokenizer.vocabulary
        written_with(tokenizer)
        self._tokenizer = tokenizer
        self._pieces = tokenizer.written()
        self._max_length = max_length
        self._top = min(decoding.get("top", fill.TOP), len(self._vocabulary))

    def rows(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Strings (B,) to rows of ids, int32 (B, None); a gap is the id of the mask."""
        pieces = pieces_with_gaps(self._tokenizer, text)
        rows, _ = self._tokenizer.join(pieces, None, max_length=self._max_length)
        return rows

    def positions(self, rows: tf.RaggedTensor) -> tf.RaggedTensor:
        """Where the gaps of rows are: int32 (B, None)."""
        is_gap = rows.with_values(tf.equal(rows.flat_values, self._vocabulary.mask_id))
        places = tf.ragged.range(tf.cast(rows.row_lengths(), tf.int32))
        places = rows.with_values(places.flat_values)
        return tf.ragged.boolean_mask(places, is_gap)

    def function(self, model: keras.Model) -> Callable[[tf.RaggedTensor], Found]:
        """Ask a model of `fill.build` in a graph.

        Returns:
            A function from rows, int32 (B, None), to what stands in their gaps.
        """
        head = model.get_layer("masked_logits")

        def answer(rows: tf.RaggedTensor) -> Found:
            positions = self.positions(rows)
            dense = _with_a_column(positions.to_tensor())
            vectors = model.to_vectors(
                {**self._batch(rows), "masked_positions": dense}, training=False
            )
            columns = tf.shape(dense)[1]
            real = tf.sequence_mask(positions.row_lengths(), columns)
            vectors = tf.boolean_mask(vectors, tf.reshape(real, (-1,)))
            logits = head(vectors, positions.flat_values[:, tf.newaxis])[:, 0]
            return self._likeliest(logits, positions)

        return answer

    def ask(
        self, logits: Callable[[dict[str, np.ndarray]], np.ndarray], length: int | None
    ) -> Callable[[tf.Tensor], list[fill.Gaps]]:
        """Ask what is no part of a graph, such as a file for phones: each gap by itself.

        Args:
            logits: a row with `masked_positions` (1, 1) to logits (1, V), numpy.
            length: what rows are padded to; None: nothing is.

        Returns:
            A function from strings as TensorFlow has them to values.
        """
        cut = tf.function(
            self.rows, input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False
        )

        def answer(text: tf.Tensor) -> list[fill.Gaps]:
            rows = cut(text)
            return [
                self.values([logits(each)[0] for each in self.asked(row, length)])
                for row in rows.to_list()
            ]

        return answer

    def asked(self, row: Sequence[int], length: int | None = None) -> list[dict[str, np.ndarray]]:
        """What is asked of a row: one batch of one row for each of its gaps.

        Args:
            row: its ids.
            length: what it is padded to.
        """
        missing = (length or len(row)) - len(row)
        ids = np.pad(
            np.array([row], np.int32),
            [(0, 0), (0, missing)],
            constant_values=self._vocabulary.padding_id,
        )
        real = np.pad(np.ones((1, len(row)), np.int32), [(0, 0), (0, missing)])
        batch = {"token_ids": ids, "segment_ids": np.zeros_like(ids), "padding_mask": real}
        gaps = [place for place, piece in enumerate(row) if piece == self._vocabulary.mask_id]
        return [{**batch, "masked_positions": np.array([[place]], np.int32)} for place in gaps]

    def values(self, logits: Sequence[np.ndarray]) -> fill.Gaps:
        """The logits of the gaps of one text, each (V,), to its values."""
        if not logits:
            return fill.Gaps([], np.zeros((0, self._top), np.float32))
        return fill.likeliest(np.stack(logits), self._pieces, top=self._top)

    def _batch(self, rows: tf.RaggedTensor) -> dict[str, tf.Tensor]:
        ids = _with_a_column(rows.to_tensor(self._vocabulary.padding_id))
        real = tf.sequence_mask(rows.row_lengths(), tf.shape(ids)[1], dtype=tf.int32)
        return {"token_ids": ids, "segment_ids": tf.zeros_like(ids), "padding_mask": real}

    def _likeliest(self, logits: tf.Tensor, positions: tf.RaggedTensor) -> Found:
        logits = tf.cast(logits[:, : len(self._pieces)], tf.float32)
        scores, ids = tf.math.top_k(tf.nn.softmax(logits), self._top)
        tokens = tf.gather(tf.constant(self._pieces), ids)
        return {
            "tokens": positions.with_values(tf.ensure_shape(tokens, (None, self._top))),
            "scores": positions.with_values(tf.ensure_shape(scores, (None, self._top))),
        }


def gap_logits(model: keras.Model) -> tf.types.experimental.GenericFunction:
    """Wrap a model of `fill.build` as one graph that is asked for one gap of each row.

    Returns:
        A function of `token_ids`, `segment_ids` and `padding_mask`, int32 (B, T), and
        `masked_positions`, int32 (B, 1), to logits, float32 (B, V).
    """
    names = ("token_ids", "segment_ids", "padding_mask", "masked_positions")
    signature = [tf.TensorSpec((None, None), tf.int32, name=name) for name in names]

    @tf.function(input_signature=signature, autograph=False)
    def logits(token_ids, segment_ids, padding_mask, masked_positions):
        row = (token_ids, segment_ids, padding_mask, masked_positions)
        return model(dict(zip(names, row, strict=True)), training=False)[:, 0]

    return logits


def rows_of_batch(
    token_ids: tf.Tensor, segment_ids: tf.Tensor, padding_mask: tf.Tensor
) -> tf.RaggedTensor:
    """A batch (B, T) as rows without their padding, and without texts packed behind the first.

    Segment ids are not read: a text with gaps is one text.
    """
    batch = tf.stack([token_ids, segment_ids, padding_mask])
    return tf.ragged.boolean_mask(batch[0], tf.equal(batch[2], 1))


def require_filler(model: keras.Model) -> None:
    """Refuse another model than one of `fill.build`.

    Raises:
        ConfigError: it is one.
    """
    if not isinstance(model, fill.MaskedLanguageModel):
        raise ConfigError(
            "Expected a model that fills gaps, of tm.tasks.fill.build or load. Received: "
            f"{model.name!r}. Name the task that it has: task=…."
        )


def _with_a_column(values: tf.Tensor) -> tf.Tensor:
    """Pad (B, 0) to (B, 1): a batch without gaps has no columns, and models need one."""
    missing = tf.maximum(1 - tf.shape(values)[1], 0)
    return tf.pad(values, [[0, 0], [0, missing]])
