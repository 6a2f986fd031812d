"""Adversarial training in `fit` and by config: what is moved, what is dropped, what combines."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import keras_reference
import numpy as np
import numpy_reference as reference
import pytest
import tensorflow as tf
import toy
import toy_fit

from tfmodel import adversarial
from tfmodel.config import ConfigError, load_config
from tfmodel.tasks import classify
from tfmodel.train import FinetuneSettings
from tfmodel.train.adversarial import FGM, PGD, SMART, VAT, AdversarialSettings, FreeLB
from tfmodel.train.adversarial.perturbation import direction, into_ball
from tfmodel.train.regularize.mixup import HiddenMixup
from tfmodel.train.regularize.r_drop import RDrop
from tfmodel.train.step import Rows, TrainingModel

PIECES = {
    "fgm": {"adversary": FGM(0.2)},
    "pgd": {"adversary": PGD(0.2, step_size=0.15, steps=2)},
    "freelb": {"adversary": FreeLB(0.2, steps=2)},
    "smart": {"regularizers": [SMART()]},
    "vat": {"regularizers": [VAT(0.2)]},
    "all": {
        "adversary": FreeLB(0.2, steps=2),
        "regularizers": [RDrop(0.5), HiddenMixup(0.4)],
        "accumulation_steps": 4,
    },
}


def rows_of(training, count=4):
    rows = toy.rows(count)
    inputs = {name: tf.constant(v) for name, v in toy.tokenizer()(rows.texts).items()}
    return Rows(training, inputs, tf.constant(rows.labels), None)


class Listener:
    """Passes on an adversary's work and keeps the perturbations it tries."""

    def __init__(self, adversary):
        self.adversary, self.perturbations, self.traces = adversary, [], 0

    def gradients(self, rows, variables):
        self.traces += 1
        objective = rows.objective

        def listened(perturbation):
            self.perturbations.append(perturbation)
            return objective(perturbation)

        rows.objective = listened
        return self.adversary.gradients(rows, variables)


# --- it trains --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n == "all" else []) for n in PIECES]
)
def test_a_model_learns_and_is_traced_once(name):
    # Rows of many lengths, a last batch of fewer.
    pieces, traces = dict(PIECES[name]), []
    model = toy_fit.new_model(dtype="mixed_bfloat16" if name == "all" else "float32")
    training = TrainingModel(model, **pieces)
    step = training.train_step
    training.train_step = lambda data: traces.append(1) or step(data)
    history = toy_fit.fit(toy_fit.compiled(training)).history
    assert len(traces) == 1
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert history["accuracy"][-1] > 0.9 and toy_fit.accuracy(model) > 0.9
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}


@pytest.mark.parametrize(
    "adversary",
    [FGM(0.7), PGD(0.7, steps=2), FreeLB(0.7, steps=2, start_size=0.0)],
    ids=["fgm", "pgd", "freelb"],
)
def test_parts_of_a_batch_give_the_batchs_gradient(adversary):
    """Perturbations are each row's own; dropout and random starts, which are not, are off."""

    def moved(steps):
        model = toy_fit.new_model(dropout=0.0)
        before = [weight.numpy() for weight in model.trainable_weights]
        training = TrainingModel(model, adversary=adversary, accumulation_steps=steps)
        toy_fit.compiled(training, optimizer=keras.optimizers.SGD(1.0))
        rows = toy.rows(10)
        logs = training.train_on_batch(
            dict(toy.tokenizer()(rows.texts)), rows.labels, return_dict=True
        )
        after = [weight.numpy() for weight in model.trainable_weights]
        return np.concatenate([(b - a).ravel() for a, b in zip(after, before, strict=True)]), logs

    (whole, logs), (parts, other) = moved(1), moved(4)
    assert np.linalg.norm(parts - whole) < 3e-6 * np.linalg.norm(whole)
    assert logs["step_loss"] == pytest.approx(other["step_loss"], rel=1e-6)


