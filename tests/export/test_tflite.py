"""TFLite files: what phones get."""

import json

import keras
import numpy as np
import pytest
from tensorflow.lite.python import schema_py_generated as schema

from tfmodel.config import ConfigError
from tfmodel.export import export_tflite, load, tflite
from tfmodel.export.tflite import ConversionError
from tfmodel.export.tflite.metadata import pack_model, read_associated_files


@pytest.mark.parametrize(
    ("variant", "difference"), [("float32", 1e-4), ("float16", 0.02), ("int8", 0.25)]
)
def test_scores_are_those_of_the_keras_model(exported, tiny, variant, difference):
    scores = load(exported / f"tflite/{variant}.tflite").probabilities(tiny.texts)
    assert np.abs(scores - tiny.scores).max() < difference
    assert np.mean(scores.argmax(axis=1) == tiny.scores.argmax(axis=1)) > 0.9


def test_inputs_and_output_are_what_the_runtimes_want(exported):
    for path in (exported / "tflite").iterdir():
        model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
        (subgraph,) = model.subgraphs
        inputs = [subgraph.tensors[index] for index in subgraph.inputs]
        assert sorted(tensor.name for tensor in inputs) == [b"ids", b"mask", b"segment_ids"]
        for tensor in inputs:
            assert (tensor.type, list(tensor.shape)) == (schema.TensorType.INT32, [1, 16])
        (output,) = [subgraph.tensors[index] for index in subgraph.outputs]
        assert (output.name, list(output.shape)) == (b"probability", [1, 3])
        assert output.type == schema.TensorType.FLOAT32


def test_only_builtin_operations_that_old_phones_know(exported):
    for path in (exported / "tflite").iterdir():
        model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
        builtin = schema.BuiltinOperator
        codes = {code.builtinCode: code.version for code in model.operatorCodes}
        assert builtin.CUSTOM not in codes
        # One scale a column is version 12, which the Task Library 0.4.4 refuses.
        assert codes[builtin.FULLY_CONNECTED] < 12


def test_quantized_files_are_smaller(exported):
    sizes = [
        (exported / f"tflite/{variant}.tflite").stat().st_size
        for variant in ("float32", "float16", "int8")
    ]
    assert sizes[0] > 1.4 * sizes[1] > 1.4 * sizes[2]


def test_the_file_says_what_it_is(exported):
    files = read_associated_files(exported / "tflite/int8.tflite")
    assert json.loads(files["tfmodel.json"])["precision"] == "int8"


def test_equal_models_give_equal_files(exported, tiny, tmp_path):
    path = export_tflite(tiny.model, tiny.tokenizer, tmp_path / "again.tflite", **tiny.described)
    assert path.read_bytes() == (exported / "tflite/float32.tflite").read_bytes()


def test_pairs(tiny_pairs, tmp_path):
    path = export_tflite(
        tiny_pairs.model, tiny_pairs.tokenizer, tmp_path / "pairs.tflite", **tiny_pairs.described
    )
    scores = load(path).probabilities(tiny_pairs.texts, tiny_pairs.text_pairs)
    np.testing.assert_allclose(scores, tiny_pairs.scores, atol=1e-4)


def test_conversion_says_nothing_on_the_terminal(tiny, tmp_path, capfd):
    export_tflite(
        tiny.model, tiny.tokenizer, tmp_path / "a.tflite", quantization="int8", **tiny.described
    )
    assert capfd.readouterr() == ("", "")


def test_an_unknown_variant_lists_the_known(tiny, tmp_path):
    known = "float32, float16, int8, int8_weights, int8_full"
    with pytest.raises(ConfigError, match=f"among {known}. Received: 'int4'"):
        export_tflite(
            tiny.model, tiny.tokenizer, tmp_path / "a.tflite", quantization="int4", **tiny.described
        )
    assert list(tmp_path.iterdir()) == []


class Strange(keras.layers.Layer):
    """An operation that TFLite does not have."""

    def call(self, values):
        """Compute an incomplete beta function, for no reason."""
        import tensorflow as tf

        return tf.math.betainc(1.0, 2.0, tf.sigmoid(values))


def test_an_operation_that_is_no_builtin_is_named_with_its_layer(tiny, tmp_path):
    strange = Strange(name="strange")(tiny.model.output)
    model = keras.Model(tiny.model.input, strange)
    with pytest.raises(ConversionError, match="built in.*Betainc in layer .*strange"):
        export_tflite(model, tiny.tokenizer, tmp_path / "a.tflite", **tiny.described)
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_weights_is_caught(exported, tiny, tmp_path, monkeypatch):
    convert = tflite.convert

    def without_weights(*args, **kwargs):
        model = schema.ModelT.InitFromPackedBuf(convert(*args, **kwargs))
        for buffer in model.buffers:
            if buffer.data is not None and len(buffer.data) > 1000:
                buffer.data = None
        return pack_model(model)

    monkeypatch.setattr(tflite, "convert", without_weights)
    with pytest.raises(ConversionError, match="so weights are missing"):
        export_tflite(tiny.model, tiny.tokenizer, tmp_path / "a.tflite", **tiny.described)
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_nothing_but_zeros_is_refused(another, tmp_path):
    empty = another()
    for weight in empty.model.trainable_weights:
        weight.assign(weight * 0)
    with pytest.raises(ConversionError, match="so weights are missing"):
        export_tflite(empty.model, empty.tokenizer, tmp_path / "a.tflite", **empty.described)


def test_a_file_that_answers_otherwise_is_caught(tiny, another, tmp_path, monkeypatch):
    other = another(seed=5)
    path = export_tflite(other.model, tiny.tokenizer, tmp_path / "b.tflite", **tiny.described)
    content = path.read_bytes()
    path.unlink()
    monkeypatch.setattr(tflite, "add_metadata", lambda *args, **kwargs: content)
    with pytest.raises(ConversionError, match="scores differ by"):
        export_tflite(tiny.model, tiny.tokenizer, tmp_path / "a.tflite", **tiny.described)
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_stays_when_the_new_one_fails(tiny, tmp_path, monkeypatch):
    path = tmp_path / "a.tflite"
    path.write_bytes(b"older")

    def fail(*args, **kwargs):
        raise ConversionError("no")

    monkeypatch.setattr(tflite, "verify", fail)
    with pytest.raises(ConversionError):
        export_tflite(tiny.model, tiny.tokenizer, path, **tiny.described)
    assert path.read_bytes() == b"older"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tflite"]
