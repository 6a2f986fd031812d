import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy
import toy_pretrain
from pydantic import TypeAdapter

from tfmodel.config import ConfigError
from tfmodel.model import encoder_config
from tfmodel.tasks import find_objective
from tfmodel.tokens.objectives import ObjectiveSettings
from tfmodel.train.pretrain_settings import PretrainSettings, check_logits
from tfmodel.train.pretrain_step import PretrainingModel

HERE = Path(__file__).parent
SLOWER = ["nsp", "electra"]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """Where the toy language's token documents are."""
    return tmp_path_factory.mktemp("tokens")


# --- what is learned ----------------------------------------------------------------------


def test_it_learns_and_says_so(tokens, tmp_path):
    model, result = toy_pretrain.train(tmp_path, tokens, steps=40)
    first, last = result.dev[0], result.dev[-1]
    assert [entry["step"] for entry in result.dev] == [0, 10, 20, 30, 40]
    assert abs(first["loss"] - np.log(len(toy_pretrain.PIECES))) < 0.5
    assert last["loss"] < first["loss"] - 0.2
    assert last["perplexity"] == pytest.approx(np.exp(last["loss"]))
    assert [entry["step"] for entry in result.steps] == [*range(1, 41)]
    rates = [entry["learning_rate"] for entry in result.steps]
    assert np.argmax(rates) == 3 and rates[-1] < 0.001  # up in the first tenth, then down
    assert result.total_steps == 40 and result.seconds > 0
    batches = toy_pretrain.batches(toy_pretrain.documents(tokens / "train"))
    real = [
        (batches.batch(epoch, index)[0]["padding_mask"] > 0).sum()
        for epoch in range(40)
        for index in range(len(batches))
    ]
    assert result.tokens == sum(real[:40])
    assert result.padding_share == batches.padding_share
    in_rows = sum(
        int((batches.batch(0, i)[0]["padding_mask"] > 0).sum()) for i in range(len(batches))
    )
    texts = sum(
        int(batches.batch(0, i)[0]["padding_mask"].max(1).sum()) for i in range(len(batches))
    )
    total = len(batches.documents.ids)
    assert result.left_out_share == pytest.approx(1 - (in_rows - 2 * texts) / total)


def test_dev_figures_are_the_models_own(tokens, tmp_path):
    model, result = toy_pretrain.train(tmp_path, tokens, steps=3)
    batches = toy_pretrain.batches(
        toy_pretrain.documents(tokens / "dev", seed=9, count=40), fixed=True
    )
    losses, right, weights = [], [], []
    for inputs, targets, weight in batches:
        logits = model(inputs, training=False)
        losses.append(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits) * weight)
        right.append((tf.argmax(logits, -1).numpy() == targets) * weight)
        weights.append(weight.sum())
    found = result.dev[-1]
    assert found["loss"] == pytest.approx(sum(each.numpy().sum() for each in losses) / sum(weights))
    assert found["mlm_accuracy"] == pytest.approx(sum(e.sum() for e in right) / sum(weights))


@pytest.mark.parametrize(
    "objective", ["sop", "simcse", *(pytest.param(n, marks=pytest.mark.slow) for n in SLOWER)]
)
def test_every_objective_is_learned(objective, tokens, tmp_path):
    model, result = toy_pretrain.train(tmp_path, tokens, objective=objective, steps=12)
    terms = find_objective(objective).TERMS
    assert result.dev[-1]["loss"] < result.dev[0]["loss"]
    if len(terms) > 1:
        for entry in result.dev:
            parts = sum(factor * entry[f"{name}_loss"] for name, factor in terms.items())
            assert entry["loss"] == pytest.approx(parts)
    assert ("perplexity" in result.dev[0]) == ("mlm" in terms)
    batches = toy_pretrain.batches(toy_pretrain.documents(tokens / "train"), objective=objective)
    epochs = -(-12 // len(batches))
    fed = [
        batch[0] if isinstance(batch, tuple) else batch for _ in range(epochs) for batch in batches
    ]
    assert result.tokens == sum(int((each["padding_mask"] > 0).sum()) for each in fed[:12])
    folder = find_objective(objective).save(
        model, tmp_path / "model", tokenizer=toy_pretrain.tokenizer()
    )
    from tfmodel.model import load_encoder

    loaded = load_encoder(folder)
    row = toy_pretrain.tokenizer()(["ba be di do."])
    np.testing.assert_array_equal(loaded(row)["sequence"], model.encoder(row)["sequence"])


# --- the step -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "objective", ["sop", *(pytest.param(n, marks=pytest.mark.slow) for n in ("mlm", "electra"))]
)
def test_a_batch_in_parts_has_the_gradient_of_the_whole(objective, tokens):
    gradients = []
    for parts in (1, 3):
        model = toy_pretrain.new_model(objective)
        for layer in model._flatten_layers():
            if hasattr(layer, "set_rate"):
                layer.set_rate(0.0)
        task = find_objective(objective)
        training = PretrainingModel(model, task=task, accumulation_steps=parts)
        training.compile(keras.optimizers.SGD(0.0), jit_compile=False)
        batches = toy_pretrain.batches(
            toy_pretrain.documents(tokens / "train"), objective=objective
        )
        data = tf.nest.map_structure(tf.constant, batches.batch(0, 0))
        if objective == "electra":  # what it draws depends on the parts
            model.get_layer("masked_logits").draw = lambda vectors, uniforms: tf.zeros_like(
                tf.cast(uniforms, tf.int32)
            )
        loss, norm, found, _ = tf.function(training.step_gradients, autograph=False)(data)
        gradients.append([loss, norm, *(tf.convert_to_tensor(g) for g in found if g is not None)])
    for whole, sum_of_parts in zip(*gradients, strict=True):
        np.testing.assert_allclose(whole, sum_of_parts, rtol=2e-4, atol=2e-5)


