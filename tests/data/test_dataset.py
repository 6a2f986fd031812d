"""The folder on disk: TFDS reads it alone, and damage is told."""

import json
import subprocess
import sys

import numpy as np
import pytest
from labelled_rows import as_csv, numbered

from tfmodel.config import ConfigError
from tfmodel.data import load_dataset
from tfmodel.data.dataset_writer import _SHARD_BYTES, rows_per_shard


@pytest.fixture
def dataset(write, prepared):
    rows = [(f"naïve {text} 好", label) for text, label in numbered(40)]
    return prepared(write("train.csv", as_csv(rows)))


def test_tfds_reads_the_folder_with_no_tfmodel(dataset):
    script = f"""
import sys
sys.modules["tfmodel"] = None
import tensorflow_datasets as tfds
builder = tfds.builder_from_directory({str(dataset.folder)!r})
assert sorted(builder.info.splits) == ["dev", "test", "train"]
assert builder.info.features["label"].names == ["neg", "pos"]
rows = list(builder.as_dataset(split="train", shuffle_files=False).as_numpy_iterator())
print([[r["text"].decode(), int(r["label"]), r["origin"].decode()] for r in rows])
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    split = dataset.split("train")
    labels = split.labels.tolist()
    expected = [list(row) for row in zip(split.texts, labels, split.origins, strict=True)]
    assert eval(run.stdout) == expected and len(expected) == 28


def test_load_gives_what_prepare_gave(dataset):
    loaded = load_dataset(dataset.folder)
    assert loaded == dataset
    assert loaded.account["raw"] == 40
    split = loaded.split("dev")
    assert split.labels.dtype == np.int32 and split.text_pairs is None
    assert split.texts[0].startswith("naïve text number") and split.texts[0].endswith("好")


def test_to_tf_gives_the_same_rows(dataset):
    rows = list(dataset.to_tf("dev").as_numpy_iterator())
    split = dataset.split("dev")
    assert [inputs["text"].decode() for inputs, _ in rows] == split.texts
    assert [int(label) for _, label in rows] == split.labels.tolist()
    spec = dataset.to_tf("dev").element_spec
    assert list(spec[0]) == ["text"] and spec[1].dtype == "int32"
    assert len(dataset.to_tf("dev").batch(3)) == 2


def test_unknown_split(dataset):
    with pytest.raises(ConfigError, match="one of the splits .*train.*Received: validation"):
        dataset.split("validation")


def test_large_splits_are_sharded(dataset):
    assert rows_per_shard(10, total_bytes=100) == [10]
    lengths = rows_per_shard(1_001, total_bytes=3 * _SHARD_BYTES + 1)
    assert len(lengths) == 4 and sum(lengths) == 1_001 and min(lengths) > 0


def test_no_folder(tmp_path):
    with pytest.raises(ConfigError, match="expected a dataset folder. Received: a path where"):
        load_dataset(tmp_path / "none")


@pytest.mark.parametrize("name", ["account.json", "dataset_info.json", "features.json"])
def test_missing_and_broken_metadata(dataset, name):
    path = dataset.folder / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ConfigError, match=str(dataset.folder)):
        load_dataset(dataset.folder)
    path.unlink()
    with pytest.raises(ConfigError, match=f"Received: no {name}. Remove the folder and write it"):
        load_dataset(dataset.folder)


def test_missing_shortened_and_altered_shards(dataset):
    shard = next(dataset.folder.glob("*train*"))
    content = bytearray(shard.read_bytes())
    shard.write_bytes(content[:-5])
    with pytest.raises(ConfigError, match=f"{shard.name} has .* bytes, not"):
        load_dataset(dataset.folder)
    content[40] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(ConfigError, match="corrupted record"):
        load_dataset(dataset.folder).split("train")
    shard.unlink()
    with pytest.raises(ConfigError, match=f"{shard.name} is missing"):
        load_dataset(dataset.folder)


def test_rows_of_several_classes_are_read_back(write, prepared):
    rows = [{"text": f"text {i}", "label": ["x", "y", "z"][: i % 4]} for i in range(40)]
    train = write("train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    split = prepared(train, target="classes").split("train")
    assert {int(text.split()[1]) % 4: len(labels) for text, labels in
            zip(split.texts, split.labels, strict=True)} == {0: 0, 1: 1, 2: 2, 3: 3}  # fmt: skip
    assert [label for label in split.labels if len(label) == 2][0] == ["x", "y"]


def test_a_tfds_folder_is_a_source_too(dataset, prepared):
    again = prepared(dataset.folder, folder="again")
    assert again.counts == dataset.counts  # its dev and test are used without being named
    assert set(again.split("test").texts) == set(dataset.split("test").texts)
    assert again.labels == ["neg", "pos"]
    assert again.split("train").origins[0] == "out:train:0"


def test_tfds_source_mistakes(dataset, prepared):
    with pytest.raises(
        ConfigError, match=r"expected a column review .*Received: label, origin, text"
    ):
        prepared(dataset.folder, folder="again", text="review")
    info = json.loads((dataset.folder / "dataset_info.json").read_text())
    info["splits"] = [split for split in info["splits"] if split["name"] != "train"]
    (dataset.folder / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(ConfigError, match="expected a split train for data.train. Received the"):
        prepared(dataset.folder, folder="again")
    next(dataset.folder.glob("*test*")).unlink()
    (dataset.folder / "features.json").write_text("{}")
    with pytest.raises(ConfigError, match="expected a TFDS builder folder"):
        prepared(dataset.folder, folder="again")
