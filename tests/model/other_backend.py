"""Run an encoder and a classifier where TensorFlow cannot be imported, and write their numbers.

Run: KERAS_BACKEND=numpy python tests/model/other_backend.py FOLDER OUT.npz
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from unittest import mock


class StandIn:
    """An import hook that gives a hollow JAX: Keras' NumPy backend imports it for one function."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "jax":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return mock.MagicMock(name=spec.name, __path__=[], __spec__=spec, __name__=spec.name)

    def exec_module(self, module):
        pass


class Refuse:
    """An import hook that refuses TensorFlow, even where it is installed."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "tensorflow_text", "tensorflow_datasets"):
            raise ImportError(f"{name} is refused in this test")


def classifier_gradients(model, batch, targets) -> dict:
    """Gradients of the loss in training's form (dropout 0), by JAX."""
    import jax

    from tfmodel.tasks import classify

    loss = classify.loss()

    def value(trainable, fixed):
        logits, _ = model.stateless_call(trainable, fixed, batch, training=True)
        return loss(targets, logits)

    trainable = [weight.value for weight in model.trainable_variables]
    fixed = [weight.value for weight in model.non_trainable_variables]
    gradients = jax.jit(jax.grad(value))(trainable, fixed)
    return {f"gradient {i}": g for i, g in enumerate(gradients)}


def fill_numbers(folder, inputs, batch) -> dict:
    """Logits and loss of a masked language model whose head changes little."""
    import keras
    import numpy as np

    import tfmodel.model
    from tfmodel.tasks import electra, fill, pair, simcse

    model = fill.build(tfmodel.model.load_encoder(folder))
    model.get_layer("masked_transform").dense.kernel.assign(np.eye(16, dtype=np.float32))
    given = {**batch, "masked_positions": inputs["positions"]}
    sums = fill.sums(model, given, inputs["hidden_ids"], inputs["places"], training=False)
    numbers = {"filled": model(given), "fill sums": sums[0]}
    if keras.backend.backend() == "jax":
        for task in (pair, electra, simcse):  # they can be built
            assert task.build(tfmodel.model.load_encoder(folder)).trainable_variables
        numbers.update(fill_gradients(model, given, inputs))
    return numbers


def fill_gradients(model, given, inputs) -> dict:
    """Gradients of the masked language model's loss, by JAX."""
    import jax
    import keras

    from tfmodel.tasks import fill

    def value(trainable):
        pairs = zip(model.trainable_variables, trainable, strict=True)
        with keras.StatelessScope(state_mapping=pairs):
            return fill.sums(model, given, inputs["hidden_ids"], inputs["places"], training=False)[
                0
            ][0]

    gradients = jax.grad(value)([weight.value for weight in model.trainable_variables])
    return {f"fill gradient {i}": g for i, g in enumerate(gradients)}


def main(folder: str, out: str) -> None:
    import keras
    import numpy as np

    import tfmodel.model
    import tfmodel.tasks
    from tfmodel.model.checkpoints import assign_encoder, read_config, read_tensors
    from tfmodel.model.dropout import Dropout
    from tfmodel.tasks import classify, embed

    with np.load(f"{folder}/inputs.npz") as arrays:
        inputs = dict(arrays)
    batch = {name: inputs[name] for name in ("token_ids", "segment_ids", "padding_mask")}
    numbers = dict(tfmodel.model.load_encoder(folder)(batch))
    config = tfmodel.model.BertConfig.from_huggingface(read_config(folder))
    encoder = tfmodel.model.build_encoder(config, sequence=False)
    assign_encoder(encoder, read_tensors(folder))
    model = classify.build(encoder, classes=3, dropout=0.0)
    model.get_layer("head").kernel.assign(inputs["kernel"])
    numbers["logits"] = model(batch)
    vectors = embed.build(tfmodel.model.load_encoder(folder), pooling="mean")
    numbers["vectors"] = vectors(batch)
    dropped = Dropout(0.25, seed=1)(np.ones((500, 200), np.float32), training=True)
    numbers["dropped"] = dropped
    numbers.update(fill_numbers(folder, inputs, batch))
    if keras.backend.backend() == "jax":
        still = [layer for layer in model._flatten_layers() if isinstance(layer, Dropout)]
        for layer in still:
            layer.rate = 0.0
        numbers.update(classifier_gradients(model, batch, inputs["targets"]))
    arrays = {name: keras.ops.convert_to_numpy(value) for name, value in numbers.items()}
    np.savez(out, backend=keras.backend.backend(), **arrays)
    assert not any(name.split(".")[0] == "tensorflow" for name in sys.modules)


if __name__ == "__main__":
    sys.meta_path.insert(0, Refuse())
    if os.environ["KERAS_BACKEND"] == "numpy" and importlib.util.find_spec("jax") is None:
        sys.meta_path.insert(0, StandIn())
    main(*sys.argv[1:])