def test_a_step_that_is_no_number_ends_and_keeps_the_weights(tokens, tmp_path):
    model = toy_pretrain.new_model()
    before = toy.digest(model)
    model.get_layer("masked_logits").bias.assign(np.full(len(toy_pretrain.PIECES), np.nan))
    spoiled = toy.digest(model)
    with pytest.raises(FloatingPointError, match="loss is nan at step 1 of epoch 1"):
        toy_pretrain.train(tmp_path, tokens, model=model)
    assert before != spoiled == toy.digest(model)


def test_dropout_may_be_off_in_training_alone(tokens, tmp_path):
    fresh, batches = toy_pretrain.new_model(), toy_pretrain.documents(tokens / "train")
    data = toy_pretrain.batches(batches).batch(0, 0)
    (expected,) = find_objective("mlm").sums(fresh, *data, training=False)
    model, result = toy_pretrain.train(tmp_path / "off", tokens, steps=1, dropout=0.0)
    assert result.steps[0]["loss"] == pytest.approx(float(expected[0] / data[2].sum()), rel=1e-5)
    assert encoder_config(model.encoder).dropout == 0.1
    _, dropped = toy_pretrain.train(tmp_path / "on", tokens, steps=1)
    assert dropped.steps[0]["loss"] != pytest.approx(result.steps[0]["loss"], rel=1e-5)


def test_it_is_watched(tokens, tmp_path):
    from event_reading import scalars

    _, result = toy_pretrain.train(tmp_path / "run", tokens, steps=12, logs=tmp_path / "logs")
    train, dev = (scalars(tmp_path / "logs" / run) for run in ("train", "dev"))
    assert [step for step, _ in train["metrics/loss"]] == [*range(1, 13)]
    for name in ("loss", "perplexity", "mlm_accuracy"):
        expected = [(entry["step"], pytest.approx(entry[name])) for entry in result.dev]
        assert dev[f"metrics/{name}"] == expected
    assert [entry["step"] for entry in result.dev] == [0, 10, 12]
    assert len(train["speed/tokens_per_second"]) == 12


# --- going on -----------------------------------------------------------------------------


def run(*arguments: object, **variables: str) -> int:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **variables}
    script = [sys.executable, str(HERE / "toy_pretrain.py"), *map(str, arguments)]
    done = subprocess.run(script, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, -9), done.stderr[-3000:]
    return done.returncode


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["mlm", "electra", "simcse"])
def test_killed_it_goes_on_bit_for_bit(objective, tmp_path):
    whole, parts = tmp_path / "whole.json", tmp_path / "parts.json"
    assert run(objective, tmp_path / "one", whole) == 0
    assert run(objective, tmp_path / "two", parts, 8) == -9
    assert run(objective, tmp_path / "two", parts, 19) == -9
    assert run(objective, tmp_path / "two", parts) == 0
    whole, parts = (json.loads(path.read_text()) for path in (whole, parts))
    timed = "tokens_per_second"
    for found in (whole, parts):
        found["steps"] = [{k: v for k, v in step.items() if k != timed} for step in found["steps"]]
    assert parts == whole and len(whole["steps"]) == 30


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["mlm", "sop"])
def test_two_devices_do_what_one_does(objective, tmp_path):
    found = []
    for devices in ("1", "2"):
        out = tmp_path / f"{devices}.json"
        assert run(objective, tmp_path / devices, out, DEVICES=devices) == 0
        found.append(json.loads(out.read_text()))
    one, two = ([step["loss"] for step in each["steps"]] for each in found)
    # Sums in another order: the difference grows with the steps.
    np.testing.assert_allclose(one[:10], two[:10], rtol=1e-4)
    np.testing.assert_allclose(found[0]["dev"][1]["loss"], found[1]["dev"][1]["loss"], rtol=1e-3)


