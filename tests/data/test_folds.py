"""Folds: sizes, classes in proportion, the same for a seed whatever the order.

Run: pytest tests/data/test_folds.py
"""

import random

import numpy as np
import pytest

from tfmodel.data.folds import fold_numbers

TEXTS = [f"text {number}" for number in range(107)]
LABELS = np.array([0] * 60 + [1] * 30 + [3] * 16 + [4])


@pytest.mark.parametrize("folds", [2, 5, 107])
def test_folds_and_classes_in_them_are_of_equal_size(folds):
    found = fold_numbers(TEXTS, LABELS, folds, seed=0)
    assert found.shape == (107,) and {*found} == {*range(folds)}
    for members in (LABELS >= 0, *(LABELS == label for label in range(5))):
        sizes = np.bincount(found[members], minlength=folds)
        assert sizes.max() - sizes.min() <= 1 and sizes.sum() == members.sum()


def test_a_row_keeps_its_fold_whatever_the_order():
    found = dict(zip(TEXTS, fold_numbers(TEXTS, LABELS, 4, seed=7), strict=True))
    order = list(range(len(TEXTS)))
    random.Random(0).shuffle(order)
    texts = [TEXTS[row] for row in order]
    again = fold_numbers(texts, LABELS[order], 4, seed=7)
    assert dict(zip(texts, again, strict=True)) == found


def test_the_seed_and_the_second_text_decide():
    def of(**changes):
        return fold_numbers(TEXTS, LABELS, 4, **{"seed": 0, **changes}).tolist()

    assert of() == of()
    pairs = [f"pair {number}" for number in range(107)]
    assert len({tuple(of()), tuple(of(seed=1)), tuple(of(text_pairs=pairs))}) == 3
    same = fold_numbers(["the same"] * 107, LABELS, 4, seed=0, text_pairs=pairs)
    assert len({*same}) == 4
    # Not the order of the rows, nor one that shows in their numbers.
    assert of() != sorted(of()) and of() != [row % 4 for row in range(107)]


@pytest.mark.parametrize("folds", [0, 1, 108])
def test_fewer_than_two_folds_or_more_than_rows_are_refused(folds):
    with pytest.raises(ValueError, match=f"from 2 to the 107 rows. Received: {folds}"):
        fold_numbers(TEXTS, LABELS, folds, seed=0)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="Received: 107, 106 and 107"):
        fold_numbers(TEXTS, LABELS[1:], 4, seed=0)
    with pytest.raises(ValueError, match="Received: 107, 107 and 1"):
        fold_numbers(TEXTS, LABELS, 4, seed=0, text_pairs=["one"])
