"""Exact duplicates: which row stays, and the reason of those that go."""

from tfmodel.data.dedupe import drop_duplicates, text_digest
from tfmodel.data.rows import Row


def row(text, label, origin, pair=None):
    return Row(text, pair, label, origin)


def run(**splits):
    dropped = []
    kept = drop_duplicates(splits, lambda *entry: dropped.append(entry))
    return (
        {name: [r.origin for r in rows] for name, rows in kept.items()},
        [(split, reason, r.origin, kept_origin) for split, reason, r, kept_origin in dropped],
    )


def test_first_of_equal_texts_stays_whatever_the_label():
    kept, dropped = run(train=[row("a", "x", "t:1"), row("a", "x", "t:2"), row("a", "y", "t:3")])
    assert kept == {"train": ["t:1"]}
    assert dropped == [
        ("train", "duplicate", "t:2", "t:1"),
        ("train", "conflicting_label", "t:3", "t:1"),
    ]


def test_test_wins_over_dev_over_train():
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


def test_pairs_are_equal_only_if_both_texts_are():
    kept, _ = run(train=[row("a", "x", "1", "b"), row("a", "x", "2", "c"), row("ab", "x", "3", "")])
    assert kept["train"] == ["1", "2", "3"]


def test_digest_is_the_same_on_every_machine():
    assert text_digest(row("é", "x", "1", "b")).hex() == "569b6d2cc5604ef76cc0f1c17c9cc2f5"
