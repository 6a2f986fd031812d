"""How far an artifact's entities may be from the Keras model's."""

import numpy as np
import pytest

from tfmodel.export.parity.entity_verdicts import compare_spans, span_quality
from tfmodel.tasks.tag_words import Words

TAGS = ["O", "B-PER", "I-PER"]


def words_of(paths, *, sure=0.9):
    """Texts of words of one character whose best tags are given."""
    found = []
    for path in paths:
        scores = np.full((len(path), 3), (1 - sure) / 2, np.float32)
        scores[np.arange(len(path)), path] = sure
        places = np.arange(len(path))
        found.append(Words(2 * places, 2 * places + 1, scores))
    return found


PATHS = [[0, 1, 2], [1, 0, 0], [], [0, 0, 1, 2, 2]] * 10
TARGETS = [[(2, 5, "PER")], [(0, 1, "PER")], [], [(4, 9, "PER")]] * 10


def compare(given, *, targets=TARGETS, precision="float32", max_drop=0.01):
    return compare_spans(
        given, words_of(PATHS), targets, precision=precision, max_drop=max_drop, labels=TAGS
    )


def test_the_same_answers_pass():
    figures = compare(words_of(PATHS))
    assert figures["failures"] == [] and figures["rows"] == 40
    assert (figures["f1"], figures["f1_drop"], figures["label_agreement"]) == (1.0, 0.0, 1.0)
    assert figures["labels_changed"] == 0 and figures["largest_score_difference"] == 0
    assert compare(words_of(PATHS), targets=None)["f1"] is None


def test_float32_must_give_the_same_numbers():
    (failure,) = compare(words_of(PATHS, sure=0.91))["failures"]
    assert "a score is off by 0.01 (limit 1e-04)" in failure
    assert compare(words_of(PATHS, sure=0.91), precision="int8")["failures"] == []


@pytest.mark.parametrize("targets", [TARGETS, None])
def test_reduced_precision_may_lose_a_little(targets):
    one = [*PATHS]
    one[0] = [0, 0, 0]
    few = compare(words_of(one), targets=targets, precision="int8", max_drop=0.02)
    assert few["failures"] == [] and few["labels_changed"] == 2
    worse = [[0] * len(path) if number % 3 else path for number, path in enumerate(PATHS)]
    (failure,) = compare(words_of(worse), targets=targets, precision="int8")["failures"]
    assert failure.startswith("another tag on" if targets is None else "F1 0.")


def test_the_same_answer_to_every_text_is_caught():
    (failure,) = compare(
        words_of([[0] * len(p) for p in PATHS]), targets=[[]] * 40, precision="int8"
    )["failures"]
    assert "do not follow the Keras model's" in failure or "F1" in failure


def test_other_places_shapes_and_numbers_are_caught():
    moved = [words._replace(starts=words.starts + 1) for words in words_of(PATHS)]
    assert compare(moved)["failures"] == ["its words stand in other places of the texts"]
    fewer = [Words(*(each[:1] for each in words)) for words in words_of(PATHS)]
    assert "of other shape" in compare(fewer)["failures"][0]
    broken = [words._replace(scores=words.scores * np.nan) for words in words_of(PATHS)]
    assert compare(broken)["failures"] == ["its scores are not numbers"]


def test_quality():
    found = span_quality(words_of(PATHS), TARGETS, labels=TAGS)
    assert found == {"f1": 1.0, "f1_interval": [1.0, 1.0]}
    assert span_quality(words_of(PATHS), None, labels=TAGS) == {"f1": None, "f1_interval": None}
