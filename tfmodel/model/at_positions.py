"""An encoder asked for some positions alone: its last layer is computed for them and no others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from tfmodel.model.attention import SelfAttention
from tfmodel.model.encoder import encoder_config


@keras.saving.register_keras_serializable("tfmodel")
class AtPositions(keras.layers.Layer):
    """The named positions of every row: (M, D) to (B * P, D)."""

    def call(self, hidden, positions, token_ids):
        """Take `positions`, int32 (B, P), of the rows of `token_ids`, (B, T)."""
        batch, length = ops.shape(token_ids)[0], ops.shape(token_ids)[1]
        starts = ops.arange(batch, dtype="int32")[:, None] * ops.cast(length, "int32")
        return ops.take(hidden, ops.reshape(positions + starts, (-1,)), axis=0)

    def compute_output_shape(self, hidden_shape, positions_shape, token_ids_shape):
        """(B * P, D)."""
        return (None, hidden_shape[-1])

    def get_config(self) -> dict:
        """Arguments of `__init__`: Keras finds them by itself only where none is an object."""
        return super().get_config()


def encode_at(
    encoder: keras.Model,
    inputs: Mapping[str, Any],
    positions: Any,
    *,
    embedded: tuple | None = None,
) -> Any:
    """The `sequence` of an encoder at some positions, with the encoder's own weights.

    Of the last layer only keys and values are computed for all tokens. For BERT-mini and 15% of
    the positions that is a sixth of all products of the encoder.

    Args:
        encoder: of `build_encoder`, with `sequence`.
        inputs: `token_ids`, `segment_ids` and `padding_mask`, symbolic int32 (B, T).
        positions: symbolic int32 (B, P), each in [0, T).
        embedded: in place of what the encoder's own embeddings say, symbolic float (M, D), and what
            `SameText` says, bool (B, T, T).

    Returns:
        Symbolic float (B * P, D).

    Raises:
        ValueError: the encoder gives no `sequence`.
    """
    if "sequence" not in encoder.output:
        raise ValueError(
            f"Expected an encoder that gives sequence. Received: {encoder.name!r}, which gives "
            f"{', '.join(sorted(encoder.output))}. Build it with sequence=True."
        )
    last = encoder_config(encoder).layers - 1
    layer = encoder.get_layer
    if embedded is None:
        same_text = layer("same_text")(inputs["padding_mask"])
        hidden = layer("embeddings")(inputs["token_ids"], inputs["segment_ids"], same_text)
    else:
        hidden, same_text = embedded
    for index in range(last + 1):
        attend: SelfAttention = layer(f"layer_{index}_attention")
        if index < last:
            attended = attend(hidden, same_text)
        else:
            attended = attend(hidden, same_text, positions)
            hidden = AtPositions(name="at_positions", dtype=attend.dtype_policy)(
                hidden, positions, inputs["token_ids"]
            )
        hidden = layer(f"layer_{index}_attention_norm")(attended, hidden)
        widened = layer(f"layer_{index}_feed_forward")(hidden)
        hidden = layer(f"layer_{index}_feed_forward_norm")(widened, hidden)
    return hidden
