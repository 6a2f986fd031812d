"""Runs of scored pairs, of triplets and without training, from a config to the answers.

Run: pytest tests/test_embed_run.py
"""

import json
from pathlib import Path

import numpy as np
import pytest
import small_run
import yaml
from command import run_command
from test_task_contract import paired_rows

import tfmodel as tm

pytestmark = pytest.mark.slow


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write data and config of a run, and go there."""
    monkeypatch.chdir(tmp_path)
    small_run.write_encoder(Path("encoder"))

    def write(rows, header, task, **data):
        small_run.write_rows(Path("train.csv"), rows, header)
        config = yaml.safe_load(small_run.CONFIG)
        config["task"] = {"name": "embed", **task}
        config["data"] |= {"text_pair": "text_pair", **data}
        config["export"] = {"tflite": ["float32"]}
        Path("small.yaml").write_text(yaml.safe_dump(config))

    return write


def run(*overrides):
    done = run_command("run", "small.yaml", *overrides)
    assert done.code == 0, done.err
    return json.loads(Path("runs/small/metrics.json").read_text()), done.out


def test_scored_pairs(write):
    pairs = paired_rows(60)
    rows = [(*pair, "5") for pair in pairs]
    rows += [(a, b, "1") for (a, _), (_, b) in zip(pairs, pairs[7:] + pairs[:7], strict=True)]
    write(rows, ("text", "text_pair", "score"), {"loss": "cosine"}, label="score")
    metrics, said = run()
    assert metrics["test"]["spearman"] > 0.5 and "Spearman" in said
    assert {"pearson", "spearman_interval"} < set(metrics["test"])
    config = yaml.safe_load(Path("runs/small/config.yaml").read_text())
    assert (config["data"]["target"], config["train"]["monitor"]) == ("number", "spearman")
    page = Path("runs/small/report.html").read_text("utf-8")
    assert ">Numbers</h2>" in page and "correlation of ranks (Spearman) of score and cosine" in page
    (answer,) = tm.load("runs/small").predict(["the rain"])
    assert [*answer] == ["text", "vector"]


def test_triplets(write):
    pairs = paired_rows(60)
    rows = [(*pair, other) for pair, (_, other) in zip(pairs, pairs[5:] + pairs[:5], strict=True)]
    header = ("text", "text_pair", "negative")
    write(rows, header, {"loss": "triplet", "pooling": "cls"}, label="negative")
    metrics, said = run()
    assert 0 <= metrics["test"]["triplet_accuracy"] <= 1 and "Recall at 10" in said
    assert metrics["test"]["candidates"] > metrics["test"]["examples"]
    folder = Path("runs/small/model")
    assert json.loads((folder / "1_Pooling/config.json").read_text())["pooling_mode_cls_token"]
    # The same rows, with negatives in the contrastive loss.
    contrastive = ["task.loss=contrastive", "data.target=text", "task.normalize=false"]
    metrics, _ = run("--restart", *contrastive)
    assert "triplet_accuracy" in metrics["dev"]
    modules = json.loads((folder / "modules.json").read_text())
    assert [module["path"] for module in modules] == ["", "1_Pooling"]


def test_an_encoder_as_it_is(write):
    write(paired_rows(60), ("text", "text_pair"), {})
    metrics, said = run("train.epochs=0")
    assert metrics["train"]["examples"] == metrics["train"]["epochs"] == 0
    assert metrics["test"]["examples"] == 12 and "Recall at 10" in said
    given = tm.load("runs/small/export/tflite/float32.tflite").vectors(["the storm was on monday"])
    wanted = tm.tasks.embed.load("encoder", max_length=12)
    wanted = wanted.model(wanted.tokenizer(["the storm was on monday"]))
    np.testing.assert_allclose(given, wanted, atol=1e-5)
    # What was written is trained further, as it says its vectors are made.
    metrics, _ = run("encoder=runs/small/model", "run=runs/again", "export=null")
    metrics = json.loads(Path("runs/again/metrics.json").read_text())
    assert metrics["train"]["examples"] > 0


def test_a_head_has_to_be_learned(write):
    small_run.write_rows(Path("train.csv"), small_run.rows())
    Path("small.yaml").write_text(small_run.CONFIG)
    done = run_command("run", "small.yaml", "train.epochs=0")
    assert done.code == 2
    assert "train.epochs must be at least 1 where task.name is classify" in done.err


def test_rows_without_a_second_text(write):
    pairs = [*paired_rows(40), ("the rain was on monday", "")]
    write(pairs, ("text", "text_pair"), {})
    run("train.epochs=0", "export=null")
    account = json.loads(Path("runs/small/data/account.json").read_text())
    assert account["dropped"] == {"empty_text": 1}


def test_scores_that_are_all_the_same(write):
    rows = [(*pair, "5") for pair in paired_rows(40)]
    write(rows, ("text", "text_pair", "score"), {"loss": "cosine"}, label="score")
    done = run_command("run", "small.yaml")
    assert done.code == 2 and "expected pairs with different scores. Received" in done.err
