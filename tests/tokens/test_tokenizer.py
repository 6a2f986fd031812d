"""Strings to ids. The expected ids are counted by hand in the vocabulary of conftest.py."""

import itertools
import json

import numpy as np
import pytest
import tensorflow as tf

from tfmodel.config import ConfigError
from tfmodel.tokens import Tokenizer, Vocabulary

# name: text, pieces of the uncased tokenizer, pieces of the cased one
TEXTS = {
    "plain": ("the cats sat.", "the cat ##s sat .", "the cat ##s sat ."),
    "upper case": ("Hello THE", "hello the", "Hello [UNK]"),
    "accents": ("café CAFÉ", "cafe cafe", "café [UNK]"),
    "accents of their own": ("cafe\u0301", "cafe", "[UNK]"),
    "chinese": ("你好the", "你 好 the", "你 好 the"),
    "full-width punctuation": ("你！好，", "你 ！ 好 ，", "你 ！ 好 ，"),
    "one character, not three points": ("the…cat", "the … cat", "the … cat"),
    "emoji": ("cat 😀 sat", "cat [UNK] sat", "cat [UNK] sat"),
    "joined emoji are one word": ("👩\u200d👩\u200d👧 cat", "[UNK] cat", "[UNK] cat"),
    "joiners inside a word": ("a\u200cb a\u00adb", "a ##b a ##b", "a ##b a ##b"),
    "control characters": ("a\x00b \x01the\x7f cat\ufffd", "a ##b the cat", "a ##b the cat"),
    "spaces of all kinds": ("\tthe\u00a0cat\u3000sat\n", "the cat sat", "the cat sat"),
    "empty": ("", "", ""),
    "blank": (" \t\n ", "", ""),
    "unknown letters": ("xyz cat", "[UNK] cat", "[UNK] cat"),
    "special pieces are text": ("[SEP]", "[ sep ]", "[ [UNK] ]"),
    "100 letters": ("a" * 100, "a " + "##a " * 99, "a " + "##a " * 99),
    "101 letters": ("a" * 101 + " cat", "[UNK] cat", "[UNK] cat"),
    "100 letters of two bytes": ("и" * 100, "и " + "##и " * 99, "и " + "##и " * 99),
    "half a word is no word": ("ab abc", "a ##b [UNK]", "a ##b [UNK]"),
}


def pieces_of(tokenizer, text):
    ids = tokenizer.tokenize(tf.constant([text])).to_list()[0]
    return [tokenizer.vocabulary.pieces[i] for i in ids]


@pytest.mark.parametrize("name", TEXTS)
def test_known_pieces(name, tokenizer, cased):
    text, lowered, kept = TEXTS[name]
    assert pieces_of(tokenizer, text) == lowered.split()
    assert pieces_of(cased, text) == kept.split()


def test_bytes_that_are_not_utf8_are_unknown_and_harm_no_neighbour(tokenizer, cased):
    for each in (tokenizer, cased):
        ids = each.tokenize(tf.constant([b"the \xff cat", b"cat\xe4", b"the cat"])).to_list()
        assert ids == [[5, 1, 6], [1], [5, 6]]


def test_a_row_is_start_text_end(tokenizer):
    batch = tokenizer(["the cat", "", "sat"])
    assert batch["token_ids"].numpy().tolist() == [[2, 5, 6, 3], [2, 3, 0, 0], [2, 7, 3, 0]]
    assert batch["padding_mask"].numpy().tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]
    assert not batch["segment_ids"].numpy().any()
    assert {tensor.dtype for tensor in batch.values()} == {tf.int32}


def test_the_second_text_of_a_pair_is_the_second_segment(tokenizer):
    batch = tokenizer(["the cat", ""], ["sat", "cat sat"])
    assert batch["token_ids"].numpy().tolist() == [[2, 5, 6, 3, 7, 3], [2, 3, 6, 7, 3, 0]]
    assert batch["segment_ids"].numpy().tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 1, 0]]
    assert batch["padding_mask"].numpy().tolist() == [[1] * 6, [1, 1, 1, 1, 1, 0]]


def test_padding_is_the_vocabularys_own_id():
    pieces = ["a", "[UNK]", "[CLS]", "[SEP]", "[PAD]"]
    batch = Tokenizer(Vocabulary(pieces))(["a a", ""])
    assert batch["token_ids"].numpy().tolist() == [[2, 0, 0, 3], [2, 3, 4, 4]]


