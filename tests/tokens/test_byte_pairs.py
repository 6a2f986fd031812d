"""Byte-level BPE: ids counted by hand, and Hugging Face's own on texts of every kind."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tokenizers

from tfmodel.config import ConfigError
from tfmodel.export.linting import lint
from tfmodel.tokens import Tokenizer, load_tokenizer
from tfmodel.tokens.byte_pairs import BytePairTokenizer, byte_letters

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
MERGES = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("a", "t"), ("c", "at"), ("Ġ", "cat"), ("a", "a")]
MERGES += [("aa", "a"), ("'", "s"), ("Ġ", "Ġ"), ("Ã", "©")]
TEXTS = [
    "",
    " ",
    "   ",
    "the cat",
    "  the   cat  ",
    "cat's cats'd they'll I've 's's 'S we're'",
    "don't!'s !'s  's \n's\n's1's",
    "a1b2 12ab ½ Ⅷ ² ٣",
    "\n\n the\t\tcat\r\n\u00a0\u00a0the\u3000\u3000x",
    "aaaaaaaaa aaaa aaa aa a",
    "Café naïve ÉÉ éé e\u0301",
    "你好，世界！ 😀😀 👩\u200d👩\u200d👧 \ufeff the\u200bcat",
    "<s> the </s> <mask> <pad>",
    "!!! ... --- ''' \"\" '' ' '' s",
    "\x00\x01 \x85 \x1c\x1d a\x0b\x0cb",
    "x" * 300,
    "   \n   the",
    "a" * 70 + " " * 40 + "\n" * 3 + "b",
]


def vocabulary():
    pieces = [*SPECIAL, *byte_letters(), *(a + b for a, b in MERGES), "<mask>"]
    return {piece: index for index, piece in enumerate(pieces)}


def write_folder(folder, *, vocab=None, merges=MERGES, settings=None):
    folder.mkdir(parents=True, exist_ok=True)
    vocab = vocabulary() if vocab is None else vocab
    (folder / "vocab.json").write_text(json.dumps(vocab))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def fast_tokenizer(*, prefixed=False, vocab=None, merges=MERGES):
    """What the tokenizers library makes of RoBERTa."""
    vocab = vocabulary() if vocab is None else vocab
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=list(merges)))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=prefixed)
    theirs.post_processor = tokenizers.processors.RobertaProcessing(
        ("</s>", vocab["</s>"]), ("<s>", vocab["<s>"]), True, prefixed
    )
    return theirs


def check_same(ours, theirs, texts):
    found = [part.to_list() for part in ours.tokenize_with_offsets(texts)]
    for text, ids in zip(texts, found[0], strict=True):
        expected = theirs.encode(text, add_special_tokens=False)
        assert ids == expected.ids, text
    offsets = theirs.encode_batch(list(texts))
    for text, starts, ends, each in zip(texts, found[1], found[2], offsets, strict=True):
        assert list(zip(starts, ends, strict=True)) == each.offsets[1:-1], text
    assert ours.tokenize(tf.constant(texts)).to_list() == found[0]


@pytest.fixture
def tokenizer(tmp_path):
    return load_tokenizer(write_folder(tmp_path / "roberta"), max_length=32)


def test_ids_counted_by_hand(tokenizer):
    ids = vocabulary()
    found = tokenizer.tokenize(["the cat's", " the  cat", "é"]).to_list()
    assert found[0] == [ids["t"], ids["he"], ids["Ġcat"], ids["'s"]]
    assert found[1] == [ids["Ġthe"], ids["Ġ"], ids["Ġcat"]]
    assert found[2] == [ids["Ã©"]]


def test_rows_are_robertas(tokenizer):
    batch = tokenizer(["the", "cat"], ["cat cat", ""])
    ids = vocabulary()
    the, cat = [ids["t"], ids["he"]], [ids["cat"]]
    rows = [[0, *the, 2, 2, *cat, ids["Ġcat"], 2], [0, *cat, 2, 2, 2]]
    for row, expected in zip(batch["token_ids"].numpy(), rows, strict=True):
        assert row.tolist() == expected + [1] * (len(row) - len(expected))
    np.testing.assert_array_equal(batch["segment_ids"], np.zeros_like(batch["token_ids"]))
    assert batch["padding_mask"].numpy().sum(axis=1).tolist() == [8, 5]


@pytest.mark.parametrize("prefixed", [False, True])
def test_every_text_has_their_ids_and_offsets(tmp_path, prefixed):
    folder = write_folder(tmp_path / "roberta", settings={"add_prefix_space": prefixed})
    ours = load_tokenizer(folder)
    assert isinstance(ours, BytePairTokenizer)
    check_same(ours, fast_tokenizer(prefixed=prefixed), TEXTS)


def test_learnt_pairs_are_joined_as_theirs(tmp_path):
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=[*SPECIAL, "<mask>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("abcdeé好"), random.integers(1, 9))) for _ in range(400)]
    lines = [" ".join(random.choice(words, 30)) for _ in range(200)]
    trained.train_from_iterator(lines, trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    folder = write_folder(tmp_path / "roberta", vocab=model["vocab"], merges=merges)
    theirs = fast_tokenizer(vocab=model["vocab"], merges=merges)
    more = ["".join(random.choice(list("abcdeé好 '!\n"), 200)) for _ in range(200)]
    check_same(load_tokenizer(folder), theirs, [*lines[:20], *more, *TEXTS])


def test_merges_that_were_not_learnt_in_their_order(tmp_path):
    # "ab" with "c" comes before what makes "ab".
    merges = [("ab", "c"), ("b", "c"), ("a", "b"), ("a", "a"), ("c", "a"), ("ca", "ab")]
    pieces = [*SPECIAL, *byte_letters(), *(a + b for a, b in merges), "<mask>"]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    folder = write_folder(tmp_path, vocab=vocab, merges=merges)
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(list("abc"), 40)) for _ in range(50)]
    check_same(load_tokenizer(folder), fast_tokenizer(vocab=vocab, merges=merges), texts)


def test_a_text_that_is_not_utf8_keeps_its_bytes(tokenizer):
    (ids,) = tokenizer.tokenize(tf.constant([b"cat\xff\xfe cat"])).to_list()
    letters = [tokenizer.vocabulary.pieces[index] for index in ids]
    assert "".join(letters) == "cat" + byte_letters()[0xFF] + byte_letters()[0xFE] + "Ġcat"


def test_pairs_are_cut_as_theirs(tokenizer):
    theirs = fast_tokenizer()
    pairs = [("a b " * first, "c d " * second) for first in range(7) for second in range(7)]
    for limit in range(6, 20):
        theirs.enable_truncation(limit, strategy="longest_first")
        batch = tokenizer([a for a, _ in pairs], [b for _, b in pairs], max_length=limit)
        for row, mask, encoding in zip(
            batch["token_ids"].numpy(),
            batch["padding_mask"].numpy(),
            theirs.encode_batch(pairs),
            strict=True,
        ):
            assert row[mask == 1].tolist() == encoding.ids


def test_a_server_can_hold_it(tokenizer, tmp_path):
    module = tf.Module()
    module.serve = tf.function(
        lambda text: tokenizer(text), input_signature=[tf.TensorSpec((None,), tf.string, "text")]
    )
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.serve)
    again = tf.saved_model.load(str(tmp_path / "1"))
    expected = tokenizer(TEXTS)
    for name, value in again.serve(tf.constant(TEXTS)).items():
        np.testing.assert_array_equal(value, expected[name])
    report = lint(tmp_path / "1", target="2.12")
    assert not report.problems
    assert not {"HashTableV2", "LookupTableFindV2"} & set(report.ops)


def test_saved_files_are_read_again(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved")
    assert again.vocabulary == tokenizer.vocabulary
    assert (again.merges, again.max_length) == (tokenizer.merges, 32)


def test_a_tokenizer_json_alone_is_enough(tmp_path):
    theirs = fast_tokenizer(prefixed=True)
    theirs.add_special_tokens([*SPECIAL, "<mask>"])
    theirs.save(str(tmp_path / "tokenizer.json"))
    check_same(load_tokenizer(tmp_path), fast_tokenizer(prefixed=True), TEXTS[:12])


# --- mistakes -----------------------------------------------------------------------------


def test_a_byte_without_a_piece(tmp_path):
    vocab = {piece: i for i, piece in enumerate(p for p in vocabulary() if p != "Ł")}
    with pytest.raises(ConfigError, match=r"for each of the 256 bytes. Received: .* 1 of them"):
        load_tokenizer(write_folder(tmp_path, vocab=vocab))


def test_a_merge_of_no_pieces(tmp_path):
    folder = write_folder(tmp_path, merges=[*MERGES, ("the", "cat")])
    with pytest.raises(ConfigError, match="'the' with 'cat', where there is no piece"):
        load_tokenizer(folder)


def test_a_merge_of_three(tmp_path):
    folder = write_folder(tmp_path)
    (folder / "merges.txt").write_text("a b c\n")
    with pytest.raises(ConfigError, match=r"merges\.txt: expected two pieces a merge"):
        load_tokenizer(folder)


def test_ids_with_a_gap(tmp_path):
    vocab = {piece: (index if index < 100 else index + 1) for piece, index in vocabulary().items()}
    with pytest.raises(ConfigError, match=r"vocab\.json: expected ids 0 to \d+, each once"):
        load_tokenizer(write_folder(tmp_path, vocab=vocab))


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": "b"}'])
def test_a_vocabulary_that_is_none(tmp_path, text):
    folder = write_folder(tmp_path)
    (folder / "vocab.json").write_text(text)
    with pytest.raises(ConfigError, match=r"vocab\.json: expected"):
        load_tokenizer(folder)


def test_a_special_piece_that_is_missing(tmp_path):
    folder = write_folder(tmp_path, settings={"pad_token": "[PAD]"})
    with pytest.raises(ConfigError, match=r"expected a vocabulary with \[PAD\].* without \[PAD\]"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalizer": {"type": "NFC"}}, "normalizer 'NFC'"),
        ({"pre_tokenizer": {"type": "Metaspace"}}, "pre_tokenizer 'Metaspace'"),
        ({"pre_tokenizer": None}, "pre_tokenizer 'none'"),
        ({"model": {"end_of_word_suffix": "</w>"}}, "end_of_word_suffix '</w>'"),
        ({"model": {"ignore_merges": True}}, "ignore_merges True"),
    ],
)
def test_another_way_to_split_is_refused(tmp_path, change, message):
    values = json.loads(fast_tokenizer().to_str())
    for key, value in change.items():
        values[key] = {**values[key], **value} if key == "model" else value
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=f"expected RoBERTa's byte-level BPE. .*{message}"):
        load_tokenizer(tmp_path)


def test_what_is_for_wordpiece_alone_says_so(tmp_path):
    with pytest.raises(ConfigError, match=r"Received: no file at .*vocab\.txt"):
        Tokenizer.from_folder(write_folder(tmp_path))


def test_wordpiece_folders_are_read_too(tmp_path):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    loaded = load_tokenizer(tmp_path, max_length=9)
    assert (type(loaded), loaded.max_length) == (Tokenizer, 9)
