"""Windows over long texts: nothing is lost, every piece is read once, far from the edges."""

import numpy as np
import pytest
import tensorflow as tf

from tfmodel.tokens import Tokenizer, Vocabulary
from tfmodel.tokens.batches import TokenRows
from tfmodel.tokens.windows import WindowRows, cut_windows

LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]


@pytest.fixture(scope="module")
def tokenizer():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, "##a", "##b"]
    return Tokenizer(Vocabulary(words), max_length=12)


def text_of(count, seed=0):
    return " ".join(np.random.default_rng(seed).choice(LETTERS, count))


@pytest.mark.parametrize("overlap", [None, 0, 1, 3, 100])
@pytest.mark.parametrize("max_length", [4, 7, 12])
def test_every_piece_is_read_once_and_in_order(tokenizer, max_length, overlap):
    texts = [text_of(count, count) for count in range(40)]
    rows = WindowRows.from_texts(tokenizer, texts, max_length=max_length, overlap=overlap)
    assert len(rows) == 40 and rows.tokens.lengths.max() <= max_length
    assert rows.pieces[rows.is_read].tolist() == list(range(len(rows.ids)))
    inside = rows.pieces >= 0
    assert (rows.tokens.ids[inside] == rows.ids[rows.pieces[inside]]).all()
    assert not rows.is_read[~inside].any()
    assert np.diff(rows.splits).tolist() == list(range(40))
    for row in range(len(rows.tokens)):
        ids = rows.tokens.batch(np.array([row]))["token_ids"][0]
        assert ids[0] == tokenizer.vocabulary.start_id and ids[-1] == tokenizer.vocabulary.end_id


def test_a_piece_is_read_where_it_is_farthest_from_the_edges(tokenizer):
    pieces = tf.ragged.constant([list(range(5, 30))], tf.int32)
    found = cut_windows(tokenizer, pieces, max_length=12, overlap=5)
    places = [[p for p in window if p >= 0] for window in found.pieces.to_list()]
    read = [
        [p for p, is_read in zip(window, flags, strict=True) if is_read]
        for window, flags in zip(found.pieces.to_list(), found.is_read.to_list(), strict=True)
    ]
    assert [each[0] for each in places] == [0, 5, 10, 15] and {*map(len, places)} == {10}
    for piece in range(25):
        distance = [
            min(each.index(piece), len(each) - 1 - each.index(piece)) if piece in each else -1
            for each in places
        ]
        (chosen,) = [number for number, each in enumerate(read) if piece in each]
        # At the ends of the text there is no other side to be far from.
        assert distance[chosen] == max(distance) or piece in (0, 24)


def test_short_texts_are_the_rows_of_the_tokenizer(tokenizer):
    texts = ["a b c", "", "ab", "x y z"]
    rows = WindowRows.from_texts(tokenizer, texts)
    plain = TokenRows.from_texts(tokenizer, texts)
    for name in ("ids", "splits", "first_lengths"):
        np.testing.assert_array_equal(getattr(rows.tokens, name), getattr(plain, name))
    assert rows.texts.tolist() == [0, 1, 2, 3]
    assert rows.starts.tolist() == [0, 2, 4, 0, 1, 0, 2, 4]
    assert rows.ends.tolist() == [1, 3, 5, 1, 2, 1, 3, 5]


def test_what_stands_before_is_in_every_window(tokenizer):
    texts, questions = [text_of(30), "a b"], ["x y", "z z z z z z z z z"]
    rows = WindowRows.from_texts(tokenizer, texts, questions, max_length=12)
    begins = tokenizer(questions, max_length=8)["token_ids"].numpy()
    for row, text in enumerate(rows.texts):
        batch = rows.tokens.batch(np.array([row]))
        head = begins[text][: [4, 8][text]]
        assert batch["token_ids"][0][: len(head)].tolist() == head.tolist()
        assert batch["segment_ids"][0].tolist() == [0] * len(head) + [1] * (
            len(batch["segment_ids"][0]) - len(head)
        )
    assert rows.pieces[rows.is_read].tolist() == list(range(32))
    plain = TokenRows.from_texts(tokenizer, ["x y"], ["a b"])
    same = WindowRows.from_texts(tokenizer, ["a b"], ["x y"])
    np.testing.assert_array_equal(same.tokens.ids, plain.ids)
    np.testing.assert_array_equal(same.tokens.first_lengths, plain.first_lengths)


def test_each_text_may_have_a_limit_of_its_own_in_a_graph(tokenizer):
    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.int32)]
    )
    def cut(texts, limits):
        return cut_windows(tokenizer, tokenizer.tokenize(texts), max_length=limits).token_ids

    found = cut(tf.constant([text_of(9)] * 2), tf.constant([5, 12]))
    assert found.row_lengths().numpy().tolist() == [5, 5, 5, 5, 11]
    assert cut(tf.constant([], tf.string), tf.constant([], tf.int32)).nrows() == 0


def test_many_texts_are_one_after_the_other(tokenizer, monkeypatch):
    texts = [text_of(count % 30, count) for count in range(50)]
    whole = WindowRows.from_texts(tokenizer, texts)
    monkeypatch.setattr("tfmodel.tokens.windows._ROWS_AT_ONCE", 7)
    for name, value in vars(WindowRows.from_texts(tokenizer, texts)).items():
        if name != "tokens":
            np.testing.assert_array_equal(value, getattr(whole, name))
    assert len(WindowRows.from_texts(tokenizer, [])) == 0