# --- perturbations ------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["row", "token"])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_perturbations_are_float32_of_the_promised_norm_and_none_at_padding(norm, dtype):
    for adversary, first in (
        (FGM(0.5, norm=norm), 0.0),
        (PGD(0.5, step_size=0.4, steps=3, norm=norm), 0.0),
        (FreeLB(0.5, step_size=0.4, steps=3, norm=norm), 0.5 / np.sqrt(3)),
    ):
        listener = Listener(adversary)
        training = toy_fit.compiled(
            TrainingModel(toy_fit.new_model(dtype=dtype), adversary=listener)
        )
        rows = rows_of(training, 8)
        listener.gradients(rows, training.trainable_variables)
        real = rows.inputs["padding_mask"].numpy() > 0
        assert not real.all()
        assert {each.dtype for each in listener.perturbations} == {tf.float32}
        start, *others, last = (each.numpy() for each in listener.perturbations)
        sizes = [
            np.linalg.norm(d.reshape(8, -1), axis=1)
            if norm == "row"
            else np.linalg.norm(d, axis=-1)[real]
            for d in (start, *others, last)
        ]
        assert sizes[0] == pytest.approx(first, rel=0.5 if norm == "token" else 0.15)
        for size in sizes[1:-1]:
            assert size.max() < 0.5 + 1e-6
        # Of a token that nothing depends on, as in the dead part of a tiny model, it may be 0.
        assert np.median(sizes[-1]) == pytest.approx(0.5, rel=1e-5)
        for perturbation in (start, *others, last):
            assert not perturbation[~real].any()


def test_directions_of_slopes_too_small_to_square():
    slope = np.zeros((3, 2, 4), np.float32)
    slope[0], slope[1, 0, 2] = 1e-30, -1e-25
    real = tf.ones((3, 2, 1))
    for norm in ("row", "token"):
        found = direction(tf.constant(slope), real, norm).numpy()
        sizes = np.linalg.norm(found, axis=-1) if norm == "token" else None
        expected = 1 / np.sqrt(8 if norm == "row" else 4)
        np.testing.assert_allclose(found[0], expected, rtol=1e-6)
        assert found[1, 0, 2] == -1 and not found[2].any()
        assert sizes is None or set(sizes.ravel().round(6)) == {0.0, 1.0}
    assert np.isnan(direction(tf.constant(slope) / 0.0, real, "row").numpy()).any()


def test_into_a_ball():
    inside, outside = np.full((1, 2, 3), 0.1, np.float32), np.full((1, 2, 3), 5.0, np.float32)
    np.testing.assert_array_equal(into_ball(tf.constant(inside), 1.0, "row"), inside)
    assert np.linalg.norm(into_ball(tf.constant(outside), 2.0, "row")) == pytest.approx(2, rel=1e-6)


def test_perturbations_add_up_and_end_with_their_block():
    from tfmodel.model.embeddings import perturbed

    model, _ = keras_reference.new_model(reference.new_weights())
    batch = {name: tf.constant(value) for name, value in reference.new_batch().items()}
    one, other = np.random.default_rng(2).normal(size=(2, 3, 5, reference.WIDTH))
    plain = model(batch).numpy()
    with perturbed(tf.constant(one + other)):
        expected = model(batch).numpy()
    with perturbed(tf.constant(one)):
        with perturbed(tf.constant(other)):
            np.testing.assert_allclose(model(batch), expected, rtol=1e-12)
        with perturbed(None):
            assert np.abs(model(batch) - plain).max() > 0.01
    np.testing.assert_array_equal(model(batch), plain)


# --- dropout and random numbers -----------------------------------------------------------------


def test_every_pass_drops_the_same():
    training = toy_fit.compiled(
        TrainingModel(toy_fit.new_model(dropout=0.3), adversary=FGM(), regularizers=[RDrop(1.0)])
    )
    rows = rows_of(training)
    first, again = rows.objective()[0], rows.objective()[0]  # two passes each
    assert float(first) == float(again)
    assert float(rows_of(training).objective()[0]) != float(first)  # the next step's


def test_a_step_uses_up_the_random_numbers_of_one_pass():
    def states(**pieces):
        training = toy_fit.compiled(TrainingModel(toy_fit.new_model(), **pieces))
        for _ in range(2):
            rows = rows_of(training)
            if training.adversary is None:
                rows.objective()
            else:
                training.adversary.gradients(rows, training.trainable_variables)
        return [state.numpy()[1] for state in training.dropout_states]

    plain = states()
    assert len(plain) > 3 and set(plain) == {2}
    for name in ("fgm", "freelb", "vat", "smart"):
        assert states(**PIECES[name]) == plain
    assert set(states(adversary=FGM(), regularizers=[RDrop(1.0)])) == {4}


