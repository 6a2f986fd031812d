"""Numbers for texts: the model, its scale, its folder."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.model import BertConfig, build_encoder
from tfmodel.tasks import regress
from tfmodel.tokens import Tokenizer, Vocabulary

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]
CONFIG = BertConfig(
    vocabulary_size=len(PIECES), hidden_size=16, layers=2, heads=2, intermediate_size=32,
    max_positions=10,
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(Vocabulary(PIECES), max_length=8)


@pytest.fixture(scope="module")
def batch(tokenizer):
    return tokenizer(["a b c", "d", "e f g h i j a b"])


def new_model(**arguments):
    keras.utils.set_random_seed(0)
    model = regress.build(build_encoder(CONFIG, sequence=False), **arguments)
    generator = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign_add(generator.normal(size=weight.shape, scale=0.2).astype(np.float32))
    return model


def test_a_row_has_one_number(batch):
    numbers = new_model()(batch)
    assert numbers.shape == (3, 1) and numbers.dtype == tf.float32
    assert np.ptp(numbers) > 0.01


def test_mean_and_scale_are_those_of_the_rows():
    numbers = np.array([100.0, 300.0, 200.0], np.float32)
    found = regress.head_arguments([], numbers)
    assert found == {"mean": 200.0, "scale": pytest.approx(81.6497, rel=1e-4)}
    assert regress.head_arguments([], np.array([7.0, 7.0])) == {"mean": 7.0, "scale": 1.0}


def test_the_head_learns_in_its_own_units(batch):
    plain, scaled = new_model(), new_model(mean=200.0, scale=80.0)
    np.testing.assert_allclose(scaled(batch), 200 + 80 * plain(batch).numpy(), rtol=1e-5)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(ValueError, match="scale must be above 0, and finite. Received"):
        regress.build(build_encoder(CONFIG, sequence=False), scale=scale)


def test_loss_is_the_mean_squared_error():
    targets = regress.targets([1, 2.5])
    assert targets.dtype == np.float32 and targets.shape == (2,)
    loss = regress.loss()(targets, np.array([[2.0], [2.0]], np.float32))
    assert float(loss) == pytest.approx((1 + 0.25) / 2)


def test_it_trains_through_plain_keras(batch):
    model = new_model(dropout=0.0)
    model.compile("adam", loss=regress.loss(), metrics=regress.metrics(), jit_compile=False)
    data = tf.data.Dataset.from_tensors((batch, regress.targets([1, 2, 3])))
    history = model.fit(data, epochs=2, verbose=0, shuffle=False)
    assert set(history.history) == {"loss", "rmse"}
    assert history.history["rmse"][0] == pytest.approx(history.history["loss"][0] ** 0.5, rel=1e-5)


def test_answers_are_plain_numbers():
    values = np.array([[2.5], [-1.0]], np.float32)
    assert regress.decode(values, ["score"]) == [{"score": 2.5}, {"score": -1.0}]
    json.dumps(regress.decode(values, ["score"]))
    assert regress.decode(np.zeros((0, 1)), ["score"]) == []


def test_the_folder_holds_the_scale_in_its_weights(batch, tokenizer, tmp_path):
    model = new_model(mean=200.0, scale=80.0)
    folder = regress.save(model, tmp_path / "m", tokenizer=tokenizer, has_pairs=True, max_length=7)
    config = json.loads((folder / "config.json").read_text())
    assert config["problem_type"] == "regression" and config["id2label"] == {"0": "score"}
    loaded = tasks.load_model(folder)
    assert (loaded.task, loaded.has_pairs, loaded.max_length) == ("regress", True, 7)
    assert "units" not in {layer.name for layer in loaded.model.layers}
    np.testing.assert_allclose(loaded.model(batch), model(batch), rtol=1e-5)


@pytest.mark.slow
def test_exports_of_a_model_in_memory_have_its_scale(tokenizer, tmp_path):
    from tfmodel.export import export_savedmodel, export_tflite, load, predictor_of
    from tfmodel.export.weights import read_classifier

    model = new_model(mean=200.0, scale=80.0)
    described = {"labels": ["score"], "max_length": 8, "task": "regress"}
    wanted = predictor_of(model, tokenizer, **described).values(["a b c", "d"])
    saved = export_savedmodel(model, tokenizer, tmp_path / "served", **described)
    phone = export_tflite(model, tokenizer, tmp_path / "x.tflite", **described)
    for path in (saved, phone):
        np.testing.assert_allclose(load(path).values(["a b c", "d"]), wanted, rtol=1e-5)
        assert [*load(path).predict(["d"])[0]] == ["text", "score"]
    head = model.get_layer("head")
    _, tensors = read_classifier(model, door="ONNX")
    np.testing.assert_allclose(tensors["classifier.weight"], 80 * head.kernel.numpy().T, rtol=1e-5)


def test_a_folder_of_transformers_says_nothing_of_one_number(batch, tokenizer, tmp_path):
    folder = regress.save(new_model(), tmp_path / "m", tokenizer=tokenizer)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "problem_type": None, "id2label": {"0": "LABEL_0"}}))
    loaded = tasks.load_model(folder)
    assert (loaded.task, loaded.labels) == ("regress", ["score"])


@pytest.mark.parametrize(
    ("labels", "problem_type"), [(["a", "b"], "regression"), (["a", "b"], None)]
)
def test_a_head_of_labels_is_refused(labels, problem_type, tokenizer, tmp_path):
    from tfmodel.tasks import classify

    model = classify.build(build_encoder(CONFIG, sequence=False), classes=2)
    folder = classify.save(model, tmp_path / "m", tokenizer=tokenizer, labels=labels)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "problem_type": problem_type}))
    with pytest.raises(
        ConfigError, match=r"gives one number \(regression\). Received: .*2 outputs"
    ):
        regress.load(folder)


def test_probabilities_are_a_classifiers(tokenizer):
    from tfmodel.export import predictor_of

    predictor = predictor_of(new_model(), tokenizer, labels=["score"], max_length=8, task="regress")
    with pytest.raises(ConfigError, match="one of the task regress. Ask it with predict"):
        predictor.probabilities(["a"])
