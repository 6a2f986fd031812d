"""Documents that repeat themselves, and documents alike."""

import numpy as np
import pytest
from document_texts import WORDS, document

from tfmodel.data.corpus.repetition import find_repetition
from tfmodel.data.corpus.similarity import bands_of, runs_of, similarity
from tfmodel.data.corpus.words import count_words, hashed_words, pieces_a_word


def test_text_does_not_repeat_itself():
    assert [find_repetition(document(seed, words=300)) for seed in range(20)] == [""] * 20
    chinese = "".join(chr(0x4E00 + (i * i * 7 + i * 13) % 5000) for i in range(400))
    assert find_repetition(chinese) == ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\n".join(["More", document(1), "More", "More", "More"]), "0.43 of the lines"),
        (f"{document(1, lines=1)}\n{document(2, lines=1)}\n{document(3)}\n{document(1, lines=1)}",
         "of the characters are in lines"),
        (f"{' buy now '.join(WORDS)}", "in one run of 2 words"),
        (f"{document(1, words=100, lines=1)} {document(1, words=100, lines=1)}",
         "in repeated runs of 5 words"),
        ("今天天氣真好我們去公園散步吧" * 12, "in one run of"),
    ],
)  # fmt: skip
def test_repetition_is_told(text, told):
    assert told in find_repetition(text)


def test_short_documents_may_say_a_name_twice():
    text = "The Ministry of Mines is a ministry in Zambia, headed by the Minister of Mines."
    assert find_repetition(text) == ""


def test_shares_are_those_of_a_plain_count():
    generator = np.random.default_rng(0)
    for _ in range(50):
        words = [f"w{number}" for number in generator.integers(0, 12, 80)]
        runs = [tuple(words[place : place + 5]) for place in range(76)]
        covered = set()
        for place, run in enumerate(runs):
            if run in runs[:place]:
                covered |= set(range(place, place + 5))
        share = sum(len(words[place]) for place in covered) / sum(map(len, words))
        told = find_repetition(" ".join(words))
        if "runs of 5 words" in told:
            assert told.startswith(f"{share:.2f} ")
        elif not told:
            assert share <= 0.15


@pytest.mark.parametrize(
    ("text", "words", "pieces"),
    [
        ("Two words, __ !", 2, 1),
        ("今天天氣很好", 3, 2),
        ("ภาษาไทย", 3.5, 2),
        ("...", 0, 1),
        ("a中b", 2.5, 1),
    ],
)
def test_words_are_counted_in_every_script(text, words, pieces):
    assert count_words(text, most=20) == words
    assert pieces_a_word(text) == pieces


def test_case_and_punctuation_do_not_count():
    one, other = hashed_words("Don't STOP—now!")[0], hashed_words("don t stop now")[0]
    assert (one == other).all()


def test_near_documents_share_bands_and_others_do_not():
    texts = [document(seed, words=200) for seed in range(100)]
    near = [text.replace(text.split()[50], "other", 1) for text in texts]
    alike = [similarity(runs_of(a), runs_of(b)) for a, b in zip(texts, near, strict=True)]
    assert min(alike) > 0.9
    bands = bands_of([*texts, *near], 0.8)
    shares = (bands[:100] == bands[100:]).any(axis=1)
    assert shares.mean() > 0.97
    assert not (bands[:99] == bands[1:100]).any()


def test_long_texts_of_one_language_are_not_alike():
    """By runs of 5 characters they would be: there are only so many."""
    one, other = (document(seed, words=20_000) for seed in (1, 2))
    assert similarity(runs_of(one), runs_of(other)) < 0.01


def test_likeness_is_the_share_of_common_runs():
    one = "a b c d e f"
    assert similarity(runs_of(one), runs_of("a b c d e g")) == pytest.approx(1 / 3)
    assert similarity(runs_of("x"), runs_of("x")) == 1
    assert similarity(runs_of(""), runs_of("")) == 0
