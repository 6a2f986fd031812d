"""Hidden states to one vector a text, as sentence-transformers makes it."""

from __future__ import annotations

import keras
from keras import ops

from tfmodel.model.sentence_folders import POOLINGS

_LEAST_SQUARE = 1e-24  # a vector of zeros stays one


@keras.saving.register_keras_serializable("tfmodel")
class SentencePooling(keras.layers.Layer):
    """The vector of each text of a row, computed in float32.

    Args:
        pooling: `mean` of the text's tokens, special ones included; or `cls`, its first token.
        normalize: whether vectors are brought to length 1.
        texts: K, texts packed in each row.

    Source: Reimers and Gurevych 2019, section 3; what sentence-transformers computes.
    """

    def __init__(self, pooling: str = "mean", normalize: bool = True, texts: int = 1, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}. Received: {pooling}.")
        if texts < 1:
            raise ValueError(f"texts must be 1 or more. Received: {texts}.")
        self.pooling = pooling
        self.normalize = normalize
        self.texts = texts

    def call(self, sequence, padding_mask):
        """Pool.

        Args:
            sequence: float (B, T, D).
            padding_mask: int32 (B, T); k for the k-th text of the row.

        Returns:
            float32 (B, D), or (B, K, D) where K is above 1.
        """
        text = ops.arange(1, self.texts + 1, dtype="int32")[None, :, None]
        own = ops.cast(ops.equal(padding_mask[:, None, :], text), "float32")  # (B, K, T)
        if self.pooling == "cls":
            own = own * ops.cast(ops.equal(ops.cumsum(own, axis=-1), 1.0), "float32")
        vectors = ops.matmul(own, sequence)
        vectors = vectors / ops.maximum(ops.sum(own, axis=-1, keepdims=True), 1.0)
        if self.texts == 1:
            vectors = vectors[:, 0]
        return unit(vectors) if self.normalize else vectors

    def compute_output_shape(self, sequence_shape, padding_mask_shape=None):
        """(B, D) or (B, K, D)."""
        texts = () if self.texts == 1 else (self.texts,)
        return (sequence_shape[0], *texts, sequence_shape[-1])

    def get_config(self) -> dict:
        """Arguments of `__init__`."""
        own = {"pooling": self.pooling, "normalize": self.normalize, "texts": self.texts}
        return {**super().get_config(), **own}


def unit(vectors):
    """Bring vectors (…, D) to length 1."""
    squares = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    return vectors * ops.rsqrt(ops.maximum(squares, _LEAST_SQUARE))
