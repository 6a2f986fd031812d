"""What models say of rows that they did not train on: one model a fold."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfmodel.data import Split
from tfmodel.run_folder import read_json, write_aside, write_json

_log = logging.getLogger(__name__)

_KEY_FILE = "key.json"


def out_of_fold_probabilities(
    split: Split,
    fold_of: np.ndarray,
    train_and_score: Callable[[Split, Split, Path, str], np.ndarray],
    *,
    folder: Path,
    key: str,
) -> np.ndarray:
    """Score every row by a model that was trained on the other folds.

    Each fold's scores are kept when they are there, so what was killed and is called again with
    the same key goes on with the fold it was in.

    Args:
        split: n rows.
        fold_of: int (n,), the fold of each row, from `data.folds.fold_numbers`.
        train_and_score: (rows to train on, rows to score, folder for checkpoints, key of the
            fold) -> float (rows to score, C), the probabilities; called once a fold.
        folder: where scores and checkpoints are kept; of another key it is emptied first.
        key: fingerprint of everything that the result depends on.

    Returns:
        float32 (n, C).
    """
    folder = Path(folder)
    if not (folder / _KEY_FILE).exists() or read_json(folder / _KEY_FILE) != key:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(folder / _KEY_FILE, key)
    folds = int(fold_of.max()) + 1
    parts: list[np.ndarray] = []
    for fold in range(folds):
        path = folder / f"fold_{fold + 1}.npy"
        if path.exists():
            _log.info("model %d of %d: done before", fold + 1, folds)
        else:
            began = time.perf_counter()
            held_out, others = np.flatnonzero(fold_of == fold), np.flatnonzero(fold_of != fold)
            _log.info(
                "model %d of %d: trains on %s rows, judges %s",
                fold + 1,
                folds,
                f"{len(others):,}",
                f"{len(held_out):,}",
            )
            checkpoints = folder / f"checkpoints_{fold + 1}"
            scores = train_and_score(
                select_rows(split, others),
                select_rows(split, held_out),
                checkpoints,
                f"{key}: fold {fold + 1}",
            )
            with write_aside(path) as aside, open(aside, "wb") as file:
                np.save(file, scores.astype(np.float32), allow_pickle=False)
            shutil.rmtree(checkpoints, ignore_errors=True)
            left = (folds - fold - 1) * (time.perf_counter() - began)
            _log.info("model %d of %d: done, about %d s for the others", fold + 1, folds, left)
        parts.append(np.load(path, allow_pickle=False))
    found = np.empty((len(split.texts), parts[0].shape[1]), np.float32)
    for fold, scores in enumerate(parts):
        found[fold_of == fold] = scores
    return found


def select_rows(split: Split, rows: np.ndarray) -> Split:
    """Give some rows of a split, in the order asked for.

    Args:
        split: n rows.
        rows: int (m,), indices of rows.
    """
    chosen = rows.tolist()
    return dataclasses.replace(
        split,
        texts=[split.texts[row] for row in chosen],
        text_pairs=None if split.text_pairs is None else [split.text_pairs[r] for r in chosen],
        labels=split.labels[rows]
        if isinstance(split.labels, np.ndarray)
        else [split.labels[row] for row in chosen],
        origins=[split.origins[row] for row in chosen],
    )
