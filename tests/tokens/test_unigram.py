"""SentencePiece's unigrams: ids counted by hand, and Hugging Face's own on texts of every kind."""

import json

import numpy as np
import pytest
import small_unigrams as small
import tensorflow as tf
import tokenizers

from tfmodel.config import ConfigError
from tfmodel.export.linting import lint
from tfmodel.tokens import load_tokenizer
from tfmodel.tokens.charsmap import read_charsmap
from tfmodel.tokens.unigram import UnigramTokenizer

QUOTES = [{"type": "Replace", "pattern": {"String": q}, "content": '"'} for q in ("``", "''")]
LETTERS = [{"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]
BLANKS = {"type": "Replace", "pattern": {"Regex": " {2,}"}}
STRIP = {"type": "Strip", "strip_left": False, "strip_right": True}


def metaspace(scheme="always", *, split=True):
    found = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}
    return [found]


WAYS = {
    "xlm-roberta": (small.XLM_ROBERTA, [small.precompiled()], None),
    "albert": (small.ALBERT, [*QUOTES, *LETTERS, small.precompiled()], None),
    "cased albert": (small.ALBERT, [*QUOTES, small.precompiled()], None),
    "lower-cased": (small.XLM_ROBERTA, [{"type": "Lowercase"}], None),
    "blanks kept": (
        small.XLM_ROBERTA,
        [small.precompiled(), STRIP, {**BLANKS, "content": "▁"}],
        metaspace(),
    ),
    "blanks joined": (
        small.XLM_ROBERTA,
        [small.precompiled(), {**BLANKS, "content": " "}, {**STRIP, "strip_left": True}],
        metaspace("first"),
    ),
    "no blank before": (small.XLM_ROBERTA, [], [{"type": "WhitespaceSplit"}, *metaspace("never")]),
    "marks inside": (small.XLM_ROBERTA, [], metaspace(split=False)),
    "first word": (small.XLM_ROBERTA, [], [{"type": "WhitespaceSplit"}, *metaspace("first")]),
}

QUICK = ("xlm-roberta", "albert", "blanks kept")


def check_same(ours, theirs, texts):
    ids = ours.tokenize(tf.constant([text.encode() for text in texts])).to_list()
    for text, found, wanted in zip(texts, ids, theirs.encode_batch(texts), strict=True):
        assert found == wanted.ids[1:-1], text


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    special, normalizers, splitters = WAYS["xlm-roberta"]
    values = small.values_of(small.vocab_of(special), normalizers=normalizers, splitters=splitters)
    folder = tmp_path_factory.mktemp("unigram")
    return load_tokenizer(small.write(folder, values), max_length=32)


def texts_of(seed, alphabet, *, count=120, longest=40):
    random = np.random.default_rng(seed)
    return ["".join(random.choice(alphabet, random.integers(0, longest))) for _ in range(count)]


def test_ids_counted_by_hand(tokenizer):
    ids = tokenizer.vocabulary.ids
    found = tokenizer.tokenize(["the cat", "caté", "zz a", "e\u0301 ﬁ"]).to_list()
    assert found[0] == [ids["▁the"], ids["▁cat"]]
    assert found[1] == [ids["▁cat"], ids["é"]]
    assert found[2] == [ids["▁"], ids["<unk>"], ids["▁"], ids["a"]]
    assert found[3] == [ids["▁"], ids["é"], ids["▁"], ids["fi"]]


def test_rows_are_xlm_robertas(tokenizer):
    batch = tokenizer(["the cat", ""], ["cat", "the"])
    ids = tokenizer.vocabulary.ids
    the, cat = ids["▁the"], ids["▁cat"]
    expected = [[0, the, cat, 2, 2, cat, 2], [0, 2, 2, the, 2, 1, 1]]
    np.testing.assert_array_equal(batch["token_ids"], expected)
    np.testing.assert_array_equal(batch["segment_ids"], np.zeros_like(batch["token_ids"]))


def test_rows_are_alberts(tmp_path):
    values = small.values_of(small.vocab_of(small.ALBERT))
    ours = load_tokenizer(small.write(tmp_path, values))
    batch = ours(["the"], ["cat cat"])
    theirs = small.library(values).encode("the", "cat cat")
    np.testing.assert_array_equal(batch["token_ids"][0], theirs.ids)
    np.testing.assert_array_equal(batch["segment_ids"][0], theirs.type_ids)


@pytest.mark.parametrize(
    "way",
    [pytest.param(way, marks=[] if way in QUICK else [pytest.mark.slow]) for way in WAYS],
)
def test_every_text_has_their_ids(tmp_path, way):
    special, normalizers, splitters = WAYS[way]
    vocab = small.vocab_of(special)
    values = small.values_of(vocab, normalizers=normalizers, splitters=splitters)
    ours = load_tokenizer(small.write(tmp_path, values))
    assert isinstance(ours, UnigramTokenizer)
    theirs = small.library(values)
    check_same(ours, theirs, small.TEXTS)
    odd = list("abcté ｅ'`\u0301\u0308\r\n\u0600▁\u200d😀™ﬁ你好界z\u00a0")
    check_same(ours, theirs, texts_of(0, odd))
    # What is written is read alike.
    ours.save(tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved")
    assert again.vocabulary == ours.vocabulary and again.splitting == ours.splitting
    saved = tokenizers.Tokenizer.from_file(str(tmp_path / "saved/tokenizer.json"))
    assert [e.ids for e in saved.encode_batch(small.TEXTS)] == [
        e.ids for e in theirs.encode_batch(small.TEXTS)
    ]


def test_of_ways_that_are_as_likely_theirs_is_taken(tmp_path):
    pieces = ["▁", *"abc", "ab", "bc", "ca", "abc", "cab", "aa", "bb", "▁a", "▁ab", "aab", "abab"]
    vocab = [[p, 0.0] for p in small.XLM_ROBERTA]
    vocab += [[piece, -2.0 - 0.1 * (len(piece) % 3)] for piece in pieces]
    values = small.values_of([*vocab, ["<mask>", 0.0]])
    ours = load_tokenizer(small.write(tmp_path, values))
    check_same(ours, small.library(values), texts_of(1, list("abc "), count=200, longest=60))


def test_learnt_pieces_are_found_as_theirs(tmp_path):
    model = tokenizers.Tokenizer(tokenizers.models.Unigram())
    model.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=300, special_tokens=[*small.XLM_ROBERTA], unk_token="<unk>", show_progress=False
    )
    random = np.random.default_rng(0)
    words = texts_of(2, list("abcdeé好"), count=300, longest=9)
    lines = [" ".join(random.choice(words, 30)) for _ in range(150)]
    model.train_from_iterator(lines, trainer)
    vocab = [*json.loads(model.to_str())["model"]["vocab"], ["<mask>", 0.0]]
    values = small.values_of(vocab)
    ours = load_tokenizer(small.write(tmp_path, values))
    more = texts_of(3, list("abcdeé好 z"), longest=300)
    check_same(ours, small.library(values), [*lines[:20], *more])


def test_offsets_are_those_of_the_users_own_text(tokenizer):
    text = "  the e\u0301ﬁ \u00a0 😀你好，cat"
    ids, starts, ends = (each.to_list()[0] for each in tokenizer.tokenize_with_offsets([text]))
    pieces = [tokenizer.vocabulary.pieces[index] for index in ids]
    found = [text[start:end] for start, end in zip(starts, ends, strict=True)]
    assert list(zip(pieces, found, strict=True)) == [
        ("▁the", "the"),
        ("▁", ""),
        ("é", "e\u0301"),
        ("fi", "ﬁ"),
        ("▁", ""),
        ("😀", "😀"),
        ("你好", "你好"),
        ("<unk>", "，"),
        ("c", "c"),
        ("a", "a"),
        ("t", "t"),
    ]


def test_a_text_that_is_not_utf8_is_read_on(tokenizer):
    ids, starts, ends = tokenizer.tokenize_with_offsets(tf.constant([b"cat\xff\xfe cat"]))
    found = [tokenizer.vocabulary.pieces[index] for index in ids.to_list()[0]]
    assert found == ["▁cat", "<unk>", "▁cat"]
    assert (starts.to_list(), ends.to_list()) == ([[0, 3, 6]], [[3, 5, 9]])


def test_a_server_can_hold_it(tokenizer, tmp_path):
    module = tf.Module()
    module.serve = tf.function(
        lambda text: tokenizer(text), input_signature=[tf.TensorSpec((None,), tf.string, "text")]
    )
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.serve)
    again = tf.saved_model.load(str(tmp_path / "1"))
    for texts in (small.TEXTS, [""], [" ", ""]):
        expected = tokenizer(texts)
        for name, value in again.serve(tf.constant(texts)).items():
            np.testing.assert_array_equal(value, expected[name])
    assert again.serve(tf.constant([], tf.string))["token_ids"].shape[0] == 0
    report = lint(tmp_path / "1", target="2.10")
    assert not report.problems
    assert not {"HashTableV2", "LookupTableFindV2"} & set(report.ops)


