"""`train.regularize`: what it refuses, all of it at once, a run of it that is continued."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import toy

from tfmodel.config import ConfigError, load_config
from tfmodel.model import BertConfig, build_encoder
from tfmodel.tasks import classify
from tfmodel.train import FinetuneSettings
from tfmodel.train.callbacks import StepRecorder
from tfmodel.train.regularize import RegularizeSettings, mixout

EVERYTHING = {
    "weight_decay": {"embeddings": 0.0, "norms": 0.1},
    "dropout": {"hidden": 0.2, "attention": 0.0, "embeddings": 0.05, "words": 0.1},
    "label_smoothing": 0.1,
    "focal_gamma": 0.5,
    "class_balance": 0.99,
    "layer_decay": 0.8,
    "unfreeze_epochs": 2,
    "reinitialize_layers": 0,
    "mixout": 0.3,
    "r_drop": 0.5,
    "mixup": 0.4,
    "moving_average": {"decay": 0.9, "every_steps": 2},
    "plateau": {"factor": 0.5, "patience": 1, "min_delta": 10.0},  # falls after each epoch
}
AVERAGED = {"swa": {"start_epoch": 2, "learning_rate": 0.01}, "unfreeze_epochs": 1}


def model_for(regularize):
    keras.utils.set_random_seed(1)
    config = BertConfig(
        vocabulary_size=len(toy.PIECES),
        hidden_size=16,
        layers=1,
        heads=2,
        intermediate_size=32,
        max_positions=12,
    )
    mixing = {"projection": mixout(regularize["mixout"])} if "mixout" in regularize else {}
    return classify.build(build_encoder(config, sequence=False, **mixing), classes=2)


def train(folder, regularize, **changed):
    return toy.train(folder, model=model_for(regularize), regularize=regularize, **changed)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"label_smoothing": 1.0}, "regularize.label_smoothing"),
        ({"focal_gamma": -1}, "regularize.focal_gamma"),
        ({"class_balance": 1.0}, "regularize.class_balance"),
        ({"layer_decay": 0.0}, "regularize.layer_decay"),
        ({"mixout": 1.0}, "regularize.mixout"),
        ({"dropout": {"hidden": 1.0}}, "regularize.dropout.hidden"),
        ({"weight_decay": {"bias": 0.1}}, "the groups are embeddings, kernels, head, norms, bias"),
        ({"weight_decay": {"head": 1.0}}, r"head must be in \[0, 1\); received 1.0"),
        ({"moving_average": {"decay": 1.0}}, "moving_average.decay"),
        ({"moving_average": {}, "swa": {}}, "give moving_average or swa, not both"),
        ({"unfreeze_epochs": 3}, "unfreeze_epochs must be below epochs.*received 3 of 3 epochs"),
        ({"swa": {"start_epoch": 4}}, "not come after the last epoch; received 4 of 3 epochs"),
        ({"plateau": {"factor": 1.0}}, "plateau.factor"),
        ({"plateau": {"patience": 0}}, "plateau.patience"),
        ({"smoothing": 0.1}, "unknown key regularize.smoothing. Did you mean"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(values, message):
    with pytest.raises(ConfigError, match=message):
        load_config({"regularize": values}, FinetuneSettings)


def test_classes_are_weighted_one_way():
    values = {"class_weights": "balanced", "regularize": {"class_balance": 0.9}}
    with pytest.raises(ConfigError, match="give class_weights or regularize.class_balance"):
        load_config(values, FinetuneSettings)


def test_by_default_nothing_is_regularized():
    assert FinetuneSettings().regularize == RegularizeSettings()
    off = {"weight_decay": {}, "label_smoothing": 0.0, "focal_gamma": 0.0, "dropout": {"words": 0}}
    assert RegularizeSettings(**off) == RegularizeSettings()
    assert load_config({"regularize": None}, FinetuneSettings) == FinetuneSettings()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"reinitialize_layers": 2}, "reinitialize_layers must be at most 1 for an encoder of 1 l"),
        ({"unfreeze_epochs": 3}, "unfreeze_epochs must be at most 2 for an encoder of 1 layers"),
    ],
)
def test_more_layers_than_the_encoder_has_are_refused(tmp_path, values, message):
    with pytest.raises(ConfigError, match=message):
        train(tmp_path, values)


def test_mixout_needs_an_encoder_with_it(tmp_path):
    with pytest.raises(ConfigError, match=r"projection=regularize.mixout\(0.5\)"):
        toy.train(tmp_path, regularize={"mixout": 0.5})
    with pytest.raises(ConfigError, match="mixout must be that of the encoder. Received: none"):
        toy.train(tmp_path, model=model_for({"mixout": 0.5}))


def test_a_plateau_needs_dev_rows(tmp_path):
    from tfmodel.train.regularize import assemble

    with pytest.raises(ConfigError, match="Received: no dev rows"):
        assemble.callbacks(RegularizeSettings(plateau={}), has_dev=False)


@pytest.mark.slow
def test_two_devices_train_as_one_does():
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here.parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(here / "toy_regularized.py")],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    apart = json.loads(done.stdout.splitlines()[-1])
    assert apart["losses"] < 1e-5 and apart["weights"] < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("regularize", [EVERYTHING, AVERAGED], ids=["everything", "averaged"])
def test_a_run_with_it_continues_bit_for_bit(tmp_path, regularize, monkeypatch):
    whole, expected = train(tmp_path / "whole", regularize)
    record = StepRecorder.on_train_batch_end
    at = {"step": 0}

    def record_and_signal(self, batch, logs=None):
        record(self, batch, logs)
        if self.history[-1]["step"] == at["step"]:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(StepRecorder, "on_train_batch_end", record_and_signal)
    for step in (1, 6, 20):  # before the first average, at an epoch's end, under way
        at["step"] = step
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "cut", regularize)
    monkeypatch.undo()
    again, result = train(tmp_path / "cut", regularize)
    assert result.resumed_at_steps == [1, 6, 20]
    for name in ("loss", "learning_rate"):
        found, other = ([step[name] for step in run.steps] for run in (result, expected))
        np.testing.assert_allclose(found, other, rtol=1e-4, atol=1e-6, err_msg=name)
    assert [e["dev_loss"] for e in result.epochs] == [e["dev_loss"] for e in expected.epochs]
    assert toy.digest(again) == toy.digest(whole)
