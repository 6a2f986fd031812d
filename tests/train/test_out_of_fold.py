"""Scores out of fold: each row by a model that did not see it; what was done is not done again.

Run: pytest tests/train/test_out_of_fold.py
"""

import logging

import numpy as np
import pytest

from tfmodel.data import Split
from tfmodel.train.out_of_fold import out_of_fold_probabilities, select_rows

FOLD_OF = np.array([0, 1, 2, 0, 1, 2, 0])
KEY = "some key"


def split(*, pairs=False):
    rows = range(len(FOLD_OF))
    return Split(
        texts=[f"text {row}" for row in rows],
        text_pairs=[f"pair {row}" for row in rows] if pairs else None,
        labels=np.array([*rows], np.int32),
        origins=[f"{row}" for row in rows],
    )


class Trainer:
    """Scores a row by its number, and remembers what it was trained on."""

    def __init__(self, fails_at=None):
        self.fails_at = fails_at
        self.calls = []

    def __call__(self, rows, held_out, checkpoints, key):
        if len(self.calls) == self.fails_at:
            checkpoints.mkdir(parents=True)
            (checkpoints / "state").write_text(key)
            raise KeyboardInterrupt
        self.calls.append((rows, held_out, checkpoints, key))
        share = held_out.labels / 10
        return np.stack([share, 1 - share], axis=1)


def test_each_row_is_scored_once_by_a_model_that_did_not_see_it(tmp_path):
    trainer = Trainer()
    found = out_of_fold_probabilities(split(), FOLD_OF, trainer, folder=tmp_path / "f", key=KEY)
    assert found.shape == (7, 2) and found.dtype == np.float32
    assert found[:, 0] == pytest.approx(np.arange(7) / 10)
    assert len(trainer.calls) == 3
    for rows, held_out, *_ in trainer.calls:
        assert sorted([*rows.texts, *held_out.texts]) == split().texts
    assert len({key for *_, key in trainer.calls}) == 3


def test_what_was_killed_goes_on_with_its_fold(tmp_path, caplog):
    caplog.set_level(logging.INFO, "tfmodel")
    with pytest.raises(KeyboardInterrupt):
        out_of_fold_probabilities(split(), FOLD_OF, Trainer(1), folder=tmp_path, key=KEY)
    # The checkpoints of the fold it was in are where the next start looks for them.
    trainer = Trainer()
    found = out_of_fold_probabilities(split(), FOLD_OF, trainer, folder=tmp_path, key=KEY)
    assert found[:, 0] == pytest.approx(np.arange(7) / 10)
    assert "model 1 of 3: done before" in caplog.text
    (_, held_out, checkpoints, key), _ = trainer.calls
    assert held_out.texts == ["text 1", "text 4"] and "fold 2" in key
    assert not checkpoints.exists()  # done with
    again = Trainer()
    out_of_fold_probabilities(split(), FOLD_OF, again, folder=tmp_path, key=KEY)
    assert again.calls == []


def test_scores_of_other_data_are_not_taken(tmp_path):
    out_of_fold_probabilities(split(), FOLD_OF, Trainer(), folder=tmp_path, key=KEY)
    trainer = Trainer()
    out_of_fold_probabilities(split(), FOLD_OF, trainer, folder=tmp_path, key="another")
    assert len(trainer.calls) == 3


def test_rows_keep_their_pairs_labels_and_origins():
    chosen = select_rows(split(pairs=True), np.array([4, 0]))
    assert chosen.texts == ["text 4", "text 0"] and chosen.text_pairs == ["pair 4", "pair 0"]
    assert chosen.labels.tolist() == [4, 0] and chosen.origins == ["4", "0"]
    assert select_rows(split(), np.array([1])).text_pairs is None
