"""Recomputed activations: the same numbers from less memory."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfmodel.model import BertConfig, build_encoder

CONFIG = BertConfig(
    vocabulary_size=50, hidden_size=16, layers=3, heads=2, intermediate_size=32, max_positions=12,
    dropout=0.2, attention_dropout=0.3,
)  # fmt: skip


def rows(seed=0):
    random = np.random.default_rng(seed)
    lengths = np.array([12, 7, 3])[:, None]
    return {
        "token_ids": tf.constant(random.integers(1, 50, (3, 12)), tf.int32),
        "segment_ids": tf.zeros((3, 12), tf.int32),
        "padding_mask": tf.constant(np.arange(12) < lengths, tf.int32),
    }


def loss_and_gradients(*, recompute, dtype="float32", sequence=False, in_graph=True):
    keras.utils.set_random_seed(3)
    encoder = build_encoder(CONFIG, recompute=recompute, dtype=dtype, sequence=sequence)

    def step(batch):
        with tf.GradientTape() as tape:
            outputs = encoder(batch, training=True)
            loss = sum(tf.reduce_sum(tf.square(tf.cast(o, "float32"))) for o in outputs.values())
        return loss, tape.gradient(loss, [v.value for v in encoder.trainable_variables])

    step = tf.function(step) if in_graph else step
    results = [step(rows(seed)) for seed in (0, 1)]  # the second step draws other dropout
    return [tf.nest.map_structure(tf.convert_to_tensor, result) for result in results]


@pytest.mark.parametrize("sequence", [False, True])
@pytest.mark.parametrize("in_graph", [False, True])
def test_loss_and_gradients_are_the_same(sequence, in_graph):
    kept = loss_and_gradients(recompute=False, sequence=sequence, in_graph=in_graph)
    again = loss_and_gradients(recompute=True, sequence=sequence, in_graph=in_graph)
    assert float(kept[0][0]) != float(kept[1][0])
    for one, other in zip(kept, again, strict=True):
        assert float(one[0]) == float(other[0])
        for expected, found in zip(one[1], other[1], strict=True):
            scale = float(tf.norm(expected)) + 1e-12
            np.testing.assert_allclose(found, expected, atol=1e-6 * scale, rtol=1e-5)


def test_in_bfloat16_too():
    kept = loss_and_gradients(recompute=False, dtype="mixed_bfloat16")
    again = loss_and_gradients(recompute=True, dtype="mixed_bfloat16")
    for one, other in zip(kept, again, strict=True):
        assert float(one[0]) == float(other[0])
        for expected, found in zip(one[1], other[1], strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-3 * float(tf.norm(expected)) + 1e-9)


def test_answers_are_the_same(tmp_path):
    keras.utils.set_random_seed(3)
    encoder = build_encoder(CONFIG, recompute=True)
    encoder.save(tmp_path / "encoder.keras")
    loaded = keras.models.load_model(tmp_path / "encoder.keras")
    assert loaded.get_layer("layer_0_attention").recompute
    np.testing.assert_array_equal(loaded(rows())["pooled"], encoder(rows())["pooled"])


def peak_bytes(recompute: bool) -> None:
    """Print what two steps on 16 rows of 256 tokens add to the process' peak."""
    config = BertConfig(
        vocabulary_size=50, hidden_size=128, layers=6, heads=8, intermediate_size=512,
        max_positions=256,
    )  # fmt: skip
    encoder = build_encoder(config, recompute=recompute, sequence=False)
    batch = {
        name: tf.ones((32, 256), tf.int32) for name in ("token_ids", "segment_ids", "padding_mask")
    }

    @tf.function
    def step(batch):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(encoder(batch, training=True)["pooled"])
        return [tf.reduce_sum(g) for g in tape.gradient(loss, encoder.trainable_weights)]

    step({name: values[:1, :4] for name, values in batch.items()})
    before = peak_kilobytes()
    step(batch)
    print(1024 * (peak_kilobytes() - before))


def peak_kilobytes() -> int:
    # Not getrusage: there, a process begins with the peak of the one that started it.
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


@pytest.mark.slow
def test_less_memory_is_taken():
    def measured(recompute):
        # Which tensors live at once hangs of threads too: the least of three is the step's own.
        command = [sys.executable, __file__, str(int(recompute))]
        found = (subprocess.run(command, capture_output=True, text=True, check=True) for _ in "123")
        return min(int(done.stdout.split()[-1]) for done in found)

    assert measured(True) < 0.6 * measured(False)


if __name__ == "__main__":
    peak_bytes(bool(int(sys.argv[1])))
