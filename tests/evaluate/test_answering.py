"""Exact match and F1, by hand and against the implementation of others."""

import re

import numpy as np
import pytest

from tfmodel.evaluate.answering import (
    Question,
    answering,
    best_null_threshold,
    exact_match,
    scored,
    word_f1,
)


def question(*answers, context="The river Rhine flows through Basel."):
    return Question(context, answers)


@pytest.mark.parametrize(
    ("right", "given", "exact", "f1"),
    [
        ("the Rhine", "Rhine", 1, 1),
        ("Rhine", "rhine.", 1, 1),
        ("a river", "an river", 1, 1),
        ("through Basel", "Basel", 0, 2 / 3),
        ("through Basel", "Bern", 0, 0),
        ("Basel Basel", "Basel", 0, 2 / 3),
        ("4.5", "45", 1, 1),  # marks are left out, not replaced by blanks
        ("théâtre", "theatre", 0, 0),
        ("the", "", 1, 1),
        ("Rhine", "", 0, 0),
        ("“Basel”", "Basel", 0, 0),  # SQuAD's script knows ASCII's marks alone
    ],
)
def test_words_are_compared_as_squad_does(right, given, exact, f1):
    assert exact_match(right, given) == exact
    assert word_f1(right, given) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("right", "given", "exact", "f1"),
    [
        ("北京大学", "北京大学", 1, 1),
        ("《北京大学》", "北京大学。", 1, 1),
        ("北京大学", "北京", 0, 2 / 3),
        ("1949年", "1949 年", 1, 1),
        ("IBM公司", "ibm公司", 1, 1),
        ("IBM公司", "公司", 0, 0.8),
        ("the 北", "北", 0, 2 / 3),  # no article is left out
    ],
)
def test_characters_are_compared_where_the_text_is_chinese(right, given, exact, f1):
    asked = Question("北京大学成立于1898年，是IBM公司的伙伴。", (right,))
    assert asked.by_characters
    assert scored(asked, given) == (exact, pytest.approx(f1))
    assert not Question("The Yuan dynasty (大元) fell in 1368.", ()).by_characters


def test_the_nearest_right_answer_counts_and_no_answer_is_one():
    assert scored(question("Bern", "the Rhine"), "Rhine") == (1, 1)
    assert scored(question(), "") == (1, 1)
    assert scored(question(), "Rhine") == (0, 0)
    assert scored(question("the", "Rhine"), "Rhine") == (1, 1)
    assert scored(question("the"), "") == (1, 1)  # nothing of it can be given


def by_the_published_rules(right, given):
    """Lower, drop ASCII punctuation, drop a, an and the, squeeze blanks: exact, F1 of bags."""

    def words(text):
        text = "".join(mark for mark in text.lower() if not (mark.isascii() and marks(mark)))
        text = re.sub(r"(?<!\w)(?:the|an|a)(?!\w)", " ", text)
        return text.split()

    def marks(mark):
        return mark.isprintable() and not mark.isalnum() and mark != " "

    wanted, said = words(right), words(given)
    left = [*said]
    shared = sum(word in left and not left.remove(word) for word in wanted)
    if not wanted or not said:
        return wanted == said, float(wanted == said)
    precision, recall = shared / len(said), shared / len(wanted)
    f1 = 2 * precision * recall / (precision + recall) if shared else 0.0
    return " ".join(wanted) == " ".join(said), f1


def test_figures_are_those_of_another_implementation():
    generator = np.random.default_rng(0)
    words = ["the", "a", "Rhine", "rhine,", "Basel.", "4.5", "U.S.", "café", "an", "", "--", "a-b"]

    def phrase():
        return " ".join(generator.choice(words, generator.integers(0, 5)))

    for _ in range(500):
        right, given = phrase(), phrase()
        exact, f1 = by_the_published_rules(right, given)
        assert exact_match(right, given) == exact
        assert word_f1(right, given) == pytest.approx(f1)


def test_the_figures_of_a_part():
    questions = [question("Rhine"), question("Basel"), question()]
    found = answering(
        questions,
        ["the Rhine", "through Basel", "Bern"],
        scores=[0.9, 0.8, 0.7],
        texts=["Which river?", "Where?", "Who?"],
        text_pairs=[each.context for each in questions],
        origins=["a:1", "a:2", "a:3"],
    )
    assert found["examples"] == 3 and found["unanswerable"] == 1
    assert found["exact_match"] == pytest.approx(1 / 3)
    assert found["f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert found["has_answer_f1"] == pytest.approx(5 / 6)
    assert found["has_answer_exact_match"] == pytest.approx(1 / 2)
    assert found["no_answer_accuracy"] == 0
    low, high = found["f1_interval"]
    assert 0 <= low < found["f1"] < high <= 1
    assert [row["text"] for row in found["mistakes"]] == ["Who?", "Where?"]
    assert found["mistakes"][0]["answers"] == [] and found["mistakes"][0]["predicted"] == "Bern"
    assert [row["origin"] for row in found["correct"]] == ["a:1"]
    assert "unanswerable" not in answering(questions[:1], ["Rhine"])


def test_nothing_to_measure_is_refused():
    with pytest.raises(ValueError, match="at least one row"):
        answering([], [])
    with pytest.raises(ValueError, match="given must hold one entry per row, 1"):
        answering([question("a")], ["a", "b"])


def test_the_threshold_is_the_best_of_all():
    generator = np.random.default_rng(1)
    for _ in range(20):
        questions = [question() if no else question("Rhine") for no in generator.random(12) < 0.5]
        spans = ["Rhine" if yes else "Basel" for yes in generator.random(12) < 0.7]
        margins = generator.integers(-3, 4, 12).astype(float)

        def f1(threshold, questions=questions, spans=spans, margins=margins):
            given = [s if -m <= threshold else "" for s, m in zip(spans, margins, strict=True)]
            return sum(scored(q, g)[1] for q, g in zip(questions, given, strict=True))

        found = best_null_threshold(questions, spans, margins)
        assert f1(found) == max(f1(cut) for cut in np.arange(-4.5, 5))
