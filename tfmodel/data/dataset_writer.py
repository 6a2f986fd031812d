"""Rows to a TFDS builder folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfmodel.data.account import ACCOUNT_FILE
from tfmodel.data.rows import Row
from tfmodel.data.targets import Target
from tfmodel.run_folder import write_json

_NAME = "dataset"  # what TFDS calls it
_SHARD_BYTES = 64_000_000


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
        self._kind: Any = {"target": target, "names": list(names), "has_pairs": has_pairs}
        self._serialize = RowSerializer(**self._kind)
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
        for split in self._splits.values():
            split.close()
        sizes = {name: (split.lengths, split.bytes) for name, split in self._splits.items()}
        write_metadata(self._folder, sizes, account, **self._kind)


class RowSerializer:
    """Turns a row into the bytes of a `tf.train.Example`.

    Args:
        target: the kind of label.
        names: of the classes; a row's label becomes its index here.
        has_pairs: whether rows have a second text.
    """

    def __init__(self, target: Target, names: Sequence[str], has_pairs: bool):
        self._target = target
        self._index = {name: number for number, name in enumerate(names)}
        self._has_pairs = has_pairs

    def __call__(self, row: Row) -> bytes:
        """Give the bytes of a row."""
        values: dict[str, list] = {"text": [row.text.encode()], "origin": [row.origin.encode()]}
        if self._has_pairs:
            values["text_pair"] = [(row.text_pair or "").encode()]
        return _serialize(values | self._target.encode(row.label, self._index))


def write_metadata(
    folder: Path,
    sizes: Mapping[str, tuple[list[int], int]],
    account: Mapping[str, Any],
    *,
    target: Target,
    names: Sequence[str],
    has_pairs: bool,
) -> None:
    """Write what TFDS wants beside the shards, and `account.json` with the shards' sizes added.

    Args:
        folder: where the shards are.
        sizes: rows of each shard and bytes of all examples, by split.
        account: what stands in `account.json`.
        target: the kind of label.
        names: of the classes.
        has_pairs: whether rows have a second text.
    """
    import tensorflow_datasets as tfds

    texts = ["text", "text_pair", "origin"] if has_pairs else ["text", "origin"]
    features = {name: tfds.features.Text() for name in texts}
    # This writes three small files; the examples themselves we write, as its own serializer
    # takes three times as long for rows of three plain values.
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder),
        features=tfds.features.FeaturesDict(features | target.features(names)),
        split_infos=[
            tfds.core.SplitInfo(name=name, shard_lengths=lengths, num_bytes=total)
            for name, (lengths, total) in sizes.items()
        ],
        description="Texts, cleaned and split by tfmodel.",
        check_data=False,
    )
    shards = {path.name: path.stat().st_size for path in sorted(folder.glob(f"{_NAME}-*"))}
    kind = {"target": target.name, "labels": list(names)}
    write_json(folder / ACCOUNT_FILE, {**account, **kind, "shards": shards})


def shard_name(split: str, shard: int, shards: int) -> str:
    """Name a file of a split as TFDS does."""
    return f"{_NAME}-{split}.tfrecord-{shard:05d}-of-{shards:05d}"


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
            folder / shard_name(name, shard, len(lengths)) for shard in range(len(lengths))
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
