"""The files that travel inside every artifact."""

import json

import pytest

from tfmodel.config import ConfigError
from tfmodel.export.manifest import Manifest, files_of, read_files, read_tokenizer
from tfmodel.serve import rollout
from tfmodel.tokens import Tokenizer, Vocabulary
from tfmodel.tokens.byte_pairs import SPECIAL_PIECES, BytePairTokenizer, byte_letters
from tfmodel.tokens.prompts import PromptTokenizer

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "好", "\u2028", "a b"]
TEXTS = ["", "aa", " Aa a好\u2028"]


@pytest.fixture(scope="module")
def word_pieces():
    return Tokenizer(Vocabulary(PIECES), lowercase=False, max_length=16)


@pytest.fixture(scope="module")
def byte_pairs():
    pieces = [*byte_letters(), "aa", "Ġaa", *SPECIAL_PIECES.values()]
    return BytePairTokenizer(
        Vocabulary(pieces, special=SPECIAL_PIECES),
        [("a", "a"), ("Ġ", "aa")],
        add_prefix_space=True,
        max_length=100,
    )


@pytest.fixture(params=["word_pieces", "byte_pairs"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


def manifest_of(tokenizer, **values):
    described = {"labels": ("a", "ü", "好"), "max_length": 16, "lowercase": tokenizer.lowercase}
    return Manifest(**{**described, "tokenizer": tokenizer.kind, **values})


def test_files_come_back_as_they_were(tokenizer):
    manifest = manifest_of(tokenizer, has_pairs=True, precision="int8")
    files = files_of(manifest, tokenizer)
    assert read_files(files, name="x") == manifest
    again = read_tokenizer(files, manifest, name="x")
    assert type(again) is type(tokenizer)
    assert again.vocabulary == tokenizer.vocabulary
    assert (again.lowercase, again.max_length) == (tokenizer.lowercase, 16)
    assert again.tokenize(TEXTS).to_list() == tokenizer.tokenize(TEXTS).to_list()


def test_each_kind_of_tokenizer_has_its_files(word_pieces, byte_pairs):
    with_both = {"labels.txt", "tfmodel.json"}
    files = files_of(manifest_of(word_pieces), word_pieces)
    assert set(files) == {"vocab.txt", *with_both}
    files = files_of(manifest_of(byte_pairs), byte_pairs)
    assert set(files) == {"vocab.json", "merges.txt", "tokenizer_config.json", *with_both}


@pytest.mark.parametrize("line_end", ["\n", "\r", "\x0b", "\x85", "\u2028"])
def test_labels_file_has_a_line_per_label_even_when_a_label_has_two(line_end, word_pieces):
    manifest = Manifest(labels=(f"one{line_end}two", "three"), max_length=16)
    files = files_of(manifest, word_pieces)
    assert files["labels.txt"].decode().splitlines() == ["one two", "three"]
    assert read_files(files, name="x").labels == manifest.labels


@pytest.mark.parametrize("missing", ["vocab.txt", "tfmodel.json"])
def test_an_artifact_of_somebody_else_is_refused_by_name(missing, word_pieces):
    files = files_of(manifest_of(word_pieces), word_pieces)
    del files[missing]
    with pytest.raises(ConfigError, match=rf"(?s)foreign: expected .* without {missing}"):
        read_files(files, name="foreign")


@pytest.mark.parametrize("missing", ["vocab.json", "merges.txt", "tokenizer_config.json"])
def test_a_tokenizers_missing_file_is_named(missing, byte_pairs):
    files = files_of(manifest_of(byte_pairs), byte_pairs)
    del files[missing]
    with pytest.raises(ConfigError, match=rf"merges\.txt, .* inside. .* without {missing}"):
        read_files(files, name="x.tflite")


def test_a_tokenizers_damaged_file_is_named_as_the_artifacts(byte_pairs):
    manifest = manifest_of(byte_pairs)
    files = {**files_of(manifest, byte_pairs), "merges.txt": b"a b c\n"}
    with pytest.raises(ConfigError, match=r"^x\.tflite/merges\.txt: expected two pieces a merge"):
        read_tokenizer(files, manifest, name="x.tflite")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"format": 1, "max_length": 3}', "null"])
def test_a_damaged_manifest_is_refused(content):
    with pytest.raises(ConfigError, match="expected tfmodel's description"):
        Manifest.from_json(content, name="tfmodel.json")


def test_a_newer_format_asks_for_a_newer_tfmodel():
    values = json.loads(Manifest(labels=("a", "b"), max_length=16, version="9.0").to_json())
    with pytest.raises(ConfigError, match=r"format 5, written by tfmodel 9\.0\. Update"):
        Manifest.from_json(json.dumps(values | {"format": 5}), name="tfmodel.json")
    with pytest.raises(ConfigError, match="a tokenizer of wordpiece, byte_pairs. .* 'syllables'"):
        Manifest.from_json(json.dumps(values | {"tokenizer": "syllables"}), name="tfmodel.json")


def test_only_what_an_older_tfmodel_cannot_read_has_a_newer_format(word_pieces, byte_pairs):
    assert (manifest_of(word_pieces).format, manifest_of(byte_pairs).format) == (1, 2)
    values = json.loads(manifest_of(word_pieces).to_json())
    del values["tokenizer"]  # as an older one wrote it
    assert Manifest.from_json(json.dumps(values), name="x").tokenizer == "wordpiece"


def test_a_template_travels_with_the_tokenizer():
    plain = Tokenizer(Vocabulary([*PIECES, "[MASK]"]), lowercase=False, max_length=16)
    prompts = PromptTokenizer(plain, "{text} [MASK]好")
    manifest = manifest_of(prompts, template=prompts.template)
    assert manifest.format == 3
    files = files_of(manifest, prompts)
    again = read_tokenizer(files, read_files(files, name="x"), name="x")
    assert again.template == prompts.template and again.max_length == 16
    ids = again(["a b好"])["token_ids"].numpy().tolist()
    assert ids == prompts(["a b好"])["token_ids"].numpy().tolist() and ids[0][-3:] == [7, 4, 3]


def test_a_rollout_refuses_what_fills_gaps(tmp_path):
    plain = Tokenizer(Vocabulary([*PIECES, "[MASK]"]), lowercase=False, max_length=16)
    (tmp_path / "assets").mkdir()
    for name, content in files_of(manifest_of(plain, labels=(), task="fill"), plain).items():
        (tmp_path / "assets" / name).write_bytes(content)
    with pytest.raises(ConfigError, match="answers a rollout compares. Received: fill"):
        rollout.manifest_of(tmp_path)


def test_keys_that_a_later_version_added_are_passed_over():
    values = json.loads(Manifest(labels=("a", "b"), max_length=16).to_json())
    read = Manifest.from_json(json.dumps(values | {"calibration": 1.5}), name="tfmodel.json")
    assert read.labels == ("a", "b")
