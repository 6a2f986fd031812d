"""A run from Python: its result, pairs, what `auto` meant, what counts as a change.

Run: pytest tests/test_pipeline.py
"""

import json
import shlex
from pathlib import Path

import pytest
import small_run
import yaml

import tfmodel as tm
from tfmodel import pipeline, sources
from tfmodel.config import ConfigError
from tfmodel.stages.context import identity_of_source


def config(**changes):
    return {**yaml.safe_load(small_run.CONFIG), **changes}


def test_a_run_from_python_gives_folder_figures_and_report(workspace, finished):
    result = tm.run(config())
    assert result.folder == workspace / "runs/small"
    assert result.report.read_text("utf-8").startswith("<!doctype html>")
    assert result.metrics["test"]["accuracy"] >= 0.9
    assert "accuracy" in result.summary and "savedmodel" in result.summary
    assert tm.load(result.folder).predict(["rain and storm"])[0]["label"] == "weather"
    with pytest.raises(ConfigError, match="unknown key trian. Did you mean train"):
        tm.run(config(trian={}))


@pytest.mark.slow
def test_pairs_without_a_test_part(workspace, tfmodel):
    rows = [(*text.split(" ", 3)[::3], label) for text, label in small_run.rows(150)]
    columns = ("first", "second", "topic")
    small_run.write_rows(Path("train.csv"), rows[30:], columns)
    small_run.write_rows(Path("dev.csv"), rows[:30], columns)
    Path("pairs.yaml").write_text(
        "run: runs/pairs\nencoder: encoder\n"
        "data: {train: train.csv, dev: dev.csv, text: first, text_pair: second, label: topic}\n"
        "train: {epochs: 1, max_length: 24}\n"
        "export: {tflite: []}\n"
    )
    done = tfmodel("run", "pairs.yaml")
    assert done.code == 0, done.err
    metrics = json.loads(Path("runs/pairs/metrics.json").read_text())
    assert {"dev", "train", "export"} == {*metrics} and metrics["dev"]["examples"] == 30
    # What auto meant is written down, and read back with the run.
    kept = yaml.safe_load(Path("runs/pairs/config.yaml").read_text())["train"]
    assert kept["learning_rate"] == 2e-4 and kept["precision"] in ("float32", "bfloat16")
    assert kept["jit"] is False and kept["batch_size"] == 32
    assert tfmodel("run", "pairs.yaml").code == 0
    assert yaml.safe_load(Path("runs/pairs/config.yaml").read_text())["train"] == kept

    following = shlex.split(done.out.splitlines()[-1].removeprefix("next"))
    assert following[1:] == "predict runs/pairs --input FILE --output answers.jsonl".split()
    following[following.index("FILE")] = "dev.csv"
    fields = ["--text", "first", "--text-pair", "second"]
    assert tfmodel(*following[1:], *fields).code == 0
    assert len(Path("answers.jsonl").read_text().splitlines()) == 30


def test_the_run_folder_may_be_in_the_home_folder(workspace, tmp_path, monkeypatch, tfmodel):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    done = tfmodel("data", "small.yaml", "run=~/runs/new")
    assert done.code == 0, done.err
    assert (tmp_path / "home/runs/new/data/account.json").exists()
    assert not Path("~").exists()


@pytest.mark.parametrize(
    "own",
    ["logs/day.txt", "checkpoints/best.bin", "model/config.json", "data/a.csv", "config.yaml"],
)
def test_a_folder_of_the_users_own_is_left_as_it_is(own, workspace, tfmodel):
    path = Path("mine", own)
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    # Twice: a refusal must not make the folder a run's.
    for _ in range(2):
        refused = tfmodel("run", "small.yaml", "run=mine")
        assert refused.code == 2 and "which no run made" in refused.err
        assert f"Received: one with {Path(own).parts[0]}" in refused.err
    assert [each for each in Path("mine").rglob("*") if each.is_file()] == [path]
    assert path.read_text() == "mine"


@pytest.mark.parametrize("key", ["encoder", "data.train", "data.dev"])
def test_a_source_in_what_the_run_replaces_is_refused(key, workspace, tfmodel):
    source = Path("runs/small/model" if key == "encoder" else "runs/small/logs/mine.csv")
    if key != "encoder":
        small_run.write_rows(source, small_run.rows())
    Path("link").symlink_to(source)
    for name in (source, "link"):
        refused = tfmodel("run", "small.yaml", f"{key}={name}", "--restart")
        assert refused.code == 2
        assert f"{key}: expected a path outside of what the run replaces" in refused.err
    assert source.exists()


def test_a_run_beside_its_sources_and_killed_early_goes_on(workspace, tfmodel, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    command = ["data", "small.yaml", "run=."]
    for function in ("_save_config", "_do"):
        with monkeypatch.context() as patch:
            patch.setattr(pipeline, function, interrupt)
            assert tfmodel(*command).code == 130
    Path("data").mkdir()
    done = tfmodel(*command)
    assert done.code == 0, done.err
    assert Path("data/account.json").exists() and Path("train.csv").exists()


def test_weights_of_the_encoder_that_changed_are_found(workspace, tfmodel):
    small_run.write_encoder(Path("encoder"), seed=1)
    refused = tfmodel("run", "small.yaml")
    assert refused.code == 2 and "changed: the content of encoder." not in refused.err
    assert "changed: the content of encoder)" in refused.err


def test_time_between_checkpoints_changes_no_result(workspace, tfmodel):
    done = tfmodel("run", "small.yaml", "train.checkpoint_seconds=7")
    assert done.code == 0 and "finetune: up to date" in done.err


def test_a_pinned_source_is_not_fetched_only_to_look(monkeypatch):
    def fetch(source, **_):
        raise AssertionError(f"fetched {source}")

    monkeypatch.setattr(sources, "fetch", fetch)
    source = sources.DEFAULT_ENCODER
    assert identity_of_source(source) == source


def test_a_setting_that_fits_no_label_can_be_set_right(workspace, tfmodel):
    command = ["finetune", "small.yaml", "run=runs/new", "train.epochs=1"]
    assert tfmodel("data", *command[1:]).code == 0
    refused = tfmodel(*command, "train.class_weights={sun: 2}")
    assert refused.code == 2
    assert "must name labels of the data (business, sport, weather). Received: sun" in refused.err
    done = tfmodel(*command, "train.class_weights={weather: 2}")
    assert done.code == 0, done.err


def test_data_of_another_config_leaves_the_config_of_the_weights(workspace, tfmodel):
    before = Path("runs/small/config.yaml").read_text()
    done = tfmodel("data", "small.yaml", "seed=9", "train.epochs=9")
    assert done.code == 0
    following = "next     tfmodel finetune small.yaml seed=9 train.epochs=9 --restart"
    assert done.out.splitlines()[-1] == following
    assert "accuracy" not in done.out and "finetune " not in done.out.splitlines()[0]
    assert Path("runs/small/config.yaml").read_text() == before
    refused = tfmodel("export", "small.yaml")
    assert refused.code == 2
    assert "export needs the stage data done with this config" in refused.err
    assert "Type: tfmodel data small.yaml" in refused.err
