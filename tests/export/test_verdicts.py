"""Where the line runs for sentence vectors; for scores see `test_parity.py`."""

import re

import numpy as np
import pytest

from tfmodel.export.parity.verdicts import (
    compare_numbers,
    compare_scores,
    compare_sets,
    compare_vectors,
)


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


# --- numbers ----------------------------------------------------------------------------------


@pytest.fixture
def numbers():
    """A Keras model's numbers on 200 rows, and right ones that it follows."""
    generator = np.random.default_rng(0)
    wanted = generator.normal(3, 1.5, (200, 1)).astype(np.float32)
    return wanted, (wanted[:, 0] + generator.normal(0, 0.5, 200)).astype(np.float32)


def _numbers(given, wanted, targets=None, precision="int8", max_drop=0.01):
    return compare_numbers(given, wanted, targets, precision=precision, max_drop=max_drop)


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_float32_numbers_are_the_same_on_their_own_scale(numbers, scale):
    wanted = numbers[0] * scale
    largest = np.abs(wanted).max()
    assert not _numbers(wanted + 0.9e-4 * largest, wanted, precision="float32")["failures"]
    figures = _numbers(wanted + 2e-4 * largest, wanted, precision="float32")
    assert "a number is off by" in figures["failures"][0]
    assert figures["score_correlation"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("spoil", "failure"),
    [
        (lambda wanted: wanted + 1.0, r"its numbers are off by 1 .* spread by 1\.\d"),
        (lambda wanted: wanted[::-1], "its numbers are off by"),
        (lambda wanted: np.full_like(wanted, wanted.mean()), "its numbers are off by"),
        (lambda wanted: 2 * wanted, "its numbers are off by"),
        (lambda wanted: np.where(wanted > 5, np.nan, wanted), "its answers are not numbers"),
        (lambda wanted: np.tile(wanted, 2), "2 numbers, expected 1"),
    ],
)
def test_numbers_that_stray(numbers, spoil, failure):
    wanted, targets = numbers
    for known in (targets, None):
        (found,) = _numbers(spoil(wanted), wanted, known)["failures"]
        assert re.search(failure, found)


def test_a_little_noise_is_allowed_and_ranks_are_counted(numbers):
    wanted, targets = numbers
    noise = np.random.default_rng(1).normal(size=wanted.shape)
    figures = _numbers(wanted + 0.1 * noise, wanted, targets)
    assert not figures["failures"] and figures["score_correlation"] > 0.99
    assert figures["spearman_drop"] < 0.01
    low, high = figures["spearman_interval"]
    assert low < figures["spearman"] < high
    (failure,) = _numbers(wanted + 0.5 * noise, wanted, targets)["failures"]
    assert re.search(r"Spearman 0\.\d+, the Keras model's is 0\.9\d+, on 200 rows", failure)


def test_a_model_of_one_number_is_followed_by_what_is_near():
    wanted = np.full((50, 1), 3.0, np.float32)
    figures = _numbers(wanted + 0.001, wanted, np.arange(50.0))
    assert not figures["failures"]
    assert figures["score_correlation"] is None and figures["spearman"] is None
    assert "its numbers are off by 0.1" in _numbers(wanted + 0.1, wanted)["failures"][0]


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_numbers_are_judged_on_their_own_scale(numbers, scale):
    wanted = numbers[0] * scale
    noise = np.random.default_rng(1).normal(size=wanted.shape) * scale
    assert not _numbers(wanted + 0.2 * noise, wanted)["failures"]
    assert _numbers(wanted + noise, wanted)["failures"]


# --- any number of labels -----------------------------------------------------------------------


@pytest.fixture
def sets():
    """A Keras model's scores of 5 labels on 200 rows, and right ones that it follows."""
    generator = np.random.default_rng(0)
    targets = (generator.random((200, 5)) < 0.3).astype(np.float32)
    wanted = np.clip(0.6 * targets + 0.4 * generator.random((200, 5)), 0, 1)
    return wanted.astype(np.float32), targets


def test_decisions_are_counted_at_the_thresholds(sets):
    wanted, targets = sets
    given = wanted + np.float32(0.2)
    figures = compare_sets(given, wanted, targets, precision="int8", max_drop=0.01)
    assert figures["labels_changed"] > 50 and "micro F1" in figures["failures"][0]
    limits = [0.65] * 5
    figures = compare_sets(
        given, wanted, targets, precision="int8", max_drop=0.01, thresholds=limits
    )
    assert figures["label_agreement"] > 0.95
    assert figures["micro_f1"] == 1.0 and figures["micro_f1_drop"] < 0 and not figures["failures"]


def test_sets_without_targets_are_judged_by_their_decisions(sets):
    wanted, _ = sets
    given = wanted[:, ::-1]
    (failure,) = compare_sets(given, wanted, None, precision="int8", max_drop=0.01)["failures"]
    assert re.search("another decision on .* of 1000", failure)
    same = compare_sets(wanted, wanted, None, precision="float32", max_drop=0.01)
    assert not same["failures"] and same["micro_f1"] is None


def test_constant_scores_are_caught_where_no_label_is_given(sets):
    wanted, _ = sets
    given = np.tile(wanted.mean(axis=0), (200, 1))
    none = compare_sets(
        given, wanted, None, precision="int8", max_drop=0.01, thresholds=[0.999] * 5
    )
    assert "do not follow the Keras model's" in none["failures"][0]
