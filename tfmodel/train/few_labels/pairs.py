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
    generator = np.random.default_rng(seed)
    firsts, seconds, same = [], [], []
    for row, label in enumerate(labels):
        alike = np.flatnonzero(labels == label)
        alike = alike[alike != row] if len(alike) > 1 else alike
        others = np.flatnonzero(labels != label)
        for chosen, number in ((alike, 1.0), (others, 0.0)):
            firsts += [row] * pairs
            seconds += generator.choice(chosen, pairs).tolist()
            same += [number] * pairs
    return Split(
        texts=[rows.texts[row] for row in firsts],
        text_pairs=[rows.texts[row] for row in seconds],
        labels=np.array(same, np.float32),
        origins=[rows.origins[row] for row in firsts],
    )
