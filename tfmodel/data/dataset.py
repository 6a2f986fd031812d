"""The dataset on disk: a TFDS builder folder, with its account and its dropped rows beside."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.data.account import ACCOUNT_FILE
from tfmodel.data.reading.folders import open_tfds
from tfmodel.data.targets import TARGETS
from tfmodel.run_folder import read_json

if TYPE_CHECKING:
    import tensorflow as tf

_READ_BATCH = 4_096
_STREAMED = 32  # documents may be long
_TEXTS = ("text", "text_pair", "origin")


@dataclasses.dataclass(frozen=True)
class Split:
    """The rows of a split, in memory.

    Attributes:
        texts: one string a row.
        text_pairs: the second text of each row; None where there are no pairs.
        labels: for classes int32 `(rows,)`, indices into the dataset's `labels`; for numbers
            float32 `(rows,)`; else a list of the rows' labels, as `tfmodel.data.targets` has them.
        origins: where each row stood: `train.csv:12`.
    """

    texts: list[str]
    text_pairs: list[str] | None
    labels: np.ndarray | list
    origins: list[str]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A prepared dataset.

    Attributes:
        folder: the TFDS builder folder.
        target: what a label is: class, classes, number, tags, spans, answers or none.
        labels: names of the classes (tags, kinds of span), in the order of their indices.
        counts: rows by split: train, dev, and test where there is one.
        has_pairs: whether rows have a `text_pair`.
        account: raw rows = kept + dropped by reason, in total and by file; what cleaning changed.
    """

    folder: Path
    target: str
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
                    columns[key].extend(_as_list(values))
        except (tf.errors.OpError, OSError) as error:
            raise _damaged(self.folder, str(error)[:300]) from error
        if len(columns["text"]) != self.counts[name]:
            found = f"{len(columns['text']):,} rows in {name}, not {self.counts[name]:,}"
            raise _damaged(self.folder, found)
        pairs = [raw.decode() for raw in columns["text_pair"]] if self.has_pairs else None
        return Split(
            texts=[raw.decode() for raw in columns["text"]],
            text_pairs=pairs,
            labels=self._labels(columns),
            origins=[raw.decode() for raw in columns["origin"]],
        )

    def stream_texts(self, name: str) -> Iterator[str]:
        """Give the texts of a split, in the order they were written; a few are in memory.

        Raises:
            ConfigError: there is no such split, or its files are damaged.
        """
        import tensorflow as tf

        count = 0
        try:
            for batch in self._read(name, at_a_time=_STREAMED).as_numpy_iterator():
                for raw in batch["text"].tolist():
                    count += 1
                    yield raw.decode()
        except (tf.errors.OpError, OSError) as error:
            raise _damaged(self.folder, str(error)[:300]) from error
        if count != self.counts[name]:
            found = f"{count:,} rows in {name}, not {self.counts[name]:,}"
            raise _damaged(self.folder, found)

    def _labels(self, columns: Mapping[str, list]) -> np.ndarray | list:
        if self.target == "class":
            return np.array(columns["label"], dtype=np.int32)
        if self.target == "number":
            return np.array(columns["label"], dtype=np.float32)
        decode = TARGETS[self.target].decode
        names = [name for name in columns if name not in _TEXTS]
        rows = zip(*(columns[name] for name in names), strict=True)
        if not names:
            return [None] * len(columns["text"])
        return [
            decode(
                {
                    name: value if isinstance(value, list) else [value]
                    for name, value in zip(names, row, strict=True)
                },
                self.labels,
            )
            for row in rows
        ]

    def to_tf(self, name: str) -> tf.data.Dataset:
        """Give a split as a `tf.data.Dataset` of single rows, in the order they were written.

        Nothing but a few batches is in memory at a time.

        Returns:
            `({"text": string, ["text_pair": string]}, label)`: label an int32 scalar for a class,
            float32 for a number, else a dict of the TFDS features that hold it; without labels
            the texts alone.

        Raises:
            ConfigError: there is no such split.
        """
        import tensorflow as tf

        def to_inputs_and_label(batch: dict) -> Any:
            inputs = {key: batch[key] for key in ("text", "text_pair") if key in batch}
            label = {key: value for key, value in batch.items() if key not in _TEXTS}
            if self.target == "class":
                return inputs, tf.cast(batch["label"], tf.int32)
            if self.target == "number":
                return inputs, batch["label"]
            return (inputs, label) if label else inputs

        dataset = self._read(name).map(to_inputs_and_label).unbatch()
        return dataset.apply(tf.data.experimental.assert_cardinality(self.counts[name]))

    def _read(self, name: str, *, at_a_time: int = _READ_BATCH) -> tf.data.Dataset:
        import tensorflow as tf

        if name not in self.counts:
            raise ConfigError(
                f"{self.folder}: expected one of the splits {', '.join(self.counts)}. "
                f"Received: {name}. Name a test file by data.test, or only data.train, to have one."
            )
        specs = self._feature_specs()
        records = tf.data.TFRecordDataset(self._shards[name])  # in order: one reader
        return records.batch(at_a_time).map(lambda raw: tf.io.parse_example(raw, specs))

    def _feature_specs(self) -> dict[str, Any]:
        import tensorflow as tf

        texts = ["text", "text_pair", "origin"] if self.has_pairs else ["text", "origin"]
        specs: dict[str, Any] = {key: tf.io.FixedLenFeature([], tf.string) for key in texts}
        for key, feature in TARGETS[self.target].features(self.labels).items():
            dtype = feature.tf_dtype if feature.tf_dtype != tf.int32 else tf.int64
            is_single = feature.shape == ()
            specs[key] = (
                tf.io.FixedLenFeature([], dtype)
                if is_single
                else tf.io.RaggedFeature(dtype, row_splits_dtype=tf.int64)
            )
        return specs


def _as_list(values: Any) -> list:
    """Turn a batch's column into a list a row; rows of several lengths come as arrays."""
    rows = values.to_list() if hasattr(values, "to_list") else values.tolist()
    return [row.tolist() if isinstance(row, np.ndarray) else row for row in rows]


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
        if missing := set(TARGETS[account["target"]].features([])) - set(info.features):
            raise KeyError(", ".join(sorted(missing)))
        return Dataset(
            folder=folder,
            target=account["target"],
            labels=list(account["labels"]),
            counts={name: int(split.num_examples) for name, split in info.splits.items()},
            has_pairs="text_pair" in info.features,
            account=account,
            _shards={
                name: [str(path) for path in split.filepaths] for name, split in info.splits.items()
            },
        )
    except (KeyError, AttributeError, ValueError) as error:
        raise _damaged(folder, f"features.json without what we write ({error})") from error


def _damaged(folder: Path, received: str) -> ConfigError:
    return ConfigError(
        f"{folder}: expected a complete dataset that tfmodel wrote. Received: {received}. "
        f"Remove the folder and write it again by `tfmodel data CONFIG`; to use a TFDS folder of "
        f"your own, name it as data.train."
    )
