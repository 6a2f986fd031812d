"""What a run tells the model card: its own figures, and no row.

Run: pytest tests/stages/test_card_facts.py
"""

import json
from pathlib import Path

import pytest

from tfmodel.config import load_config
from tfmodel.evaluate import classification
from tfmodel.kinds import SUPERVISED, RunSettings
from tfmodel.run_folder import Run
from tfmodel.stages import Context
from tfmodel.stages.card_facts import facts_of, macro_f1_interval
from tfmodel.stages.export import _drawn

RUN = Path("runs/small")


def facts(*overrides):
    settings = load_config("small.yaml", RunSettings, overrides=overrides)
    with Run.open(RUN) as run:
        context = Context(settings, run, SUPERVISED.stages, restart=False, config="small.yaml")
        return facts_of(context), context.dataset.split("train")


def test_a_finished_run_tells_all_but_its_rows(workspace):
    found, train = facts()
    assert found["name"] == "small" and found["seed"] == 3 and found["encoder"] == "encoder"
    assert found["data"]["raw"] == 120 and found["data"]["source"] == {"train": "train.csv"}
    assert (
        found["data"]["split"]
        == "dev 10% and test 20% of the training files, stratified, by the seed"
    )
    parts = found["data"]["parts"]
    assert sum(part["rows"] for part in parts.values()) == 120
    assert sum(parts["test"]["labels"].values()) == parts["test"]["rows"]
    assert found["training"]["settings"]["learning_rate"] == 0.01
    metrics = json.loads((RUN / "metrics.json").read_text())
    assert found["evaluation"]["test"]["accuracy"] == metrics["test"]["accuracy"]
    low, high = found["evaluation"]["test"]["macro_f1_interval"]
    assert low <= metrics["test"]["macro_f1"] <= high
    # Where files lie is nobody's business.
    assert str(Path.cwd()) not in json.dumps(found)
    assert found["environment"]["tensorflow"]


def test_figures_of_other_weights_are_left_out(workspace):
    found, _ = facts("train.epochs=5")  # not what was trained, nor evaluated
    assert "evaluation" not in found


def test_skew_comes_without_its_examples(workspace):
    runtime = {"rows": 9, "differ": 1, "share": 0.1, "unknown": 0, "examples": [{"text": "secret"}]}
    skew = {"rows": 9, "runtimes": {"phone": runtime}}
    (RUN / "skew.json").write_text(json.dumps(skew))
    found, _ = facts()
    assert found["skew"]["runtimes"]["phone"]["differ"] == 1
    assert "secret" not in json.dumps(found)


def test_rows_to_calibrate_on_are_drawn_by_the_seed(workspace):
    _, train = facts()
    few = _drawn(train, 10, seed=1)
    assert len(few.texts) == 10 and set(few.texts) < set(train.texts)
    assert few.texts == _drawn(train, 10, seed=1).texts != _drawn(train, 10, seed=2).texts
    assert sorted(_drawn(train, 10_000, seed=1).texts) == sorted(train.texts)


def test_the_interval_of_macro_f1_holds_it_and_narrows_with_rows():
    few = macro_f1_interval([[8, 2], [3, 7]])
    many = macro_f1_interval([[800, 200], [300, 700]])
    targets, chosen = [0] * 10 + [1] * 10, [0] * 8 + [1] * 2 + [0] * 3 + [1] * 7
    scores = [[1.0, 0.0] if index == 0 else [0.0, 1.0] for index in chosen]
    figure = classification(targets, scores, ["a", "b"])["macro_f1"]
    assert few[0] < many[0] < figure < many[1] < few[1]
    assert macro_f1_interval([[5, 0], [0, 5]]) == (1.0, 1.0)
    assert few == pytest.approx(macro_f1_interval([[8, 2], [3, 7]]))
