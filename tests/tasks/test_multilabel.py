"""Any number of labels a row: the model, its thresholds, its folder."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.model import BertConfig, build_encoder
from tfmodel.tasks import multilabel
from tfmodel.tokens import Tokenizer, Vocabulary

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]
CONFIG = BertConfig(
    vocabulary_size=len(PIECES), hidden_size=16, layers=2, heads=2, intermediate_size=32,
    max_positions=10,
)  # fmt: skip
LABELS = ["joy", "fear", "anger"]
LIMITS = {"thresholds": [0.5, 0.2, 0.7]}
SCORES = np.array([[0.6, 0.3, 0.69], [0.1, 0.19, 0.2], [0.9, 0.95, 0.99]], np.float32)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(Vocabulary(PIECES), max_length=8)


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return multilabel.build(build_encoder(CONFIG, sequence=False), classes=len(LABELS))


def test_targets_are_yes_or_no_to_each_label():
    found = multilabel.targets([["fear"], [], ["anger", "joy"]], LABELS)
    np.testing.assert_array_equal(found, [[0, 1, 0], [0, 0, 0], [1, 0, 1]])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(multilabel.targets(found, LABELS), found)


def test_values_are_a_sigmoid_that_does_not_overflow():
    logits = np.array([[1e4, -1e4, 0.0], [2.0, -2.0, 1e-9]], np.float32)
    found = multilabel.values(logits)
    np.testing.assert_allclose(found[0], [1, 0, 0.5])
    np.testing.assert_allclose(found, tf.sigmoid(logits), atol=1e-7)
    np.testing.assert_allclose(multilabel.activate(logits), found, atol=1e-7)


def test_labels_reach_their_thresholds_and_stand_by_their_scores():
    answers = multilabel.decode(SCORES, LABELS, **LIMITS)
    assert [answer["labels"] for answer in answers] == [
        ["joy", "fear"],
        [],
        ["anger", "fear", "joy"],
    ]
    assert answers[1]["scores"]["fear"] == pytest.approx(0.19)
    json.dumps(answers)
    assert multilabel.decode(SCORES, LABELS)[0]["labels"] == ["anger", "joy"]  # 0.5 each


def test_a_graph_says_the_same():
    found = multilabel.served(tf.constant(SCORES), LABELS, **LIMITS)
    assert [[label.decode() for label in row if label] for row in found["labels"].numpy()] == [
        answer["labels"] for answer in multilabel.decode(SCORES, LABELS, **LIMITS)
    ]
    assert found["labels"].shape == (3, 3)  # filled up with ""


def test_it_trains_through_plain_keras(model, tokenizer):
    model.compile("adam", loss=multilabel.loss(), metrics=multilabel.metrics(), jit_compile=False)
    targets = multilabel.targets([["fear"], []], LABELS)
    data = tf.data.Dataset.from_tensors((tokenizer(["a b", "c"]), targets))
    history = model.fit(data, epochs=1, verbose=0, shuffle=False)
    assert set(history.history) == {"loss", "decisions"}


def test_dev_figures_are_those_of_the_best_threshold():
    generator = np.random.default_rng(0)
    targets = (generator.random((200, 3)) < 0.3).astype(np.float32)
    logits = 4 * targets - 6 + generator.normal(size=(200, 3))  # all far below one half
    figures = multilabel.dev_figures(targets, logits)
    assert figures["micro_f1"] > 0.8 and figures["macro_f1"] > 0.8
    nothing = multilabel.dev_figures(targets, np.full((200, 3), np.nan))
    assert np.isnan(nothing["micro_f1"])


def test_the_folder_keeps_the_thresholds(model, tokenizer, tmp_path):
    folder = multilabel.save(
        model, tmp_path / "m", tokenizer=tokenizer, labels=LABELS, decoding=LIMITS
    )
    config = json.loads((folder / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    loaded = tasks.load_model(folder)
    assert (loaded.task, loaded.labels, loaded.decoding) == ("multilabel", LABELS, LIMITS)
    config["tfmodel"]["decoding"]["thresholds"] = [0.5]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="a threshold for each of 3 labels. Received: 1"):
        tasks.load_model(folder)


def test_a_folder_without_thresholds_has_one_half(model, tokenizer, tmp_path):
    from tfmodel.export import load

    folder = multilabel.save(model, tmp_path / "m", tokenizer=tokenizer, labels=LABELS)
    assert tasks.load_model(folder).decoding == {}
    (answer,) = load(folder).predict(["a b"])
    assert {*answer["labels"]} == {
        label for label, score in answer["scores"].items() if score >= 0.5
    }


def test_a_head_of_one_label_is_refused(tokenizer, tmp_path):
    from tfmodel.tasks import classify

    other = classify.build(build_encoder(CONFIG, sequence=False), classes=3)
    folder = classify.save(other, tmp_path / "m", tokenizer=tokenizer, labels=LABELS)
    with pytest.raises(ConfigError, match=r"any number of labels .* Received: problem_type single"):
        multilabel.load(folder)


def test_no_class_is_refused():
    with pytest.raises(ValueError, match="classes must be 1 or more. Received: 0"):
        multilabel.build(build_encoder(CONFIG), classes=0)
