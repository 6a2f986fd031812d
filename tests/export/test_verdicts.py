"""Where the line runs for sentence vectors; for scores see `test_parity.py`."""

import re

import numpy as np
import pytest

from tfmodel.export.parity.verdicts import compare_scores, compare_vectors


@pytest.fixture
def vectors():
    """Vectors (100, 32) that all point much the same way, as a pooler's do."""
    return (np.random.default_rng(0).normal(size=(100, 32)) + 3).astype(np.float32)


def _noisy(vectors, share):
    noise = np.random.default_rng(1).normal(size=vectors.shape)
    return (vectors + share * noise).astype(np.float32)


def test_float32_vectors_may_be_off_by_a_ten_thousandth_of_the_largest_number(vectors):
    largest = np.abs(vectors).max()
    given = vectors.copy()
    given[3, 4] += 0.9e-4 * largest
    assert compare_vectors(given, vectors, precision="float32")["failures"] == []
    given[3, 4] += 0.3e-4 * largest
    (failure,) = compare_vectors(given, vectors, precision="float32")["failures"]
    assert "off by 0.00012 of the largest number (limit 1e-04)" in failure
    assert compare_vectors(given, vectors, precision="float16")["failures"] == []


def test_a_little_noise_passes_and_much_does_not(vectors):
    figures = compare_vectors(_noisy(vectors, 0.1), vectors, precision="int8")
    assert figures["failures"] == [] and figures["cosine"] > 0.98
    (failure,) = compare_vectors(_noisy(vectors, 1.0), vectors, precision="int8")["failures"]
    assert "mean cosine with the Keras model's vectors is 0.7" in failure


def test_what_other_texts_would_get_is_caught_though_all_vectors_are_alike(vectors):
    shuffled = vectors[::-1]
    plain = np.sum(shuffled * vectors, axis=1) / (
        np.linalg.norm(shuffled, axis=1) * np.linalg.norm(vectors, axis=1)
    )
    assert plain.mean() > 0.85
    figures = compare_vectors(shuffled, vectors, precision="int8")
    assert figures["cosine"] < 0.1 and figures["failures"]


def test_a_few_vectors_of_other_texts_are_caught_though_the_mean_is_high(vectors):
    given = vectors.copy()
    given[:3] = vectors[3:6]
    figures = compare_vectors(given, vectors, precision="int8")
    assert figures["cosine"] > 0.95 and figures["neighbour_agreement"] > 0.8
    assert figures["failures"] == ["3 of 100 vectors point elsewhere (cosine below 0.5)"]
    given[1:3] = vectors[1:3]
    assert compare_vectors(given, vectors, precision="int8")["failures"] == []


def test_other_neighbours_are_caught_though_each_vector_is_near():
    # Twins that a single direction tells from all others, and that lose it.
    generator = np.random.default_rng(0)
    shared = generator.normal(size=(100, 1000))
    apart = np.repeat(np.eye(50), 2, axis=0) * 14.5
    wanted = np.concatenate([shared, apart], axis=1)
    given = np.concatenate([shared, 0 * apart], axis=1)
    figures = compare_vectors(given, wanted, precision="int8")
    assert figures["cosine"] > 0.9 and figures["neighbour_agreement"] < 0.5
    assert "another nearest text on" in figures["failures"][0]


@pytest.mark.parametrize(
    ("spoil", "failure"),
    [
        (lambda vectors: vectors * np.nan, "its vectors are not numbers"),
        (lambda vectors: vectors[:, :8], "8 numbers in a vector, expected 32"),
        (lambda vectors: vectors * 0, "the mean cosine .* is -?0.0"),
    ],
)
def test_vectors_that_are_none(vectors, spoil, failure):
    figures = compare_vectors(spoil(vectors), vectors, precision="float16")
    (found,) = figures["failures"]
    assert re.search(failure, found)


def test_one_text_has_no_neighbour(vectors):
    figures = compare_vectors(vectors[:1], vectors[:1], precision="int8")
    assert figures["failures"] == [] and figures["neighbour_agreement"] is None


@pytest.mark.parametrize("spoiled", ["one answer", "other texts"])
def test_scores_that_say_nothing_of_the_text_are_caught_where_most_rows_have_one_label(spoiled):
    generator = np.random.default_rng(0)
    likely = np.where(np.arange(200) < 190, 0.97, 0.6) + generator.normal(size=200, scale=0.01)
    wanted = np.stack([likely, 1 - likely], axis=1).astype(np.float32)
    given = wanted[::-1] if spoiled == "other texts" else np.tile(wanted[:1], (200, 1))
    targets = np.zeros(200, int)
    figures = compare_scores(given, wanted, targets, precision="int8", max_drop=0.01)
    assert figures["accuracy_drop"] == 0 and figures["labels_changed"] == 0
    (failure,) = figures["failures"]
    assert re.search(r"do not follow the Keras model's: their correlation is -?0\.0", failure)
    noisy = wanted + generator.normal(size=wanted.shape, scale=0.1)
    assert not compare_scores(noisy, wanted, targets, precision="int8", max_drop=0.1)["failures"]


def test_a_model_of_one_answer_is_followed_by_any():
    wanted = np.tile(np.array([[0.6, 0.4]], np.float32), (50, 1))
    given = wanted + np.random.default_rng(0).normal(size=wanted.shape, scale=0.01)
    assert not compare_scores(given, wanted, None, precision="int8", max_drop=0.01)["failures"]


def test_accuracy_has_an_interval_where_targets_are_known():
    scores = np.array([[0.9, 0.1]] * 8 + [[0.1, 0.9]] * 2, np.float32)
    known = compare_scores(scores, scores, np.zeros(10, int), precision="float32", max_drop=0.01)
    assert known["accuracy"] == 0.8
    assert known["accuracy_interval"] == [
        pytest.approx(0.49, abs=0.01),
        pytest.approx(0.943, abs=0.01),
    ]
    unknown = compare_scores(scores, scores, None, precision="float32", max_drop=0.01)
    assert unknown["accuracy_interval"] is None
