"""The model as a graph that only answers: what every artifact is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.model.sizes import BertConfig
from tfmodel.tasks.readings import reading_of
from tfmodel.tokens.row_tokenizer import RowTokenizer

BATCH_NAMES = ("token_ids", "segment_ids", "padding_mask")


def scores_function(
    model: keras.Model, task: str = "classify"
) -> tf.types.experimental.GenericFunction:
    """Wrap a model as one graph for batches of any size and length.

    Args:
        model: token batch to outputs (B, C).
        task: one of `tasks.TASKS`.

    Returns:
        A function of `token_ids`, `segment_ids` and `padding_mask`, int32 (B, T), that gives
        the task's values, float32 (B, C): of `classify` the probabilities. Nothing of it is random.
    """
    signature = [tf.TensorSpec((None, None), tf.int32, name=name) for name in BATCH_NAMES]
    activate = tasks.find(task).activate

    @tf.function(input_signature=signature, autograph=False)
    def scores(token_ids, segment_ids, padding_mask):
        batch = dict(zip(BATCH_NAMES, (token_ids, segment_ids, padding_mask), strict=True))
        return activate(model(batch, training=False))

    return scores


def vector_function(model: keras.Model) -> tf.types.experimental.GenericFunction:
    """Wrap what a model reads its answers from as one graph: the sentence vector.

    Args:
        model: a task's model on an encoder from `build_encoder`.

    Returns:
        A function of `token_ids`, `segment_ids` and `padding_mask`, int32 (B, T), that gives
        the encoder's `pooled` output, or what the head reads in its place, float32 (B, D).
    """
    signature = [tf.TensorSpec((None, None), tf.int32, name=name) for name in BATCH_NAMES]
    reads = read_by_head(model)

    @tf.function(input_signature=signature, autograph=False)
    def vector(token_ids, segment_ids, padding_mask):
        batch = dict(zip(BATCH_NAMES, (token_ids, segment_ids, padding_mask), strict=True))
        return tf.cast(reads(batch), tf.float32)

    return vector


def read_by_head(model: keras.Model) -> Callable[[Mapping[str, tf.Tensor]], tf.Tensor]:
    """A model up to the vector that its head reads: token batch to (B, D)."""
    if reading_of(model) is None:
        encoder = model.get_layer("encoder")
        return lambda batch: encoder(batch, training=False)["pooled"]
    vector = keras.Model(model.input, model.get_layer("pooled_dropout").input, name="read_by_head")
    return lambda batch: vector(batch, training=False)


def batch_function(
    tokenizer: RowTokenizer, *, max_length: int, has_pairs: bool, length: int | None = None
) -> tf.types.experimental.GenericFunction:
    """Wrap a tokenizer as one graph.

    Args:
        tokenizer: strings to token batches.
        max_length: tokens a row at most.
        has_pairs: whether a row is two texts.
        length: pad every row to exactly this many tokens; by default to the longest.

    Returns:
        A function of `text`, and `text_pair` for pairs, string (B,), that gives the batch, a
        dict of int32 (B, T); T is 1 or more even where B is 0.
    """
    names = ("text", "text_pair") if has_pairs else ("text",)
    signature = [tf.TensorSpec((None,), tf.string, name=name) for name in names]

    def batch(text, text_pair=None):
        return at_least_one_token(tokenizer(text, text_pair, max_length=max_length, length=length))

    return tf.function(batch, input_signature=signature, autograph=False)


def at_least_one_token(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Pad a batch without columns to one: a batch of no rows has none, and models need it."""
    missing = tf.maximum(1 - tf.shape(batch["token_ids"])[1], 0)
    return {name: tf.pad(batch[name], [[0, 0], [0, missing]]) for name in BATCH_NAMES}


