"""Batches: every row once an epoch, little padding, an order that the seed alone decides."""

import numpy as np
import pytest
import tensorflow as tf

from tfmodel.config import ConfigError
from tfmodel.tokens import Batches
from tfmodel.tokens.batches import TokenRows, batches


def rows_of(lengths) -> TokenRows:
    """Rows of given lengths; row i is made of i alone, its first segment one token."""
    lengths = np.asarray(lengths)
    splits = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    return TokenRows(ids, splits, np.ones(len(lengths), np.int32), padding_id=-1)


@pytest.fixture(scope="module")
def many():
    return rows_of(np.random.default_rng(0).integers(3, 60, 2_000))


def flat(plan):
    return np.concatenate(plan).tolist()


# --- rows ---------------------------------------------------------------------------------


def test_rows_are_what_the_tokenizer_gives(tokenizer):
    texts = ["the cat", "", "hello world the cat", "sat"] * 300  # more than are done at once
    pairs = ["sat", "un", "", "the the the"] * 300
    for second in (None, pairs):
        rows = TokenRows.from_texts(tokenizer, texts, second, max_length=6)
        chosen = np.array([1199, 2, 0, 513])
        batch = rows.batch(chosen)
        expected = tokenizer(
            [texts[i] for i in chosen],
            None if second is None else [second[i] for i in chosen],
            max_length=6,
        )
        for name in expected:
            np.testing.assert_array_equal(batch[name], expected[name])
            assert batch[name].dtype == np.int32
        assert len(rows) == 1200
        assert rows.lengths[:2].tolist() == ([4, 2] if second is None else [6, 4])


def test_texts_come_as_lists_or_arrays(tokenizer):
    texts, pairs = ["the cat", "sat"], ["un", "a b"]
    expected = TokenRows.from_texts(tokenizer, texts, pairs)
    rows = TokenRows.from_texts(tokenizer, np.array(texts), np.array(pairs, object))
    np.testing.assert_array_equal(rows.ids, expected.ids)


def test_no_rows_are_no_batches(tokenizer):
    rows = TokenRows.from_texts(tokenizer, [])
    assert len(rows) == len(Batches(rows, batch_size=4)) == len(Batches(rows, batch_tokens=4)) == 0


def test_second_texts_must_match(tokenizer):
    with pytest.raises(ConfigError, match="Received: 2 texts and 1 second texts"):
        TokenRows.from_texts(tokenizer, ["the", "cat"], ["sat"])


# --- the plan of an epoch -----------------------------------------------------------------


@pytest.mark.parametrize("order", ["random", "mixed", "length", "given"])
@pytest.mark.parametrize("size", [{"batch_size": 7}, {"batch_tokens": 128}])
def test_every_row_comes_once_an_epoch(many, order, size):
    plans = Batches(many, order=order, **size)
    for epoch in range(3):
        plan = plans.plan(epoch)
        assert sorted(flat(plan)) == list(range(len(many)))
        assert len(plan) == len(plans)  # the same in all epochs: Keras counts on it


def test_the_order_is_the_seeds_and_the_epochs(many):
    plan = Batches(many, batch_size=32, seed=3).plan(5)
    again = Batches(many, batch_size=32, seed=3).plan(5)
    assert [rows.tolist() for rows in plan] == [rows.tolist() for rows in again]
    assert flat(plan) != flat(Batches(many, batch_size=32, seed=3).plan(6))
    assert flat(plan) != flat(Batches(many, batch_size=32, seed=4).plan(5))


@pytest.mark.parametrize("size", [{"batch_size": 32}, {"batch_tokens": 1024}])
def test_neighbours_in_a_batch_differ_from_epoch_to_epoch(many, size):
    plans = Batches(many, **size)
    first, second = ({frozenset(rows.tolist()) for rows in plans.plan(e)} for e in (0, 1))
    assert len(first & second) < len(first) / 4


def test_lengths_come_in_a_random_order(many):
    # Sorted batches are shuffled: the learning rate must not rise and fall with the length.
    means = [many.lengths[rows].mean() for rows in Batches(many, batch_size=32).plan(0)]
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 0.5


def test_a_mixed_batch_is_like_the_whole(many):
    plan = Batches(many, batch_size=32, order="mixed").plan(0)
    spread = [many.lengths[rows].std() for rows in plan]
    grouped = [many.lengths[rows].std() for rows in Batches(many, batch_size=32).plan(0)]
    assert np.mean(spread) > 0.8 * many.lengths.std() > np.mean(grouped)


def test_a_budget_of_tokens_is_kept_and_used(many):
    for epoch in range(3):
        plan = Batches(many, batch_tokens=512).plan(epoch)
        padded = [len(rows) * many.lengths[rows].max() for rows in plan]
        assert max(padded) <= 512
        assert np.mean(padded) > 0.9 * 512


def test_little_is_padding(many):
    assert Batches(many, batch_size=32).padding_share < 0.05
    assert Batches(many, batch_tokens=2048).padding_share < 0.05
    assert Batches(many, batch_size=32, order="given").padding_share > 0.3
    assert Batches(rows_of([5, 5]), batch_size=2).padding_share == 0


def test_given_order_is_kept_and_length_order_rises(many):
    assert flat(Batches(many, batch_size=32, order="given").plan(1)) == list(range(len(many)))
    lengths = many.lengths[flat(Batches(many, batch_tokens=512, order="length").plan(0))]
    assert (np.diff(lengths) >= 0).all()


# --- iterating ----------------------------------------------------------------------------


def test_each_iteration_is_the_next_epoch(many):
    plans = Batches(many, batch_size=100, seed=1)
    for epoch in range(2):
        seen = [batch["token_ids"][:, 0].tolist() for batch in plans]
        assert seen == [rows.tolist() for rows in plans.plan(epoch)]


