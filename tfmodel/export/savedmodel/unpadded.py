"""A model that computes on real tokens alone, as servers ask it: no work on padding.

Every layer of the encoder works on rows of (tokens, D) and does not care how they are grouped;
attention alone wants them by text. So the tokens of a batch lie one after the other, and are
gathered into (B, N, T, H) for attention and back: gathering does the work of padding and of
transposing at once. Rows of a batch may then differ in length at little cost.

The layers are the model's own, so whatever projections were given to `build_encoder` stay.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import keras
import tensorflow as tf

from tfmodel import tasks
from tfmodel.export.graph import BATCH_NAMES
from tfmodel.model.attention import SelfAttention
from tfmodel.model.encoder import encoder_config
from tfmodel.model.pooling import SentencePooling, unit
from tfmodel.tasks.readings import reading_of
from tfmodel.tasks.tag_chain import LAYER
from tfmodel.tokens.row_tokenizer import RowTokenizer

Freeze = Callable[[tf.types.experimental.ConcreteFunction], Callable[..., dict[str, tf.Tensor]]]

FLAT_NAMES = ("token_ids", "segment_ids", "lengths")
_ROUND_TO = 8
"""Token counts are rounded up to a multiple: oneDNN compiles each matrix product anew for a count
that it has not seen, for milliseconds."""
_APART = -1e9


def answer_function(
    model: keras.Model, task: str = "classify", *, freeze: Freeze | None = None
) -> tf.types.experimental.GenericFunction:
    """Wrap a model as one graph on the tokens of all texts, one text after the other.

    Args:
        model: token batch to outputs (B, C), or (B, T, C) of a task that reads tokens.
        task: one of `tasks.TASKS`.
        freeze: makes constants of the weights in a graph; of all but the embedding tables here,
            where the encoder is one of `build_encoder`.

    Returns:
        A function of `token_ids` and `segment_ids`, int32 (R,), and `lengths`, int32 (B,) with
        the sum R, that gives `scores`, the task's values, float32 (B, C), and, where the encoder
        is one of `build_encoder`, `vector`, float32 (B, D), its pooled output; of `embed` both are
        the vector that it gives. Of a task that reads tokens `scores` alone, float32 (R, C).
    """
    signature = [tf.TensorSpec((None,), tf.int32, name=name) for name in FLAT_NAMES]
    activate = tasks.find(task).activate
    if is_unpaddable(model):
        answer = _of_real_tokens(model, activate, freeze)
    else:
        answer = functools.partial(_padded, model, activate)
    return tf.function(answer, input_signature=signature, autograph=False)


def is_unpaddable(model: keras.Model) -> bool:
    """Whether a model makes its answers of an encoder from `build_encoder` as the tasks here do."""
    try:
        encoder_config(model.get_layer("encoder"))
    except ValueError:
        return False
    # Transitions change no output.
    names = {layer.name for layer in model.layers} - {*BATCH_NAMES, "encoder", "head", LAYER}
    if names in ({"pooling"}, {"pooling", "pooled_dropout"}):
        return model.get_layer("pooling").texts == 1
    return names in ({"pooled_dropout"}, {"sequence_dropout"})


def _reads_tokens(model: keras.Model) -> bool:
    return "sequence_dropout" in {layer.name for layer in model.layers}


def flatten(
    tokenizer: RowTokenizer,
    text: tf.Tensor,
    text_pair: tf.Tensor | None,
    *,
    max_length: int | tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Tokenize texts for `answer_function`.

    Args:
        tokenizer: strings to tokens.
        text: strings (B,).
        text_pair: strings (B,), or None.
        max_length: tokens a row at most; or int32 (B,), a limit for each row.

    Returns:
        `token_ids`, `segment_ids` and `lengths`.
    """
    second = None if text_pair is None else tokenizer.tokenize(text_pair)
    rows, first_lengths = tokenizer.join(tokenizer.tokenize(text), second, max_length=max_length)
    lengths = tf.cast(rows.row_lengths(), tf.int32)
    if second is None:
        return rows.flat_values, tf.zeros_like(rows.flat_values), lengths
    is_second = _positions(lengths) >= tf.repeat(first_lengths, lengths)
    return rows.flat_values, tf.cast(is_second, tf.int32), lengths


