"""Splits and samples: sizes, shares of classes, seeds, tiny classes, groups, times."""

import collections
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_parts import Made

from tfmodel.config import ConfigError
from tfmodel.data.ranks import time_rank
from tfmodel.data.rows import Row
from tfmodel.data.split_counts import allocate
from tfmodel.data.splits import sample, split_off

SHARES = {"test": 0.2, "dev": 0.1}


def make(**sizes):
    return [
        Row(f"{label} {i}", None, label, f"{label}:{i}")
        for label, size in sizes.items()
        for i in range(size)
    ]


def count(rows):
    return dict(collections.Counter(row.label for row in rows))


def cut(rows, shares=None, *, seed=1, method="stratified", rows_a_part=20_000, **settings):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = Made(folder, seed=seed, rows_a_part=rows_a_part, split=method, **settings)
        made.add(train=rows)
        chosen = dict(method=method, shares=shares or SHARES, strata=made.strata, seed=seed)
        split_off(made.parts, made.fates, folder / "sorting", **chosen)
        return made.kept()


def draw(rows, wanted, *, seed=1):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = Made(folder, seed=seed, max_rows=max(wanted, 2)).add(train=rows)
        sample(made.parts, made.fates, folder / "s", count=wanted, strata=made.strata, seed=seed)
        return made.kept()["train"], made.dropped()


def test_shares_hold_in_every_class():
    parts = cut(make(a=100, b=50, c=10))
    assert count(parts["test"]) == {"a": 20, "b": 10, "c": 2}
    assert count(parts["dev"]) == {"a": 10, "b": 5, "c": 1}
    assert count(parts["train"]) == {"a": 70, "b": 35, "c": 7}


def test_a_class_of_one_row_stays_in_train():
    parts = cut(make(a=50, rare=1, rarer=1))
    assert count(parts["train"])["rare"] == 1 and count(parts["train"])["rarer"] == 1
    assert len(parts["test"]) == 10 and len(parts["dev"]) == 5


def test_the_split_depends_on_seed_and_text_not_on_order_or_label_names():
    rows = make(a=60, b=40)
    shuffled = random.Random(0).sample(rows, len(rows))
    first, again = cut(rows, seed=3), cut(shuffled, seed=3, rows_a_part=9)
    other = cut(rows, seed=4)
    for name in ("train", "dev", "test"):
        assert {r.text for r in first[name]} == {r.text for r in again[name]}
        assert {r.text for r in first[name]} != {r.text for r in other[name]}
    assert [r.origin for r in first["test"]] == sorted(
        (r.origin for r in first["test"]), key=[r.origin for r in rows].index
    )


def test_pinned_split():
    test = cut(make(a=10, b=10), seed=7)["test"]
    assert [row.text for row in test] == ["a 4", "a 6", "b 1", "b 6"]


sizes = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 40), min_size=2)