def test_starts_differ_from_step_to_step_and_part_to_part_and_come_again():
    training = toy_fit.compiled(TrainingModel(toy_fit.new_model()))
    freelb = FreeLB(seed=1)
    start = freelb.start(rows_of(training)).numpy()
    np.testing.assert_array_equal(freelb.start(rows_of(training)), start)
    others = [FreeLB(seed=2).start(rows_of(training)).numpy()]
    part = rows_of(training)
    part.part = tf.constant(1)
    others.append(freelb.start(part).numpy())
    training.optimizer.iterations.assign(1)
    others.append(freelb.start(rows_of(training)).numpy())
    for other in others:
        assert abs(np.corrcoef(other[other != 0], start[start != 0])[0, 1]) < 0.2


def test_the_start_of_freelb_is_uniform_and_as_large_as_the_papers():
    training = toy_fit.compiled(TrainingModel(toy_fit.new_model()))
    rows = rows_of(training, 400)
    real = rows.inputs["padding_mask"].numpy() > 0
    start = FreeLB(0.3, seed=1).start(rows).numpy()
    scaled = start * np.sqrt(real.sum(1) * 16)[:, None, None] / 0.3
    assert np.abs(scaled).max() == pytest.approx(1, abs=1e-3)
    assert scaled[real].mean() == pytest.approx(0, abs=0.02)
    assert scaled[real].var() == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.slow
def test_an_interrupted_run_goes_on_as_if_it_were_not(tmp_path, monkeypatch):
    from tfmodel.train.callbacks import StepRecorder

    changed = {
        "epochs": 1,
        "adversarial": {"name": "freelb", "steps": 2},
        "regularize": {"r_drop": 0.5, "mixup": 0.4},
    }
    model, result = toy.train(tmp_path / "whole", **changed)
    record = StepRecorder.on_train_batch_end

    def record_and_stop(self, batch, logs=None):
        record(self, batch, logs)
        if self.history[-1]["step"] == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StepRecorder, "on_train_batch_end", record_and_stop)
        with pytest.raises(KeyboardInterrupt):
            toy.train(tmp_path / "parts", checkpoint_seconds=1e-6, **changed)
    other, continued = toy.train(tmp_path / "parts", **changed)
    assert continued.resumed_at_steps[0] in (2, 3)
    assert toy.digest(other) == toy.digest(model)
    assert [s["loss"] for s in continued.steps] == [s["loss"] for s in result.steps]


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"name": "fgm"}, FGM()),
        ({"name": "fgm", "epsilon": 0.5, "norm": "token"}, FGM(0.5, norm="token")),
        ({"name": "fgm", "weight": 2.0}, FGM(weight=2.0)),
        ({"name": "pgd", "steps": 2, "step_size": 0.7}, PGD(steps=2, step_size=0.7)),
        ({"name": "freelb", "start_size": 0.0}, FreeLB(start_size=0.0, seed=9)),
        ({"name": "smart", "weight": 3.0}, SMART(weight=3.0, seed=9)),
        ({"name": "vat", "probe_size": 0.3, "steps": 2}, VAT(probe_size=0.3, steps=2, seed=9)),
    ],
)  # fmt: skip
def test_settings_become_pieces(given, expected):
    adversary, regularizers = adversarial.from_settings(AdversarialSettings(**given), seed=9)
    (found,) = [piece for piece in (adversary, *regularizers) if piece is not None]
    assert type(found) is type(expected) and vars(found) == vars(expected)
    assert (adversary is None) == isinstance(expected, SMART | VAT)


