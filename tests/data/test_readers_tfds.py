"""TFDS folders, which other tools write: splits and parts of them, nested and listed features."""

import pytest

from tfmodel.config import ConfigError
from tfmodel.data import DataSettings
from tfmodel.data.reading.readers import open_source
from tfmodel.data.targets import TARGETS


@pytest.fixture
def tfds_folder(tmp_path):
    """Write examples as a TFDS folder of the splits train and validation."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def write(features, examples):
        features = tfds.features.FeaturesDict(features)
        infos = []
        for split in ("train", "validation"):
            path = tmp_path / f"dataset-{split}.tfrecord-00000-of-00001"
            with tf.io.TFRecordWriter(str(path)) as writer:
                for example in examples:
                    encoded = features.encode_example(example)
                    writer.write(features.serialize_example(encoded))
            infos.append(
                tfds.core.SplitInfo(name=split, shard_lengths=[len(examples)], num_bytes=1)
            )
        tfds.folder_dataset.write_metadata(
            data_dir=str(tmp_path), features=features, split_infos=infos, check_data=False
        )
        return tmp_path

    return write


def read(path, *, split=None, role="train", **settings):
    chosen = DataSettings(train=str(path), **settings)
    source = open_source(path, chosen, role=role, split=split)
    return [(row.text, row.label) for row in source.rows], source.facts


def test_parts_of_a_split(tfds_folder):
    import tensorflow_datasets as tfds

    features = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=["n", "p"])}
    path = tfds_folder(features, [{"text": f"t{i}", "label": i % 2} for i in range(10)])
    rows, facts = read(path, split="train[:30%]")
    assert rows == [("t0", "n"), ("t1", "p"), ("t2", "n")]
    assert facts["split"] == "train[:30%]" and facts["format"] == "tfds"
    rows, facts = read(path, role="dev")
    assert len(rows) == 10 and facts["split"] == "validation"
    with pytest.raises(ConfigError, match=r"splits train, validation, or a part.*Received: tset"):
        read(path, split="tset")
    with pytest.raises(ConfigError, match="expected a split test for data.test"):
        read(path, role="test")


def test_nested_and_listed_features(tfds_folder):
    import numpy as np
    import tensorflow_datasets as tfds

    tags = tfds.features.ClassLabel(names=["O", "B-x"])
    features = {
        "review": {"body": tfds.features.Text(), "stars": tfds.features.Scalar(np.float32)},
        "words": tfds.features.Sequence(tfds.features.Text()),
        "tags": tfds.features.Sequence(tags),
    }
    example = {
        "review": {"body": "fine", "stars": 4.5},
        "words": ["a", "caf\u00e9"],
        "tags": [0, 1],
    }
    path = tfds_folder(features, [example, {**example, "words": ["one"]}])
    rows, _ = read(path, text="review.body", label="review.stars", target="number")
    assert rows == [("fine", 4.5)] * 2
    chosen = DataSettings(train="x", text="words", label="tags", target="tags")
    good, bad = open_source(path, chosen, role="train").rows
    assert (good.text, good.label) == (
        "a caf\u00e9",
        {"words": ["a", "caf\u00e9"], "tags": ["O", "B-x"]},
    )
    assert bad.reason == "bad_tags" and bad.origin.endswith(":train:1")
    with pytest.raises(ConfigError, match="expected a column review.bdy .*Received: review, tags"):
        read(path, text="review.bdy", label="tags")


@pytest.mark.parametrize(
    "target, label",
    [
        ("spans", [{"start": 0, "end": 4, "label": "b"}]),
        ("spans", []),
        ("classes", ["b", "a"]),
        ("tags", {"words": ["good", "film"], "tags": ["a", "b"]}),
        ("answers", {"answers": [{"text": "film", "start": 5}], "id": "q"}),
    ],
)
def test_what_tfmodel_wrote_needs_no_names(tfds_folder, target, label):
    import tensorflow_datasets as tfds

    text = tfds.features.Text()
    names = {"text": text, "text_pair": text, **TARGETS[target].features(["a", "b"])}
    values = TARGETS[target].encode(label, {"a": 0, "b": 1})
    example = {"text": "good film", "text_pair": "good film", **values}
    example["id"] = "q"
    path = tfds_folder(names, [{key: example[key] for key in names}])
    pair = {"text_pair": "text_pair"} if target == "answers" else {}
    rows, _ = read(path, target=target, **pair)
    assert rows == [("good film", label)]
