"""Stratified splits and samples: sizes, shares of classes, seeds, tiny classes."""

import collections
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfmodel.config import ConfigError
from tfmodel.data.rows import Row
from tfmodel.data.splits import allocate, sample, split_off

SHARES = {"test": 0.2, "dev": 0.1}


def make(**sizes):
    return [
        Row(f"{label} {i}", None, label, f"{label}:{i}")
        for label, size in sizes.items()
        for i in range(size)
    ]


def count(rows):
    return dict(collections.Counter(row.label for row in rows))


def test_shares_hold_in_every_class():
    parts = split_off(make(a=100, b=50, c=10), SHARES, seed=1)
    assert count(parts["test"]) == {"a": 20, "b": 10, "c": 2}
    assert count(parts["dev"]) == {"a": 10, "b": 5, "c": 1}
    assert count(parts["train"]) == {"a": 70, "b": 35, "c": 7}


def test_a_class_of_one_row_stays_in_train():
    parts = split_off(make(a=50, rare=1, rarer=1), SHARES, seed=1)
    assert count(parts["train"])["rare"] == 1 and count(parts["train"])["rarer"] == 1
    assert len(parts["test"]) == 10 and len(parts["dev"]) == 5


def test_the_split_depends_on_seed_and_text_not_on_order_or_label_names():
    rows = make(a=60, b=40)
    shuffled = random.Random(0).sample(rows, len(rows))
    first, again = split_off(rows, SHARES, seed=3), split_off(shuffled, SHARES, seed=3)
    other = split_off(rows, SHARES, seed=4)
    for name in ("train", "dev", "test"):
        assert {r.text for r in first[name]} == {r.text for r in again[name]}
        assert {r.text for r in first[name]} != {r.text for r in other[name]}
    assert [r.origin for r in first["test"]] == sorted(
        (r.origin for r in first["test"]), key=[r.origin for r in rows].index
    )


def test_pinned_split():
    test = split_off(make(a=10, b=10), SHARES, seed=7)["test"]
    assert [row.text for row in test] == ["a 4", "a 6", "b 1", "b 6"]


sizes = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 40), min_size=2)


@given(sizes, st.integers(0, 3))
def test_every_row_lands_in_one_split_and_every_class_in_train(sizes, seed):
    rows = make(**sizes)
    try:
        parts = split_off(rows, SHARES, seed=seed)
    except ConfigError:
        assert sum(size - 1 for size in sizes.values()) < 2
        return
    together = [row.origin for part in parts.values() for row in part]
    assert sorted(together) == sorted(row.origin for row in rows)
    assert set(count(parts["train"])) == set(sizes)
    assert parts["test"] and parts["dev"]
    for label, size in sizes.items():  # never more than one row off the exact share
        assert abs(count(parts["test"]).get(label, 0) - 0.2 * size) < 2


@given(sizes, st.integers(8, 60))
def test_sample_keeps_every_class_and_the_size(sizes, wanted):
    rows = make(**sizes)
    drawn, left = sample(rows, wanted, seed=1)
    assert len(drawn) == min(wanted, len(rows)) and len(drawn) + len(left) == len(rows)
    assert set(count(drawn)) == set(sizes)


def test_sample_in_proportion():
    drawn, _ = sample(make(a=900, b=90, c=10), 100, seed=1)
    assert count(drawn) == {"a": 90, "b": 9, "c": 1}


def test_sample_below_the_number_of_classes():
    with pytest.raises(ConfigError, match="each of the 3 classes of train. Received: 2"):
        sample(make(a=5, b=5, c=5), 2, seed=1)


def test_too_few_rows_to_split():
    with pytest.raises(ConfigError, match="Received: 2 rows in 2 classes, none left for test"):
        split_off(make(a=1, b=1), SHARES, seed=1)


def test_allocate_rounds_the_largest_fractions_up():
    quotas = {"a": 1.6, "b": 1.5, "c": 0.9}
    most = dict.fromkeys("abc", 9)
    assert allocate(quotas, total=4, most=most, salt="s") == {"a": 2, "b": 1, "c": 1}
    assert allocate(quotas, total=4, most=most | {"a": 1}, salt="s") == {"a": 1, "b": 2, "c": 1}