def test_without_the_section_nothing_is_added():
    assert adversarial.from_settings(None) == (None, [])
    assert FinetuneSettings().adversarial is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epsilon": 1.0}, "missing key adversarial.name .The method: fgm, pgd or freelb"),
        ({"name": "fgn"}, "adversarial.name"),
        ({"name": "fgm", "epsilon": 0}, "adversarial.epsilon"),
        ({"name": "pgd", "steps": 0}, "adversarial.steps"),
        ({"name": "pgd", "norm": "batch"}, "adversarial.norm"),
        ({"name": "fgm", "step": 3}, "unknown key adversarial.step.* adversarial.step"),
        ({"name": "fgm", "steps": 3}, "fgm has no steps; it takes epsilon, norm, weight"),
        ({"name": "freelb", "weight": 3.0}, "freelb has no weight; it takes epsilon, step_size"),
        ({"name": "smart", "norm": "row"}, "smart has no norm; it takes epsilon, step_size"),
        ({"name": "smart", "start_size": 0}, "smart needs a start_size above 0"),
    ],
)  # fmt: skip
def test_wrong_settings_are_named(given, message):
    with pytest.raises(ConfigError, match=message):
        load_config({"adversarial": given}, FinetuneSettings)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FGM(0.0), "epsilon must be more than 0, and finite. Received: 0.0"),
        (lambda: FGM(float("nan")), "epsilon must be more than 0"),
        (lambda: FGM(norm="batch"), "norm must be one of row, token. Received: 'batch'"),
        (lambda: FGM(weight=-1), "weight must be more than 0"),
        (lambda: PGD(steps=0), "steps must be a whole number, 1 or more. Received: 0"),
        (lambda: PGD(step_size=float("inf")), "step_size must be more than 0, and finite"),
        (lambda: FreeLB(start_size=-0.1), "start_size must be 0 or more, and finite"),
        (lambda: FreeLB(steps=1.5), "steps must be a whole number"),
        (lambda: SMART(start_size=0.0), "start_size must be more than 0"),
        (lambda: VAT(probe_size=0.0), "probe_size must be more than 0"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_model_without_word_embeddings_is_refused():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    training = TrainingModel(model, adversary=FGM())
    training.compile("sgd", loss=classify.loss(), jit_compile=False)
    with pytest.raises(ValueError, match="Expected a model on an encoder of tm.build_encoder"):
        training.train_on_batch(np.zeros((4, 3)), np.zeros(4, np.int32))


# --- several devices ----------------------------------------------------------------------------

_TWO_DEVICES = """
import json, sys
sys.path[:0] = {paths!r}
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
import toy, toy_fit
from test_adversarial import PIECES
from tfmodel.tasks import classify
from tfmodel.train.adversarial import FGM, FreeLB
from tfmodel.train.regularize.r_drop import RDrop
from tfmodel.train.step import TrainingModel

rows = toy.rows(16)
inputs = dict(toy.tokenizer()(rows.texts))
data = tf.data.Dataset.from_tensor_slices((inputs, rows.labels)).batch(16)

def moved(strategy, dropout, **pieces):
    with strategy.scope():
        model = toy_fit.new_model(dropout=dropout)
        training = TrainingModel(model, **pieces)
        toy_fit.compiled(training, optimizer=keras.optimizers.SGD(1.0))
    before = [w.numpy() for w in model.trainable_weights]
    history = training.fit(data, epochs=1, verbose=0).history
    after = [w.numpy() for w in model.trainable_weights]
    change = np.concatenate([(b - a).ravel() for a, b in zip(after, before)])
    return change, history["loss"][0]

def apart(**pieces):
    (a, x), (b, y) = moved(one, 0.0, **pieces), moved(both, 0.0, **pieces)
    return [float(np.linalg.norm(a - b) / np.linalg.norm(a)), abs(x - y)]

one, both = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
found = {{}}
for name, pieces in {{"fgm": {{"adversary": FGM(0.5)}},
                     "freelb": {{"adversary": FreeLB(0.5, steps=2, start_size=0.0)}}}}.items():
    for steps in (1, 2):
        found[f"{{name}} {{steps}}"] = apart(accumulation_steps=steps, **pieces)
change, loss = moved(both, 0.1, **PIECES["all"])
found["all"] = [float(np.isfinite(change).all()), float(loss)]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_two_devices_give_the_gradient_of_one():
    here = Path(__file__).parent
    code = _TWO_DEVICES.format(paths=[str(here), str(here.parents[1])])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for name, (difference, loss) in found.items():
        if name != "all":
            assert difference < 1e-5 and loss < 1e-5, name
    assert found["all"][0] == 1 and np.isfinite(found["all"][1])
