"""Rows of several texts, packed: the tokens and the numbers of the texts."""

import numpy as np
import pytest

from tfmodel.tokens import Tokenizer, Vocabulary
from tfmodel.tokens.batches import Batches
from tfmodel.tokens.packed_texts import PackedTexts

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]


@pytest.fixture
def tokenizer():
    return Tokenizer(Vocabulary(PIECES), max_length=5)


def test_a_text_behind_the_other(tokenizer):
    rows = PackedTexts.from_columns(tokenizer, [["a b", "c"], ["d", "e f g h i"]])
    found = rows.batch(np.array([0, 1]))
    assert found["token_ids"].tolist() == [
        [2, 5, 6, 3, 2, 8, 3, 0],
        [2, 7, 3, 2, 9, 10, 11, 3],
    ]
    assert found["padding_mask"].tolist() == [[1, 1, 1, 1, 2, 2, 2, 0], [1, 1, 1, 2, 2, 2, 2, 2]]
    assert not found["segment_ids"].any()
    assert {str(values.dtype) for values in found.values()} == {"int32"}


def test_each_text_is_cut_by_itself(tokenizer):
    rows = PackedTexts.from_columns(tokenizer, [["a b c d e"], ["f g h i j"]], max_length=4)
    assert rows.batch(np.array([0]))["token_ids"].tolist() == [[2, 5, 6, 3, 2, 10, 11, 3]]


def test_texts_without_a_word_and_any_order(tokenizer):
    columns = [["a", "", "b c"], ["", "d", "e"], ["f", "g", ""]]
    rows = PackedTexts.from_columns(tokenizer, columns)
    batch = rows.batch(np.array([2, 0, 1]))
    for line, row in enumerate([2, 0, 1]):
        for text, column in enumerate(columns, start=1):
            own = batch["padding_mask"][line] == text
            alone = tokenizer([column[row]])["token_ids"].numpy()[0]
            assert batch["token_ids"][line][own].tolist() == alone.tolist()


def test_padding_is_no_longer_than_a_text(tokenizer):
    rows = PackedTexts.from_columns(tokenizer, [["", "a b c"], ["", "d e f"], ["", "g h i"]])
    short, long = rows.batch(np.array([0, 1]))["padding_mask"].tolist()
    assert short == [1, 1, 2, 2, 3, 3, 0, 0, 0, 0, 0, -1, -1, -1, -1]
    assert long == [1] * 5 + [2] * 5 + [3] * 5


def test_batches_are_made_of_them(tokenizer):
    columns = [[letter for letter in "abcdefgh"], ["i j"] * 8]
    rows = PackedTexts.from_columns(tokenizer, columns)
    batches = Batches(rows, np.arange(8), batch_size=3, seed=0)
    seen = [target for _, targets in batches for target in targets.tolist()]
    assert sorted(seen) == [*range(8)] and batches.padding_share == 0


def test_columns_of_other_lengths_are_refused(tokenizer):
    with pytest.raises(ValueError, match=r"columns of one length. Received: \[2, 1\]"):
        PackedTexts.from_columns(tokenizer, [["a", "b"], ["c"]])
