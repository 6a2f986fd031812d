"""A loss that is not a number ends training: with the last good weights, and the rows named."""

import json

import keras
import numpy as np
import pytest
import toy

from tfmodel.tasks import classify
from tfmodel.tokens import Batches
from tfmodel.tokens.batches import TokenRows, batches
from tfmodel.train import adamw, finetune
from tfmodel.train.callbacks import Resume, StepRecorder, StopOnNaN
from tfmodel.train.checkpoint import Checkpoint
from tfmodel.train.step import TrainingModel

POISONED = 17


@pytest.fixture
def poisoned(monkeypatch):
    """Row 17 has an infinite weight in the loss."""
    make = finetune.learned_batches

    def with_infinity(*arguments):
        found = make(*arguments)
        found.weights = np.ones(len(found.rows), np.float32)
        found.weights[POISONED] = np.inf
        return found

    monkeypatch.setattr(finetune, "learned_batches", with_infinity)


@pytest.mark.parametrize("parts", [1, 3])
def test_a_run_stops_and_keeps_the_last_good_weights(tmp_path, poisoned, parts):
    model = toy.new_model()
    with pytest.raises(FloatingPointError) as caught:
        toy.train(tmp_path, model=model, accumulation_steps=parts)

    fed = Batches(
        TokenRows.from_texts(toy.tokenizer(), toy.rows().texts, max_length=12),
        batch_size=16,
        seed=3,
    )
    step = next(n for n, rows in enumerate(fed.plan(0)) if POISONED in rows)
    assert step > 0
    message = str(caught.value)
    assert f"is inf at step {step + 1} of epoch 1, rows " in message
    assert f"{tmp_path / 'not_a_number.jsonl'}. Expected a number. The weights are" in message
    lines = (tmp_path / "not_a_number.jsonl").read_text("utf-8").splitlines()
    written = [json.loads(line) for line in lines]
    assert [row["row"] for row in written] == fed.plan(0)[step].tolist()
    row = next(row for row in written if row["row"] == POISONED)
    assert row["text"] == toy.rows().texts[POISONED] and row["weight"] == float("inf")

    # On disk and in the model: what a run stopped before that step has.
    last = Checkpoint(tmp_path / "last")
    assert last.state()["batch"] == step
    kept = toy.new_model(seed=9)
    kept.compile(adamw(), loss=classify.loss())
    kept.optimizer.build(kept.trainable_variables)
    training = TrainingModel(kept)
    training.compile(kept.optimizer, loss=classify.loss())
    last.restore({"model": training.variables})
    assert toy.digest(kept) == toy.digest(model)
    assert all(np.isfinite(weight.numpy()).all() for weight in kept.weights)

    # The same again is the same again.
    with pytest.raises(FloatingPointError) as again:
        toy.train(tmp_path, accumulation_steps=parts)
    assert str(again.value) == message


@pytest.mark.parametrize("parts", [1, 2])
def test_a_users_own_fit_stops_where_the_rate_is_far_too_high(tmp_path, parts):
    split = toy.rows()
    fed = batches(split.texts, split.labels, tokenizer=toy.tokenizer(), batch_size=16)
    training = TrainingModel(toy.new_model(), accumulation_steps=parts)
    training.compile(keras.optimizers.SGD(1e30), loss=classify.loss(), jit_compile=False)
    resume = Resume(tmp_path, fed)
    stop = StopOnNaN(fed, before=resume.save)
    with pytest.raises(FloatingPointError, match=r"is (nan|inf) at step 2 of epoch 1, rows 16, 17"):
        training.fit(fed, epochs=2, shuffle=False, verbose=0, callbacks=[stop, resume])
    assert all(np.isfinite(weight.numpy()).all() for weight in training.weights)
    assert Checkpoint(tmp_path / "last").state()["batch"] == 1
    assert not (tmp_path / "not_a_number.jsonl").exists()
    resume.release()


def test_a_gradient_that_is_not_a_number_is_named():
    guard = StopOnNaN()
    with pytest.raises(FloatingPointError, match="The gradient's norm is inf at step 3 of this"):
        guard.on_train_batch_end(2, {"loss": 1.0, "step_loss": 1.0, "gradient_norm": np.inf})


def test_what_is_not_a_number_is_never_saved(tmp_path):
    """Though nobody stops it: a plain Keras model spoils its weights and goes on."""
    split = toy.rows()
    weights = np.ones(90, np.float32)
    weights[20] = np.nan
    fed = batches(
        split.texts, split.labels, tokenizer=toy.tokenizer(), weights=weights, batch_size=16
    )
    model = toy.new_model()
    model.compile("sgd", loss=classify.loss(), jit_compile=False)
    resume = Resume(tmp_path, fed, seconds=1e-6)
    model.fit(fed, epochs=2, shuffle=False, verbose=0, callbacks=[resume])
    state = Checkpoint(tmp_path / "last").state()
    assert (state["epoch"], state["batch"]) == (0, 1)


def failing(fed, **arguments):
    """What a fit on batches says, of which one has a row that is not a number."""
    training = TrainingModel(toy.new_model())
    training.compile(adamw(1e-3), loss=classify.loss(), jit_compile=False, **arguments)
    with pytest.raises(FloatingPointError) as caught:
        training.fit(fed, epochs=3, shuffle=False, verbose=0, callbacks=[StopOnNaN(fed)])
    return str(caught.value)


def poisoned_batches():
    split, weights = toy.rows(48), np.ones(48, np.float32)
    weights[POISONED] = np.nan
    return batches(
        split.texts, split.labels, tokenizer=toy.tokenizer(), weights=weights, batch_size=8,
        shuffle=True,
    )  # fmt: skip


def test_the_rows_are_the_right_ones_where_a_batch_was_looked_at_before():
    fed = poisoned_batches()
    next(iter(fed))
    plan = fed.batches.plan(1)
    step = next(n for n, rows in enumerate(plan) if POISONED in rows)
    shown = ", ".join(map(str, plan[step]))
    assert f"at step {step + 1} of epoch 1, rows {shown} (from 0)" in failing(fed)


def test_of_steps_that_are_one_call_all_rows_are_named():
    fed = poisoned_batches()
    step = next(n for n, rows in enumerate(fed.batches.plan(0)) if POISONED in rows)
    first = step // 4 * 4
    shown = ", ".join(map(str, np.concatenate(fed.batches.plan(0)[first : first + 4])[:10]))
    message = failing(fed, steps_per_execution=4)
    assert f"in one of the 4 steps from {first + 1} on of epoch 1, rows {shown}" in message
    assert "The weights are those" not in message


def test_a_fit_on_a_part_of_the_batches_is_refused():
    fed = poisoned_batches()
    training = TrainingModel(toy.new_model())
    training.compile(adamw(1e-3), loss=classify.loss(), jit_compile=False)
    for callback in (StopOnNaN(fed), StepRecorder(fed)):
        with pytest.raises(ValueError, match="these batches, 6 an epoch. Received: 2 steps"):
            training.fit(fed, steps_per_epoch=2, shuffle=False, verbose=0, callbacks=[callback])
