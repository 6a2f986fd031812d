"""The dataset on disk: a TFDS builder folder, with its account and its dropped rows beside."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.data.account import ACCOUNT_FILE
from tfmodel.data.folders import open_tfds
from tfmodel.data.rows import Row
from tfmodel.data.targets import Target
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


class DatasetWriter:
    """Writes rows as a TFDS builder folder, split by split in any order; a context.

    Args:
        folder: an existing folder; `tfds.builder_from_directory` reads it afterwards.
        sizes: rows and bytes of each split, known before; decide the shards.
        target: the kind of label.
        names: of the classes; a row's label becomes its index here.
        has_pairs: whether rows have a second text.
    """

    def __init__(
        self,
        folder: Path,
        sizes: Mapping[str, tuple[int, int]],
        *,
        target: Target,
        names: Sequence[str],
        has_pairs: bool,
    ):
        self._folder = folder
        self._target = target
        self._names = list(names)
        self._index = {name: number for number, name in enumerate(names)}
        self._has_pairs = has_pairs
        self._splits = {
            name: _SplitWriter(folder, name, rows_per_shard(rows, total_bytes=size))
            for name, (rows, size) in sizes.items()
        }

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for split in self._splits.values():
            split.close()

    def write(self, name: str, row: Row) -> None:
        """Write a row to a split."""
        self._splits[name].write(self._serialize(row))

    def finish(self, account: dict) -> None:
        """Write the metadata, and `account.json` with the sizes of the shards added."""
        import tensorflow_datasets as tfds

        for split in self._splits.values():
            split.close()
        texts = ["text", "text_pair", "origin"] if self._has_pairs else ["text", "origin"]
        features = {name: tfds.features.Text() for name in texts}
        # This writes three small files; the examples themselves we write, as its own serializer
        # takes three times as long for rows of three plain values.
        tfds.folder_dataset.write_metadata(
            data_dir=str(self._folder),
            features=tfds.features.FeaturesDict(features | self._target.features(self._names)),
            split_infos=[
                tfds.core.SplitInfo(name=name, shard_lengths=split.lengths, num_bytes=split.bytes)
                for name, split in self._splits.items()
            ],
            description="Texts, cleaned and split by tfmodel.",
            check_data=False,
        )
        shards = {
            path.name: path.stat().st_size for path in sorted(self._folder.glob(f"{_NAME}-*"))
        }
        write_json(self._folder / ACCOUNT_FILE, account | {"shards": shards})

    def _serialize(self, row: Row) -> bytes:
        values: dict[str, list] = {"text": [row.text.encode()], "origin": [row.origin.encode()]}
        if self._has_pairs:
            values["text_pair"] = [(row.text_pair or "").encode()]
        return _serialize(values | self._target.encode(row.label, self._index))


def _serialize(values: Mapping[str, list]) -> bytes:
    import tensorflow as tf

    features = {}
    for name, value in values.items():
        if not value:
            continue  # absent is what TFDS reads as an empty sequence
        if isinstance(value[0], bytes):
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
        elif isinstance(value[0], float):
            features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=value))
        else:
            features[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=value))
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


class _SplitWriter:
    def __init__(self, folder: Path, name: str, lengths: list[int]):
        import tensorflow as tf

        self.lengths = lengths
        self.bytes = 0
        self._open = tf.io.TFRecordWriter
        self._paths = [
            folder / f"{_NAME}-{name}.tfrecord-{shard:05d}-of-{len(lengths):05d}"
            for shard in range(len(lengths))
        ]
        self._shard = -1
        self._left = 0
        self._writer: Any = None

    def write(self, example: bytes) -> None:
        if self._left == 0:
            self.close()
            self._shard += 1
            self._left = self.lengths[self._shard]
            self._writer = self._open(str(self._paths[self._shard]))
        self._writer.write(example)
        self._left -= 1
        self.bytes += len(example)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def rows_per_shard(rows: int, *, total_bytes: int) -> list[int]:
    """Spread rows evenly over shards of at most some 64 MB; give the rows of each."""
    shards = max(1, min(math.ceil(total_bytes / _SHARD_BYTES), rows))
    return [rows // shards + (shard < rows % shards) for shard in range(shards)]


def _damaged(folder: Path, received: str) -> ConfigError:
    return ConfigError(
        f"{folder}: expected a complete dataset that tfmodel wrote. Received: {received}. "
        f"Remove the folder and write it again by `tfmodel data CONFIG`; to use a TFDS folder of "
        f"your own, name it as data.train."
    )
