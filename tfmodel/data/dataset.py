"""The dataset on disk: a TFDS builder folder, with its account and its dropped rows beside."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.data.account import ACCOUNT_FILE
from tfmodel.data.folders import open_tfds
from tfmodel.data.rows import Row
from tfmodel.run_folder import read_json, write_json

if TYPE_CHECKING:
    import tensorflow as tf

_NAME = "dataset"  # what TFDS calls it
_SHARD_BYTES = 64_000_000
_READ_BATCH = 4_096


@dataclasses.dataclass(frozen=True)
class Split:
    """The rows of a split, in memory.

    Attributes:
        texts: one string a row.
        text_pairs: the second text of each row; None where there are no pairs.
        labels: int32 `(rows,)`, indices into the dataset's `labels`.
        origins: where each row stood: `train.csv:12`.
    """

    texts: list[str]
    text_pairs: list[str] | None
    labels: np.ndarray
    origins: list[str]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A prepared dataset.

    Attributes:
        folder: the TFDS builder folder.
        labels: names of the classes, in the order of their indices.
        counts: rows by split: train, dev, and test where there is one.
        has_pairs: whether rows have a `text_pair`.
        account: raw rows = kept + dropped by reason, in total and by file; what cleaning changed.
    """

    folder: Path
    labels: list[str]
    counts: dict[str, int]
    has_pairs: bool
    account: dict
    _shards: dict[str, list[str]] = dataclasses.field(repr=False)

    def split(self, name: str) -> Split:
        """Read a split into memory, in the order it was written.

        Raises:
            ConfigError: there is no such split, or its files are damaged.
        """
        import tensorflow as tf

        columns: dict[str, list] = {key: [] for key in self._feature_specs()}
        try:
            for batch in self._read(name).as_numpy_iterator():
                for key, values in batch.items():
                    columns[key].extend(values.tolist())
        except (tf.errors.OpError, OSError) as error:
            raise _damaged(self.folder, str(error)[:300]) from error
        if len(columns["label"]) != self.counts[name]:
            found = f"{len(columns['label']):,} rows in {name}, not {self.counts[name]:,}"
            raise _damaged(self.folder, found)
        pairs = [raw.decode() for raw in columns["text_pair"]] if self.has_pairs else None
        return Split(
            texts=[raw.decode() for raw in columns["text"]],
            text_pairs=pairs,
            labels=np.array(columns["label"], dtype=np.int32),
            origins=[raw.decode() for raw in columns["origin"]],
        )

    def to_tf(self, name: str) -> tf.data.Dataset:
        """Give a split as a `tf.data.Dataset` of single rows, in the order they were written.

        Returns:
            `({"text": string, ["text_pair": string]}, label)`, label an int32 scalar.

        Raises:
            ConfigError: there is no such split.
        """
        import tensorflow as tf

        def to_inputs_and_label(batch: dict) -> tuple[dict, tf.Tensor]:
            inputs = {key: batch[key] for key in ("text", "text_pair") if key in batch}
            return inputs, tf.cast(batch["label"], tf.int32)

        dataset = self._read(name).map(to_inputs_and_label).unbatch()
        return dataset.apply(tf.data.experimental.assert_cardinality(self.counts[name]))

    def _read(self, name: str) -> tf.data.Dataset:
        import tensorflow as tf

        if name not in self.counts:
            raise ConfigError(
                f"{self.folder}: expected one of the splits {', '.join(self.counts)}. "
                f"Received: {name}. Name a test file by data.test, or only data.train, to have one."
            )
        specs = self._feature_specs()
        records = tf.data.TFRecordDataset(self._shards[name])  # in order: one reader
        return records.batch(_READ_BATCH).map(lambda raw: tf.io.parse_example(raw, specs))

    def _feature_specs(self) -> dict[str, Any]:
        import tensorflow as tf

        texts = ["text", "text_pair", "origin"] if self.has_pairs else ["text", "origin"]
        specs = {key: tf.io.FixedLenFeature([], tf.string) for key in texts}
        return specs | {"label": tf.io.FixedLenFeature([], tf.int64)}


