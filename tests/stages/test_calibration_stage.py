"""Scores are calibrated on dev, and texts like none of the labels are answered with "none".

Run: pytest tests/stages/test_calibration_stage.py
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import small_run

from tfmodel.export import load


def other_rows(count: int, *, label: str, seed: int) -> list[tuple[str, str]]:
    """Texts without a word of any topic."""
    generator = random.Random(seed)
    found = {" ".join(generator.choices(small_run._FILLERS, k=7)): label for _ in range(count)}
    return list(found.items())


def write_parts(*, none_in_train: int, none_in_dev: int) -> list[str]:
    """Write parts with so many rows of "none", and 40 in test; give the overrides."""
    rows = small_run.rows(200)
    more = other_rows(80, label="none", seed=1)
    small_run.write_rows(Path("train.csv"), rows[:120] + more[40 : 40 + none_in_train])
    small_run.write_rows(Path("dev.csv"), rows[120:160] + more[60 : 60 + none_in_dev])
    small_run.write_rows(Path("test.csv"), rows[160:] + more[:40])
    return ["data.dev=dev.csv", "data.test=test.csv", "export=null", "run=runs/none"]


def figures() -> dict:
    return json.loads(Path("runs/none/metrics.json").read_text("utf-8"))


def test_texts_like_no_label_are_answered_with_none(workspace, tfmodel):
    overrides = [*write_parts(none_in_train=15, none_in_dev=15), "train.epochs=8"]
    done = tfmodel("run", "small.yaml", "data.none_label=none", *overrides)
    assert done.code == 0, done.err
    evaluation = json.loads(Path("runs/none/evaluation.json").read_text("utf-8"))
    by_label = evaluation["test"]["per_class"]
    assert by_label["none"]["support"] == 40 and by_label["none"]["recall"] > 0.8
    assert evaluation["test"]["accuracy"] > 0.8
    assert {"none_bias", "temperature"} <= set(figures()["train"])
    (answer,) = load("runs/none").predict(["then monday was after the new on"])
    assert answer["label"] == "none"
    page = Path("runs/none/report.html").read_text("utf-8")
    assert "its logits are divided by" in page


def test_no_row_of_none_has_to_be_there(workspace, tfmodel):
    overrides = write_parts(none_in_train=0, none_in_dev=0)
    refused = tfmodel("run", "small.yaml", *overrides)
    assert refused.code == 2 and "Received: none (40 rows" in refused.err
    done = tfmodel("run", "small.yaml", "data.none_label=none", *overrides)
    assert done.code == 0, done.err
    by_label = json.loads(Path("runs/none/evaluation.json").read_text("utf-8"))["dev"]["per_class"]
    missed = [found["support"] - found["recall"] * found["support"] for found in by_label.values()]
    assert by_label["none"]["support"] == 0
    assert sum(missed) <= 0.05 * 40 + 1  # nearly all keep their label


def test_calibration_can_be_left_out_and_keeps_every_answer(workspace, tfmodel):
    done = tfmodel("run", "small.yaml", "train.calibrate=false", "export=null", "run=runs/none")
    assert done.code == 0, done.err
    assert "temperature" not in figures()["train"]
    kept, plain = figures(), json.loads(Path("runs/small/metrics.json").read_text("utf-8"))
    assert plain["train"]["temperature"] > 0
    for part in ("dev", "test"):
        assert kept[part]["accuracy"] == plain[part]["accuracy"]
        assert kept[part]["log_loss"] != plain[part]["log_loss"]
