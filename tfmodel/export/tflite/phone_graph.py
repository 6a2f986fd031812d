"""The model as a phone calls it: one row, every shape known or equal to the row's length.

An interpreter on a phone plans its memory before it runs, and hands to XNNPACK what has shapes
that need no computing. So nothing here asks a tensor for its shape: whatever depends on the row's
length is the one -1 of a constant shape, and rows of any length run at their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfmodel import tasks
from tfmodel.export import graph
from tfmodel.export.manifest import output_of
from tfmodel.export.tflite.litert import BATCH_OF_INPUTS
from tfmodel.export.tflite.metadata import (
    GAP_INPUT,
    GAP_OUTPUT,
    INPUT_NAMES,
    LOGIT_NAMES,
    OUTPUT_NAMES,
)
from tfmodel.model.attention import SelfAttention
from tfmodel.model.embeddings import BertEmbeddings
from tfmodel.model.encoder import encoder_config
from tfmodel.model.pooling import SentencePooling, unit
from tfmodel.tasks.readings import POOLING, AtGap, reading_of

# Added to the attention score of padding: no share of the softmax is left to it.
_APART = -1e9
_LARGEST_INT8 = 127


def phone_module(
    model: keras.Model,
    *,
    max_length: int,
    is_dynamic: bool = False,
    output: str = "scores",
    task: str = "classify",
    small_tables: bool = False,
) -> tf.Module:
    """Wrap a model as a phone calls it.

    Args:
        model: token batch to outputs (B, C).
        max_length: tokens a row at most.
        is_dynamic: whether a row is as long as its text; else always `max_length`. A longer one
            is cut to `max_length`, its last token kept, as in training.
        output: `scores` (the task's values) or `vector` (the encoder's pooled output).
        task: one of `tasks.TASKS`.
        small_tables: hold the embeddings in int8, with a scale for each row.

    Returns:
        A module with `serve`, a function of `ids`, `mask` (1 for a token, 0 for padding) and
        `segment_ids`, int32 (1, T), that gives `probability`, float32 (1, C), or (1, T, C) of a
        task that reads tokens (or `start_logits` and `end_logits`, float32 (1, T)), or `vector`,
        float32 (1, D); and `weights`, the variables it reads. Of a task that fills gaps it takes
        `position`, int32 (1, 1), too, and gives `logits`, float32 (1, V), of what stands there.
    """
    if tasks.fills_gaps(task):
        return _gap_module(model, max_length=max_length, small_tables=small_tables)
    length = None if is_dynamic else max_length
    name = OUTPUT_NAMES[output_of(task, output)]
    answer = _by_layers(model, output, task, small_tables) or _by_batch(model, output, task)
    signature = [tf.TensorSpec((1, length), tf.int32, name=name) for name in INPUT_NAMES]

    @tf.function(input_signature=signature, autograph=False)
    def serve(ids, mask, segment_ids):
        row = (ids, mask, segment_ids)
        if is_dynamic:
            row = [_at_most(values, max_length) for values in row]
        found = answer(*row)
        if tasks.find(task).ANSWERS == "span":
            return dict(zip(LOGIT_NAMES, tf.unstack(found, axis=-1), strict=True))
        return {name: found}

    module = tf.Module()
    module.serve = serve
    module.weights = list(serve.get_concrete_function().variables)
    return module


def _gap_module(model: keras.Model, *, max_length: int, small_tables: bool) -> tf.Module:
    """As `phone_module`, of a task that fills gaps: one gap of a row is asked for."""
    hidden_states = _hidden_states(model.encoder, small_tables)
    transform, head = model.get_layer("masked_transform"), model.get_layer("masked_logits")
    signature = [tf.TensorSpec((1, max_length), tf.int32, name=name) for name in INPUT_NAMES]
    signature.append(tf.TensorSpec((1, 1), tf.int32, name=GAP_INPUT))

    @tf.function(input_signature=signature, autograph=False)
    def serve(ids, mask, segment_ids, position):
        hidden = hidden_states(ids, mask, segment_ids)
        vector = transform(tf.gather(hidden, position[0]), training=False)  # (1, E)
        table = tf.reshape(head.embeddings.token_table.value, (-1, vector.shape[-1]))
        return {GAP_OUTPUT: tf.matmul(vector, table, transpose_b=True) + head.bias.value}

    module = tf.Module()
    module.serve = serve
    module.weights = list(serve.get_concrete_function().variables)
    return module


def _at_most(values: tf.Tensor, length: int) -> tf.Tensor:
    """Cut (1, T) to `length`, the last token kept; shorter rows stay as they are."""
    return tf.concat([values[:, :-1][:, : length - 1], values[:, -1:]], axis=1)


def _by_batch(model: keras.Model, output: str, task: str) -> Callable:
    """Ask any model as the other artifacts do."""
    is_vector = output == "vector"
    wrapped = graph.vector_function(model) if is_vector else graph.scores_function(model, task)
    # The Python function, not the graph: here shapes are known, and fold away.
    function = wrapped.python_function

    def answer(*row):
        batch = dict(zip(BATCH_OF_INPUTS.values(), row, strict=True))
        return function(*(batch[name] for name in graph.BATCH_NAMES))

    return answer


def _by_layers(model: keras.Model, output: str, task: str, small_tables: bool) -> Callable | None:
    """Ask a model on our encoder layer by layer; None for another model."""
    try:
        hidden_states = _hidden_states(model.get_layer("encoder"), small_tables)
        finish = _finish(model, output, task)
    except ValueError:
        return None
    return lambda ids, mask, segment_ids: finish(hidden_states(ids, mask, segment_ids), mask)


def _hidden_states(encoder: keras.Model, small_tables: bool) -> Callable:
    """Ask an encoder layer by layer: a row to hidden states (T, D), or (1, D) of the first token.

    Raises:
        ValueError: it is none of `build_encoder`, or has layers of others.
    """
    layers = encoder_config(encoder).layers
    embeddings = encoder.get_layer("embeddings")
    attentions = [encoder.get_layer(f"layer_{index}_attention") for index in range(layers)]
    if {type(embeddings), *map(type, attentions)} != {BertEmbeddings, SelfAttention}:
        raise ValueError("layers of others")
    embed = _embedder(embeddings, small_tables)

    def states(ids, mask, segment_ids):
        hidden = embed(ids, mask, segment_ids)
        apart = tf.cast(1 - mask, tf.float32)[:, None] * _APART  # (1, 1, T)
        for index, attention in enumerate(attentions):
            attended = _attend(attention, hidden, apart)
            if attention.first_only:
                hidden = hidden[:1]
            hidden = encoder.get_layer(f"layer_{index}_attention_norm")(attended, hidden)
            widened = encoder.get_layer(f"layer_{index}_feed_forward")(hidden)
            hidden = encoder.get_layer(f"layer_{index}_feed_forward_norm")(widened, hidden)
        return hidden

    return states


def _finish(model: keras.Model, output: str, task: str) -> Callable:
    """Hidden states (T, D), or those of the first token, (1, D), and the mask to the output."""
    activate = tasks.find(task).activate
    if tasks.gives_vectors(task):
        pooling = model.get_layer("pooling")
        if pooling.texts != 1:
            raise ValueError("a row of several texts")
        return lambda hidden, mask: activate(_pool(pooling, hidden, mask))
    of_tokens = "sequence_dropout" in {layer.name for layer in model.layers}
    # Named, or its number would be in the file: equal models give equal files.
    read = model.get_layer("sequence_dropout" if of_tokens else "pooled_dropout").input
    head = keras.Model(read, model.output, name="from_tokens" if of_tokens else "from_pooled")
    if of_tokens:
        return lambda hidden, mask: activate(head(hidden[tf.newaxis], training=False))
    reading = reading_of(model)
    if isinstance(reading, AtGap):
        raise ValueError("a row with a gap")
    pooler = model.get_layer("encoder").get_layer("pooler")

    def finish(hidden, mask):
        if reading is None:
            vector = pooler(tf.reshape(hidden[:1], (1, hidden.shape[-1])))
        else:
            vector = _pool(model.get_layer(POOLING), hidden, mask)
        return vector if output == "vector" else activate(head(vector, training=False))

    return finish


def _pool(layer: SentencePooling, hidden: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """What `SentencePooling` computes, for one text in one row: (1, D)."""
    if layer.pooling == "cls":
        vector = tf.reshape(hidden[:1], (1, hidden.shape[-1]))
    else:
        weights = tf.cast(mask, tf.float32)  # (1, T)
        tokens = tf.maximum(tf.reduce_sum(weights, axis=1, keepdims=True), 1.0)
        vector = tf.matmul(weights, hidden) / tokens
    return unit(vector) if layer.normalize else vector


def _embedder(layer: BertEmbeddings, small_tables: bool) -> Callable:
    """What `BertEmbeddings` computes, for one text in one row."""
    look_up = [_small_table(table) if small_tables else _table(table) for table in layer.tables()]

    def embed(ids, mask, segment_ids):
        if layer.segments == 1:  # whatever ids are given
            segment_ids = tf.zeros_like(segment_ids)
        # A token's position is the number of tokens before it.
        rows = (ids, tf.cumsum(mask, axis=1, exclusive=True), segment_ids)
        found = (find(tf.reshape(row, (-1,))) for find, row in zip(look_up, rows, strict=False))
        token, position, *segment = found  # which a family without segments has not
        return layer.finish(sum(segment, token + position))

    return embed


def _table(table: keras.Variable) -> Callable:
    """(T,) to (T, D)."""
    return lambda rows: tf.gather(table.value, rows)


def _small_table(table: keras.Variable) -> Callable:
    """As `_table`, from int8: one scale for the whole table would be the rarest piece's."""
    values = table.numpy()
    scales = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-12) / _LARGEST_INT8
    codes = tf.Variable(np.round(values / scales).astype(np.int8), trainable=False)
    scales = tf.Variable(scales.astype(np.float32), trainable=False)
    return lambda rows: tf.cast(tf.gather(codes, rows), tf.float32) * tf.gather(scales, rows)


def _attend(layer: SelfAttention, hidden: tf.Tensor, apart: tf.Tensor) -> tf.Tensor:
    """What `SelfAttention` computes, for one row: (T, D) to (T, D), or (1, D) if `first_only`."""
    hidden_size = hidden.shape[-1]
    width = hidden_size // layer.heads
    projected = tf.reshape(layer.query_key_value(hidden), (-1, 3 * layer.heads, width))
    query, key, value = tf.split(tf.transpose(projected, (1, 0, 2)), 3)  # (N, T, H)
    if layer.first_only:
        query = query[:, :1]
    scores = tf.matmul(query * (1 / math.sqrt(width)), key, transpose_b=True)
    mixed = tf.transpose(tf.matmul(tf.nn.softmax(scores + apart), value), (1, 0, 2))  # (T, N, H)
    return layer.output_projection(tf.reshape(mixed, (-1, hidden_size)))
