"""TFLite files of dynamic length, with sentence vectors, and with int8 in other ways."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tensorflow.lite.python import schema_py_generated as schema

from tfmodel.config import ConfigError
from tfmodel.export import export_tflite, export_tflite_variants, load
from tfmodel.export.settings import TFLITE_VARIANTS
from tfmodel.export.tflite.litert import LiteRT
from tfmodel.export.tflite.variants import VARIANTS
from tfmodel.tasks import classify

LONG = "good bad movie the was very " * 20


@pytest.fixture(scope="module")
def kinds(tiny, tmp_path_factory):
    """A dynamic float32 file, and a dynamic weight-only one that gives vectors, by name."""
    folder = tmp_path_factory.mktemp("kinds")
    files = {}
    for variant, output in (("float32", "scores"), ("int8_weights", "vector")):
        files |= export_tflite_variants(
            tiny.model,
            tiny.tokenizer,
            folder,
            variants=[variant],
            lengths=["dynamic"],
            outputs=[output],
            **tiny.described,
        )
    return files


def _operations(path) -> tuple[schema.SubGraphT, list[str]]:
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    names = {kind: name for name, kind in vars(schema.BuiltinOperator).items()}
    (subgraph,) = model.subgraphs
    codes = [model.operatorCodes[operator.opcodeIndex] for operator in subgraph.operators]
    return subgraph, [names[code.builtinCode] for code in codes]


def test_every_variant_of_the_settings_can_be_converted():
    assert set(VARIANTS) == set(TFLITE_VARIANTS)


def test_names_say_the_kind(kinds):
    assert {name: path.name for name, path in kinds.items()} == {
        "float32_dynamic_length": "float32_dynamic_length.tflite",
        "vector_int8_weights_dynamic_length": "vector_int8_weights_dynamic_length.tflite",
    }


def test_a_dynamic_file_answers_as_the_keras_model(kinds, tiny):
    texts = [*tiny.texts, "", LONG]  # the last is cut, as in training
    scores = load(kinds["float32_dynamic_length"]).probabilities(texts)
    wanted = tiny.reference.probabilities(texts)
    np.testing.assert_allclose(scores, wanted, atol=1e-5)


def test_all_inputs_of_a_dynamic_file_are_of_any_length(kinds):
    for path in kinds.values():
        subgraph, operations = _operations(path)
        for index in subgraph.inputs:
            assert list(subgraph.tensors[index].shapeSignature) == [1, -1]
        # The runtimes want to know the output's shape before they run.
        (output,) = subgraph.outputs
        assert subgraph.tensors[output].shape[0] == 1
        assert subgraph.tensors[output].shapeSignature is None
        # A shape that is computed breaks the graph apart for XNNPACK.
        assert "SHAPE" not in operations


def test_a_device_that_does_not_cut_a_text_gets_what_training_saw(kinds, tiny):
    whole = {name: rows.numpy() for name, rows in tiny.tokenizer([LONG], max_length=100).items()}
    assert whole["token_ids"].shape == (1, 100)
    given = LiteRT(kinds["float32_dynamic_length"])(whole)
    np.testing.assert_allclose(given, tiny.reference.probabilities([LONG]), atol=1e-5)


def test_lengths_may_come_in_any_order(kinds, tiny):
    run = LiteRT(kinds["float32_dynamic_length"])
    batch = {name: rows.numpy() for name, rows in tiny.tokenizer(tiny.texts[:6]).items()}
    first, second = run(batch), run({name: rows[::-1] for name, rows in batch.items()})
    assert (first == second[::-1]).all()


def test_vectors_are_what_the_encoder_gives(kinds, tiny):
    artifact = load(kinds["vector_int8_weights_dynamic_length"])
    vectors = artifact.vectors(tiny.texts)
    wanted = tiny.reference.vectors(tiny.texts)
    assert vectors.shape == wanted.shape and vectors.dtype == np.float32
    assert np.abs(vectors - wanted).max() < 0.1
    assert wanted.std(axis=0).mean() > 0.05  # not one vector for all
    with pytest.raises(ConfigError, match="expected an artifact that gives scores"):
        artifact.probabilities(tiny.texts)


def test_weight_only_files_hold_int8_and_compute_in_float32(kinds):
    subgraph, operations = _operations(kinds["vector_int8_weights_dynamic_length"])
    products = [
        operator
        for operator, name in zip(subgraph.operators, operations, strict=True)
        if name == "FULLY_CONNECTED"
    ]
    assert len(products) == 9  # four a layer, and the pooler
    for operator in products:
        types = {subgraph.tensors[index].type for index in [*operator.inputs, *operator.outputs]}
        assert types == {schema.TensorType.FLOAT32}
    large = [tensor for tensor in subgraph.tensors if np.prod(tensor.shape) >= 1024]
    stored = {tensor.type for tensor in large if tensor.buffer and _is_constant(subgraph, tensor)}
    assert stored == {schema.TensorType.INT8}


def _is_constant(subgraph, tensor) -> bool:
    computed = {index for operator in subgraph.operators for index in operator.outputs}
    return all(subgraph.tensors[index] is not tensor for index in computed)


@pytest.mark.slow
def test_a_model_with_other_layers_is_exported_too(tiny, tmp_path):
    own = keras.layers.Dense(3, name="own_head")
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in tiny.model.input}
    encoder = tiny.model.get_layer("encoder")
    model = keras.Model(inputs, own(encoder(inputs)["pooled"]))
    path = export_tflite(
        model, tiny.tokenizer, tmp_path / "own.tflite", length="dynamic", **tiny.described
    )
    batch = {name: rows.numpy() for name, rows in tiny.tokenizer(tiny.texts[:3]).items()}
    logits = model(batch, training=False).numpy()
    np.testing.assert_allclose(LiteRT(path)(batch), classify.probabilities(logits), atol=1e-5)


def test_full_int8_without_texts_to_calibrate_on_is_refused(tiny, tmp_path):
    with pytest.raises(ConfigError, match="Expected real texts to calibrate int8_full on"):
        export_tflite(
            tiny.model,
            tiny.tokenizer,
            tmp_path / "a.tflite",
            quantization="int8_full",
            **tiny.described,
        )


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"length": "any"}, "lengths among fixed, dynamic. Received: 'any'"),
        ({"output": "labels"}, "outputs among scores, vector. Received: 'labels'"),
    ],
)
def test_an_unknown_kind_lists_the_known(tiny, tmp_path, wish, message):
    with pytest.raises(ConfigError, match=message):
        export_tflite(tiny.model, tiny.tokenizer, tmp_path / "a", **wish, **tiny.described)


@pytest.mark.slow
@pytest.mark.parametrize("length", ["fixed", "dynamic"])
def test_full_int8_multiplies_in_int8_and_takes_and_gives_floats(tiny, tmp_path, length):
    path = export_tflite(
        tiny.model,
        tiny.tokenizer,
        tmp_path / "full.tflite",
        quantization="int8_full",
        length=length,
        calibration_texts=tiny.texts[:30],
        **tiny.described,
    )
    subgraph, operations = _operations(path)
    for operator, name in zip(subgraph.operators, operations, strict=True):
        types = {subgraph.tensors[index].type for index in operator.inputs if index >= 0}
        if name == "FULLY_CONNECTED":
            assert schema.TensorType.FLOAT32 not in types
        if name == "SOFTMAX":
            assert types == {schema.TensorType.FLOAT32}
    assert subgraph.tensors[subgraph.outputs[0]].type == schema.TensorType.FLOAT32
    scores = load(path).probabilities(tiny.texts)
    assert np.abs(scores - tiny.scores).mean() < 0.05
    assert np.mean(scores.argmax(axis=1) == tiny.scores.argmax(axis=1)) > 0.9


@pytest.mark.slow
def test_pairs_in_full_int8_and_of_dynamic_length(tiny_pairs, tmp_path):
    path = export_tflite(
        tiny_pairs.model,
        tiny_pairs.tokenizer,
        tmp_path / "pairs.tflite",
        quantization="int8_full",
        length="dynamic",
        calibration_texts=tiny_pairs.texts[:30],
        calibration_pairs=tiny_pairs.text_pairs[:30],
        **tiny_pairs.described,
    )
    scores = load(path).probabilities(tiny_pairs.texts, tiny_pairs.text_pairs)
    assert np.abs(scores - tiny_pairs.scores).mean() < 0.05