@given(sizes, st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_every_row_lands_in_one_split_and_every_class_in_train(sizes, seed):
    rows = make(**sizes)
    try:
        parts = cut(rows, seed=seed)
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
@settings(max_examples=25, deadline=None)
def test_sample_keeps_every_class_and_the_size(sizes, wanted):
    rows = make(**sizes)
    drawn, left = draw(rows, wanted)
    assert len(drawn) == min(wanted, len(rows)) and len(drawn) + len(left) == len(rows)
    assert set(count(drawn)) == set(sizes)


def test_sample_in_proportion():
    drawn, left = draw(make(a=900, b=90, c=10), 100)
    assert count(drawn) == {"a": 90, "b": 9, "c": 1}
    assert {reason for _, reason, _, _ in left} == {"max_rows"}


def test_sample_below_the_number_of_classes():
    with pytest.raises(ConfigError, match="each of the 3 classes of train. Received: 2"):
        draw(make(a=5, b=5, c=5), 2)


def test_too_few_rows_to_split():
    with pytest.raises(ConfigError, match="Received: 2 rows in 2 classes, none left for test"):
        cut(make(a=1, b=1))


def test_allocate_rounds_the_largest_fractions_up():
    quotas = {"a": 1.6, "b": 1.5, "c": 0.9}
    most = dict.fromkeys("abc", 9)
    assert allocate(quotas, total=4, most=most, salt="s") == {"a": 2, "b": 1, "c": 1}
    assert allocate(quotas, total=4, most=most | {"a": 1}, salt="s") == {"a": 1, "b": 2, "c": 1}


# --- by the text alone, by group, by time -----------------------------------------------------


def test_by_hash_rows_stay_where_they_are_when_others_come():
    few, many = make(a=500, b=300), make(a=2_000, b=1_500)
    before, after = cut(few, method="hash"), cut(many, method="hash")
    for name in ("train", "dev", "test"):
        assert {row.text for row in before[name]} <= {row.text for row in after[name]}
    # In expectation: 3,500 rows have a standard deviation of 24 rows in test.
    assert abs(len(after["test"]) - 700) < 4 * 24 and abs(len(after["dev"]) - 350) < 4 * 18
    assert abs(count(after["test"])["a"] - 400) < 4 * 18


def grouped(groups, rows_each):
    return [
        Row(f"{group} {i}", None, "ab"[i % 2], f"{group}:{i}", group=f"user {group}")
        for group in range(groups)
        for i in range(rows_each)
    ]


def test_by_group_no_group_stands_in_two_splits():
    parts = cut(grouped(300, 4), method="group", group="user", rows_a_part=100)
    groups = [{row.group for row in rows} for rows in parts.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 300
    assert abs(len(groups[2]) - 60) < 4 * 7  # test: 20% of the groups, within four deviations


def test_space_around_a_group_makes_no_other_group():
    rows = grouped(100, 4)
    for row in rows[::2]:
        row.group = f" {row.group}\t"
    parts = cut(rows, method="group", group="user")
    groups = [{row.group.strip() for row in rows} for rows in parts.values()]
    assert sum(map(len, groups)) == 100


def test_one_group_cannot_be_split():
    rows = [Row(f"text {i}", None, "x", f"{i}", group="all") for i in range(40)]
    with pytest.raises(ConfigError, match="none left for .*: too few rows, groups"):
        cut(rows, method="group", group="user")


def test_rows_without_a_group_are_split_one_by_one():
    rows = [Row(f"text {i}", None, "x", f"{i}", group="") for i in range(400)]
    parts = cut(rows, method="group", group="user")
    assert all(len(rows) > 10 for rows in parts.values())


def test_by_time_the_latest_rows_are_the_test():
    rows = [
        Row(
            f"text {i}", None, "ab"[i % 2], f"{i}", group=f"2024-{1 + i // 28:02d}-{1 + i % 28:02d}"
        )
        for i in range(300)
    ]
    shuffled = random.Random(1).sample(rows, len(rows))
    parts = cut(shuffled, method="time", time="day", rows_a_part=64)
    assert sorted(parts["test"], key=lambda row: row.group) == rows[240:]
    assert sorted(parts["dev"], key=lambda row: row.group) == rows[210:240]
    assert len(parts["train"]) == 210


def test_rows_of_one_moment_stay_together():
    rows = [Row(f"text {i}", None, "x", f"{i}", group=str(i // 30)) for i in range(100)]
    parts = cut(rows, method="time", time="day")
    assert {row.group for row in parts["test"]} == {"2", "3"}
    assert {row.group for row in parts["dev"]} == {"1"}
    assert {row.group for row in parts["train"]} == {"0"}
    with pytest.raises(ConfigError, match="none left for dev"):
        cut([Row(f"text {i}", None, "x", f"{i}", group="5") for i in range(9)], method="time",
            time="day")  # fmt: skip


def test_moments_in_order():
    moments = ["-1e9", "-2", "-0.0", "0.5", "1970-01-01T00:00:01", "12", "2001-09-09",
               "2024-02-03 10:00:00+02:00", "2024-02-03T09:00:00Z"]  # fmt: skip
    ranks = [time_rank(moment) for moment in moments]
    assert ranks == sorted(set(ranks)) and max(ranks) < 2**64
    assert time_rank("0") == time_rank("-0.0")
    for wrong in ("yesterday", "", "nan", "2024-13-01"):
        with pytest.raises(ValueError):
            time_rank(wrong)
