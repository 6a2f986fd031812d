"""Figures of sentence vectors, by hand, by brute force and beside scipy and scikit-learn."""

import json

import numpy as np
import pytest

from tfmodel.evaluate.vectors import (
    cosines,
    nearest,
    ranks_of_partners,
    retrieval,
    scored_pairs,
)


def on_circle(*degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def test_ranks_by_hand():
    # Texts at 0, 100 and 200 degrees; their partners at 10, 15 and 190.
    vectors = np.stack([on_circle(0, 100, 200), on_circle(10, 15, 190)], axis=1)
    found = retrieval(np.array([[0, 3], [1, 4], [2, 5]]), vectors, text_pairs=["x", "y", "z"])
    # 100 is nearest to 15 (85 off), then to 10 and 190 (90 off): its partner is the first.
    assert (found["examples"], found["candidates"]) == (3, 3)
    assert found["recall_at_1"] == 1.0 and found["mrr"] == 1.0 and found["median_rank"] == 1
    assert found["recall_curve"] == [1.0, 1.0, 1.0] and found["mistakes"] == []

    vectors = np.stack([on_circle(0, 100, 200), on_circle(10, 300, 190)], axis=1)
    found = retrieval(np.array([[0, 3], [1, 4], [2, 5]]), vectors, text_pairs=["x", "y", "z"])
    # Now 100's partner is 160 off, and the last of three.
    assert found["recall_at_1"] == pytest.approx(2 / 3) and found["recall_at_10"] == 1.0
    assert found["mrr"] == pytest.approx((1 + 1 / 3 + 1) / 3)
    assert found["recall_curve"] == pytest.approx([2 / 3, 2 / 3, 1.0])
    (mistake,) = found["mistakes"]
    assert mistake["rank"] == 3 and mistake["text_pair"] == "y" and mistake["found"] in "xz"
    assert mistake["cosine"] == pytest.approx(np.cos(np.radians(160)))
    low, high = found["recall_at_1_interval"]
    assert low < 2 / 3 < high
    json.dumps(found)


def test_what_is_equal_is_no_rival():
    # The first text twice, with two partners: neither stands in the way of the other, nor does a
    # partner that is the text itself.
    targets = np.array([[0, 1], [0, 2], [3, 0]])
    vectors = np.stack([on_circle(0, 0, 50), on_circle(20, 5, 0)], axis=1)
    place, best = ranks_of_partners(targets, vectors)
    # Row 0: 5 is another partner, 0 is itself. Row 2: its partner 0 is 50 off, 20 is 30, 5 is 45.
    assert place.tolist() == [1, 1, 3]
    assert best.tolist() == [0, 1, 0]


def test_vectors_that_tell_nothing_find_nothing():
    targets = np.stack([np.arange(101), np.arange(101, 202)], axis=1)
    found = retrieval(targets, np.ones((101, 2, 4)))
    assert found["median_rank"] == 51 and found["recall_at_10"] == 0


def test_negatives_are_among_those_to_choose_from():
    targets = np.array([[0, 1, 2], [3, 4, 5]])
    first, partner, negative = on_circle(0, 90), on_circle(10, 120), on_circle(20, 91)
    found = retrieval(targets, np.stack([first, partner, negative], axis=1), text_pairs=["a", "b"])
    assert found["candidates"] == 4 and found["triplet_accuracy"] == 0.5
    assert found["recall_at_1"] == 0.5
    assert found["mistakes"][0]["found"] == ""  # a negative is no partner to be shown


def test_ranks_as_by_brute_force():
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(300, 2, 8))
    vectors[:, 1] += vectors[:, 0]
    targets = np.stack([generator.integers(0, 250, 300), generator.integers(200, 480, 300)], axis=1)
    _, first = np.unique(targets, return_index=True)
    by_number = dict(zip(targets.ravel()[first], vectors.reshape(-1, 8)[first], strict=True))
    vectors = np.stack([[by_number[n] for n in row] for row in targets])
    place, _ = ranks_of_partners(targets, vectors)
    others = {row[1] for row in targets.tolist()}
    for (text, partner), rank in zip(targets.tolist(), place, strict=True):
        right = {p for t, p in targets.tolist() if t == text}
        rivals = others - right - {text}

        def cosine(number, text=text):
            a, b = by_number[text], by_number[number]
            return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

        assert rank == 1 + sum(cosine(rival) > cosine(partner) for rival in rivals)


def test_the_nearest():
    sklearn = pytest.importorskip("sklearn.neighbors")
    generator = np.random.default_rng(1)
    queries, vectors = generator.normal(size=(20, 6)), generator.normal(size=(50, 6))
    rows, scores = nearest(queries, vectors, count=4)
    theirs = sklearn.NearestNeighbors(n_neighbors=4, metric="cosine").fit(vectors)
    distances, wanted = theirs.kneighbors(queries)
    np.testing.assert_array_equal(rows, wanted)
    np.testing.assert_allclose(scores, 1 - distances, atol=1e-12)
    rows, scores = nearest(queries, vectors[:2])
    assert rows.shape == (20, 2) and (np.diff(scores, axis=1) <= 0).all()
    assert nearest(queries[:0], vectors)[0].shape == (0, 10)


def test_the_nearest_of_what_does_not_fit():
    with pytest.raises(ValueError, match="must be .n, D. and .M, D.. Received"):
        nearest(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(ValueError, match="count must be 1 or more. Received: 0"):
        nearest(np.ones((2, 3)), np.ones((2, 3)), count=0)


def test_equal_vectors_share_their_rank():
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(40, 2, 8)).astype(np.float32)
    vectors[:20, 1] = vectors[:20, 0]
    scores = generator.integers(0, 6, 40).astype(float)
    cosines = np.append(np.ones(20), scored_cosines(vectors[20:]))
    wanted = stats.spearmanr(scores, cosines).statistic
    assert scored_pairs(scores, vectors)["spearman"] == pytest.approx(wanted, abs=1e-9)


def scored_cosines(vectors):
    first, second = vectors.astype(np.float64).transpose(1, 0, 2)
    lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    return np.sum(first * second, axis=-1) / lengths


def test_scored_pairs_beside_scipy():
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(2)
    vectors = generator.normal(size=(200, 2, 5))
    scores = np.round(5 * cosines(vectors) + generator.normal(size=200))
    found = scored_pairs(scores, vectors, texts=[f"t{i}" for i in range(200)])
    assert found["spearman"] == pytest.approx(stats.spearmanr(scores, cosines(vectors))[0])
    assert found["pearson"] == pytest.approx(stats.pearsonr(scores, cosines(vectors))[0])
    errors = [abs(item["error"]) for item in found["mistakes"]]
    assert errors == sorted(errors, reverse=True) and len(errors) == 50
    assert abs(found["correct"][0]["error"]) < errors[-1]
    assert {"text", "score", "cosine"} < set(found["mistakes"][0])
    assert "rmse" not in found  # a score and a cosine have no unit in common
    json.dumps(found)


@pytest.mark.parametrize(
    ("targets", "vectors", "message"),
    [
        (np.zeros((3, 2)), np.zeros((3, 4)), "must be .n, K. and .n, K, D."),
        (np.zeros((3, 1)), np.zeros((3, 1, 4)), "Expected 2 texts a row or more. Received: 1"),
        (np.zeros((0, 2)), np.zeros((0, 2, 4)), "at least one row"),
        (np.zeros((1, 2)), np.full((1, 2, 4), np.nan), "vectors must be finite"),
    ],
)
def test_what_cannot_be_measured(targets, vectors, message):
    with pytest.raises(ValueError, match=message):
        retrieval(targets, vectors)