def load_dataset(folder: str | Path) -> Dataset:
    """Open a dataset that `prepare` wrote.

    Raises:
        ConfigError: there is none, or files are missing or cut short.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(
            f"{folder}: expected a dataset folder. Received: a path where there is none. "
            f"Write it by `tfmodel data CONFIG`."
        )
    for name in (ACCOUNT_FILE, "dataset_info.json", "features.json"):
        if not (folder / name).is_file():
            raise _damaged(folder, f"no {name}")
    try:
        account = read_json(folder / ACCOUNT_FILE)
        sizes = {str(name): int(size) for name, size in account["shards"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder, f"{ACCOUNT_FILE} that cannot be read ({error})") from error
    for name, size in sizes.items():
        found = (folder / name).stat().st_size if (folder / name).is_file() else None
        if found != size:
            received = "is missing" if found is None else f"has {found:,} bytes, not {size:,}"
            raise _damaged(folder, f"{name} {received}")
    info = open_tfds(folder).info
    try:
        return Dataset(
            folder=folder,
            labels=list(info.features["label"].names),
            counts={name: int(split.num_examples) for name, split in info.splits.items()},
            has_pairs="text_pair" in info.features,
            account=account,
            _shards={
                name: [str(path) for path in split.filepaths] for name, split in info.splits.items()
            },
        )
    except (KeyError, AttributeError, ValueError) as error:
        raise _damaged(folder, f"features.json without what we write ({error})") from error


def write_dataset(
    folder: Path, splits: Mapping[str, Sequence[Row]], *, labels: Sequence[str], account: dict
) -> None:
    """Write rows as a TFDS builder folder, and the account beside.

    Args:
        folder: an existing folder; `tfds.builder_from_directory` reads it afterwards.
        splits: rows by split, each with a label.
        labels: names of the classes; a row's label becomes its index here.
        account: written as `account.json`, with the sizes of the shards added.
    """
    import tensorflow_datasets as tfds

    has_pairs = any(row.text_pair is not None for rows in splits.values() for row in rows)
    infos = [_write_split(folder, name, rows, labels) for name, rows in splits.items()]
    texts = ["text", "text_pair", "origin"] if has_pairs else ["text", "origin"]
    features = {name: tfds.features.Text() for name in texts}
    # This writes three small files; the examples themselves we write, as its own serializer
    # takes three times as long for rows of three plain values.
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder),
        features=tfds.features.FeaturesDict(
            {**features, "label": tfds.features.ClassLabel(names=list(labels))}
        ),
        split_infos=infos,
        description="Labelled texts, cleaned and split by tfmodel.",
        check_data=False,
    )
    shards = {path.name: path.stat().st_size for path in sorted(folder.glob(f"{_NAME}-*"))}
    write_json(folder / ACCOUNT_FILE, account | {"shards": shards})


def _write_split(folder: Path, name: str, rows: Sequence[Row], labels: Sequence[str]) -> Any:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    index = {label: number for number, label in enumerate(labels)}
    examples = [_serialize(row, index) for row in rows]
    size = sum(map(len, examples))
    lengths = rows_per_shard(len(examples), total_bytes=size)
    remaining = iter(examples)
    for shard, length in enumerate(lengths):
        path = folder / f"{_NAME}-{name}.tfrecord-{shard:05d}-of-{len(lengths):05d}"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for example in itertools.islice(remaining, length):
                writer.write(example)
    return tfds.core.SplitInfo(name=name, shard_lengths=lengths, num_bytes=size)


def rows_per_shard(rows: int, *, total_bytes: int) -> list[int]:
    """Spread rows evenly over shards of at most some 64 MB; give the rows of each."""
    shards = min(max(1, math.ceil(total_bytes / _SHARD_BYTES)), rows)
    return [rows // shards + (shard < rows % shards) for shard in range(shards)]


def _serialize(row: Row, index: Mapping[str, int]) -> bytes:
    import tensorflow as tf

    def text_feature(text: str) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()]))

    label = tf.train.Int64List(value=[index[row.label or ""]])
    feature = {
        "text": text_feature(row.text),
        "label": tf.train.Feature(int64_list=label),
        "origin": text_feature(row.origin),
    }
    if row.text_pair is not None:
        feature["text_pair"] = text_feature(row.text_pair)
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    return example.SerializeToString(deterministic=True)


def _damaged(folder: Path, received: str) -> ConfigError:
    return ConfigError(
        f"{folder}: expected a complete dataset that tfmodel wrote. Received: {received}. "
        f"Remove the folder and write it again by `tfmodel data CONFIG`; to use a TFDS folder of "
        f"your own, name it as data.train."
    )
