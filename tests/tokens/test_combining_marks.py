"""Where a piece ends, its last letter's combining marks within it."""

import unicodedata

import hypothesis
import pytest
import tensorflow as tf
from hypothesis import strategies

from tfmodel.tokens.combining_marks import behind_marks, whole_offsets

TEXTS = {
    "an accent of its own": ("cafe\u0301 the", ["cafe\u0301", "the"]),
    "several": ("the e\u0301\u0323 cat", ["the", "e\u0301\u0323", "cat"]),
    "at the end": ("the cats\u0301", ["the", "cat", "s\u0301"]),
    "a style of an emoji": ("the \u2764\ufe0f cat", ["the", "\u2764\ufe0f", "cat"]),
    "none": ("the cat.", ["the", "cat", "."]),
    "alone": ("\u0301 the", ["the"]),
    "nothing": ("", []),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_piece_ends_behind_the_marks_of_its_last_letter(name, tokenizer):
    text, expected = TEXTS[name]
    _, starts, ends = (each.to_list()[0] for each in whole_offsets(tokenizer, [text]))
    found = [text[start:end] for start, end in zip(starts, ends, strict=True)]
    assert found == expected


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(
    strategies.lists(
        strategies.text("ab\u0301\u0903\u0941é你👩\ufe0f \U0001e8d0", max_size=8), max_size=4
    )
)
def test_every_place_moves_behind_the_marks_of_its_own_text(texts):
    ends = tf.ragged.constant(
        [[*range(len(text) + 1)] for text in texts], 1, 1, row_splits_dtype="int64"
    )
    ends = tf.cast(ends, tf.int32)

    def behind(text, place):
        while place < len(text) and unicodedata.category(text[place]) == "Mn":
            place += 1
        return place

    found = behind_marks(tf.constant(texts, tf.string, (len(texts),)), ends).to_list()
    assert found == [[behind(text, end) for end in range(len(text) + 1)] for text in texts]


def test_bytes_that_are_no_text_have_places_too():
    texts = tf.constant([b"a\xcc\x81\xff\x81b\xcc", b"\xcc\x81"])
    ends = tf.ragged.constant([[1, 2, 3, 4], [0]], row_splits_dtype="int64")
    found = behind_marks(texts, ends).to_list()
    assert found[0][0] == 2 and all(0 <= place <= 5 for row in found for place in row)
