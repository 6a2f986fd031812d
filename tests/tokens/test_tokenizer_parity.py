"""Our ids against Hugging Face's, on real text and on every character there is.

Needs the extra `parity` (transformers); for real text, the real data of this project's developers.
"""

import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import needs
import pytest
import tensorflow as tf

from tfmodel.tokens import Tokenizer, Vocabulary, load_tokenizer

pytestmark = pytest.mark.slow

VOCABULARIES = {
    "uncased": ("bert-base-uncased-vocab.txt", True),
    "cased": ("bert-base-cased-vocab.txt", False),
    "chinese": ("bert-base-chinese-vocab.txt", True),
    "chinese, cased": ("bert-base-chinese-vocab.txt", False),
}
FILES = {"wiki_en": 32, "wiki_zh": 30}


def fast_tokenizer(vocabulary: Vocabulary, *, lowercase: bool):
    """What the tokenizers library makes of BERT."""
    tokenizers = needs.package("tokenizers")
    model = tokenizers.models.WordPiece(
        vocabulary.ids, unk_token="[UNK]", max_input_chars_per_word=100
    )
    theirs = tokenizers.Tokenizer(model)
    theirs.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return theirs


def read_lines(folder: str) -> list[str]:
    paths = sorted(needs.shared_data(folder).glob("wiki_*"))
    assert len(paths) == FILES[folder]
    return [line for path in paths for line in path.read_text("utf-8").split("\n")]


def differences(ours: Tokenizer, theirs, texts: list[str]) -> list[str]:
    """Texts with other ids or offsets."""

    def check(start: int) -> list[str]:
        chunk = texts[start : start + 4096]
        rows = zip(*(part.to_list() for part in ours.tokenize_with_offsets(chunk)), strict=True)
        expected = theirs.encode_batch(chunk, add_special_tokens=False)
        assert ours.tokenize(tf.constant(chunk)).to_list() == [each.ids for each in expected]
        return [
            text
            for text, (ids, starts, ends), each in zip(chunk, rows, expected, strict=True)
            if ids != each.ids or list(zip(starts, ends, strict=True)) != each.offsets
        ]

    with ThreadPoolExecutor(2) as pool:
        return [text for part in pool.map(check, range(0, len(texts), 4096)) for text in part]


@pytest.mark.parametrize("name", VOCABULARIES)
@pytest.mark.parametrize("folder", FILES)
def test_every_real_line_has_the_same_ids_and_offsets(folder, name):
    file, lowercase = VOCABULARIES[name]
    vocabulary = Vocabulary.from_file(needs.shared_data("vocabs") / file)
    theirs = fast_tokenizer(vocabulary, lowercase=lowercase)
    ours = Tokenizer(vocabulary, lowercase=lowercase)
    lines = read_lines(folder)
    assert len(lines) > 300_000
    assert not differences(ours, theirs, lines)


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("text", ["a{}b", "b {} a", "{}a"])
def test_every_character_does_to_words_what_it_does_to_theirs(text, lowercase):
    vocabulary = Vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "##a", "##b"])
    theirs = fast_tokenizer(vocabulary, lowercase=lowercase)
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    ours = Tokenizer(vocabulary, lowercase=lowercase)
    assert not differences(ours, theirs, [text.format(each) for each in characters])


def test_ids_do_not_depend_on_the_machines_language():
    code = (
        "from tfmodel.tokens import Tokenizer, Vocabulary\n"
        "pieces = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', 'title']\n"
        "print(Tokenizer(Vocabulary(pieces)).tokenize(['TITLE']).to_list())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "LC_ALL": "tr_TR.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[[4]]"


def test_pairs_are_cut_as_theirs():
    vocabulary = Vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b"])
    theirs = fast_tokenizer(vocabulary, lowercase=True)
    processors = needs.package("tokenizers").processors
    theirs.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    ours = Tokenizer(vocabulary)
    lengths = list(itertools.product(range(9), range(9)))
    pairs = [("a " * first, "b " * second) for first, second in lengths]
    for limit in range(5, 20):
        theirs.enable_truncation(limit, strategy="longest_first")
        batch = ours([a for a, _ in pairs], [b for _, b in pairs], max_length=limit)
        for row, mask, encoding in zip(
            batch["token_ids"].numpy(),
            batch["padding_mask"].numpy(),
            theirs.encode_batch(pairs),
            strict=True,
        ):
            assert row[mask == 1].tolist() == encoding.ids


@pytest.mark.parametrize("lowercase", [True, False])
def test_transformers_reads_our_folder_and_we_read_theirs(tmp_path, lowercase):
    transformers = needs.package("transformers")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcé你!", "##a", "##b", "ab", "Ab"]
    ours = Tokenizer(Vocabulary(pieces), lowercase=lowercase, max_length=24)
    ours.save(tmp_path / "ours")
    texts = ["a Ab é 你b!", "", "zzz ab a b c", "ab " * 40]
    seconds = ["b", "ab a", "Ab", "é " * 30]

    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours", local_files_only=True)
    assert theirs.model_max_length == 24
    theirs.save_pretrained(tmp_path / "theirs")
    again = Tokenizer.from_folder(tmp_path / "theirs")
    assert (again.lowercase, again.max_length) == (lowercase, 24)
    assert again.vocabulary.pieces == pieces
    for columns in ([texts], [texts, seconds]):
        expected = theirs(*columns, padding=True, truncation="longest_first", return_tensors="np")
        batch = ours(*columns)
        assert batch["token_ids"].numpy().tolist() == expected["input_ids"].tolist()
        assert batch["segment_ids"].numpy().tolist() == expected["token_type_ids"].tolist()
        assert batch["padding_mask"].numpy().tolist() == expected["attention_mask"].tolist()


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize(
    ("kind", "saved_as"),
    [("DistilBertTokenizer", "DistilBertTokenizer"), ("ElectraTokenizer", "BertTokenizer")],
)
def test_other_wordpiece_families(tmp_path, kind, saved_as, lowercase):
    transformers = needs.package("transformers")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcé你!", "##a", "##b", "ab", "Ab"]
    theirs = getattr(transformers, kind)(
        vocab={piece: index for index, piece in enumerate(pieces)}, do_lower_case=lowercase
    )
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_tokenizer(tmp_path / "theirs", max_length=24)
    assert isinstance(ours, Tokenizer) and ours.lowercase is lowercase
    texts, seconds = ["a Ab é 你b!", "", "zzz ab a b c", "ab " * 40], ["b", "ab a", "Ab", "é " * 30]
    for columns in ([texts], [texts, seconds]):
        given = {"padding": True, "truncation": "longest_first", "max_length": 24}
        expected = theirs(*columns, return_tensors="np", **given)
        batch = ours(*columns)
        assert batch["token_ids"].numpy().tolist() == expected["input_ids"].tolist()
        assert batch["padding_mask"].numpy().tolist() == expected["attention_mask"].tolist()
    ours.save(tmp_path / "ours")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours", local_files_only=True)
    assert type(again).__name__ == saved_as
    assert again(texts)["input_ids"] == theirs(texts)["input_ids"]
