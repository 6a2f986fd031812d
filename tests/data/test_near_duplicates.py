"""Near duplicates: found, and only those; leaks; other labels; any number of parts."""

import random

import pytest
from made_parts import Made

from tfmodel.data import near_duplicates
from tfmodel.data.dedupe import drop_duplicates
from tfmodel.data.near_duplicates import drop_near_duplicates
from tfmodel.data.parts.workers import Workers
from tfmodel.data.rows import Row
from tfmodel.data.similarity import bands_of, shingles, similarity

pytest.importorskip("datasketch", reason="datasketch is not installed: pip install '.[dedupe]'")

WORDS = ["harbour", "quiet", "lantern", "river", "market", "silver", "winter", "garden", "stone"]


def sentence(seed, words=14):
    """A text whose neighbours by seed share few runs of characters."""
    generator = random.Random(seed)
    return " ".join(f"{generator.choice(WORDS)}{generator.randrange(100)}" for _ in range(words))


def changed(text, seed=0):
    """The text with one of its words replaced."""
    words = text.split()
    words[random.Random(seed).randrange(len(words))] = "other7"
    return " ".join(words)


def found(folder, *, threshold=0.7, rows_a_part=20_000, workers=0, **rows):
    made = Made(folder, rows_a_part=rows_a_part, near_duplicates=threshold).add(**rows)
    drop_duplicates(made.parts, made.fates, folder / "sorting")
    with Workers(workers) as pool:
        told = drop_near_duplicates(
            made.parts, made.fates, folder, threshold=threshold, workers=pool
        )
    return made, told


def rows(texts, label="x", name="t"):
    return [Row(text, None, label, f"{name}:{number}") for number, text in enumerate(texts)]


def test_similarity_is_jaccard_of_runs_of_five_characters():
    one, other = shingles("abcdefg"), shingles("Abc, defg!")
    assert one == {b"abcde", b"bcdef", b"cdefg"}
    assert other == {b"abc d", b"bc de", b"c def", b" defg"}
    assert similarity(one, shingles("ABCDEFG.")) == 1.0
    assert similarity(one, shingles("abcdef")) == pytest.approx(2 / 3)
    assert shingles("好") == {"好".encode()} and shingles("?!") == {b"?!"}


def test_similar_texts_share_a_band_and_others_do_not():
    texts = [sentence(seed) for seed in range(200)]
    bands = bands_of([*texts, *(f"{text}!" for text in texts)], 0.8)
    shared = [(bands[i] == bands[200 + i]).any() for i in range(200)]
    assert all(shared)
    strangers = [(bands[i] == bands[i + 1]).any() for i in range(199)]
    assert sum(strangers) < 10
    assert (bands == bands_of([*texts, *(f"{text}!" for text in texts)], 0.8)).all()


@pytest.mark.parametrize("rows_a_part, workers", [(20_000, 0), (37, 0), (37, 2)])
def test_planted_copies_are_found_and_nothing_else(tmp_path, rows_a_part, workers):
    originals = [sentence(seed) for seed in range(150)]
    copies = [changed(text, seed) for seed, text in enumerate(originals[:100])]
    alike = [similarity(shingles(a), shingles(b)) for a, b in zip(originals, copies, strict=False)]
    made, told = found(
        tmp_path, rows_a_part=rows_a_part, workers=workers, train=rows([*originals, *copies])
    )
    dropped = made.dropped()
    expected = {f"t:{150 + i}" for i, each in enumerate(alike) if each >= 0.7}
    assert len(expected) > 80
    gone = {origin for _, _, origin, _ in dropped}
    assert gone <= expected and len(gone) >= 0.9 * len(expected)
    assert {reason for _, reason, _, _ in dropped} == {"near_duplicate"}
    assert all(int(origin[2:]) - int(kept[2:]) == 150 for _, _, origin, kept in dropped)
    assert told["conflicts"] == 0 and told["pairs"] >= len(gone)


def test_the_first_of_many_copies_stays(tmp_path):
    text = sentence(1, words=40)
    copies = [changed(text, seed) for seed in range(60)]
    made, _ = found(tmp_path, threshold=0.8, train=rows([text, *copies]))
    assert [row.origin for row in made.kept()["train"]] == ["t:0"]


def test_leaks_go_whatever_the_label_but_other_labels_in_a_part_stay(tmp_path):
    first, second, third = sentence(1), sentence(2), sentence(3)
    made, told = found(
        tmp_path,
        train=[
            *rows([changed(first)], "y", "a"),
            *rows([changed(second)], "x", "b"),
            *rows([third, changed(third)], "x", "c"),
            *rows([f"{third} !"], "z", "d"),
        ],
        dev=rows([second], "x", "dev"),
        test=rows([first], "x", "test"),
    )
    assert sorted(made.dropped()) == [
        ("train", "near_duplicate", "c:1", "c:0"),
        ("train", "near_in_dev", "b:0", "dev:0"),
        ("train", "near_in_test", "a:0", "test:0"),
    ]
    # ` !` is no difference in letters, so it shares every run with the other two.
    assert told["conflicts"] >= 1
    example = told["examples"][0]
    assert {each["label"] for each in example} == {"x", "z"}


def test_what_was_compared_before_a_kill_is_not_compared_again(tmp_path, monkeypatch):
    originals = [sentence(seed) for seed in range(40)]
    texts = [*originals, *(changed(text, seed) for seed, text in enumerate(originals))]
    made, _ = found(tmp_path, train=rows(texts))
    first = made.dropped()
    monkeypatch.setattr("tfmodel.data.similarity.compare_pairs", None)
    made.add()  # fates begun anew, as by another process
    drop_duplicates(made.parts, made.fates, tmp_path / "sorting")
    with Workers(0) as pool:
        drop_near_duplicates(made.parts, made.fates, tmp_path, threshold=0.7, workers=pool)
    assert made.dropped() == first and len(first) > 20


def test_a_leak_is_named_wherever_jobs_are_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(near_duplicates, "_PAIRS_A_JOB", 1)
    text = sentence(1, words=40)
    made, _ = found(
        tmp_path,
        train=rows([changed(text, seed) for seed in range(9)]),
        test=rows([text], "x", "e"),
    )
    reasons = {(reason, kept) for _, reason, _, kept in made.dropped() if reason != "duplicate"}
    assert reasons == {("near_in_test", "e:0")}


def test_pairs_count_with_both_texts(tmp_path):
    same, other = sentence(1), sentence(2)
    made, _ = found(
        tmp_path,
        train=[
            Row(same, sentence(5), "x", "1"),
            Row(same, other, "x", "2"),
            Row(same, changed(other), "x", "3"),
        ],
    )
    assert made.dropped() == [("train", "near_duplicate", "3", "2")]
