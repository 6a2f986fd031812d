"""Where each piece stands in the user's own string, in characters."""

import functools
import unicodedata

import hypothesis
import pytest
import tensorflow as tf
from hypothesis import strategies

from tfmodel.tokens import Tokenizer, Vocabulary

# name: text, (piece, part of the text) of the uncased tokenizer
TEXTS = {
    "plain": ("the cats sat.", "the=the cat=cat ##s=s sat=sat .=."),
    "accents": ("CAFÉ the", "cafe=CAFÉ the=the"),
    "an accent of its own": ("cafe\u0301 the", "cafe=cafe the=the"),
    "an accent inside": ("ca\u0301fe\u0301 the", "cafe=ca\u0301fe the=the"),
    "chinese": ("你好！the", "你=你 好=好 ！=！ the=the"),
    "removed characters": ("\x07a\x00b \u200ba\u00ad\u200bb.", "a=a ##b=b a=a ##b=b .=."),
    "spaces of all kinds": ("\u3000the\u00a0\u2028cat\t", "the=the cat=cat"),
    "an unknown word": ("the 👩\u200d👩 cat", "the=the [UNK]=👩\u200d👩 cat=cat"),
    "a word too long": ("the " + "и" * 101 + ".", f"the=the [UNK]={'и' * 101} .=."),
    "nothing": ("", ""),
    "only what is removed": ("\u0301\x00 ", ""),
}


def spans_of(tokenizer, text):
    ids, starts, ends = (ragged.to_list()[0] for ragged in tokenizer.tokenize_with_offsets([text]))
    pieces = tokenizer.vocabulary.pieces
    return [(pieces[i], start, end) for i, start, end in zip(ids, starts, ends, strict=True)]


@pytest.mark.parametrize("name", TEXTS)
def test_known_offsets(name, tokenizer):
    text, expected = TEXTS[name]
    found = [f"{piece}={text[start:end]}" for piece, start, end in spans_of(tokenizer, text)]
    assert found == [item for item in expected.split(" ") if item]


def test_the_ids_are_those_of_tokenize_whatever_the_batch(tokenizer, cased):
    texts = [text for text, _ in TEXTS.values()] * 3
    for each in (tokenizer, cased):
        ids, starts, ends = each.tokenize_with_offsets(texts)
        assert ids.to_list() == each.tokenize(tf.constant(texts)).to_list()
        assert {ids.dtype, starts.dtype, ends.dtype} == {tf.int32}
        alone = [each.tokenize_with_offsets([text]) for text in texts]
        assert starts.to_list() == [row[1].to_list()[0] for row in alone]
        assert ends.to_list() == [row[2].to_list()[0] for row in alone]


def test_no_texts_have_no_pieces(tokenizer):
    assert [ragged.to_list() for ragged in tokenizer.tokenize_with_offsets([])] == [[], [], []]


def test_two_pieces_of_one_character_both_stand_there():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "\u1112", "##\u1161", "##\u11ab"]
    found = spans_of(Tokenizer(Vocabulary(pieces)), "한")
    assert found == [("\u1112", 0, 1), ("##\u1161", 0, 1), ("##\u11ab", 0, 1)]


def test_long_words_are_unknown_by_their_characters():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "и", "##и", "a", "##a", "你"]
    tokenizer = Tokenizer(Vocabulary(pieces))
    for letter, limit in [("и", 100), ("a", 100)]:
        kept, long, next_word = (letter * limit, letter * (limit + 1), letter)
        assert len(spans_of(tokenizer, kept)) == limit
        found = spans_of(tokenizer, f"{next_word} {long}你{long} {next_word}")
        assert [(piece, end - start) for piece, start, end in found] == [
            (letter, 1),
            ("[UNK]", limit + 1),
            ("你", 1),
            ("[UNK]", limit + 1),
            (letter, 1),
        ]
    # An accent is no character of the word.
    assert spans_of(tokenizer, "a\u0301" * 101) == [("[UNK]", 0, 201)]
    assert len(spans_of(tokenizer, "a\u0301" * 100)) == 100


def test_a_graph_gives_what_eager_code_gives(tokenizer):
    texts = tf.constant([text for text, _ in TEXTS.values()])
    signature = [tf.TensorSpec([None], tf.string)]
    graph = tf.function(tokenizer.tokenize_with_offsets, input_signature=signature)
    for found, expected in zip(graph(texts), tokenizer.tokenize_with_offsets(texts), strict=True):
        assert found.to_list() == expected.to_list()
    nodes = graph.get_concrete_function().graph.as_graph_def()
    names = {node.op for node in nodes.node}
    names |= {node.op for function in nodes.library.function for node in function.node_def}
    # In TF Serving since 2.12; those that map offsets of NormalizeUTF8 need not be there.
    ours = {"FastBertNormalize", "FastWordpieceTokenizeWithOffsets"}
    assert names - set(vars(tf.raw_ops)) == ours


def normalized(text: str, *, lowercase: bool) -> str:
    """BERT's normalization as Python's own tables have it."""
    if lowercase:
        text = unicodedata.normalize("NFD", text)
    removed = ("Cc", "Cf", "Co", "Mn") if lowercase else ("Cc", "Cf", "Co")
    kept = "".join(c for c in text if unicodedata.category(c) not in removed and c != "\ufffd")
    return "".join(c.lower() for c in kept) if lowercase else kept


# Letters, marks and punctuation that all of Unicode's versions agree on, and all else besides.
ALPHABET = strategies.sampled_from(
    "aAbBsSéÉê\u0301\u0327ñüßσΣИий가각你好！。., -\t\u00ad\u200d👩İ1"
)


@functools.cache
def of_letters(lowercase: bool) -> Tokenizer:
    letters = sorted("abséßêñüσий你好！。.,-1İ" + "ABSÉΣИ")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{c}" for c in letters)]
    return Tokenizer(Vocabulary(pieces), lowercase=lowercase)


@pytest.mark.parametrize("lowercase", [True, False])
@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(texts=strategies.lists(strategies.text(ALPHABET, max_size=30), max_size=5))
def test_what_stands_there_is_the_piece(lowercase, texts):
    tokenizer = of_letters(lowercase)
    pieces = tokenizer.vocabulary.pieces
    ids, starts, ends = (ragged.to_list() for ragged in tokenizer.tokenize_with_offsets(texts))
    for row, text in enumerate(texts):
        before = 0
        for i, start, end in zip(ids[row], starts[row], ends[row], strict=True):
            assert before <= start < end <= len(text)
            if pieces[i] != "[UNK]":
                found = normalized(text[start:end], lowercase=lowercase)
                assert found == pieces[i].removeprefix("##")
                before = end


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(text=strategies.text(max_size=60))
def test_any_text_has_its_pieces_in_order(tokenizer, text):
    before = 0
    for _, start, end in spans_of(tokenizer, text):
        assert before <= start < end <= len(text)
        before = end
