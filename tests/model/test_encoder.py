"""The encoder's contract, held by a NumPy statement of BERT and by comparing it with itself."""

import keras
import numpy as np
import numpy_bert
import pytest
import tensorflow as tf
from keras import ops

from tfmodel.model import build_encoder, encoder_config
from tfmodel.model.checkpoints import assign_encoder


@keras.saving.register_keras_serializable("tests")
class CountedDense(keras.layers.Dense):
    """A projection of somebody else's, such as an adapter's."""

    def __init__(self, units, *, factor=1.0, **kwargs):
        super().__init__(units, **kwargs)
        self.factor = factor

    def call(self, inputs, training=None):
        return super().call(inputs, training=training) * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@pytest.fixture(scope="module")
def encoder(config, tensors):
    """With the weights of `numpy_bert`; not to be changed."""
    return with_weights(build_encoder(config), tensors)


@pytest.fixture(scope="module")
def batch():
    return numpy_bert.random_batch()


def with_weights(encoder, tensors):
    assign_encoder(encoder, tensors)
    return encoder


def test_it_is_bert(encoder, tensors, batch):
    expected = numpy_bert.run_bert(tensors, batch)
    found = encoder(batch)
    assert found["sequence"].shape == (4, 12, 16)
    np.testing.assert_allclose(found["pooled"], expected["pooled"], atol=2e-6)
    for row, expected_row in zip(found["sequence"].numpy(), expected["sequence"], strict=True):
        np.testing.assert_allclose(row[: len(expected_row)], expected_row, atol=1e-5)


def test_inputs_and_outputs_are_named_as_designed(encoder):
    assert set(encoder.input) == {"token_ids", "segment_ids", "padding_mask"}
    assert {x.dtype for x in encoder.inputs} == {"int32"}
    assert {x.shape for x in encoder.inputs} == {(None, None)}
    shapes = {name: tuple(x.shape) for name, x in encoder.output.items()}
    assert shapes == {"sequence": (None, None, 16), "pooled": (None, 16)}
    assert encoder.name == "encoder"


def test_ids_under_a_zero_mask_change_nothing(encoder, batch):
    mask = batch["padding_mask"]
    other = {**batch, "token_ids": np.where(mask == 1, batch["token_ids"], 7)}
    other["segment_ids"] = np.where(mask == 1, batch["segment_ids"], 1)
    first, second = encoder(batch), encoder(other)
    np.testing.assert_array_equal(first["pooled"], second["pooled"])
    real = mask.astype(bool)
    np.testing.assert_array_equal(first["sequence"][real], second["sequence"][real])


def test_more_padding_changes_nothing(encoder):
    short = numpy_bert.random_batch((5, 3))
    longer = {name: np.pad(values, ((0, 0), (0, 6))) for name, values in short.items()}
    first, second = encoder(short), encoder(longer)
    np.testing.assert_allclose(first["pooled"], second["pooled"], atol=1e-6)
    real = short["padding_mask"].astype(bool)
    np.testing.assert_allclose(first["sequence"][real], second["sequence"][:, :5][real], atol=2e-6)


def test_a_row_of_padding_alone_is_a_number(encoder):
    batch = {name: np.zeros((2, 4), np.int32) for name in encoder.input}
    assert np.isfinite(encoder(batch)["sequence"]).all()


def test_a_packed_row_is_its_texts_alone(encoder):
    first, second, third = (numpy_bert.random_batch((n,), seed=n) for n in (3, 4, 2))
    packed = {
        name: np.concatenate(
            [first[name] * 1, second[name] * (2 if name == "padding_mask" else 1),
             third[name] * (3 if name == "padding_mask" else 1), np.zeros((1, 1), np.int32)],
            axis=1,
        )
        for name in first
    }  # fmt: skip
    assert packed["padding_mask"].tolist() == [[1, 1, 1, 2, 2, 2, 2, 3, 3, 0]]
    found = encoder(packed)["sequence"].numpy()[0]
    alone = [encoder(text)["sequence"].numpy()[0] for text in (first, second, third)]
    np.testing.assert_allclose(found[:9], np.concatenate(alone), atol=2e-6)
    np.testing.assert_allclose(encoder(packed)["pooled"], encoder(first)["pooled"], atol=1e-6)


def test_pooled_alone_is_the_same_pooled(config, tensors, encoder, batch):
    pooled = with_weights(build_encoder(config, sequence=False), tensors)
    found = pooled(batch)
    assert set(found) == {"pooled"}
    np.testing.assert_allclose(found["pooled"], encoder(batch)["pooled"], atol=1e-6)
    assert pooled.count_params() == encoder.count_params()


