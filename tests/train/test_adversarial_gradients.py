"""Every gradient against the paper's algorithm in NumPy, float64, by central differences."""

import keras_reference
import numpy as np
import numpy_reference as reference
import pytest
import tensorflow as tf

from tfmodel.train.adversarial.fgm import FGM
from tfmodel.train.adversarial.freelb import FreeLB
from tfmodel.train.adversarial.pgd import PGD
from tfmodel.train.adversarial.smart import SMART
from tfmodel.train.adversarial.vat import VAT

WEIGHTS, BATCH = reference.new_weights(), reference.new_batch()
LABELS = np.array([0, 2, 1], np.int32)
ROW_WEIGHTS = np.array([1.0, 0.25, 3.0])


def loss(weights, perturbation):
    return reference.cross_entropy(reference.logits(weights, BATCH, perturbation), LABELS).mean()


def weighted_loss(weights, perturbation):
    found = reference.cross_entropy(reference.logits(weights, BATCH, perturbation), LABELS)
    return (ROW_WEIGHTS * found).mean()


def found_gradients(weights=None, **pieces):
    model, variables = keras_reference.new_model(WEIGHTS)
    rows = keras_reference.new_rows(model, BATCH, LABELS, weights=weights, **pieces)
    return keras_reference.gradients(rows, variables), rows


def assert_same(found, expected):
    assert max(np.abs(each).max() for each in expected) > 0.01
    for name, one, other in zip(reference.NAMES, found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8, err_msg=name)


def test_the_models_are_the_same():
    found, rows = found_gradients()
    expected = reference.weight_slopes(lambda w: loss(w, 0.0), WEIGHTS)
    assert_same(found, expected)
    assert float(rows.task_loss(rows.outputs())) == pytest.approx(loss(WEIGHTS, 0.0), rel=1e-6)
    bump = np.random.default_rng(5).normal(size=(3, 5, reference.WIDTH))
    np.testing.assert_allclose(
        rows.outputs(tf.constant(bump)), reference.logits(WEIGHTS, BATCH, bump), rtol=1e-10
    )


@pytest.mark.parametrize("norm", ["row", "token"])
@pytest.mark.parametrize("weights", [None, ROW_WEIGHTS], ids=["plain", "weighted"])
def test_fgm(norm, weights):
    found, _ = found_gradients(weights, adversary=FGM(0.7, norm=norm, weight=0.6))
    measured = loss if weights is None else weighted_loss
    assert_same(found, reference.fgm(WEIGHTS, BATCH, measured, epsilon=0.7, norm=norm, weight=0.6))


@pytest.mark.parametrize("norm", ["row", "token"])
@pytest.mark.parametrize("epsilon", [0.5, 5.0], ids=["projected", "free"])
def test_pgd(norm, epsilon):
    settings = {"epsilon": epsilon, "step_size": 0.4, "steps": 3, "norm": norm, "weight": 0.8}
    found, _ = found_gradients(adversary=PGD(**settings))
    assert_same(found, reference.pgd(WEIGHTS, BATCH, loss, **settings))


@pytest.mark.parametrize("norm", ["row", "token"])
@pytest.mark.parametrize("start_size", [None, 0.0, 0.2])
def test_freelb(norm, start_size):
    settings = {"epsilon": 0.5, "step_size": 0.4, "steps": 3, "norm": norm}
    adversary = FreeLB(**settings, start_size=start_size, seed=3)
    found, rows = found_gradients(adversary=adversary)
    start = adversary.start(rows).numpy()
    assert np.abs(start).max() > 0 or start_size == 0
    assert_same(found, reference.freelb(WEIGHTS, BATCH, loss, start=start, **settings))


@pytest.mark.parametrize("norm", ["row", "token"])
@pytest.mark.parametrize("steps", [1, 2])
def test_vat(norm, steps):
    settings = {"epsilon": 0.7, "probe_size": 0.1, "steps": steps, "norm": norm, "weight": 1.5}
    vat = VAT(**settings, seed=4)
    found, rows = found_gradients(regularizers=[vat])
    first = vat.start(rows).numpy()
    assert_same(found, reference.vat(WEIGHTS, BATCH, loss, first=first, **settings))


@pytest.mark.parametrize("steps", [1, 3])
def test_smart(steps):
    settings = {"epsilon": 0.2, "step_size": 0.15, "steps": steps, "weight": 2.0}
    smart = SMART(**settings, start_size=0.05, seed=4)
    found, rows = found_gradients(regularizers=[smart])
    start = smart.start(rows).numpy()
    assert_same(found, reference.smart(WEIGHTS, BATCH, loss, start=start, **settings))


def test_an_adversary_climbs_regularizers_too():
    # VAT at the perturbed point, inside FGM: perturbations add up.
    vat = VAT(0.3, weight=1.5, seed=4)
    found, rows = found_gradients(adversary=FGM(0.7), regularizers=[vat])
    first = vat.start(rows).numpy()

    def worst_of(weights, at):
        answers = reference.logits(weights, BATCH, at)
        towards = reference.unit(first * BATCH["padding_mask"][..., None], "row")

        def apart(d):
            return reference.kl(answers, reference.logits(weights, BATCH, at + d)).mean()

        return answers, 0.3 * reference.unit(reference.slope(apart, 0.1 * towards), "row")

    def objective(weights, at, fixed):
        answers, worst = fixed
        moved = reference.logits(weights, BATCH, at + worst)
        return loss(weights, at) + 1.5 * reference.kl(answers, moved).mean()

    clean = reference.nothing(BATCH)
    fixed = worst_of(WEIGHTS, clean)
    climb = reference.slope(lambda d: objective(WEIGHTS, d, fixed), clean)
    at = 0.7 * reference.unit(climb, "row")
    fixed_there = worst_of(WEIGHTS, at)
    expected = reference.weight_slopes(
        lambda w: objective(w, clean, fixed) + objective(w, at, fixed_there), WEIGHTS
    )
    assert_same(found, expected)


def test_the_objective_falls_along_the_gradient_it_reports():
    adversary = FGM(0.7)
    model, variables = keras_reference.new_model(WEIGHTS)
    rows = keras_reference.new_rows(model, BATCH, LABELS, adversary=adversary)
    before, _, _ = adversary.gradients(rows, rows.model.trainable_variables)
    for variable, found in zip(variables, keras_reference.gradients(rows, variables), strict=True):
        variable.assign_sub(1e-3 * found)
    after, _, _ = adversary.gradients(rows, rows.model.trainable_variables)
    assert float(after) < float(before)
