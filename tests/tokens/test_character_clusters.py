"""Words of a text, where its pieces do not say where they begin; letters with their accents."""

import numpy as np
import pytest
import small_families
import tensorflow as tf

from tfmodel.tokens.character_clusters import cluster_begins, words_by_characters
from tfmodel.tokens.windows import WindowRows

WORDS = {
    "the bank, Zoe\u0308's  New  York": ["the", "bank", ",", "Zoe\u0308", "'", "s", "New", "York"],
    "  B2B é-é ": ["B2B", "é", "-", "é"],
    "她在北京大学,héé": ["她", "在", "北", "京", "大", "学", ",", "héé"],
    "👍🏽 👩\u200d👧x": ["👍🏽", "👩\u200d", "👧", "x"],
    "हिन्दी नमस्ते": ["हिन्दी", "नमस्ते"],
    "": [],
    " \n": [],
    "a\n\u0301 b": ["a", "\u0301", "b"],
}


def ragged(rows):
    return tf.ragged.constant(rows, dtype=tf.int32, ragged_rank=1)


def words_of(texts, places):
    """The words, where each piece has the places that are given."""
    starts, ends = (ragged([[p[side] for p in row] for row in places]) for side in range(2))
    begins, word_ends = (each.numpy() for each in words_by_characters(texts, starts, ends))
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(begins)) - 1
    rows = np.repeat(np.arange(len(texts)), [len(row) for row in places])[first]
    found = [[] for _ in texts]
    for row, start, end in zip(
        rows, starts.flat_values.numpy()[first], word_ends[last[: len(first)]], strict=True
    ):
        found[row].append(texts[row][start:end])
    return found


def test_a_word_is_a_run_of_letters_or_one_sign():
    texts = list(WORDS)
    places = [[(place, place + 1) for place in range(len(text))] for text in texts]
    # Blanks are pieces of no characters, as tokenizers have them.
    places = [
        [(s + 1, s + 1) if text[s].isspace() else (s, e) for s, e in row]
        for text, row in zip(texts, places, strict=True)
    ]
    assert words_of(texts, places) == list(WORDS.values())


def test_a_piece_of_several_characters_is_of_one_word():
    texts = ["北京大学 unknown,x", "😀"]
    places = [[(0, 2), (2, 4), (5, 7), (7, 12), (12, 14)], [(0, 1), (0, 1), (0, 1)]]
    assert words_of(texts, places) == [["北京", "大学", "unknown", ",x"], ["😀"]]


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta"])
def test_words_of_windows_are_those_of_the_users_own_text(family):
    from tfmodel.tasks.tag_words import places_of_words

    tokenizer = small_families.tokenizer_of(family)
    texts = [text for text in WORDS if family == "roberta" or "\u0301 b" not in text]
    windows = WindowRows.from_texts(tokenizer, texts, max_length=8)
    starts, ends, splits = places_of_words(windows, windows.begins)
    for row, text in enumerate(texts):
        here = slice(splits[row], splits[row + 1])
        found = [text[s:e] for s, e in zip(starts[here], ends[here], strict=True)]
        # Unknown characters next to each other are one piece of a unigram model, and one word.
        if family == "roberta":
            assert found == WORDS[text]
        else:
            assert "".join(found).replace(" ", "") == "".join(WORDS[text])


def test_clusters():
    texts = ["e\u0301\u0327a", "\r\n\u0301", "\u0600a\u0301", "\u200d", "\n\ne"]
    codes = tf.strings.unicode_decode(texts, "UTF-8")
    begins = cluster_begins(codes.flat_values, codes.value_rowids())
    found = tf.RaggedTensor.from_row_splits(tf.cast(begins, tf.int32), codes.row_splits).to_list()
    assert found == [[1, 0, 0, 1], [1, 0, 1], [1, 0, 0], [1], [1, 1, 1]]
