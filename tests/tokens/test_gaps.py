"""Gaps in texts of tokenizers whose pieces begin with blanks; WordPiece's are in tests/tasks.

Run: pytest tests/tokens/test_gaps.py
"""

import dataclasses

import pytest
import small_families
import tensorflow as tf

from tfmodel.config import ConfigError
from tfmodel.tokens.byte_pairs import SPECIAL_PIECES, BytePairTokenizer, byte_letters
from tfmodel.tokens.gaps import filled, filled_in_graph, pieces_with_gaps, written_with
from tfmodel.tokens.prompts import PromptTokenizer
from tfmodel.tokens.unigram import UnigramTokenizer
from tfmodel.tokens.vocabulary import Vocabulary

BLANKS = {"gap": "<mask>", "blanks": True}


@pytest.fixture(scope="module")
def byte_pairs():
    """Which puts no blank before a text: RoBERTa's own way."""
    joined = ["Ġa", "Ġb", "ab"]
    pieces = [*SPECIAL_PIECES.values(), *byte_letters(), *joined, "ĠÃ©", "äº"]
    merges = [("Ġ", "a"), ("Ġ", "b"), ("a", "b")]
    vocabulary = Vocabulary(pieces, special=SPECIAL_PIECES)
    return BytePairTokenizer(vocabulary, merges, max_length=32)


def pieces_of(tokenizer, texts):
    rows = pieces_with_gaps(tokenizer, texts).to_list()
    return [" ".join(tokenizer.vocabulary.pieces[index] for index in row) for row in rows]


def test_blanks_before_a_gap_are_of_what_fills_it(byte_pairs):
    assert written_with(byte_pairs) == BLANKS
    texts = ["a <mask> b", "<mask>", "a\u00a0 <mask><mask>.", "a ", "", " <mask>"]
    assert pieces_of(byte_pairs, texts) == [
        "a <mask> Ġb",
        "<mask>",
        "a <mask> <mask> .",
        "a Ġ",
        "",
        "<mask>",
    ]
    # What is not the tokenizer's own mask is text.
    assert pieces_of(byte_pairs, ["[MASK]"]) == ["[ M A S K ]"]


def test_pieces_are_written_as_what_they_stand_for(byte_pairs):
    written = dict(zip(byte_pairs.vocabulary.pieces, byte_pairs.written(), strict=True))
    assert written["Ġa"] == " a" and written["Ġ"] == " " and written["ab"] == "ab"
    assert written["<mask>"] == "<mask>" and written["ĠÃ©"] == " é"
    # Of a part of a character its bytes.
    assert written["Ã"] == "<0xC3>" and written["äº"] == "<0xE4><0xBA>"
    unigrams = small_families.tokenizer_of("xlm-roberta")
    written = dict(zip(unigrams.vocabulary.pieces, unigrams.written(), strict=True))
    assert written["▁coach"] == " coach" and written["a"] == "a" and written["<s>"] == "<s>"


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        ("a <mask> c", [" b"], "a b c"),
        ("a<mask> c", [" b"], "a b c"),
        ("play <mask> or <mask>.", ["ing", " not"], "playing or not."),
        ("<mask>\u00a0<mask><mask>", [" a", "b", " c"], "ab c"),
        ("<mask> <mask>", [" a"], "a <mask>"),  # the second was not read
        ("no gap, é 😀 中", [], "no gap, é 😀 中"),
        (" <mask>\n<mask>.", [" a", " "], " a\n."),
    ],
)
def test_a_text_is_filled_in_and_out_of_a_graph(text, tokens, expected):
    assert filled(text, tokens, **BLANKS) == expected
    best = tf.RaggedTensor.from_row_lengths([*tokens, " y"], [len(tokens), 1, 0])
    given = filled_in_graph(tf.constant([text, "another<mask>", ""]), best, **BLANKS)
    assert [each.decode() for each in given.numpy()] == [expected, "another y", ""]


def test_a_way_to_cut_texts_that_knows_no_gaps_is_refused():
    plain = small_families.tokenizer_of("xlm-roberta")
    splitting = dataclasses.replace(plain.splitting, prepend="first")
    other = UnigramTokenizer(plain.vocabulary, plain.scores, splitting)
    with pytest.raises(ConfigError, match="first word of a text alone"):
        written_with(other)


def test_a_template_gives_its_blanks_to_what_stands_behind_them(byte_pairs):
    def rows(template, *texts):
        prompts = PromptTokenizer(byte_pairs, template)
        pieces = prompts.vocabulary.pieces
        given = prompts(*texts)["token_ids"].numpy()
        return [" ".join(pieces[i] for i in row if pieces[i] != "<pad>") for row in given]

    assert rows("{text} b [MASK].", ["a", "", " a"]) == [
        "<s> a Ġb <mask> . </s>",
        "<s> Ġb <mask> . </s>",
        "<s> Ġa Ġb <mask> . </s>",
    ]
    # Behind a blank a text is read with one, as in a sentence.
    assert rows("b [MASK]. {text}", ["a", ""]) == ["<s> b <mask> . Ġa </s>", "<s> b <mask> . </s>"]
    assert rows("{text}? [MASK], {text_pair}", ["a"], ["b"]) == ["<s> Ġa ? <mask> , Ġb </s>"]
    prompts = PromptTokenizer(byte_pairs, "[MASK]: {text}")
    _, starts, ends = prompts.tokenize_with_offsets(["a b"])
    assert (starts.to_list(), ends.to_list()) == ([[0, 2]], [[1, 3]])
    assert prompts.written() == byte_pairs.written()
