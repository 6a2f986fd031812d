"""Checkpoints under the names of google-research/bert, written by TensorFlow itself."""

import re

import tensorflow as tf


def googles(name, value):
    """A tensor under the name, and the way round, of google-research/bert."""
    turned = name.endswith("weight") and "embeddings." not in name and "LayerNorm" not in name
    name = re.sub(r"LayerNorm\.weight", "LayerNorm.gamma", name)
    name = re.sub(r"LayerNorm\.bias", "LayerNorm.beta", name)
    name = re.sub(r"_embeddings\.weight", "_embeddings", name)
    name = name.replace("layer.", "layer_").replace(".weight", ".kernel")
    return f"bert/{name.replace('.', '/')}", value.T if turned else value


def write_checkpoint(folder, tensors, *, name="bert_model.ckpt"):
    names = sorted(tensors)
    values = [tf.constant(tensors[each]) for each in names]
    slices = [""] * len(names)
    tf.raw_ops.SaveV2(
        prefix=str(folder / name), tensor_names=names, shape_and_slices=slices, tensors=values
    )
