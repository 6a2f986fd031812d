"""A prepared corpus: documents on disk, read as a stream."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from tfmodel.config import ConfigError
from tfmodel.data.dataset import Dataset, load_dataset


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A prepared corpus: a TFDS folder of texts without labels.

    Attributes:
        folder: the TFDS builder folder.
        counts: documents by split, `train` and `dev`.
        account: raw documents = kept + dropped by reason; what cleaning changed; lines that went.
        dataset: the same as a `Dataset`, for whoever wants `tf.data`.
    """

    folder: Path
    counts: dict[str, int]
    account: dict
    dataset: Dataset

    def texts(self, split: str) -> Iterator[str]:
        """Give the texts of a split in the order they were written; a few are held at a time.

        Raises:
            ConfigError: there is no such split, or its files are damaged.
        """
        return self.dataset.stream_texts(split)


def load_corpus(folder: str | Path) -> Corpus:
    """Open a corpus that `prepare_corpus` wrote.

    Raises:
        ConfigError: there is none, or files are missing or cut short.
    """
    dataset = load_dataset(folder)
    if dataset.target != "none" or "dev" not in dataset.counts:
        raise ConfigError(
            f"{folder}: expected a corpus, texts without labels in the splits train and dev. "
            f"Received: a dataset with the splits {', '.join(dataset.counts)} and the target "
            f"{dataset.target}. Name it as corpus.train to make a corpus of it."
        )
    return Corpus(dataset.folder, dataset.counts, dataset.account, dataset)