@pytest.mark.slow
def test_another_runs_checkpoint_is_refused(tokens, tmp_path, monkeypatch):
    from tfmodel.train.callbacks import StepRecorder

    record = StepRecorder.on_train_batch_end

    def record_and_interrupt(self, batch, logs=None):
        record(self, batch, logs)
        if self.history[-1]["step"] == 4:
            import signal

            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(StepRecorder, "on_train_batch_end", record_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            toy_pretrain.train(tmp_path, tokens, logs=tmp_path / "logs")
    with pytest.raises(ConfigError, match="another config"):
        toy_pretrain.train(tmp_path, tokens, key="other")
    # Whether it is watched is another matter than what is trained.
    _, result = toy_pretrain.train(tmp_path, tokens, watch={"tensorboard": False})
    assert result.resumed_at_steps == [4] and len(result.steps) == 30


# --- a budget of time ---------------------------------------------------------------------


@pytest.mark.slow
def test_a_budget_of_time_becomes_steps_once(tokens, tmp_path):
    model, result = toy_pretrain.train(tmp_path / "timed", tokens, seconds=12, dev_every_steps=50)
    steps = json.loads((tmp_path / "timed/budget.json").read_text())["steps"]
    assert result.total_steps == len(result.steps) == steps > 1
    assert result.steps[-1]["learning_rate"] < 0.001 or steps < 10
    counted, _ = toy_pretrain.train(tmp_path / "counted", tokens, steps=steps, dev_every_steps=50)
    assert toy.digest(counted) == toy.digest(model)

    (tmp_path / "again").mkdir()
    budget = {"seconds": 12, "key": "toy", "steps": 3}
    (tmp_path / "again/budget.json").write_text(json.dumps(budget))
    _, result = toy_pretrain.train(tmp_path / "again", tokens, seconds=12, dev_every_steps=50)
    assert len(result.steps) == 3  # as it was found before
    (tmp_path / "again/budget.json").write_text("{")
    with pytest.raises(ConfigError, match="expected the number of steps of this run"):
        toy_pretrain.train(tmp_path / "again", tokens, seconds=12, dev_every_steps=50)


def test_a_long_history_is_thinned(monkeypatch, tokens, tmp_path):
    monkeypatch.setattr("tfmodel.train.pretrain._POINTS", 4)
    _, result = toy_pretrain.train(tmp_path, tokens, steps=21)
    assert 4 <= len(result.steps) < 8 and result.steps[-1]["step"] == 21
    steps = [entry["step"] for entry in result.steps]
    assert steps == sorted(set(steps))


# --- settings -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 5, "seconds": 5.0}, "give steps or seconds, not both"),
        ({"steps": 0}, "steps"),
        ({"seconds": 0}, "seconds"),
        ({"learning_rate": 0.0}, r"learning_rate must be in \(0, 1\]"),
        ({"jit": True, "accumulation_steps": 2}, "accumulation_steps above 1"),
        ({"devices": 0}, "devices must be 1 or more"),
        ({"max_length": 4}, "max_length"),
    ],
)
def test_a_value_out_of_range_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        PretrainSettings(**values)


def test_logits_are_counted_with_32_bits(monkeypatch, tokens, tmp_path):
    settings = PretrainSettings(batch_size=4096, accumulation_steps=4, max_length=512)
    objective = TypeAdapter(ObjectiveSettings).validate_python
    rows = {
        name: settings.dev_rows(objective({"name": name}), size)
        for name, size in (("mlm", 1000), ("nsp", 100_000), ("simcse", 100_000))
    }
    assert rows == {"mlm": 1024, "nsp": 2**31 // (77 * 100_000), "simcse": 4096}
    just = {"rows": 64, "parts": 4, "max_length": 24, "pieces": (2**31 - 1) // (16 * 4)}
    check_logits(objective({}), **just)
    with pytest.raises(ConfigError, match="so that a part has at most 15 rows, which changes no"):
        check_logits(objective({}), **{**just, "pieces": just["pieces"] + 1})
    with pytest.raises(ConfigError, match="Lower train.max_length or objective.mask_rate"):
        check_logits(objective({}), **{**just, "pieces": 2**30})
    monkeypatch.setattr("tfmodel.train.pretrain_settings._MOST_LOGITS", 16 * 4 * 46 - 1)
    with pytest.raises(ConfigError, match=r"16 rows x 4 masked tokens .* x 46 pieces = 2,944"):
        toy_pretrain.train(tmp_path, tokens, steps=1)


def test_auto_is_resolved_by_width_start_and_machine():
    rates = {
        (size, continued): PretrainSettings()
        .resolve(hidden_size=size, continued=continued)
        .learning_rate
        for size in (256, 512, 768)
        for continued in (False, True)
    }
    assert rates[256, False] == 1e-3 and rates[512, False] == 5e-4 and rates[768, False] == 2e-4
    assert rates[256, True] == pytest.approx(2e-4)
    resolved = PretrainSettings().resolve(hidden_size=256)
    assert resolved.steps == 10_000 and "auto" not in resolved.model_dump().values()
    timed = PretrainSettings(seconds=60).resolve(hidden_size=256)
    assert timed.steps is None and timed.resolve(hidden_size=768) == timed


def test_settings_that_are_not_resolved_are_refused(tokens, tmp_path):
    with pytest.raises(ValueError, match="settings without auto"):
        toy_pretrain.train(tmp_path, tokens, learning_rate="auto")