def test_a_fixed_length_pads_and_cuts(tokenizer):
    batch = tokenizer(["the cat sat", "the", "the cat the cat the"], length=5)
    assert batch["token_ids"].numpy().tolist() == [
        [2, 5, 6, 7, 3],
        [2, 5, 3, 0, 0],
        [2, 5, 6, 5, 3],
    ]
    assert all(tensor.shape == (3, 5) for tensor in batch.values())


def test_no_rows_are_a_batch_too(tokenizer):
    assert tokenizer([])["token_ids"].shape == (0, 0)
    assert tokenizer([], [], length=8)["padding_mask"].shape == (0, 8)


def test_a_very_long_text_is_cut_to_the_longest_row():
    tokenizer = Tokenizer(Vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the"]), max_length=512)
    ids = tokenizer(["the " * 250_000])["token_ids"].numpy()
    assert ids.shape == (1, 512)
    assert ids[0, 0] == 2 and ids[0, -1] == 3 and set(ids[0, 1:-1]) == {4}


def longest_first(first: int, second: int, budget: int) -> tuple[int, int]:
    """How many tokens of each text stay, as Hugging Face's tokenizers library decides it.

    Source: tokenizers/src/utils/truncation.rs, TruncationStrategy::LongestFirst.
    """
    if first + second <= budget:
        return first, second
    shorter, longer = sorted((first, second))
    longer = shorter if shorter > budget else max(shorter, budget - shorter)
    if shorter + longer > budget:
        shorter = budget // 2
        longer = shorter + budget % 2
    return (longer, shorter) if first > second else (shorter, longer)


def test_pairs_are_cut_longest_first(tokenizer):
    cases = list(itertools.product(range(9), range(9)))
    first = ["the " * a for a, _ in cases]
    second = ["cat " * b for _, b in cases]
    for limit in range(4, 20):
        batch = tokenizer(first, second, max_length=limit)
        ids = batch["token_ids"].numpy()
        kept = list(zip((ids == 5).sum(1).tolist(), (ids == 6).sum(1).tolist(), strict=True))
        assert kept == [longest_first(a, b, limit - 3) for a, b in cases], limit
        for row, segments, (a, b) in zip(ids, batch["segment_ids"].numpy(), kept, strict=True):
            assert row[: a + b + 3].tolist() == [2, *[5] * a, 3, *[6] * b, 3]
            assert segments.tolist() == [0] * (a + 2) + [1] * (b + 1) + [0] * (len(row) - a - b - 3)


def test_truncation_keeps_the_beginning_of_each_text(tokenizer):
    batch = tokenizer(["the cat sat hello"], ["un a b cafe"], max_length=9)
    pieces = [tokenizer.vocabulary.pieces[i] for i in batch["token_ids"].numpy()[0]]
    assert pieces == "[CLS] the cat sat [SEP] un a b [SEP]".split()


@pytest.mark.parametrize("pairs", [False, True])
def test_a_graph_gives_what_eager_code_gives(tokenizer, pairs):
    texts = [text for text, _, _ in TEXTS.values()]
    seconds = texts[::-1] if pairs else None
    signature = [tf.TensorSpec([None], tf.string)] * (1 + pairs)
    graph = tf.function(tokenizer, input_signature=signature)(*[texts, seconds][: 1 + pairs])
    eager = tokenizer(texts, seconds)
    for name in eager:
        np.testing.assert_array_equal(graph[name], eager[name])


@pytest.mark.parametrize("length", [None, 16])
def test_only_operations_that_old_servers_know(tokenizer, length):
    spec = tf.TensorSpec([None], tf.string)
    function = tf.function(lambda first, second: tokenizer(first, second, length=length))
    graph = function.get_concrete_function(spec, spec).graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    of_tensorflow_text = {
        node.op for node in nodes if node.op not in vars(tf.raw_ops) and not node.op.startswith("_")
    }
    # In TF Serving since 2.12; trimmers such as TFText>RoundRobinTrim only since 2.20.
    assert of_tensorflow_text == {"FastBertNormalize", "FastWordpieceTokenizeWithOffsets"}


@pytest.mark.parametrize("arguments", [{"max_length": 3}, {"length": 2}, {"max_length": 0}])
def test_limits_too_short_for_a_pair_are_refused(tokenizer, arguments):
    (name,) = arguments
    with pytest.raises(ConfigError, match=rf"{name} must be in \[4, 100000\]. Received: \d"):
        tokenizer(["the"], ["cat"], **arguments)


def test_a_longest_row_out_of_range_is_refused(vocabulary):
    with pytest.raises(ConfigError, match=r"max_length must be in .* Received: 100001"):
        Tokenizer(vocabulary, max_length=100_001)


def test_a_piece_no_word_can_have_is_refused():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a" * 300]
    with pytest.raises(ConfigError, match="Expected a WordPiece vocabulary. Received: .*256"):
        Tokenizer(Vocabulary(pieces))


# --- folders ------------------------------------------------------------------------------


@pytest.mark.parametrize("lowercase", [True, False])
def test_a_saved_tokenizer_reads_the_same(tmp_path, vocabulary, lowercase):
    Tokenizer(vocabulary, lowercase=lowercase, max_length=77).save(tmp_path / "model")
    again = Tokenizer.from_folder(tmp_path / "model")
    assert again.vocabulary == vocabulary
    assert (again.lowercase, again.max_length) == (lowercase, 77)
    assert Tokenizer.from_folder(tmp_path / "model", max_length=9).max_length == 9
    # Written again, it is the same folder.
    again.save(tmp_path / "again")
    for name in ("vocab.txt", "tokenizer_config.json"):
        before, after = (tmp_path / folder / name for folder in ("model", "again"))
        assert before.read_bytes() == after.read_bytes()


def write_fast(folder, pieces, **normalizer):
    """A `tokenizer.json` as the tokenizers library writes it, as far as it is read."""
    vocab = {piece: index for index, piece in enumerate(pieces)}
    vocab = dict(sorted(vocab.items()))  # the order of the file means nothing
    content = {
        "normalizer": {"type": "BertNormalizer", **normalizer},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": vocab},
    }
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")


@pytest.mark.parametrize("lowercase", [True, False])
def test_tokenizer_json_does_where_vocab_txt_is_missing(tmp_path, vocabulary, lowercase):
    write_fast(tmp_path, vocabulary.pieces, lowercase=lowercase, strip_accents=None)
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.vocabulary == vocabulary
    assert (tokenizer.lowercase, tokenizer.max_length) == (lowercase, 512)


def test_the_config_says_how_to_split_where_both_do(tmp_path, vocabulary):
    write_fast(tmp_path, vocabulary.pieces, lowercase=True)
    stated = {"do_lower_case": False, "model_max_length": 10**30}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(stated))
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert not tokenizer.lowercase
    assert tokenizer.max_length == 512