def check_exportable(
    model: keras.Model,
    *,
    labels: Sequence[str],
    max_length: int,
    positions: int | None,
    task: str = "classify",
    decoding: Mapping[str, Any] | None = None,
) -> None:
    """Refuse what would export to something that answers wrongly or not at all.

    Args:
        model: token batch to outputs (B, C).
        labels: the name of each output.
        max_length: tokens a row at most.
        positions: the longest row that the model knows, or None where it is not known.
        task: one of `tasks.TASKS`; what gives vectors has no labels.
        decoding: what its answers are decoded by beside the labels.

    Raises:
        ConfigError: the labels are not as many strings as there are classes, each once, the model
            is one of several texts a row, `max_length` is out of range, or what a CRF learned is
            left out.
    """
    odd = [label for label in labels if not (isinstance(label, str) and label.strip())]
    if odd or len({*labels}) < len(labels):
        twice = next((label for label in labels if [*labels].count(label) > 1), None)
        received = f"{odd[0]!r}" if odd else f"{twice!r} twice"
        raise ConfigError(
            f"Expected labels to be names, each once and none empty. Received: {received}. "
            'Name the classes: labels=["no", "yes"].'
        )
    classes = model.output_shape[-1]
    if tasks.fills_gaps(task):
        from tfmodel.export.gaps import require_filler

        require_filler(model)
        if len(labels):
            raise ConfigError(
                f"Expected no labels, for the answers of {task} are pieces of the vocabulary. "
                f"Received: {len(labels)} labels. Leave them out: labels=[]."
            )
    elif tasks.gives_vectors(task):
        if len(model.output_shape) != 2 or len(labels):
            raise ConfigError(
                f"Expected a model that gives a vector a row, and no labels. Received: one that "
                f"gives {model.output_shape}, and {len(labels)} labels. Export the model of single "
                "texts: tm.tasks.embed.answering(model)."
            )
    elif classes != len(labels):
        raise ConfigError(
            f"Expected one label for each of the model's {classes} classes. "
            f"Received: {len(labels)} labels. Pass the labels that the model was trained with."
        )
    chain_of = getattr(tasks.find(task), "chain_of", None)
    if (
        chain_of is not None
        and chain_of(model) is not None
        and "transitions" not in (decoding or {})
    ):
        raise ConfigError(
            f"Expected what the model's CRF learned, by which its words get their tags. Received: "
            f"decoding {dict(decoding or {})}. Pass decoding=tm.tasks.{task}.chain_of(model)"
            ".decoding(), or what tm.tasks.load_model gives."
        )
    if not 4 <= max_length <= (positions or max_length):
        raise ConfigError(
            f"export.max_length must be in [4, {positions}], the longest row that the encoder "
            f"knows. Received: {max_length}."
        )


def positions_of(model: keras.Model) -> int | None:
    """The longest row that a model on our encoder takes; None for another model."""
    shape = _shape_of(model)
    return None if shape is None else shape.max_positions


def family_of(model: keras.Model) -> str:
    """Of which family a model's encoder is, as its `model_type` says; `bert` for another model."""
    shape = _shape_of(model)
    return "bert" if shape is None else shape.family


def _shape_of(model: keras.Model) -> BertConfig | None:
    from tfmodel.model.encoder import encoder_config

    try:
        return encoder_config(encoder_of(model))
    except ValueError:
        return None


def encoder_of(model: keras.Model) -> keras.Model:
    """The encoder in a task's model.

    Raises:
        ValueError: it has none of `build_encoder`.
    """
    # A model that fills gaps takes its encoder's layers one by one.
    found = getattr(model, "encoder", None)
    return model.get_layer("encoder") if found is None else found


def check_float32(function: tf.types.experimental.ConcreteFunction) -> None:
    """Refuse a graph that computes in half precision.

    Artifacts are float32 whatever the training's precision: phones and old servers have no
    bfloat16, and the parity limit of 1e-4 could not be kept.

    Raises:
        ValueError: the graph, or a function it calls, has bfloat16 or float16 tensors.
    """
    graphs = [function.graph, *_inner_graphs(function.graph)]
    for graph in graphs:
        for operation in graph.get_operations():
            for output in operation.outputs:
                if output.dtype in (tf.bfloat16, tf.float16):
                    raise ValueError(
                        "Expected a float32 model. Received: one that computes in "
                        f"{output.dtype.name} ({operation.name}). Load it for the export with "
                        'tfmodel.tasks.load_model(FOLDER, dtype="float32").'
                    )


def _inner_graphs(graph: tf.Graph) -> list[tf.Graph]:
    functions = graph._get_function
    found = {}
    for operation in graph.get_operations():
        for attribute in operation.node_def.attr.values():
            name = attribute.func.name
            inner = functions(name) if name else None
            if inner is not None and name not in found:
                found[name] = inner.graph
    return list(found.values())
