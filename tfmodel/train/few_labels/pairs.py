"""Pairs of labelled rows: of one class, and of two."""

from __future__ import annotations

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.data import Split


def labelled_pairs(rows: Split, *, pairs: int, seed: int) -> Split:
    """Draw for each row others of its class and others of other classes.

    Args:
        rows: n rows of one text, with class ids.
        pairs: R, pairs of either kind for each row.
        seed: which ones.

    Returns:
        2 R n rows of two texts: the number is 1 for a pair of one class, 0 for one of two. A row
        that is alone in its class is paired with itself.

    Raises:
        ConfigError: all rows are of one class.

    Source: Tunstall et al. 2022, section 3.1. As in their library a pair may be drawn twice;
    deviation: a row is paired with itself only where it is alone in its class.
    """
    labels = np.asarray(rows.labels)
    if len(np.unique(labels)) < 2:
        raise ConfigError(
            "few_labels contrastive: expected training rows of two classes or more, to tell them "
            f"apart. Received: {len(labels)} rows of one."
        )
    members = {label: np.flatnonzero(labels == label) for label in np.unique(labels).tolist()}
    generator = np.random.default_rng(seed)
    firsts, seconds, same = [], [], []
    for row, label in enumerate(labels.tolist()):
        # Ranks among the rows that may be drawn, so that no list of them is made for a row.
        alike, alone = members[label], len(members[label]) == 1
        ranks = generator.integers(0, len(alike) - (not alone), pairs)
        seconds += alike[ranks + ((alike[ranks] >= row) & (not alone))].tolist()
        ranks = generator.integers(0, len(labels) - len(alike), pairs)
        before = alike - np.arange(len(alike))  # rows of other classes before each of this one
        seconds += (ranks + np.searchsorted(before, ranks, side="right")).tolist()
        firsts += [row] * (2 * pairs)
        same += [1.0] * pairs + [0.0] * pairs
    return Split(
        texts=[rows.texts[row] for row in firsts],
        text_pairs=[rows.texts[row] for row in seconds],
        labels=np.array(same, np.float32),
        origins=[rows.origins[row] for row in firsts],
    )
