"""Token, position and segment embeddings, and what `padding_mask` says about a row."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from tfmodel.model.dropout import Dropout
from tfmodel.model.layer_norm import LayerNorm

_PERTURBATION: contextvars.ContextVar[Any] = contextvars.ContextVar("perturbation", default=None)


@contextlib.contextmanager
def perturbed(perturbation: Any) -> Iterator[None]:
    """Add to the word embeddings of every pass through an encoder inside the block.

    Args:
        perturbation: float (B, T, D), differentiable; None changes nothing. In a block inside
            another both are added.

    Source: Miyato et al. 2017, section 3, who scale the embeddings to unit variance first; here
    the sum with positions and segments is normalized right after, and they stay as they are.
    """
    outer = _PERTURBATION.get()
    if outer is not None and perturbation is not None:
        perturbation = outer + perturbation
    token = _PERTURBATION.set(outer if perturbation is None else perturbation)
    try:
        yield
    finally:
        _PERTURBATION.reset(token)


@keras.saving.register_keras_serializable("tfmodel")
class SameText(keras.layers.Layer):
    """Which pairs of positions of a row belong to the same text."""

    def call(self, padding_mask):
        """Compare every two positions.

        Args:
            padding_mask: int32 (B, T); 0 for padding, k for the k-th text of the row.

        Returns:
            bool (B, T, T). Padding belongs with padding, so no row of it is empty and no
            softmax over it is undefined.
        """
        return ops.equal(padding_mask[:, :, None], padding_mask[:, None, :])

    def compute_output_shape(self, input_shape):
        """(B, T) to (B, T, T)."""
        return (*input_shape, input_shape[-1])

    def compute_output_spec(self, padding_mask):
        """Not of the layer's compute type, as Keras would take it, but bool."""
        return keras.KerasTensor(self.compute_output_shape(padding_mask.shape), dtype="bool")

    def get_config(self) -> dict:
        """Arguments of `__init__`: Keras finds them by itself only where none is an object."""
        return super().get_config()


@keras.saving.register_keras_serializable("tfmodel")
class BertEmbeddings(keras.layers.Layer):
    """Sum of token, position and segment embeddings, normalized, and widened where asked for.

    Args:
        vocabulary_size: V.
        hidden_size: width of the tables: D, or what is projected to it.
        max_positions: longest row T.
        segments: number of segment ids. With one, or none and no table for them, the ids given
            make no difference.
        project_to: D, where a dense layer leads to it from the tables' width.
        family: of which kind of BERT the encoder is, of `FAMILIES`.
        layer_norm_epsilon: added to the variance.
        dropout: share of values dropped in training.
        word_dropout: share of tokens whose word embedding is zero in training, position and
            segment staying; the first token of a text is spared.

    Source: Devlin et al. 2018, section 3.2; word dropout Gal and Ghahramani 2016, section 4.2.
    Deviation: each occurrence of a word is drawn alone.
    """

    def __init__(
        self,
        vocabulary_size: int,
        hidden_size: int,
        *,
        max_positions: int,
        segments: int = 2,
        project_to: int | None = None,
        family: str = "bert",
        layer_norm_epsilon: float = 1e-12,
        dropout: float = 0.0,
        word_dropout: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.hidden_size = hidden_size
        self.max_positions = max_positions
        self.segments = segments
        self.project_to = project_to
        self.family = family
        self.layer_norm_epsilon = layer_norm_epsilon
        self.dropout = dropout
        self.normalize = LayerNorm(
            epsilon=layer_norm_epsilon, dtype=self.dtype_policy, name="normalize"
        )
        self.drop = Dropout(dropout, dtype=self.dtype_policy, name="drop")
        self.drop_words = Dropout(word_dropout, dtype="float32", name="drop_words")
        self.projection = None
        if project_to is not None:
            self.projection = keras.layers.Dense(
                project_to,
                kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
                dtype=self.dtype_policy,
                name="projection",
            )

    def build(self, token_ids_shape, segment_ids_shape=None, same_text_shape=None):
        """Create the tables."""

        def table(name, rows):
            return self.add_weight(
                shape=(rows, self.hidden_size),
                initializer=keras.initializers.TruncatedNormal(stddev=0.02),
                name=name,
                # Casting a whole table to look up a few rows costs more than the lookup, and
                # makes the gradient as large as the table.
                autocast=False,
            )

        self.token_table = table("token_table", self.vocabulary_size)
        self.position_table = table("position_table", self.max_positions)
        self.segment_table = table("segment_table", self.segments) if self.segments else None
        self.normalize.build((None, self.hidden_size))
        if self.projection is not None:
            self.projection.build((None, self.hidden_size))

    def tables(self) -> list:
        """Those of tokens, positions and, where there is one, of segments."""
        return [
            table
            for table in (self.token_table, self.position_table, self.segment_table)
            if table is not None
        ]

    def finish(self, summed, training: bool = False):
        """What becomes of the sum of the tables' rows: float (M, `hidden_size`) to (M, D)."""
        hidden = self.drop(self.normalize(summed, training=training), training=training)
        return hidden if self.projection is None else self.projection(hidden)

    def call(self, token_ids, segment_ids, same_text, training: bool = False):
        """Embed a batch.

        Args:
            token_ids: int32 (B, T).
            segment_ids: int32 (B, T).
            same_text: bool (B, T, T) from `SameText`.
            training: whether dropout is on.

        Returns:
            float (M, D): rows one below the other, as the matrix products want them.
        """
        length = ops.shape(token_ids)[1]
        # A token's position is the number of earlier tokens of its own text.
        index = ops.arange(length, dtype="int32")
        earlier = ops.cast(index[None, :] < index[:, None], "int32")
        positions = ops.sum(ops.cast(same_text, "int32") * earlier[None], axis=-1)
        positions = ops.reshape(positions, (-1,))
        words = _look_up(self.token_table, ops.reshape(token_ids, (-1,)))
        if training and self.drop_words.rate:
            kept = self.drop_words(ops.ones((ops.shape(words)[0], 1), "float32"), training=True)
            words *= ops.where(positions[:, None] == 0, 1.0, kept)
        hidden = words + _look_up(self.position_table, positions)
        if self.segments == 1:
            hidden += self.segment_table
        elif self.segments:
            hidden += _look_up(self.segment_table, ops.reshape(segment_ids, (-1,)))
        perturbation = _PERTURBATION.get()
        if perturbation is not None:
            hidden += ops.reshape(ops.cast(perturbation, hidden.dtype), (-1, self.hidden_size))
        hidden = ops.cast(hidden, self.compute_dtype)
        return self.finish(hidden, training=training)

    def compute_output_shape(self, token_ids_shape, segment_ids_shape=None, same_text_shape=None):
        """(M, D)."""
        return (None, self.project_to or self.hidden_size)

    def get_config(self) -> dict:
        """Arguments of `__init__`."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "hidden_size": self.hidden_size,
            "max_positions": self.max_positions,
            "segments": self.segments,
            "project_to": self.project_to,
            "family": self.family,
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "dropout": self.dropout,
            "word_dropout": self.drop_words.rate,
        }


def _look_up(table, rows):
    """The named rows of a table: int32 (M,) to (M, D)."""
    if keras.backend.backend() != "tensorflow":
        return ops.take(table, rows, axis=0)
    # ops.take reads the table before it gathers, and a table whose rows are updated in place is
    # copied at every read: 47 MB a step for MiniLM.
    import tensorflow as tf

    return tf.nn.embedding_lookup(table.value, rows)