def test_a_run_continues_at_a_batch_of_an_epoch(many):
    plans = Batches(many, np.arange(len(many)), batch_size=100, seed=1)
    plans.epoch, plans.skip = 3, 15
    rest = [targets.tolist() for _, targets in plans.dataset().as_numpy_iterator()]
    assert rest == [rows.tolist() for rows in plans.plan(3)[15:]]
    after = [targets.tolist() for _, targets in plans.dataset().as_numpy_iterator()]
    assert after == [rows.tolist() for rows in plans.plan(4)]


def test_targets_and_weights_follow_their_rows(many):
    targets = np.arange(len(many), dtype=np.int32)
    weights = np.arange(len(many), dtype=np.float32) / 2
    for batch, target, weight in Batches(many, targets, weights=weights, batch_tokens=256):
        first = batch["token_ids"][:, 0]
        np.testing.assert_array_equal(target, first)
        np.testing.assert_array_equal(weight, first / 2)


def test_padding_stands_where_the_mask_is_zero():
    batch = next(iter(Batches(rows_of([2, 4, 3]), batch_size=3, order="given")))
    assert batch["token_ids"].tolist() == [[0, 0, -1, -1], [1, 1, 1, 1], [2, 2, 2, -1]]
    assert batch["padding_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch["segment_ids"].tolist() == [[0, 1, 0, 0], [0, 1, 1, 1], [0, 1, 1, 0]]


@pytest.mark.parametrize("size", [{"batch_size": 64}, {"batch_tokens": 700}])
def test_a_dataset_says_its_length_and_has_shapes_for_one_trace(many, size):
    plans = Batches(many, np.zeros(len(many), np.int32), **size)
    dataset = plans.dataset()
    assert len(dataset) == len(plans)
    batch, target = dataset.element_spec
    assert {spec.shape.rank for spec in batch.values()} == {2}
    assert all(spec.shape.as_list() == [None, None] for spec in batch.values())
    assert target == tf.TensorSpec((None,), tf.int32)
    assert sum(len(targets) for _, targets in dataset) == len(many)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Give batch_size or batch_tokens, one of them"),
        ({"batch_size": 2, "batch_tokens": 9}, "Received: batch_size 2, batch_tokens 9"),
        ({"batch_size": 0}, "batch_size must be 1 or more. Received: 0"),
        ({"batch_tokens": 4}, "must hold the longest row, 5 tokens. Received: 4. Raise it or"),
        ({"batch_size": 2, "targets": np.zeros(2)}, "target for every row. Received: 3 rows and 2"),
        ({"batch_size": 2, "weights": np.ones(4)}, "weight for every row. Received: 3 rows and 4"),
    ],
)
def test_mistakes_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Batches(rows_of([3, 5, 4]), **arguments)


def test_an_unknown_order_is_refused():
    with pytest.raises(ValueError, match="random, mixed, length or given. Received: 'sorted'"):
        Batches(rows_of([3]), batch_size=1, order="sorted")


# --- batches(): for a script of one's own -------------------------------------------------


def test_batches_for_a_script(tokenizer):
    texts = ["the cat", "sat", "hello world the cat"]
    dataset = batches(texts, [1, 0, 1], tokenizer=tokenizer, weights=[1, 2, 3])
    ((batch, targets, weights),) = dataset.as_numpy_iterator()
    np.testing.assert_array_equal(batch["token_ids"], tokenizer(texts)["token_ids"])
    assert targets.tolist() == [1, 0, 1]
    assert weights.tolist() == [1, 2, 3] and weights.dtype == np.float32


def test_batches_without_targets_are_for_predict(tokenizer):
    (batch,) = batches(["the", "cat"], tokenizer=tokenizer, text_pairs=["sat", "un"])
    assert set(batch) == {"token_ids", "segment_ids", "padding_mask"}
    assert batch["segment_ids"].numpy().tolist() == [[0, 0, 0, 1, 1]] * 2


def test_batches_are_32_rows_and_shuffled_by_a_seed(tokenizer):
    texts, targets = ["the"] * 70, list(range(70))

    def order(**arguments):
        dataset = batches(texts, targets, tokenizer=tokenizer, **arguments)
        return [target.tolist() for _, target in dataset.as_numpy_iterator()]

    assert [len(batch) for batch in order()] == [32, 32, 6]
    assert sum(order(), []) == targets
    shuffled = order(shuffle=True, seed=1)
    assert shuffled == order(shuffle=True, seed=1) != order(shuffle=True, seed=2)
    assert sorted(sum(shuffled, [])) == targets
    assert {len(batch) for batch in order(batch_tokens=30)} == {10}


def test_batches_refuse_targets_that_do_not_match(tokenizer):
    with pytest.raises(ConfigError, match="Received: 2 rows and 3 targets"):
        batches(["the", "cat"], [0, 1, 2], tokenizer=tokenizer)


def test_any_batch_can_be_made_alone(many):
    targets = np.arange(len(many))
    data = Batches(many, targets, batch_size=32, seed=1)
    data.epoch = 2
    for index, (inputs, labels) in enumerate(data):
        alone, own, weights = data.batch(2, index)
        np.testing.assert_array_equal(alone["token_ids"], inputs["token_ids"])
        np.testing.assert_array_equal(own, labels)
        assert weights is None


def test_fingerprints_tell_rows_and_orders_apart(many):
    own = Batches(many, batch_size=32, seed=1).fingerprint
    assert Batches(many, batch_size=32, seed=1).fingerprint == own
    assert Batches(many, batch_size=32, seed=2).fingerprint != own
    assert Batches(many, np.zeros(len(many)), batch_size=32, seed=1).fingerprint != own
    assert Batches(rows_of([3, 4]), batch_size=32, seed=1).fingerprint != own
