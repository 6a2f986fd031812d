"""A phone's pieces; what its runtimes really do is asked in test_phone_runtime.py."""

import pytest

from tfmodel.tokens.phone import PhoneTokenizer

# name: text, pieces in the vocabulary of conftest.py
TEXTS = {
    "plain": ("the cats sat.", "the cat ##s sat ."),
    "capitals are lower-cased": ("THE Hello", "the hello"),
    "other capitals are not": ("THE И", "the [UNK]"),
    "accents stay, and are pieces of their own": ("cafe café CAFé", "cafe café café"),
    "chinese": ("你好the！", "你 好 the ！"),
    "control characters are letters": ("a\u00adb a\x07", "[UNK] [UNK]"),
    "spaces beyond ASCII are letters": ("the\u00a0cat the cat", "[UNK] the cat"),
    "a zero byte ends the text": ("the\0 cat", "the"),
    "100 bytes": ("a" * 100, "a " + "##a " * 99),
    "101 bytes": ("a" * 101, "[UNK]"),
    "51 letters of two bytes": ("и" * 51, "[UNK]"),
    "special pieces are text": ("[SEP]", "[ sep ]"),
    "empty": ("", ""),
}


@pytest.mark.parametrize("name", TEXTS)
def test_known_pieces(name, vocabulary):
    text, expected = TEXTS[name]
    (ids,) = PhoneTokenizer(vocabulary).tokenize([text])
    assert [vocabulary.pieces[i] for i in ids] == expected.split()


def test_plain_ascii_has_our_ids(tokenizer):
    text = ["The cat's unable; a b [sat], CAFE! \t hello\nworld", "aaa bbb ab ba"]
    assert PhoneTokenizer(tokenizer.vocabulary).tokenize(text) == tokenizer.tokenize(text).to_list()
