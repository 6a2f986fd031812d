"""Byte-level BPE on real text and characters of every kind, and folders that transformers reads.

Needs the extra `parity` (transformers); for real text, the real data of this project's developers.
"""

import json

import needs
import pytest
import tensorflow as tf
from test_byte_pairs import SPECIAL, TEXTS, check_same, fast_tokenizer, write_folder
from test_tokenizer_parity import FILES, read_lines

from tfmodel.tokens import character_kinds, load_tokenizer

pytestmark = pytest.mark.slow

AT_ONCE = 2048


def trained(lines, size):
    """Vocabulary and merges of a byte-level BPE."""
    tokenizers = needs.package("tokenizers")
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[*SPECIAL, "<mask>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(lines, trainer)
    found = json.loads(model.to_str())["model"]
    return found["vocab"], [tuple(pair) for pair in found["merges"]]


@pytest.mark.parametrize("prefixed", [False, True])
@pytest.mark.parametrize("folder", FILES)
def test_real_lines_have_the_same_ids_and_offsets(tmp_path, folder, prefixed):
    lines = read_lines(folder)
    vocab, merges = trained(lines[::40], 8_000)
    place = write_folder(
        tmp_path, vocab=vocab, merges=merges, settings={"add_prefix_space": prefixed}
    )
    ours = load_tokenizer(place)
    theirs = fast_tokenizer(prefixed=prefixed, vocab=vocab, merges=merges)
    lines = lines[7::40]
    assert len(lines) > 7_000
    for start in range(0, len(lines), AT_ONCE):
        check_same(ours, theirs, lines[start : start + AT_ONCE])


@pytest.mark.parametrize("text", ["a{}b", "1 {}1", "{}", "' {}'s", "!{} \n"])
def test_characters_of_every_kind_do_to_words_what_they_do_to_theirs(tmp_path, text):
    ours, theirs = load_tokenizer(write_folder(tmp_path)), fast_tokenizer()
    # Where the table changes, and on both sides of it.
    codes = {code + step for code in character_kinds.bounds()[0].tolist() for step in (-1, 0, 1)}
    codes = sorted(code for code in codes if 0 <= code < 0x110000 and not 0xD800 <= code < 0xE000)
    texts = [text.format(chr(code)) for code in codes]
    found = ours.tokenize(tf.constant(texts)).to_list()
    expected = theirs.encode_batch(texts, add_special_tokens=False)
    assert found == [each.ids for each in expected]


@pytest.mark.parametrize("prefixed", [False, True])
def test_transformers_reads_our_folder_and_we_read_theirs(tmp_path, prefixed):
    transformers = needs.package("transformers")
    folder = write_folder(tmp_path / "first", settings={"add_prefix_space": prefixed})
    ours = load_tokenizer(folder, max_length=24)
    ours.save(tmp_path / "ours")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours", local_files_only=True)
    assert type(theirs).__name__.startswith("Roberta")
    assert theirs.model_max_length == 24
    theirs.save_pretrained(tmp_path / "theirs")
    again = load_tokenizer(tmp_path / "theirs")
    assert again.vocabulary == ours.vocabulary
    assert (again.merges, again.max_length) == (ours.merges, 24)
    assert again.add_prefix_space is prefixed
    texts = [text for text in TEXTS if "<" not in text]  # special tokens are text here
    for columns in ([texts], [texts, texts[::-1]]):
        expected = theirs(*columns, padding=True, truncation="longest_first", return_tensors="np")
        batch = again(*columns)
        assert batch["token_ids"].numpy().tolist() == expected["input_ids"].tolist()
        assert batch["padding_mask"].numpy().tolist() == expected["attention_mask"].tolist()
