"""How similar documents are: by the runs of 5 words they share, and by hashes of these.

Source: Lee et al. 2022, "Deduplicating Training Data Makes Language Models Better", section 4.2
(MinHash over 5-grams of words, then the Jaccard similarity itself). Runs of 5 characters, by which
rows are compared, are no measure here: long texts of one language share most of them anyhow.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfmodel.data.corpus.words import hashed_runs, hashed_words, pieces_a_word
from tfmodel.data.parts import Parts, RowReader
from tfmodel.data.similarity import PERMUTATIONS, bands_of_signatures, mix
from tfmodel.run_folder import write_aside

WORDS = 5  # of a run
_BLOCK = 2**12
_CACHED_RUNS = 2**22  # 32 MB
# Of 32 bits: processors multiply twice as many of these at a time.
_FACTORS = (mix(np.arange(1, PERMUTATIONS + 1, dtype=np.uint64)) | np.uint64(1)).astype(np.uint32)
_ADDED = mix(np.arange(1_001, PERMUTATIONS + 1_001, dtype=np.uint64)).astype(np.uint32)


def runs_of(text: str) -> np.ndarray:
    """Hash the distinct runs of 5 words in a text: uint64, sorted; a short text is one run."""
    hashes, _ = hashed_words(text)
    length = WORDS * pieces_a_word(text)
    return np.unique(hashed_runs(hashes, min(length, max(1, len(hashes)))))


def similarity(one: np.ndarray, other: np.ndarray, *, least: float = 0.0) -> float:
    """Jaccard similarity of two texts' runs, in [0, 1]; 0 if their numbers rule out `least`."""
    if min(len(one), len(other)) < least * max(len(one), len(other)):
        return 0.0
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / max(1, len(one) + len(other) - common)


def bands_of(texts: Sequence[str], threshold: float) -> np.ndarray:
    """Hash texts so that similar ones are likely to share a band.

    Args:
        texts: n texts.
        threshold: similarity from which two texts are near duplicates, in (0, 1].

    Returns:
        uint64 (n, bands). A text without words shares no band.
    """
    signatures = np.empty((len(texts), PERMUTATIONS), np.uint64)
    for number, text in enumerate(texts):
        runs = runs_of(text)
        if len(runs) == 0:
            runs = mix(np.frombuffer(text.encode()[:800].ljust(8, b"\0")[:8], np.uint64))
        signatures[number] = _signature(runs)
    return bands_of_signatures(signatures, threshold)


def _signature(runs: np.ndarray) -> np.ndarray:
    """Give the least of each of 128 hashes of the runs: MinHash, by multiplication and shift."""
    least = np.full(PERMUTATIONS, np.iinfo(np.uint32).max, np.uint32)
    for start in range(0, len(runs), _BLOCK):
        block = (runs[start : start + _BLOCK] >> np.uint64(32)).astype(np.uint32)
        hashes = _FACTORS[:, np.newaxis] * block
        hashes += _ADDED[:, np.newaxis]
        least = np.minimum(least, hashes.min(axis=1))
    return least.astype(np.uint64)


def compare_documents(parts_folder: str, path: str, threshold: float) -> None:
    """Compare the texts of pairs of documents: a worker's job, as `compare_pairs` is.

    Args:
        parts_folder: where the parts are.
        path: ids of the pairs, uint64 (n, 2); `.answers.npy` beside it receives float64 (n, 2):
            the similarity, and 1, as all documents have the same label.
        threshold: from which pairs are near duplicates.
    """
    reader = RowReader(Parts(Path(parts_folder)))
    cache = RunsCache(lambda row_id: reader(row_id).text)
    answers = [
        (similarity(cache(first), cache(later), least=threshold), 1)
        for first, later in np.load(path).tolist()
    ]
    reader.close()
    with write_aside(Path(path).with_suffix(".answers.npy")) as aside, open(aside, "wb") as file:
        np.save(file, np.array(answers, np.float64).reshape(-1, 2))


class RunsCache:
    """Gives the runs of texts by a key; keeps the latest, up to 32 MB.

    Args:
        text_of: gives the text of a key.
    """

    def __init__(self, text_of):
        self._text_of = text_of
        self._kept: collections.OrderedDict = collections.OrderedDict()
        self._size = 0

    def __call__(self, key) -> np.ndarray:
        """Give the runs of a text."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        runs = self._kept[key] = runs_of(self._text_of(key))
        self._size += len(runs)
        while self._size > _CACHED_RUNS and len(self._kept) > 1:
            self._size -= len(self._kept.popitem(last=False)[1])
        return runs
