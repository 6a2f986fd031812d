"""The temperature and the bias of "none of these", against what they must be."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from tfmodel.evaluate.calibration import none_bias, temperature


def drawn(seed, *, rows=4000, classes=5, sureness=1.0):
    """Targets that are drawn from the softmax of logits, and those logits times `sureness`."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (rows, classes))
    targets = (softmax(logits, axis=1).cumsum(1) > generator.random((rows, 1))).argmax(1)
    return targets, logits * sureness


@pytest.mark.parametrize("sureness", [0.4, 1.0, 3.0])
def test_logits_that_are_too_sure_are_divided_by_how_much_they_are(sureness):
    targets, logits = drawn(0, sureness=sureness)
    assert temperature(targets, softmax(logits, axis=1)) == pytest.approx(sureness, rel=0.06)


@pytest.mark.parametrize("rows", [1, 7, 300])
def test_it_is_the_least_log_loss_of_targets_that_are_nearly_sure(rows):
    targets, logits = drawn(rows, rows=rows, sureness=2.5)
    wanted = np.full((rows, 5), 1 / (rows + 2) / 4)
    wanted[np.arange(rows), targets] = 1 - 1 / (rows + 2)

    def cost(log):
        return -(wanted * log_softmax(logits / np.exp(log), axis=1)).sum()

    found = temperature(targets, softmax(logits, axis=1))
    least = minimize_scalar(cost, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9})
    assert np.log(found) == pytest.approx(least.x, abs=1e-4)


def test_a_part_without_a_mistake_does_not_ask_for_certainty():
    scores = np.full((98, 2), [0.7, 0.3])
    found = temperature(np.zeros(98, int), scores)
    assert softmax(np.log(scores) / found, axis=1)[0, 0] == pytest.approx(0.99, abs=1e-4)
    with pytest.raises(ValueError, match="at least one row"):
        temperature(np.zeros(0, int), np.zeros((0, 2)))


def with_none(seed, *, rows=400):
    """Three classes and none, whose logit is 0; rows of none have lower logits elsewhere."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 4, rows)
    logits = generator.normal(0, 1, (rows, 4))
    logits[np.arange(rows), targets] += 2.5
    logits[targets == 3] -= 0.5
    logits[:, 3] = 0
    return targets, logits


@pytest.mark.parametrize("seed", range(3))
def test_no_other_bias_finds_more(seed):
    targets, logits = with_none(seed)

    def worth(bias):
        none = (logits + [0, 0, 0, bias]).argmax(1) == 3
        return none[targets == 3].mean() - none[targets != 3].mean()

    found = none_bias(targets, softmax(logits, axis=1), 3)
    assert worth(found) >= max(worth(bias) for bias in np.linspace(-10, 10, 4001)) - 1e-12
    assert worth(found) > worth(0.0)


def test_without_rows_of_none_nearly_all_keep_their_class():
    targets, logits = with_none(0)
    kept = targets != 3
    bias = none_bias(targets[kept], softmax(logits[kept], axis=1), 3)
    none = (logits[kept] + [0, 0, 0, bias]).argmax(1) == 3
    assert none.mean() == pytest.approx(0.05, abs=0.005)
    with pytest.raises(ValueError, match="at least one row with a class"):
        none_bias(np.full(5, 3), softmax(logits[:5], axis=1), 3)