# --- SentencePiece's own file -----------------------------------------------------------------

PIECES = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
PIECES += [(piece, -float(number), 1) for number, piece in enumerate(small.WORDS, 1)]
OF_ALBERT = [("<pad>", 0.0, 3), ("<unk>", 0.0, 2), *((p, 0.0, 3) for p in small.ALBERT[2:])]
OF_ALBERT += PIECES[3:]


def test_xlm_robertas_file_alone_is_enough(tmp_path):
    table = small.charsmap(small.TABLE)
    (tmp_path / "sentencepiece.bpe.model").write_bytes(small.sentence_piece(PIECES, table=table))
    ours = load_tokenizer(tmp_path)
    assert ours.vocabulary.pieces == [*small.XLM_ROBERTA, *small.WORDS, "<mask>"]
    vocab = [list(pair) for pair in zip(ours.vocabulary.pieces, ours.scores, strict=True)]
    values = small.values_of(vocab, normalizers=[small.precompiled()])
    check_same(ours, small.library(values), small.TEXTS)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, [*QUOTES, *LETTERS]),
        ({"do_lower_case": False}, [*QUOTES, *LETTERS[:2]]),
        ({"do_lower_case": True, "keep_accents": True}, [*QUOTES, *LETTERS[2:]]),
    ],
)
def test_alberts_file_alone_is_enough(tmp_path, settings, steps):
    file = small.sentence_piece(OF_ALBERT, trainer={40: 1})
    (tmp_path / "spiece.model").write_bytes(file)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    ours = load_tokenizer(tmp_path)
    assert (ours.ends_between, ours.has_segments) == (1, True)
    vocab = [list(pair) for pair in zip(ours.vocabulary.pieces, ours.scores, strict=True)]
    check_same(ours, small.library(small.values_of(vocab, normalizers=steps)), small.TEXTS)
    ours.save(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved/tokenizer_config.json").read_text())
    assert saved["do_lower_case"] == settings.get("do_lower_case", True)
    assert saved["keep_accents"] == settings.get("keep_accents", False)


@pytest.mark.parametrize(
    ("pieces", "trainer", "message"),
    [
        ([], {}, "no pieces"),
        (PIECES, {3: 2}, "one of BPE"),
        (PIECES, {35: 1}, "falls back to bytes"),
        ([*PIECES, ("(", 0.0, 4)], {}, r"pieces of a user's own, such as '\('"),
    ],
)
def test_another_kind_of_model_is_refused(tmp_path, pieces, trainer, message):
    path = tmp_path / "spiece.model"
    path.write_bytes(small.sentence_piece(pieces, trainer=trainer))
    with pytest.raises(ConfigError, match=rf"of unigrams.*Received: .*{message}.*tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_a_damaged_file_is_no_traceback(tmp_path):
    content = small.sentence_piece(PIECES[:6], table=small.charsmap({"ﬁ": "fi"})[:40])
    path = tmp_path / "sentencepiece.bpe.model"
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(ConfigError, match=r"sentencepiece\.bpe\.model: expected"):
            load_tokenizer(tmp_path)
    random = np.random.default_rng(0)
    for _ in range(200):
        path.write_bytes(random.bytes(60))
        with pytest.raises(ConfigError):
            load_tokenizer(tmp_path)


# --- the table of characters ------------------------------------------------------------------


def test_a_table_is_read_up_to_a_length():
    table = small.charsmap({**small.TABLE, "\u1100\u1161\u11a8": "각"})
    found = read_charsmap(table, longest=9, name="x")
    assert found == {**small.TABLE, "\u1100\u1161\u11a8": "각"}
    short = read_charsmap(table, longest=5, name="x")
    assert short == {k: v for k, v in small.TABLE.items() if len(k.encode()) <= 5}
    assert read_charsmap(b"", longest=5, name="x") == {}


def test_a_damaged_table_is_refused():
    table = small.charsmap({"ﬁ": "fi", "a": "b"})
    message = r"^x: expected SentencePiece's table of characters"
    for damaged in (table[:3], table[:40], table[:-1], b"\xff\xff\xff\x7f" + table[4:]):
        with pytest.raises(ConfigError, match=message):
            read_charsmap(damaged, longest=5, name="x")
    random = np.random.default_rng(0)
    for _ in range(50):  # no trie at all: refused or empty, never a traceback or without an end
        noise = (1024).to_bytes(4, "little") + random.bytes(1024) + b"text\0"
        try:
            read_charsmap(noise, longest=5, name="x")
        except ConfigError:
            pass


# --- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalizer": {"type": "NFC"}}, "normalizer 'NFC'"),
        ({"normalizer": {"type": "NFKD"}}, "normalizer 'NFKD without StripAccents'"),
        ({"normalizer": {**BLANKS, "content": "  "}}, r"normalizer .*Replace ' \{2,\}' by"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "pre_tokenizer 'Whitespace'"),
        ({"pre_tokenizer": None}, "pre_tokenizer 'none'"),
        ({"model": {"byte_fallback": True}}, "byte_fallback True"),
        ({"model": {"unk_id": None}}, "unk_id None"),
        ({"added_tokens": [{"id": 7, "content": "cat", "special": False}]}, "added_tokens"),
        ({"post_processor": {"type": "TemplateProcessing", "pair": []}}, "post_processor"),
    ],
)
def test_another_way_to_split_is_refused(tmp_path, change, message):
    values = small.values_of(small.vocab_of(small.XLM_ROBERTA))
    for key, value in change.items():
        values[key] = {**values[key], **value} if key == "model" else value
    with pytest.raises(ConfigError, match=f"expected SentencePiece's unigrams .*{message}"):
        load_tokenizer(small.write(tmp_path, values))


@pytest.mark.parametrize(
    ("vocab", "message"),
    [
        (None, "a list of pieces"),
        ([["a", "b"]], r"a list of pieces, each with a number. Received: \['a', 'b'\]"),
        ([["a", float("nan")]], "a list of pieces, each with a number"),
        ([["a", 0.0], ["a", 0.0]], "every piece once. Received: 'a'"),
        ([["a", 0.0]], "a vocabulary with <pad>.* without <pad>"),
    ],
)
def test_a_vocabulary_that_is_none(tmp_path, vocab, message):
    values = small.values_of(small.vocab_of(small.XLM_ROBERTA))
    values["model"]["vocab"], values["added_tokens"] = vocab, []
    with pytest.raises(ConfigError, match=f"tokenizer.json: expected {message}"):
        load_tokenizer(small.write(tmp_path, values))


def test_a_table_that_is_no_base64(tmp_path):
    step = {"type": "Precompiled", "precompiled_charsmap": "§"}
    values = small.values_of(small.vocab_of(small.XLM_ROBERTA), normalizers=[step])
    with pytest.raises(ConfigError, match=r"tokenizer\.json: expected precompiled_charsmap in bas"):
        load_tokenizer(small.write(tmp_path, values))
