"""The classifier of `numpy_reference` in Keras, in float64, with an encoder's own embeddings."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy_reference import CLASSES, LONGEST, NAMES, WIDTH, WORDS

from tfmodel.model.embeddings import BertEmbeddings, SameText
from tfmodel.model.encoder import ToRows
from tfmodel.train.step import Rows, TrainingModel


@keras.saving.register_keras_serializable("tests")
class MeanOfRealTokens(keras.layers.Layer):
    """(B, T, D) and the mask to (B, D)."""

    def call(self, hidden, padding_mask):
        """The mean."""
        mask = ops.cast(padding_mask, hidden.dtype)[..., None]
        return ops.sum(hidden * mask, axis=1) / ops.sum(mask, axis=1)

    def compute_output_shape(self, hidden_shape, padding_mask_shape):
        """(B, D)."""
        return (hidden_shape[0], hidden_shape[-1])


def new_model(weights, *, loss=None, outputs: int = CLASSES) -> tuple[keras.Model, list]:
    """The model, and its variables in the order of the NumPy weights."""
    inputs = {
        key: keras.Input((None,), dtype="int32", name=key)
        for key in ("token_ids", "segment_ids", "padding_mask")
    }
    same_text = SameText(dtype="float64")(inputs["padding_mask"])
    embeddings = BertEmbeddings(
        WORDS, WIDTH, max_positions=LONGEST, dtype="float64", name="embeddings"
    )
    # The encoder's own keeps float32.
    embeddings.normalize = keras.layers.LayerNormalization(epsilon=1e-12, dtype="float64")
    rows = embeddings(inputs["token_ids"], inputs["segment_ids"], same_text)
    dense = keras.layers.Dense(WIDTH, activation="tanh", dtype="float64")
    hidden = ToRows(dtype="float64")(dense(rows), inputs["token_ids"])
    pooled = MeanOfRealTokens(dtype="float64")(hidden, inputs["padding_mask"])
    encoder = keras.Model(inputs, {"pooled": pooled}, name="encoder")
    again = {key: keras.Input((None,), dtype="int32", name=key) for key in inputs}
    head = keras.layers.Dense(outputs, dtype="float64", name="head")
    model = keras.Model(again, head(encoder(again)["pooled"]))
    norm = embeddings.normalize
    variables = [
        embeddings.token_table, embeddings.position_table, embeddings.segment_table,
        norm.gamma, norm.beta, dense.kernel, dense.bias, head.kernel, head.bias,
    ]  # fmt: skip
    assert len(variables) == len(NAMES)
    for variable, value in zip(variables, weights, strict=True):
        variable.assign(value)
    return model, variables


def cross_entropy(reduction: str = "sum_over_batch_size"):
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction=reduction, dtype="float64"
    )


def new_rows(model, batch, labels, *, weights=None, loss=None, **pieces) -> Rows:
    """Rows as a step would make them, without a step's float32."""
    training = TrainingModel(model, **pieces)
    training.compile(keras.optimizers.SGD(1.0), loss=loss or cross_entropy(), jit_compile=False)
    inputs = {key: tf.constant(value) for key, value in batch.items()}
    weights = None if weights is None else tf.constant(weights)
    return Rows(training, inputs, tf.constant(labels), weights)


def gradients(rows: Rows, variables) -> list[np.ndarray]:
    """What a step would take, in the order of the NumPy weights."""
    ordered = rows.model.trainable_variables
    if rows.model.adversary is not None:
        _, _, found = rows.model.adversary.gradients(rows, ordered)
    else:
        with tf.GradientTape() as tape:
            loss, _ = rows.objective()
        found = rows.differentiate(tape, loss, [v.value for v in ordered])
    by_path = {v.path: tf.convert_to_tensor(g).numpy() for v, g in zip(ordered, found, strict=True)}
    return [by_path[variable.path] for variable in variables]
