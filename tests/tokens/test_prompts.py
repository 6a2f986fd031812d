"""Texts in a template with a gap.

Run: pytest tests/tokens/test_prompts.py
"""

import pytest
import tensorflow as tf

from tfmodel.config import ConfigError
from tfmodel.tokens import Tokenizer, Vocabulary
from tfmodel.tokens.prompts import PromptTokenizer, check_template

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij", "it", "was", "."]


def tokenizer(max_length=12):
    return Tokenizer(Vocabulary(PIECES), max_length=max_length)


def words(batch):
    return [" ".join(PIECES[index] for index in row if index) for row in batch["token_ids"].numpy()]


def test_a_text_stands_in_its_template_and_the_template_is_never_cut():
    prompts = PromptTokenizer(tokenizer(), "{text} It was [MASK].")
    batch = prompts(["a b", "", "a b c d e f g h", "[MASK]"])
    assert words(batch) == [
        "[CLS] a b it was [MASK] . [SEP]",
        "[CLS] it was [MASK] . [SEP]",
        "[CLS] a b c d e f it was [MASK] . [SEP]",
        # What a text says is text.
        "[CLS] [UNK] [UNK] [UNK] it was [MASK] . [SEP]",
    ]
    assert not batch["segment_ids"].numpy().any()
    assert batch["padding_mask"].numpy().sum(axis=1).tolist() == [8, 6, 12, 9]
    ids, firsts = prompts.join(
        prompts.tokenize(tf.constant(["a b", "a b"])), None, max_length=tf.constant([7, 4])
    )
    assert ids.row_lengths().numpy().tolist() == [7, 6] == firsts.numpy().tolist()


def test_a_pair_is_cut_as_pairs_are():
    prompts = PromptTokenizer(tokenizer(), "{text} [MASK], {text_pair}")
    assert words(prompts(["a b c d e", "a"], ["f g h", "b c d e f g h i j"])) == [
        "[CLS] a b c d e [MASK] [UNK] f g h [SEP]",
        "[CLS] a [MASK] [UNK] b c d e f g h [SEP]",
    ]


@pytest.mark.parametrize(
    ("template", "has_pairs", "message"),
    [
        ("It was [MASK].", None, r"\{text\} and \[MASK\] once each"),
        ("{text} [MASK] [MASK]", None, "once each. Received: '{text}"),
        ("{text} [MASK]", True, r"\{text_pair\} once too"),
        ("{text} {text_pair} [MASK]", False, r"no \{text_pair\}, for rows are one text"),
    ],
)
def test_a_template_must_say_where_text_and_gap_are(template, has_pairs, message):
    with pytest.raises(ConfigError, match=message):
        check_template(template, has_pairs=has_pairs)


def test_a_template_needs_room_and_a_mask():
    with pytest.raises(ConfigError, match="train.max_length must be at least 10, for the template"):
        PromptTokenizer(tokenizer(8), "{text} it was [MASK].")
    without = Tokenizer(Vocabulary([p for p in PIECES if p != "[MASK]"]), max_length=12)
    with pytest.raises(ConfigError, match=r"an encoder whose vocabulary has \[MASK\]"):
        PromptTokenizer(without, "{text} [MASK]")
