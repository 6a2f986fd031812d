"""Predictor: what it refuses, and that order never matters."""

import numpy as np
import pytest

from tfmodel.config import ConfigError
from tfmodel.export.manifest import Manifest
from tfmodel.export.predictor import Predictor


def _counting(asked, *, has_pairs=False) -> Predictor:
    """Scores a text by its length, and notes how it was asked."""

    def answer(texts, text_pairs):
        asked.append(len(texts))
        lengths = np.array([len(text) for text in texts], np.float32)
        return np.stack([lengths, -lengths], axis=1)

    manifest = Manifest(labels=("long", "short"), max_length=16, has_pairs=has_pairs)
    return Predictor(answer, manifest, kind="model", where="mine")


def test_answers_come_in_the_order_of_the_texts():
    asked = []
    texts = ["a" * length for length in (5, 1, 9, 0, 3)]
    scores = _counting(asked).probabilities(texts, batch_size=2)
    assert scores[:, 0].tolist() == [5, 1, 9, 0, 3]
    assert asked == [2, 2, 1]


def test_an_answer_holds_text_label_and_scores():
    (answer,) = _counting([]).predict(["abc"])
    assert answer == {
        "text": "abc",
        "label": "long",
        "score": 3.0,
        "scores": {"long": 3.0, "short": -3.0},
    }
    (answer,) = _counting([], has_pairs=True).predict(["abc"], ["d"])
    assert list(answer) == ["text", "text_pair", "label", "score", "scores"]


def test_nothing_in_nothing_out():
    asked = []
    assert _counting(asked).predict([]) == []
    assert _counting(asked).probabilities([]).shape == (0, 2)
    assert asked == []


@pytest.mark.parametrize(
    ("texts", "pairs", "message"),
    [
        ("one text", None, r"list of strings. Received: one str. Put it in a list"),
        (b"one text", None, r"Received: one bytes"),
        (["a", None], None, r"Received: None \(NoneType\) at position 1"),
        (["a", 3.5], None, r"Received: 3.5 \(float\) at position 1"),
        (["a"], ["b"], r"mine: expected single texts.*Received: pairs"),
    ],
)
def test_what_a_model_of_single_texts_refuses(texts, pairs, message):
    with pytest.raises(ConfigError, match=message):
        _counting([]).predict(texts, pairs)


@pytest.mark.parametrize(
    ("texts", "pairs", "message"),
    [
        (["a"], None, r"mine: expected pairs.*Received: single texts. Pass text_pairs"),
        (["a", "b"], ["c"], r"as many text_pairs as texts. Received: 2 texts and 1 text_pairs"),
        (["a"], [7], r"text_pairs to be strings. Received: 7 \(int\) at position 0"),
    ],
)
def test_what_a_model_of_pairs_refuses(texts, pairs, message):
    with pytest.raises(ConfigError, match=message):
        _counting([], has_pairs=True).predict(texts, pairs)


def test_batch_size_is_checked():
    with pytest.raises(ConfigError, match="batch_size must be 1 or more. Received: 0"):
        _counting([]).predict(["a"], batch_size=0)


def _embedding() -> Predictor:
    """Gives a text's length and its negative as its vector."""
    manifest = Manifest(labels=("long", "short"), max_length=16, output="vector")

    def answer(texts, text_pairs):
        lengths = np.array([len(text) for text in texts], np.float32)
        return np.stack([lengths, -lengths], axis=1)

    return Predictor(answer, manifest, kind="tflite", where="mine.tflite")


def test_an_embedder_gives_vectors_in_the_order_of_the_texts():
    vectors = _embedding().vectors(["abc", "", "ab"], batch_size=2)
    assert vectors.dtype == np.float32 and vectors.tolist() == [[3, -3], [0, 0], [2, -2]]
    assert _embedding().predict(["abc"]) == [{"text": "abc", "vector": [3.0, -3.0]}]
    assert _embedding().vectors([]).shape == (0, 0)


def test_scores_and_vectors_are_not_taken_for_each_other():
    with pytest.raises(ConfigError, match=r"mine.tflite: expected .* scores. Received: .*vector"):
        _embedding().probabilities(["a"])
    with pytest.raises(ConfigError, match=r"mine: expected .* sentence vectors.*tflite_vector"):
        _counting([]).vectors(["a"])


def test_a_keras_model_gives_the_vectors_that_its_head_reads(tiny):
    vectors = tiny.reference.vectors(tiny.texts)
    head = tiny.model.get_layer("head")
    logits = vectors @ head.kernel.numpy() + head.bias.numpy()
    assert np.array_equal(logits.argmax(axis=1), tiny.scores.argmax(axis=1))