def flatten_batch(
    token_ids: tf.Tensor, segment_ids: tf.Tensor, padding_mask: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Leave the padding of a batch (B, T) out, and texts packed behind the first: it answers.

    The first token stays in any case, so that every row has one.
    """
    # Stacking refuses parts of different shapes, which would be answered with mixed-up tokens.
    batch = tf.stack([token_ids, segment_ids, padding_mask])
    missing = tf.maximum(1 - tf.shape(batch)[2], 0)
    batch = tf.pad(batch, [[0, 0], [0, 0], [0, missing]])
    is_first = tf.range(tf.shape(batch)[2]) == 0
    real = tf.equal(batch[2], 1) | is_first
    lengths = tf.reduce_sum(tf.cast(real, tf.int32), axis=1)
    return tf.boolean_mask(batch[0], real), tf.boolean_mask(batch[1], real), lengths


def _positions(lengths: tf.Tensor) -> tf.Tensor:
    """0, 1, 2, … for each text, int32 (R,)."""
    ends = tf.cumsum(lengths)
    return tf.range(tf.reduce_sum(lengths)) - tf.repeat(ends - lengths, lengths)


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Where tokens that lie one after the other stand in their texts.

    Attributes:
        into_heads: for query, key and value, int32 (B, N, T): which row of width H it is.
        out_of_heads: int32 (R', N): the way back; R' is R rounded up.
        first: int32 (B,): the first token of each text.
        apart: float (B, 1, 1, T): 0 for a token, -1e9 behind a text's end.
    """

    into_heads: tuple[tf.Tensor, ...]
    out_of_heads: tf.Tensor
    first: tf.Tensor
    apart: tf.Tensor


def _lay_out(lengths: tf.Tensor, *, heads: int, dtype: tf.DType) -> _Layout:
    starts = tf.cumsum(lengths, exclusive=True)
    longest = _rounded(tf.reduce_max(tf.concat([lengths, [1]], axis=0)))
    columns = tf.range(longest)[tf.newaxis]
    is_token = columns < lengths[:, tf.newaxis]
    tokens = tf.where(is_token, starts[:, tf.newaxis] + columns, 0)
    head = tf.range(heads)
    query = 3 * heads * tokens[:, tf.newaxis] + head[tf.newaxis, :, tf.newaxis]
    positions = _filled(_positions(lengths))
    texts = _filled(tf.repeat(tf.range(tf.size(lengths)), lengths))
    back = (heads * texts[:, tf.newaxis] + head[tf.newaxis]) * longest + positions[:, tf.newaxis]
    return _Layout(
        into_heads=(query, query + heads, query + 2 * heads),
        out_of_heads=back,
        first=starts,
        apart=tf.where(is_token, tf.zeros((), dtype), _APART)[:, tf.newaxis, tf.newaxis],
    )


def _rounded(count: tf.Tensor) -> tf.Tensor:
    return -(-count // _ROUND_TO) * _ROUND_TO


def _filled(values: tf.Tensor) -> tf.Tensor:
    """(R,) to (R',): the zeros at the end are answered, and nobody asks for them."""
    count = tf.size(values)
    return tf.pad(values, [[0, _rounded(count) - count]])


def _of_real_tokens(model: keras.Model, activate: Callable, freeze: Freeze | None):
    embeddings = model.get_layer("encoder").get_layer("embeddings")
    answer = functools.partial(_answer_rows, model, activate)
    if freeze is not None:
        rows = tf.TensorSpec((None, embeddings.hidden_size), embeddings.compute_dtype, "rows")
        lengths = tf.TensorSpec((None,), tf.int32, "lengths")
        traced = tf.function(answer, input_signature=[rows, lengths], autograph=False)
        answer = freeze(traced.get_concrete_function())

    def function(token_ids, segment_ids, lengths):
        if embeddings.segments == 1:  # whatever ids are given
            segment_ids = tf.zeros_like(segment_ids)
        # A family without segments has no table for the last of them.
        ids = (token_ids, _positions(lengths), segment_ids)
        rows = sum(
            tf.nn.embedding_lookup(table.value, _filled(each))
            for table, each in zip(embeddings.tables(), ids, strict=False)
        )
        return answer(tf.cast(rows, embeddings.compute_dtype), lengths)

    return function


def _answer_rows(
    model: keras.Model, activate: Callable, rows: tf.Tensor, lengths: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Values and vectors of what the embedding tables say, (R', D)."""
    encoder = model.get_layer("encoder")
    config = encoder_config(encoder)
    layout = _lay_out(lengths, heads=config.heads, dtype=rows.dtype)
    hidden = encoder.get_layer("embeddings").finish(rows)
    pooling = next((each for each in model.layers if isinstance(each, SentencePooling)), None)
    of_tokens = _reads_tokens(model)
    all_tokens = of_tokens or (pooling is not None and pooling.pooling == "mean")
    for index in range(config.layers):
        first_only = index == config.layers - 1 and not all_tokens
        attention = encoder.get_layer(f"layer_{index}_attention")
        attended = _attend(attention, hidden, layout, first_only=first_only)
        if first_only:
            # Only the first token of each text is asked for what the last layer says.
            hidden = tf.gather(hidden, layout.first)
        hidden = encoder.get_layer(f"layer_{index}_attention_norm")(attended, hidden)
        widened = encoder.get_layer(f"layer_{index}_feed_forward")(hidden)
        hidden = encoder.get_layer(f"layer_{index}_feed_forward_norm")(widened, hidden)
    if pooling is not None:
        vector = tf.cast(hidden, tf.float32)
        if all_tokens:
            vector = _means(vector, lengths)
        vector = unit(vector) if pooling.normalize else vector
        has_head = "head" in {layer.name for layer in model.layers}
        outputs = model.get_layer("head")(vector) if has_head else vector
        return {"scores": activate(outputs), "vector": vector}
    if of_tokens:
        hidden = hidden[: tf.reduce_sum(lengths)]
        return {"scores": activate(model.get_layer("head")(hidden))}
    pooled = encoder.get_layer("pooler")(hidden)
    outputs = model.get_layer("head")(pooled)
    return {"scores": activate(outputs), "vector": tf.cast(pooled, tf.float32)}


def _means(hidden: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """The mean of each text's tokens, (R', D) to (B, D)."""
    count = tf.reduce_sum(lengths)
    texts = tf.repeat(tf.range(tf.size(lengths)), lengths)
    sums = tf.math.unsorted_segment_sum(hidden[:count], texts, tf.size(lengths))
    return sums / tf.cast(tf.maximum(lengths, 1), tf.float32)[:, tf.newaxis]


def _attend(layer: SelfAttention, hidden, layout: _Layout, *, first_only: bool):
    """Self-attention on (R', D) to (R', D), or (B, D): `SelfAttention.call` without its padding."""
    hidden_size = hidden.shape[-1]
    width = hidden_size // layer.heads
    projected = tf.reshape(layer.query_key_value(hidden), (-1, width))
    asking, *asked = layout.into_heads
    query = tf.gather(projected, asking[:, :, :1] if first_only else asking)
    key, value = (tf.gather(projected, rows) for rows in asked)
    query *= tf.cast(1 / math.sqrt(width), query.dtype)
    weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) + layout.apart)
    mixed = tf.matmul(weights, value)  # (B, N, T, H)
    if not first_only:
        mixed = tf.gather(tf.reshape(mixed, (-1, width)), layout.out_of_heads)
    return layer.output_projection(tf.reshape(mixed, (-1, hidden_size)))


def _padded(model, activate, token_ids, segment_ids, lengths):
    """The model as it is called in training: for models whose layers are not known here."""

    def rows(values):
        padded = tf.RaggedTensor.from_row_lengths(values, lengths, validate=False).to_tensor()
        # A batch of no rows has no columns, and models need one.
        return tf.pad(padded, [[0, 0], [0, tf.maximum(1 - tf.shape(padded)[1], 0)]])

    columns = (token_ids, segment_ids, tf.ones_like(token_ids))
    batch = dict(zip(BATCH_NAMES, map(rows, columns), strict=True))
    if reading_of(model) is not None:
        # Asked together with the outputs, or all of it would be computed twice.
        both = keras.Model(model.input, [model.get_layer("pooled_dropout").input, model.output])
        vector, outputs = both(batch, training=False)
        return {"scores": activate(outputs), "vector": tf.cast(vector, tf.float32)}
    outputs = model(batch, training=False)
    if outputs.shape.rank == 3:
        outputs = tf.boolean_mask(outputs, batch["padding_mask"] > 0)
    return {"scores": activate(outputs)}
