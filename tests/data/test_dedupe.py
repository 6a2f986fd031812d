"""Exact duplicates: which row stays, and the reason of those that go."""

import pytest
from made_parts import Made

from tfmodel.data.dedupe import drop_duplicates
from tfmodel.data.ranks import text_digest
from tfmodel.data.rows import Row


def row(text, label, origin, pair=None):
    return Row(text, pair, label, origin)


@pytest.fixture(params=[20_000, 1], ids=["one part", "a part a row"])
def run(tmp_path, request):
    def drop(**rows):
        made = Made(tmp_path, rows_a_part=request.param).add(**rows)
        drop_duplicates(made.parts, made.fates, tmp_path / "sorting")
        kept = {name: [row.origin for row in found] for name, found in made.kept().items()}
        return {name: found for name, found in kept.items() if found}, made.dropped()

    return drop


def test_first_of_equal_texts_stays_whatever_the_label(run):
    kept, dropped = run(train=[row("a", "x", "t:1"), row("a", "x", "t:2"), row("a", "y", "t:3")])
    assert kept == {"train": ["t:1"]}
    assert dropped == [
        ("train", "duplicate", "t:2", "t:1"),
        ("train", "conflicting_label", "t:3", "t:1"),
    ]


def test_test_wins_over_dev_over_train(run):
    kept, dropped = run(
        train=[row("a", "x", "tr:1"), row("b", "x", "tr:2"), row("c", "x", "tr:3")],
        dev=[row("b", "x", "d:1"), row("a", "y", "d:2"), row("d", "x", "d:3")],
        test=[row("a", "x", "te:1")],
    )
    assert kept == {"train": ["tr:3"], "dev": ["d:1", "d:3"], "test": ["te:1"]}
    assert sorted(dropped) == [
        ("dev", "also_in_test", "d:2", "te:1"),
        ("train", "also_in_dev", "tr:2", "d:1"),
        ("train", "also_in_test", "tr:1", "te:1"),
    ]


def test_pairs_are_equal_only_if_both_texts_are(run):
    kept, _ = run(
        train=[row("a", "x", "1", "b"), row("a", "x", "2", "c"), row("ab", "x", "3", "b")]
    )
    assert kept["train"] == ["1", "2", "3"]


def test_more_rows_of_one_text_than_are_sorted_at_a_time(tmp_path, monkeypatch):
    from tfmodel.data.parts import buckets

    init = buckets.Buckets.__init__
    monkeypatch.setattr(
        buckets.Buckets,
        "__init__",
        lambda self, folder, dtype: init(self, folder, dtype, memory_bytes=320),
    )
    rows = [row("same", "x", f"t:{i}") for i in range(50)] + [row("other", "x", "t:50")]
    made = Made(tmp_path, rows_a_part=7).add(train=rows)
    drop_duplicates(made.parts, made.fates, tmp_path / "sorting")
    assert [kept.origin for kept in made.kept()["train"]] == ["t:0", "t:50"]
    assert made.dropped() == [("train", "duplicate", f"t:{i}", "t:0") for i in range(1, 50)]
    assert not (tmp_path / "sorting").exists()


def test_digest_is_the_same_on_every_machine():
    assert text_digest(row("é", "x", "1", "b")).hex() == "569b6d2cc5604ef76cc0f1c17c9cc2f5"
