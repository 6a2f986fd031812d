"""The files that travel inside every artifact."""

import json

import pytest

from tfmodel.config import ConfigError
from tfmodel.export.manifest import Manifest, files_of, read_files

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "好", "\u2028", "a b"]


def test_files_come_back_as_they_were():
    manifest = Manifest(labels=("a", "ü", "好"), max_length=16, has_pairs=True, precision="int8")
    assert read_files(files_of(manifest, PIECES), name="x") == (manifest, PIECES)


@pytest.mark.parametrize("line_end", ["\n", "\r", "\x0b", "\x85", "\u2028"])
def test_labels_file_has_a_line_per_label_even_when_a_label_has_two(line_end):
    manifest = Manifest(labels=(f"one{line_end}two", "three"), max_length=16)
    files = files_of(manifest, PIECES)
    assert files["labels.txt"].decode().splitlines() == ["one two", "three"]
    assert read_files(files, name="x")[0].labels == manifest.labels


@pytest.mark.parametrize("missing", ["vocab.txt", "tfmodel.json"])
def test_an_artifact_of_somebody_else_is_refused_by_name(missing):
    files = files_of(Manifest(labels=("a", "b"), max_length=16), PIECES)
    del files[missing]
    with pytest.raises(ConfigError, match=rf"(?s)foreign: expected .* without {missing}"):
        read_files(files, name="foreign")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"format": 1, "max_length": 3}', "null"])
def test_a_damaged_manifest_is_refused(content):
    with pytest.raises(ConfigError, match="expected tfmodel's description"):
        Manifest.from_json(content, name="tfmodel.json")


def test_a_newer_format_asks_for_a_newer_tfmodel():
    values = json.loads(Manifest(labels=("a", "b"), max_length=16, version="9.0").to_json())
    with pytest.raises(ConfigError, match=r"format 2, written by tfmodel 9\.0\. Update"):
        Manifest.from_json(json.dumps(values | {"format": 2}), name="tfmodel.json")


def test_keys_that_a_later_version_added_are_passed_over():
    values = json.loads(Manifest(labels=("a", "b"), max_length=16).to_json())
    read = Manifest.from_json(json.dumps(values | {"calibration": 1.5}), name="tfmodel.json")
    assert read.labels == ("a", "b")
