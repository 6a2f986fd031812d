"""How similar texts are: exactly, by the runs of characters they share, and by hashes of these.

Source: Broder 1997 (resemblance, MinHash); Leskovec, Rajaraman and Ullman 2014, chapter 3 (bands).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.data.parts import Parts, RowReader
from tfmodel.data.ranks import label_hash
from tfmodel.data.rows import compared_text
from tfmodel.run_folder import write_aside

SHINGLE_CHARACTERS = 5
PERMUTATIONS = 128
_GAPS = re.compile(r"[\W_]+")


def shingles(text: str) -> set[bytes]:
    """Cut a text into overlapping runs of 5 characters, without case and punctuation."""
    plain = _GAPS.sub(" ", text.casefold()).strip() or text.casefold()
    last = max(1, len(plain) - SHINGLE_CHARACTERS + 1)
    return {
        plain[start : start + SHINGLE_CHARACTERS].encode("utf-8", "replace")
        for start in range(last)
    }


def similarity(one: set[bytes], other: set[bytes], *, least: float = 0.0) -> float:
    """Jaccard similarity of two sets of shingles, in [0, 1]; 0 if their sizes rule out `least`."""
    if min(len(one), len(other)) < least * max(len(one), len(other)):
        return 0.0
    common = len(one & other)
    return common / max(1, len(one) + len(other) - common)


def bands_of(texts: Sequence[str], threshold: float) -> np.ndarray:
    """Hash texts so that similar ones are likely to share a band.

    Args:
        texts: n texts; of a pair both, on two lines.
        threshold: similarity from which two texts are near duplicates, in (0, 1].

    Returns:
        uint64 (n, bands). At the threshold 8 or 9 pairs of 10 share a band; above it nearly all.

    Raises:
        ConfigError: datasketch is not installed.
    """
    datasketch = require_datasketch()
    signatures = datasketch.MinHash.generator(
        (list(shingles(text)) for text in texts),
        num_perm=PERMUTATIONS, seed=1, hashfunc=zlib.crc32, scheme="affine32",
    )  # fmt: skip
    hashes = np.array([each.hashvalues for each in signatures], np.uint64)
    return bands_of_signatures(hashes.reshape(-1, PERMUTATIONS), threshold)


def bands_of_signatures(hashes: np.ndarray, threshold: float) -> np.ndarray:
    """Cut MinHash signatures into bands.

    Args:
        hashes: uint64 (n, 128).
        threshold: similarity from which two texts are near duplicates, in (0, 1].

    Returns:
        uint64 (n, bands).
    """
    count, rows = band_shape(threshold)
    hashes = hashes[:, : count * rows].reshape(-1, count, rows)
    # Each band gets another start: equal values in two bands are no likeness.
    mixed = np.broadcast_to(np.arange(1, count + 1, dtype=np.uint64), hashes.shape[:2]).copy()
    for row in range(rows):
        mixed = mix(mixed ^ hashes[:, :, row])
    return mixed


def require_datasketch():
    """Import datasketch.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import datasketch
    except ImportError:
        raise ConfigError(
            "data.near_duplicates: expected the package datasketch. Received: an installation "
            "without it. Install it: pip install 'tfmodel[dedupe]', or remove the key."
        ) from None
    return datasketch


@lru_cache(maxsize=8)
def band_shape(threshold: float) -> tuple[int, int]:
    """Choose bands and rows a band; a missed pair weighs nine times a comparison for nothing.

    Source: Zhu et al. 2016 (LSH Ensemble), as datasketch's `MinHashLSH` chooses them.
    """
    steps = np.arange(0.0005, 1, 0.001)
    below, above = steps[steps < threshold], steps[steps >= threshold]
    best, shape = np.inf, (1, 1)
    for bands in range(1, PERMUTATIONS + 1):
        for rows in range(1, PERMUTATIONS // bands + 1):
            for_nothing = (1 - (1 - below**rows) ** bands).sum()
            missed = ((1 - above**rows) ** bands).sum()
            if 0.1 * for_nothing + 0.9 * missed < best:
                best, shape = 0.1 * for_nothing + 0.9 * missed, (bands, rows)
    return shape


def mix(values: np.ndarray) -> np.ndarray:
    """Spread the bits of 64-bit values (the finalizer of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def compare_pairs(parts_folder: str, path: str, threshold: float) -> None:
    """Compare the texts of pairs of rows: a worker's job.

    Args:
        parts_folder: where the parts are.
        path: ids of the pairs, uint64 (n, 2); `.answers.npy` beside it receives float64 (n, 2):
            the similarity, and 1 where the labels are equal.
        threshold: from which pairs are near duplicates; less similar lengths are not compared.
    """
    reader = RowReader(Parts(Path(parts_folder)))

    @lru_cache(maxsize=4_096)
    def looked_at(row_id: int) -> tuple[set[bytes], int]:
        row = reader(row_id)
        return shingles(compared_text(row)), label_hash(row)

    answers = []
    for first, later in np.load(path).tolist():
        one, label = looked_at(first)
        other, other_label = looked_at(later)
        answers.append((similarity(one, other, least=threshold), label == other_label))
    reader.close()
    with write_aside(Path(path).with_suffix(".answers.npy")) as aside, open(aside, "wb") as file:
        np.save(file, np.array(answers, np.float64).reshape(-1, 2))
