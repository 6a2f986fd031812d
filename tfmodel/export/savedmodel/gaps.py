"""What a SavedModel of a task that fills gaps serves."""

from __future__ import annotations

import tensorflow as tf

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.export import graph
from tfmodel.export.gaps import Filler, rows_of_batch
from tfmodel.export.manifest import Manifest
from tfmodel.export.trained import Trained


def gaps_module(trained: Trained, manifest: Manifest) -> tf.Module:
    """Everything a version serves, as an object that `tf.saved_model.save` takes.

    Args:
        trained: a model of `fill.build` and its tokenizer.
        manifest: names the task, its longest row and how many answers a gap has.

    Returns:
        A module with `signatures_by_name`: `serving_default` takes `text`; `ids` a batch of token
        ids, and gives `tokens` and `scores` of each mask among them.

    Raises:
        ConfigError: another precision than float32, or a vocabulary without a mask.
    """
    if manifest.precision != "float32":
        raise ConfigError(
            f"precision must be float32 of the task {manifest.task}. Received: "
            f"{manifest.precision}. Leave it out."
        )
    served = tasks.find(manifest.task).served
    filler = Filler(trained.tokenizer, max_length=manifest.max_length, decoding=manifest.decoding)
    rows = tf.RaggedTensorSpec((None, None), tf.int32)
    fill = tf.function(
        filler.function(trained.model), input_signature=[rows], autograph=False
    ).get_concrete_function()
    graph.check_float32(fill)
    texts = {"text": tf.TensorSpec((None,), tf.string, name="text")}
    batch = {name: tf.TensorSpec((None, None), tf.int32, name=name) for name in graph.BATCH_NAMES}

    def from_texts(text):
        return served({"text": text, **fill(filler.rows(text))}, **manifest.decoding)

    def from_ids(**ids):
        return served(fill(rows_of_batch(**ids)))

    functions = {"serving_default": (from_texts, texts), "ids": (from_ids, batch)}
    module = tf.Module()
    module.weights = list(fill.variables)
    module.signatures_by_name = {
        name: tf.function(function, autograph=False).get_concrete_function(**specs)
        for name, (function, specs) in functions.items()
    }
    return module