def test_a_graph_of_open_shapes_serves_every_length(encoder):
    traces = []

    @tf.function(
        input_signature=[dict.fromkeys(encoder.input, tf.TensorSpec([None, None], tf.int32))]
    )
    def run(batch):
        traces.append(1)
        return encoder(batch)

    for lengths in ((3, 2), (12,), (2, 2, 1, 2)):
        batch = numpy_bert.random_batch(lengths)
        found = run({name: tf.constant(values) for name, values in batch.items()})
        np.testing.assert_allclose(found["pooled"], encoder(batch)["pooled"], atol=1e-6)
    assert len(traces) == 1


def test_bfloat16_is_float32_to_its_precision(config, tensors, encoder, batch):
    half = with_weights(build_encoder(config, dtype="mixed_bfloat16"), tensors)
    found = half(batch)
    assert found["pooled"].dtype == found["sequence"].dtype == tf.bfloat16
    assert {w.dtype for w in half.weights} == {"float32"}
    np.testing.assert_allclose(
        ops.cast(found["pooled"], "float32"), encoder(batch)["pooled"], atol=0.06
    )


def test_the_global_policy_is_the_default(config):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert build_encoder(config).compute_dtype == "bfloat16"
        found = build_encoder(config, dtype="float32")
    finally:
        keras.config.set_dtype_policy("float32")
    layers = [layer for layer in found.layers if not isinstance(layer, keras.layers.InputLayer)]
    assert {layer.compute_dtype for layer in layers} == {"float32"}


def test_dropout_is_on_in_training_alone(encoder, batch):
    first, second = (encoder(batch, training=True)["pooled"].numpy() for _ in range(2))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(encoder(batch)["pooled"], encoder(batch)["pooled"])


@pytest.mark.parametrize("sequence", [True, False])
def test_a_keras_file_round_trip(config, tensors, batch, tmp_path, sequence):
    model = with_weights(build_encoder(config, sequence=sequence), tensors)
    model.save(tmp_path / "encoder.keras")
    loaded = keras.models.load_model(tmp_path / "encoder.keras")
    for name, expected in model(batch).items():
        np.testing.assert_array_equal(loaded(batch)[name], expected)
    assert encoder_config(loaded) == config


def test_the_config_is_read_off_the_layers(config, encoder):
    assert encoder_config(encoder) == config
    assert encoder_config(build_encoder(config, sequence=False)) == config
    with pytest.raises(ValueError, match="made by build_encoder .* Received: 'other' with layers"):
        encoder_config(keras.Sequential([keras.layers.Dense(2)], name="other"))


# --- injected projections -----------------------------------------------------------------


def doubled(units, **kwargs):
    return CountedDense(units, factor=2.0, **kwargs)


def projections_of(encoder):
    layers = [layer for layer in encoder._flatten_layers() if isinstance(layer, keras.layers.Dense)]
    return [layer for layer in layers if layer.name != "pooler"]


def test_a_projection_is_used_in_every_place(config, encoder):
    model = build_encoder(config, projection=CountedDense)
    found = projections_of(model)
    assert len(found) == len(projections_of(encoder)) == 4 * config.layers
    assert {type(layer) for layer in found} == {CountedDense}
    names = sorted(layer.name for layer in found)
    assert names == sorted(["query_key_value", "output", "widen", "narrow"] * config.layers)


def test_a_projection_that_changes_nothing_changes_nothing(config, tensors, encoder, batch):
    model = with_weights(build_encoder(config, projection=CountedDense), tensors)
    np.testing.assert_array_equal(model(batch)["pooled"], encoder(batch)["pooled"])


def test_a_projections_own_settings_survive_a_file(config, tensors, encoder, batch, tmp_path):
    model = with_weights(build_encoder(config, projection=doubled), tensors)
    expected = model(batch)["sequence"]
    assert np.abs(expected - encoder(batch)["sequence"]).max() > 0.1
    model.save(tmp_path / "encoder.keras")
    loaded = keras.models.load_model(tmp_path / "encoder.keras")
    assert {layer.factor for layer in projections_of(loaded)} == {2.0}
    np.testing.assert_array_equal(loaded(batch)["sequence"], expected)


def test_a_projection_gets_the_encoders_dtype(config):
    model = build_encoder(config, projection=CountedDense, dtype="mixed_bfloat16")
    assert {layer.compute_dtype for layer in projections_of(model)} == {"bfloat16"}


def test_new_weights_are_small_and_differ_from_layer_to_layer(config):
    keras.utils.set_random_seed(0)
    kernels = [layer.kernel.numpy() for layer in projections_of(build_encoder(config))]
    assert all(0.01 < kernel.std() < 0.03 for kernel in kernels)
    assert not np.array_equal(kernels[0], kernels[4])