def test_a_folder_without_a_vocabulary_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no file at .*vocab\.txt"):
        Tokenizer.from_folder(tmp_path)


def test_another_kind_of_tokenizer_is_refused(tmp_path, vocabulary):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"model": {"type": "BPE", "vocab": {"a": 0}}}))
    with pytest.raises(ConfigError, match="expected a WordPiece tokenizer .* Received: BPE"):
        Tokenizer.from_folder(tmp_path)
    path.write_text(json.dumps({"model": {"type": "WordPiece", "vocab": {"a": 0, "b": 7}}}))
    with pytest.raises(ConfigError, match="expected ids 0 to 1, each once"):
        Tokenizer.from_folder(tmp_path)
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"tokenizer\.json: expected JSON"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"tokenizer_class": "BertJapaneseTokenizer"}, "tokenizer_class BertJapaneseTokenizer"),
        ({"do_lower_case": True, "strip_accents": False}, "strip_accents False"),
        ({"do_lower_case": False, "strip_accents": True}, "lower-casing False, strip_accents True"),
        ({"tokenize_chinese_chars": False}, "tokenize_chinese_chars False"),
    ],
)
def test_what_would_be_split_in_another_way_is_refused(tmp_path, vocabulary, stated, message):
    vocabulary.save(tmp_path / "vocab.txt")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(stated))
    with pytest.raises(ConfigError, match=message):
        Tokenizer.from_folder(tmp_path)


def test_settings_that_change_nothing_are_taken(tmp_path, vocabulary):
    vocabulary.save(tmp_path / "vocab.txt")
    stated = {"tokenizer_class": "BertTokenizerFast", "do_lower_case": True, "strip_accents": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(stated))
    assert Tokenizer.from_folder(tmp_path).lowercase
