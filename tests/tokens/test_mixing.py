"""Which task a step is of: the rule, the draws, and what a continued training is given.

Run: pytest tests/tokens/test_mixing.py
"""

import numpy as np
import pytest

from tfmodel.tokens.batches import Batches, TokenRows
from tfmodel.tokens.mixing import MixedBatches, mixed_batches, rates

SIZES = {"large": 900, "middle": 100, "small": 9}


def batches_of_size(rows, *, size=4, first=0):
    lengths = np.arange(rows) % 5 + 1
    splits = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.arange(splits[-1], dtype=np.int32) + first
    tokens = TokenRows(ids, splits, np.ones(rows, np.int32))
    return Batches(tokens, np.arange(rows, dtype=np.float32), batch_size=size, seed=1)


def mixed(**options):
    parts = {name: batches_of_size(rows, first=n) for n, (name, rows) in enumerate(SIZES.items())}
    return MixedBatches(parts, **{"seed": 7, **options})


def test_rates_are_those_of_the_papers():
    assert rates(SIZES, 1)["middle"] == pytest.approx(100 / 1009)
    assert rates(SIZES, 0) == pytest.approx(dict.fromkeys(SIZES, 1 / 3))
    assert rates(SIZES, 0.5)["small"] == pytest.approx(3 / (30 + 10 + 3))
    # Raffel et al. 2020: min(e, K), then to the power of 1 / T.
    assert rates(SIZES, 0.5, cap=100)["large"] == pytest.approx(10 / 23)
    # Stickland and Murray 2019: alpha is 1 - 0.8 (e - 1) / (E - 1).
    annealed = mixed(epochs=5)
    assert annealed.rates(0) == rates(SIZES, 1)
    assert annealed.rates(1) == pytest.approx(rates(SIZES, 0.8))
    assert annealed.rates(4) == pytest.approx(rates(SIZES, 0.2))
    assert mixed(epochs=1).rates(0) == rates(SIZES, 1)


@pytest.mark.parametrize("alpha", [0, 0.5, 1, "annealed"])
def test_steps_are_drawn_at_these_rates(alpha):
    epochs = 20
    batches = mixed(alpha=alpha, epochs=epochs)
    steps = batches.steps(epochs)
    assert sum(steps.values()) == epochs * len(batches)
    for name, count in steps.items():
        chances = np.array([batches.rates(epoch)[name] for epoch in range(epochs)])
        expected = len(batches) * chances.sum()
        deviation = np.sqrt(len(batches) * (chances * (1 - chances)).sum())
        assert abs(count - expected) <= 3 * deviation, name


def test_an_epoch_has_as_many_steps_as_the_tasks_have_batches():
    assert len(mixed()) == 225 + 25 + 3
    assert len(mixed(cap=90)) == 23 + 23 + 3


def test_each_task_goes_through_its_own_rows_in_its_own_order():
    batches = mixed(alpha=0.5, epochs=3)
    own = {name: [] for name in SIZES}
    starts = np.cumsum([0, *SIZES.values()])
    for epoch in range(3):
        plan, drawn = batches.plan(epoch), batches.drawn(epoch)
        assert len(plan) == len(drawn) == len(batches)
        for rows, task in zip(plan, drawn, strict=True):
            own[[*SIZES][task]].append(rows - starts[task])
    for name, found in own.items():
        alone = batches.tasks[name]
        expected = [
            rows for epoch in range(len(found) // len(alone) + 1) for rows in alone.plan(epoch)
        ]
        assert len(found) > len(alone) or name == "large"
        for mine, theirs in zip(found, expected, strict=False):
            np.testing.assert_array_equal(mine, theirs)


def test_a_continued_epoch_is_given_the_same_steps():
    whole, later = mixed(epochs=2), mixed(epochs=2)
    list(whole)
    expected = list(whole)[40:]
    later.epoch, later.skip = 1, 40
    found = list(later.dataset())
    assert len(found) == len(expected) == len(later) - 40
    for (task, parts), (number, given) in zip(found, expected, strict=True):
        assert int(task) == number
        for mine, theirs in zip(parts, given, strict=True):
            np.testing.assert_array_equal(mine[0]["token_ids"], theirs[0]["token_ids"])
            np.testing.assert_array_equal(mine[1], theirs[1])
        # Of the other tasks there is nothing.
        assert [len(part[1]) > 0 for part in parts] == [n == int(task) for n in range(3)]


def test_what_changes_the_order_changes_the_fingerprint():
    found = {
        mixed(**options).fingerprint
        for options in ({}, {"seed": 8}, {"alpha": 1}, {"cap": 5}, {"epochs": 2})
    }
    assert len(found) == 5 and mixed().fingerprint in found


def test_a_row_is_known_by_its_task():
    assert mixed().row(901) == {"task": "middle", "row": 1, "target": 1.0, "token_ids": [2, 3]}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"alpha": 2}, "alpha must be from 0, all tasks alike, to 1"),
        ({"alpha": "square"}, "or annealed. Received: square"),
        ({"epochs": 0}, "Expected two tasks or more with rows each, 1 epoch or more"),
        ({"cap": 0}, "cap 0"),
    ],
)
def test_values_out_of_range_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        mixed(**options)


def test_one_task_or_other_data_is_refused():
    with pytest.raises(ValueError, match="Received: topic"):
        mixed_batches({"topic": batches_of_size(5)})
    with pytest.raises(ValueError, match="Expected the dataset that tm.batches"):
        mixed_batches({"topic": batches_of_size(5), "stars": [1, 2]})
