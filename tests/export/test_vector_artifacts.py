"""Models whose answer is a vector, as SavedModel and TFLite: the Keras model's answers."""

import keras
import numpy as np
import pytest

import tfmodel as tm
from tfmodel.config import ConfigError
from tfmodel.export import (
    check_parity,
    export_savedmodel,
    export_tflite,
    export_tflite_variants,
    predictor_of,
)
from tfmodel.export.parity import ParityError
from tfmodel.export.parity.description import describe
from tfmodel.model import build_encoder, encoder_config
from tfmodel.tasks import embed

DESCRIBED = {"labels": [], "max_length": 16, "task": "embed"}
TEXTS = ["the movie was good", "bad", "", "very very good movie was the kite zoo " * 4, "电影 café"]


@pytest.fixture(scope="module", params=[("mean", True), ("cls", False)], ids=["mean", "cls"])
def embedder(request, tiny):
    """A model of vectors that differ, its tokenizer, and how it is asked."""
    keras.utils.set_random_seed(1)
    encoder = build_encoder(encoder_config(tiny.model.get_layer("encoder")))
    generator = np.random.default_rng(1)
    for weight in encoder.trainable_weights:
        weight.assign_add(generator.normal(size=weight.shape, scale=0.1).astype(np.float32))
    pooling, normalize = request.param
    model = embed.build(encoder, pooling=pooling, normalize=normalize)
    return model, tiny.tokenizer, predictor_of(model, tiny.tokenizer, **DESCRIBED)


def test_a_savedmodel_works_on_real_tokens_alone(embedder, tmp_path):
    import tensorflow as tf

    from tfmodel.export.savedmodel.unpadded import is_unpaddable

    model, tokenizer, reference = embedder
    assert is_unpaddable(model)
    folder = export_savedmodel(model, tokenizer, tmp_path / "served", **DESCRIBED)
    wanted = reference.vectors(TEXTS)
    loaded = tm.load(folder)
    np.testing.assert_allclose(loaded.vectors(TEXTS), wanted, atol=1e-5)
    assert [*loaded.predict(["bad"])[0]] == ["text", "vector"]
    signatures = tf.saved_model.load(str(folder)).signatures
    assert set(signatures) == {"serving_default", "max_length", "ids", "vector"}
    batch = tokenizer(TEXTS)
    np.testing.assert_allclose(signatures["ids"](**batch)["vector"], wanted, atol=1e-5)
    limits = tf.constant([16] * len(TEXTS))
    given = signatures["max_length"](text=tf.constant(TEXTS), max_length=limits)
    np.testing.assert_allclose(given["vector"], wanted, atol=1e-5)
    assert signatures["serving_default"](text=tf.constant([], tf.string))["vector"].shape == (0, 32)
    assert check_parity(reference, {"x": folder}, TEXTS)["passed"]


def test_a_savedmodel_in_bfloat16(embedder, tmp_path):
    model, tokenizer, reference = embedder
    chosen = {**DESCRIBED, "precision": "mixed_bfloat16"}
    folder = export_savedmodel(model, tokenizer, tmp_path / "served", **chosen)
    figures = check_parity(reference, {"x": folder}, TEXTS)["artifacts"]["x"]
    assert figures["passed"] and 0 < figures["largest_vector_difference"] < 0.1
    assert figures["cosine"] > 0.99


@pytest.mark.slow
def test_files_for_phones_give_the_vector(embedder, tmp_path):
    model, tokenizer, reference = embedder
    files = export_tflite_variants(
        model,
        tokenizer,
        tmp_path,
        variants=["float32"],
        lengths=["fixed", "dynamic"],
        **DESCRIBED,
    )
    assert sorted(files) == ["float32", "float32_dynamic_length"]
    for path in files.values():
        found = describe(path)
        assert found.manifest.output == "vector" and found.tensors.outputs == ["vector"]
        assert found.contradictions() == []
        loaded = tm.load(path)
        np.testing.assert_allclose(loaded.vectors(TEXTS), reference.vectors(TEXTS), atol=1e-5)
        np.testing.assert_allclose(loaded.values(["bad"]), reference.vectors(["bad"]), atol=1e-5)


@pytest.mark.slow
def test_files_of_each_number_format(embedder, tmp_path):
    model, tokenizer, reference = embedder
    files = export_tflite_variants(
        model,
        tokenizer,
        tmp_path,
        variants=["float16", "int8", "int8_weights", "int8_full"],
        calibration_texts=TEXTS,
        **DESCRIBED,
    )
    parity = check_parity(reference, files, TEXTS)
    assert parity["passed"] and parity["task"] == "embed"
    assert {figures["output"] for figures in parity["artifacts"].values()} == {"vector"}


def test_other_vectors_do_not_pass(embedder, tmp_path):
    model, tokenizer, reference = embedder
    wrong = keras.models.clone_model(model)
    folder = export_savedmodel(wrong, tokenizer, tmp_path / "served", **DESCRIBED)
    with pytest.raises(ParityError, match="a vector is off by"):
        check_parity(reference, {"x": folder}, TEXTS)


def test_what_is_no_model_of_vectors(embedder, tiny, tmp_path):
    model, tokenizer, _ = embedder
    two = embed.build(model.get_layer("encoder"), texts=2)
    message = "gives a vector a row, and no labels. Received: one that gives"
    with pytest.raises(ConfigError, match=message):
        export_savedmodel(two, tokenizer, tmp_path / "served", **DESCRIBED)
    with pytest.raises(ConfigError, match=message):
        export_tflite(model, tokenizer, tmp_path / "x.tflite", **{**DESCRIBED, "labels": ["a"]})
