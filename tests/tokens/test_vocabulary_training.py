"""Vocabularies from texts: what is in them, the same in every process, and what is refused."""

import itertools
import logging
import os
import random
import subprocess
import sys
from collections import Counter

import needs
import pytest
import tensorflow as tf

from tfmodel.config import ConfigError, load_config
from tfmodel.data.privacy import PLACEHOLDERS, replace_private
from tfmodel.tokens import Tokenizer, vocabulary_training, words
from tfmodel.tokens.vocabulary_training import VocabularySettings, train_vocabulary

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
STEMS = "walk talk jump call help look turn play open close".split()
PARTS = itertools.product(["", "un", "re", "over"], STEMS, ["", "s", "ed", "er", "ing", "ings"])
ENGLISH = [
    " ".join(map("".join, PARTS)),
    "The cats sat on the mats; the hats sat on the cats. Café society, and 20 walkers who walked.",
]
CHINESE = ["他说：你好，世界！", "世界你好，Hello 世界。", "你说世界好"]
LETTERS = {"min_count": 1, "coverage": 1.0}


def small(texts, size=160, **settings):
    return train_vocabulary(texts, size=size, unused=2, **{**LETTERS, **settings})


def fast(vocabulary, lowercase):
    implementations = needs.package("tokenizers.implementations")
    return implementations.BertWordPieceTokenizer(vocabulary.ids, lowercase=lowercase)


def pieces(tokenizer, text):
    (ids,) = tokenizer.tokenize(tf.constant([text])).to_list()
    return [tokenizer.vocabulary.pieces[number] for number in ids]


def test_the_order_is_special_unused_reserved_characters_and_what_is_joined():
    vocabulary = small(ENGLISH, size=120, reserved=["Anna"])
    assert len(vocabulary) == 120
    special = [*SPECIAL, "[unused0]", "[unused1]", "anna", *map(str.lower, PLACEHOLDERS.values())]
    assert vocabulary.pieces[: len(special)] == special
    rest = vocabulary.pieces[len(special) :]
    letters = [piece for piece in rest if len(piece) == 1]
    assert letters == sorted(letters) == rest[: len(letters)]
    assert {*letters} == {*"".join(ENGLISH).lower()} - {*" é"}
    assert "##ing" in rest
    assert all(len(piece.removeprefix("##")) > 1 for piece in rest[-20:])


def test_every_chinese_character_stands_alone():
    vocabulary = small(CHINESE, size=33)
    assert {*"他说你好世界，：！。"} <= {*vocabulary.pieces}
    assert not [piece for piece in vocabulary.pieces if len(piece) > 1 and "世" in piece]
    assert pieces(Tokenizer(vocabulary), "你好世界") == [*"你好世界"]


@pytest.mark.parametrize("lowercase", [True, False])
def test_our_tokenizer_and_hugging_faces_use_it_alike(lowercase):
    vocabulary = small([*ENGLISH, *CHINESE], lowercase=lowercase)
    ours, theirs = Tokenizer(vocabulary, lowercase=lowercase), fast(vocabulary, lowercase)
    texts = [*ENGLISH, *CHINESE, "CAFÉ catwalk你好unseen Zebra \u2e52 x", "", "a" * 101]
    expected = [theirs.encode(text, add_special_tokens=False).ids for text in texts]
    assert ours.tokenize(tf.constant(texts)).to_list() == expected
    known = {number for ids in expected[: len(ENGLISH + CHINESE)] for number in ids}
    assert vocabulary.unknown_id not in known


@pytest.mark.parametrize("lowercase", [True, False])
def test_placeholders_of_private_data_are_one_piece(lowercase):
    vocabulary = small(ENGLISH, lowercase=lowercase)
    text, counts = replace_private("walk,ann@example.com世界bob@example.com talked")
    assert counts == {"email": 2}
    placeholder = "privateemail" if lowercase else "PRIVATEEMAIL"
    split = pieces(Tokenizer(vocabulary, lowercase=lowercase), text)
    assert split.count(placeholder) == 2 and "##email" not in split
    without = small(ENGLISH, size=100, placeholders=False)
    assert placeholder not in without.pieces


def test_a_word_is_what_the_tokenizer_takes_for_one():
    texts = ["Ünï’s co-op, 3.5%\u3000你好ab\tx\u200by \u2e52 §5", "$5<a>~b|c `d^e=f+g"]
    counts = words.count_words(texts, lowercase=True, most=100)
    expected = "uni ’ s co - op , 3 . 5 % 你 好 ab xy § 5 $ 5 < a > ~ b | c ` d ^ e = f + g".split()
    assert counts == Counter(expected)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["wiki_en", "wiki_zh"])
def test_words_are_hugging_faces_on_real_text(folder):
    tokenizers = needs.package("tokenizers")
    text = next(needs.shared_data(folder).glob("wiki_*")).read_text("utf-8")
    lines = text.split("\n")
    normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    splitter = tokenizers.pre_tokenizers.BertPreTokenizer()
    expected = Counter(
        word
        for line in lines
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(line))
    )
    counts = words.count_words(lines, lowercase=True, most=10_000_000)
    # Words of characters that Hugging Face's tables do not know are left out.
    missing = expected - counts
    assert counts - expected == Counter()
    assert missing.total() <= 1e-4 * expected.total()
    assert all(len(word) > 100 or not word.isascii() for word in missing)


def test_long_texts_are_not_gathered_to_be_counted_together(monkeypatch):
    monkeypatch.setattr(words, "_CHARACTERS_AT_ONCE", 1_000)
    sizes, normalize = [], Tokenizer.normalize

    def spied(self, texts):
        sizes.append(sum(map(len, texts.numpy().tolist())))
        return normalize(self, texts)

    monkeypatch.setattr(Tokenizer, "normalize", spied)
    texts = ["walk " * 150] * 20 + ["talk"] * 700
    counts = words.count_words(texts, lowercase=True, most=100)
    assert counts == {"walk": 3_000, "talk": 700}
    assert max(sizes) < 2_000 and len(sizes) < 20


