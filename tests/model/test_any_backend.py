"""model/ and tasks/ import no TensorFlow and give the same numbers on other Keras backends."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import needs
import numpy as np
import numpy_bert
import pytest
import tensorflow as tf

from tfmodel.model import BertConfig, build_encoder, load_encoder
from tfmodel.model.checkpoints import assign_encoder, read_tensors
from tfmodel.model.dropout import Dropout
from tfmodel.tasks import classify, embed, fill

HERE = Path(__file__).parent


@pytest.fixture
def inputs(folder):
    """An ordinary and a packed row; written beside the weights for the other process."""
    batch = numpy_bert.random_batch((9, 9))
    batch["padding_mask"][1] = [1, 1, 1, 2, 2, 2, 2, 0, 0]
    more = {
        "kernel": np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32),
        "targets": np.array([2, 0], np.int32),
        "positions": np.array([[3, 1], [4, 0]], np.int32),
        "hidden_ids": np.array([[5, 6], [7, 8]], np.int32),
        "places": np.array([[1, 1], [1, 0]], np.float32),
    }
    np.savez(folder / "inputs.npz", **batch, **more)
    return batch, more


def run_elsewhere(folder: Path, *, python: str, backend: str) -> dict:
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(HERE.parents[1])}
    script = [python, "-W", "error::DeprecationWarning:tfmodel", str(HERE / "other_backend.py")]
    done = subprocess.run(
        [*script, str(folder), str(folder / "out.npz")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(folder / "out.npz") as arrays:
        found = dict(arrays)
    assert found.pop("backend") == backend
    return found


def classifier(folder, kernel):
    encoder = build_encoder(BertConfig.from_huggingface(numpy_bert.CONFIG), sequence=False)
    assign_encoder(encoder, read_tensors(folder))
    model = classify.build(encoder, classes=3, dropout=0.0)
    model.get_layer("head").kernel.assign(kernel)
    return model


def filler(folder, inputs):
    """As the other process makes it, and what it is given."""
    batch, more = inputs
    model = fill.build(load_encoder(folder))
    model.get_layer("masked_transform").dense.kernel.assign(np.eye(16, dtype=np.float32))
    return model, {**batch, "masked_positions": more["positions"]}


def check_numbers(found, folder, inputs):
    batch, more = inputs
    encoder = load_encoder(folder)
    for name, expected in encoder(batch).items():
        np.testing.assert_allclose(found[name], expected, atol=1e-5)
    logits = classifier(folder, more["kernel"])(batch)
    np.testing.assert_allclose(found["logits"], logits, atol=1e-5)
    vectors = embed.build(load_encoder(folder))(batch)
    np.testing.assert_allclose(found["vectors"], vectors, atol=1e-5)
    model, given = filler(folder, inputs)
    np.testing.assert_allclose(found["filled"], model(given), atol=1e-5)
    sums = fill.sums(model, given, more["hidden_ids"], more["places"], training=False)
    np.testing.assert_allclose(found["fill sums"], sums[0], atol=1e-5)
    assert set(np.unique(found["dropped"])) == {0, np.float32(4 / 3)}
    assert abs((found["dropped"] == 0).mean() - 0.25) < 0.01


def test_numpy_gives_the_same_numbers_without_tensorflow(folder, inputs):
    found = run_elsewhere(folder, python=sys.executable, backend="numpy")
    check_numbers(found, folder, inputs)


@pytest.mark.slow
def test_jax_gives_the_same_numbers_and_gradients(folder, inputs):
    python = needs.environment(
        "jax",
        "jax==0.7.2",
        f"keras=={keras.__version__}",
        f"numpy=={np.__version__}",
        "pydantic>=2.10,<3",
        "pyyaml>=6.0,<7",
        "safetensors>=0.5,<1",
    )
    found = run_elsewhere(folder, python=python, backend="jax")
    check_numbers(found, folder, inputs)

    batch, more = inputs
    model = classifier(folder, more["kernel"])
    for layer in model._flatten_layers():
        if isinstance(layer, Dropout):
            layer.rate = 0.0
    with tf.GradientTape() as tape:
        loss = classify.loss()(more["targets"], model(batch, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    assert len(gradients) == sum(name.startswith("gradient ") for name in found)
    for index, gradient in enumerate(gradients):
        np.testing.assert_allclose(
            found[f"gradient {index}"], tf.convert_to_tensor(gradient), atol=1e-5
        )

    model, given = filler(folder, inputs)
    with tf.GradientTape() as tape:
        sums = fill.sums(model, given, more["hidden_ids"], more["places"], training=False)
        loss = sums[0][0]
    gradients = tape.gradient(loss, model.trainable_variables)
    for index, (gradient, weight) in enumerate(
        zip(gradients, model.trainable_variables, strict=True)
    ):
        expected = np.zeros(weight.shape) if gradient is None else tf.convert_to_tensor(gradient)
        np.testing.assert_allclose(found[f"fill gradient {index}"], expected, atol=1e-5)
