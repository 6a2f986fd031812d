"""Rows whose tokens differ elsewhere: how many, and which."""

import sys

import needs
import pytest

from tfmodel.tokens import Tokenizer, Vocabulary
from tfmodel.tokens.skew import measure_skew

PLAIN = ["the cat sat.", "hello world"]


@pytest.fixture
def without_keras_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub.tokenizers", None)


def test_plain_rows_do_not_differ(tokenizer, without_keras_hub):
    skew = measure_skew(tokenizer, PLAIN)["phone"]
    assert (skew.rows, skew.differ, skew.share, skew.examples) == (2, 0, 0.0, ())


def test_accents_differ_where_they_were_stripped(tokenizer, without_keras_hub):
    texts = [*PLAIN, "the cat: un café the", "Café", "你好 café", "CAFÉ"]
    skew = measure_skew(tokenizer, texts)["phone"]
    assert (skew.rows, skew.differ, skew.unknown) == (6, 4, 1)
    assert skew.share == 4 / 6
    # One example a word.
    assert skew.examples == (
        {
            "text": "un café the",
            "ours": ["un", "cafe", "the"],
            "theirs": ["un", "café", "the"],
        },
        {"text": "CAFÉ", "ours": ["cafe"], "theirs": ["[UNK]"]},
    )


def test_capitals_differ_where_they_were_kept(cased, without_keras_hub):
    skew = measure_skew(cased, [*PLAIN, "Hello cat"])["phone"]
    assert skew.differ == 1
    assert skew.examples[0]["ours"] == ["Hello", "cat"]
    assert skew.examples[0]["theirs"] == ["hello", "cat"]


def test_either_text_of_a_pair_may_differ(tokenizer, without_keras_hub):
    skew = measure_skew(tokenizer, ["café", "cat", "cat"], ["café", "café", "cat"])["phone"]
    assert (skew.rows, skew.differ) == (3, 2)


def test_what_no_model_sees_is_not_compared(tokenizer, without_keras_hub):
    texts = ["the the the café"]
    assert measure_skew(tokenizer, texts, max_length=5)["phone"].differ == 0
    assert measure_skew(tokenizer, texts, max_length=6)["phone"].differ == 1


def test_a_row_that_is_nothing_here_may_be_something_there(tokenizer, without_keras_hub):
    skew = measure_skew(tokenizer, ["\u200b\u00ad"])["phone"]
    assert skew.examples == ({"text": "\u200b\u00ad", "ours": [], "theirs": ["[UNK]"]},)


def test_no_rows_have_no_skew(tokenizer, without_keras_hub):
    assert measure_skew(tokenizer, [])["phone"].share == 0.0


def test_keras_hub_is_not_guessed_where_it_is_missing(tokenizer, without_keras_hub):
    skew = measure_skew(tokenizer, PLAIN)["keras_hub"]
    assert skew.not_measured == "pip install 'tfmodel[keras-hub]'"


@pytest.mark.slow
def test_keras_hub_keeps_accents_and_rewrites_three_points(tokenizer):
    needs.package("keras_hub")
    texts = [*PLAIN, "THE Hello", "你好", "café", "the…cat"]
    skew = measure_skew(tokenizer, texts)["keras_hub"]
    assert (skew.rows, skew.differ) == (6, 2)
    assert [example["theirs"] for example in skew.examples] == [
        ["café"],
        ["the", "[UNK]", "cat"],  # "..." is no piece of this vocabulary
    ]


@pytest.mark.slow
def test_keras_hub_refuses_a_vocabulary_without_a_mask():
    needs.package("keras_hub")
    tokenizer = Tokenizer(Vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"]))
    skew = measure_skew(tokenizer, ["a"])["keras_hub"]
    assert "KerasHub refuses the vocabulary" in skew.not_measured
    assert "[MASK]" in skew.not_measured