def tied_texts() -> list[str]:
    """Texts in which many pairs occur equally often."""
    draw = random.Random(3)
    return [" ".join("".join(draw.choices("abcdefgh", k=6)) for _ in range(300))] * 2


def test_equal_texts_give_equal_pieces_in_equal_order():
    # Each run's hash tables are ordered by chance, in one process too.
    texts = tied_texts()
    first = train_vocabulary(texts, size=200, unused=0)
    for order in (texts, texts[::-1], texts):
        assert train_vocabulary(order, size=200, unused=0).pieces == first.pieces


@pytest.mark.slow
def test_equal_in_every_process_whatever_the_hash_seed_and_threads(tmp_path):
    script = (
        "import sys\nfrom tfmodel.tokens.vocabulary_training import train_vocabulary\n"
        "texts = open(sys.argv[1]).read().split('\\n')\n"
        "train_vocabulary(texts, size=200, unused=0).save(sys.argv[2])\n"
    )
    (tmp_path / "texts").write_text("\n".join(tied_texts()))
    for number in range(2):
        environment = {"PYTHONHASHSEED": str(number), "RAYON_NUM_THREADS": str(number + 1)}
        subprocess.run(
            [
                sys.executable,
                "-c",
                script,
                str(tmp_path / "texts"),
                str(tmp_path / f"{number}.txt"),
            ],
            env={**os.environ, **environment},
            check=True,
        )
    train_vocabulary(tied_texts(), size=200, unused=0).save(tmp_path / "here.txt")
    here = (tmp_path / "here.txt").read_bytes()
    assert (tmp_path / "0.txt").read_bytes() == (tmp_path / "1.txt").read_bytes() == here


def test_rare_characters_are_left_to_unknown():
    texts = ["ab ab ab ab ab ab ab ab ab zz \u0436"]
    assert "\u0436" in small(texts, size=15, placeholders=False).pieces
    covered = small(texts, size=11, placeholders=False, coverage=0.8).pieces
    assert {"a", "b", "##b"} <= {*covered} and "z" not in covered
    common = small(texts, size=13, placeholders=False, min_count=2).pieces
    assert "\u0436" not in common


def test_a_size_that_the_corpus_does_not_support_says_which_it_does():
    with pytest.raises(ConfigError, match=r"or less, which is what the corpus supports") as told:
        small(ENGLISH, size=5_000)
    supported = int(str(told.value).split("expected ")[1].split()[0])
    assert f"Set vocabulary.size={supported}" in str(told.value)
    assert "Received: 5000" in str(told.value)
    assert len(small(ENGLISH, size=supported)) == supported
    with pytest.raises(ConfigError, match="or less"):
        small(ENGLISH, size=supported + 1)


def test_a_size_too_small_for_the_characters_says_how_many_there_are():
    with pytest.raises(ConfigError, match=r"size: expected \d+ or more: 14 special and reserved"):
        small(ENGLISH, size=30)


@pytest.mark.parametrize("texts", [[], ["", "  \n", "\x00"]])
def test_an_empty_corpus_is_told(texts):
    with pytest.raises(ConfigError, match=r"a corpus with words\. Received: none"):
        small(texts)


@pytest.mark.parametrize("word", ["[EMAIL]", "two words", "", "snake_case", "\u2e52", "你好"])
def test_a_reserved_word_that_would_be_cut_is_refused(word):
    with pytest.raises(ConfigError, match="expected words that stay whole"):
        small(ENGLISH, reserved=[word])


def test_reserved_words_count_once():
    vocabulary = small(ENGLISH, reserved=["The", "the", "café"])
    assert len(vocabulary) == 160
    assert vocabulary.pieces[7:9] == ["the", "cafe"]


def test_a_full_table_forgets_what_is_rare_and_says_so(caplog):
    texts = [f"common word{number} common" for number in range(3_000)]
    with caplog.at_level(logging.WARNING):
        counts = words.count_words(texts, lowercase=True, most=1_000)
    assert counts["common"] == 6_000
    assert len(counts) <= 1_001
    assert "more than 1,000 distinct words" in caplog.text
    assert words.count_words(texts, lowercase=True, most=1_000) == counts


def test_counts_of_a_large_corpus_are_made_smaller_alike(monkeypatch):
    expected = small(ENGLISH)
    total = words.count_words(ENGLISH, lowercase=True, most=1_000).total()
    monkeypatch.setattr(vocabulary_training, "_MOST_WORDS_GIVEN", total)
    assert small(ENGLISH * 4, min_count=4) == expected


def test_no_piece_is_longer_than_the_tokenizer_takes():
    smiles = "\U0001f600" * 80  # 320 bytes in one word
    vocabulary = small([*ENGLISH, f"{smiles} " * 50], size=150)
    assert pieces(Tokenizer(vocabulary), smiles)[0] == smiles[0]


def test_settings_are_the_functions_own_and_checked():
    given = VocabularySettings(size=160, unused=2, **LETTERS)
    assert train_vocabulary(ENGLISH, **given.model_dump()) == small(ENGLISH)
    with pytest.raises(ConfigError, match="expected every word once"):
        load_config({"reserved": ["a", "a"]}, VocabularySettings)
    with pytest.raises(ConfigError, match="size: expected a value at least 100"):
        load_config({"size": 5}, VocabularySettings)


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ConfigError, match=r"pip install 'tfmodel\[vocabulary\]'"):
        small(ENGLISH)
