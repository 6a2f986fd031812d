"""A run from a file never seen to artifacts, and what a second, changed or killed run does.

Run: pytest tests/test_lifecycle.py
"""

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import small_run

from tfmodel.config import ConfigError
from tfmodel.train.checkpoint import Checkpoint

ROOT = Path(__file__).parents[1]
RUN = Path("runs/small")


def read(path):
    return json.loads(Path(path).read_text("utf-8"))


def stages_done(done):
    """The stages that a command did, out of what it logged."""
    return [line for line in done.err.splitlines() if line in STAGES]


def stages_skipped(done):
    return [name for name in STAGES if f"{name}: up to date" in done.err]


STAGES = ["data", "finetune", "evaluate", "export"]


def test_a_file_never_seen_becomes_artifacts_without_editing(workspace, tfmodel):
    with open("news items.csv", "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["id", "Headline", "Topic"])
        table = small_run.rows(90, seed=5)
        writer.writerows([n, text, label] for n, (text, label) in enumerate(table))

    looked = tfmodel("init", "news items.csv")
    assert looked.code == 0, looked.err
    command = shlex.split(looked.out.splitlines()[-1].partition("Now type: ")[2])
    assert command == ["tfmodel", "run", "news items.yaml"]

    # Only the encoder is ours: the default one would be fetched.
    done = tfmodel(*command[1:], "encoder=encoder")
    assert done.code == 0, done.err
    run = Path("runs/news items")
    assert (run / "export/savedmodel/1/saved_model.pb").is_file()
    assert sorted(p.name for p in (run / "export/tflite").iterdir()) == [
        "float16.tflite", "float32.tflite", "int8.tflite",
    ]  # fmt: skip
    parity = read(run / "export/parity.json")
    assert parity["passed"] and len(parity["artifacts"]) == 4
    assert "<html" in (run / "report.html").read_text("utf-8")
    assert read(run / "metrics.json")["test"]["examples"] == 18
    assert re.search(r"^accuracy +\d", done.out, re.MULTILINE)

    following = shlex.split(done.out.splitlines()[-1].removeprefix("next"))
    assert following[:2] == ["tfmodel", "predict"]
    answered = tfmodel(*following[1:])
    assert answered.code == 0, answered.err
    assert read_lines(answered.out)[0]["label"] in small_run.TOPICS


def read_lines(text):
    return [json.loads(line) for line in text.split("\n") if line]


def test_a_second_run_skips_every_stage_and_says_so(workspace, tfmodel):
    before = read(RUN / "metrics.json")
    done = tfmodel("run", "small.yaml")
    assert done.code == 0, done.err
    assert stages_skipped(done) == STAGES and not stages_done(done)
    assert read(RUN / "metrics.json") == before
    assert "accuracy" in done.out and "next" in done.out


@pytest.mark.slow
def test_stages_one_by_one_end_as_the_whole_run_does(workspace, tfmodel):
    """And no stage runs before what it needs: the message names the command to type first."""
    config = ["small.yaml", "run=runs/by hand"]
    for stage, missing in (("finetune", "data"), ("evaluate", "finetune"), ("export", "finetune")):
        refused = tfmodel(stage, *config)
        assert refused.code == 2
        assert f"{stage} needs the stage {missing} done with this config" in refused.err
        assert f"Type: tfmodel {missing} small.yaml 'run=runs/by hand'" in refused.err
    for stage, following in zip(STAGES, [*STAGES[1:], "predict"], strict=True):
        done = tfmodel(stage, *config)
        assert done.code == 0, done.err
        assert stages_done(done) == [stage]
        assert done.out.splitlines()[-1].startswith(f"next     tfmodel {following} ")
    again = tfmodel("run", *config)
    assert stages_skipped(again) == STAGES

    whole, by_hand = read(RUN / "metrics.json"), read("runs/by hand/metrics.json")
    for part in ("dev", "test"):
        for figure in ("accuracy", "macro_f1", "log_loss", "calibration_error"):
            assert by_hand[part][figure] == pytest.approx(whole[part][figure], rel=1e-3)
    assert whole["test"]["accuracy"] >= 0.9  # it did learn: a third would be chance


def test_what_changes_the_export_alone_runs_the_export_alone(workspace, tfmodel):
    done = tfmodel("run", "small.yaml", "export.tflite=[float32]")
    assert done.code == 0, done.err
    assert stages_skipped(done) == STAGES[:3] and stages_done(done) == ["export"]
    assert [p.name for p in (RUN / "export/tflite").iterdir()] == ["float32.tflite"]
    assert [*read(RUN / "metrics.json")["export"]] == ["savedmodel", "tflite/float32"]
    kept = (RUN / "config.yaml").read_text()
    assert "- float32" in kept and "int8" not in kept
    assert "learning_rate: 0.01" in kept and "precision: float32" in kept


def test_an_artifact_that_was_deleted_is_made_again(workspace, tfmodel):
    (RUN / "export/tflite/int8.tflite").unlink()
    done = tfmodel("run", "small.yaml", "export.savedmodel=false")
    assert stages_done(done) == ["export"]
    assert (RUN / "export/tflite/int8.tflite").exists()
    assert done.out.splitlines()[-1] == "next     tfmodel predict runs/small 'a text of yours'"


def test_the_config_in_a_run_folder_is_that_of_its_weights(workspace, tfmodel):
    kept = Path("runs/small/config.yaml")
    assert "monitor: auto" not in kept.read_text()
    before = kept.read_text()
    done = tfmodel("run", str(kept))
    assert done.code == 0 and stages_done(done) == [], done.err
    assert kept.read_text() == before
    other = tfmodel("run", str(kept), "train.learning_rate=0.5")
    assert other.code == 2 and "train.learning_rate" in other.err


@pytest.mark.parametrize("command", ["run", "finetune", "evaluate", "export"])
def test_trained_weights_are_not_replaced_by_those_of_another_config(workspace, tfmodel, command):
    before = (RUN / "model/model.safetensors").read_bytes()
    refused = tfmodel(command, "small.yaml", "train.epochs=2")
    assert refused.code == 2 and not refused.out
    assert "changed: train.epochs was 4, is 2" in refused.err
    assert "--restart" in refused.err or "tfmodel finetune" in refused.err
    assert (RUN / "model/model.safetensors").read_bytes() == before
    assert stages_skipped(tfmodel("run", "small.yaml")) == STAGES


def test_changed_rows_are_found_whatever_their_path(workspace, tfmodel):
    small_run.write_rows(Path("train.csv"), small_run.rows(110))
    refused = tfmodel("run", "small.yaml")
    assert refused.code == 2
    assert "changed: the content of data.train" in refused.err and "--restart" in refused.err
    # Preparing them is no harm to the weights, and the next stage still tells.
    assert tfmodel("data", "small.yaml").code == 0
    for command in ("run", "evaluate"):
        refused = tfmodel(command, "small.yaml")
        assert refused.code == 2
        assert "changed: the content of data.train" in refused.err
    small_run.write_rows(Path("train.csv"), small_run.rows())
    done = tfmodel("run", "small.yaml")
    assert stages_done(done) == ["data"] and stages_skipped(done) == STAGES[1:]


def test_restart_trains_anew_and_leaves_nothing_old_looking_current(workspace, tfmodel):
    restarted = tfmodel("finetune", "small.yaml", "train.epochs=1", "--restart")
    assert restarted.code == 0, restarted.err
    assert stages_done(restarted) == ["finetune"]
    # Figures and artifacts of the old weights are gone from what is said of the run.
    assert [*read(RUN / "metrics.json")] == ["train"]
    assert "savedmodel" not in restarted.out
    assert "epochs: 1" in (RUN / "config.yaml").read_text()


@pytest.mark.slow
def test_restart_of_an_unchanged_run_measures_and_exports_the_new_weights(workspace, tfmodel):
    done = tfmodel("run", "small.yaml", "--restart")
    assert done.code == 0, done.err
    assert stages_done(done) == ["finetune", "evaluate", "export"]
    assert stages_skipped(done) == ["data"]
    assert (RUN / "export/savedmodel/2/saved_model.pb").exists()


def test_a_restart_killed_before_its_first_checkpoint_leaves_the_weights_safe(
    workspace, tfmodel, monkeypatch
):
    from tfmodel.stages import finetune

    before = (RUN / "model/model.safetensors").read_bytes()

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    for function, words in (
        ("_resolved", "not recorded how they were trained"),
        ("seed_everything", "train.epochs was 1, is 4"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(finetune, function, interrupt)
            restarted = tfmodel("finetune", "small.yaml", "train.epochs=1", "--restart")
            assert restarted.code == 130
        refused = tfmodel("run", "small.yaml")
        assert refused.code == 2 and words in refused.err and "--restart" in refused.err
        assert (RUN / "model/model.safetensors").read_bytes() == before
    done = tfmodel("finetune", "small.yaml", "train.epochs=1")
    assert done.code == 0, done.err


@pytest.mark.slow
def test_a_restart_that_failed_half_way_does_not_pass_for_done(workspace, tfmodel, monkeypatch):
    from tfmodel.tasks import classify

    def full(*_, **__):
        raise OSError("no room")

    command = ["finetune", "small.yaml", "train.epochs=2", "train.checkpoint_seconds=0.01"]
    with monkeypatch.context() as patch:
        patch.setattr(classify, "save", full)
        assert tfmodel(*command, "--restart").code == 1
    # The old weights still answer, but nobody takes them for those of either config.
    assert tfmodel("predict", RUN, "rain and storm").code == 0
    refused = tfmodel("run", "small.yaml")
    assert refused.code == 2 and "training under way" in refused.err
    assert "train.epochs was 2, is 4" in refused.err
    done = tfmodel(*command)
    assert done.code == 0, done.err
    assert stages_done(done) == ["finetune"]
    assert "continues at step" in done.err


def test_a_loss_that_is_not_a_number_is_a_failure_that_names_its_rows(
    workspace, tfmodel, monkeypatch
):
    from tfmodel.train import finetune

    make = finetune.learned_batches

    def poisoned(*arguments):
        found = make(*arguments)
        found.weights = np.ones(len(found.rows), np.float32)
        found.weights[5] = np.inf
        return found

    monkeypatch.setattr(finetune, "learned_batches", poisoned)
    done = tfmodel("finetune", "small.yaml", "--restart")
    assert done.code == 1
    assert re.search(r"failed: The loss is inf at step \d of epoch 1, rows .* stand in", done.err)
    rows = read_lines((RUN / "checkpoints/not_a_number.jsonl").read_text("utf-8"))
    poisoned_row = next(row for row in rows if row["row"] == 5)
    assert poisoned_row["origin"].startswith("train.csv:") and poisoned_row["text"]


# --- interrupted --------------------------------------------------------------------------

_SLOWED = """\
import sys, time
from tfmodel.cli import main
from tfmodel.train.callbacks import StepRecorder

at_end = StepRecorder.on_train_batch_end
StepRecorder.on_train_batch_end = lambda *a, **k: (at_end(*a, **k), time.sleep(0.25))[0]
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def start_slowly():
    """Start a process of its own, in which each training step takes a quarter of a second."""
    processes = []

    def start(*arguments):
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", _SLOWED, *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def wait_for_step(step, process):
    deadline = time.monotonic() + 300
    checkpoint = Checkpoint("runs/again/checkpoints/last")
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if len(checkpoint.state()["callbacks"]["StepRecorder"]["steps"]) >= step:
                return
        except ConfigError:  # none yet
            pass
        time.sleep(0.02)
    raise AssertionError(process.communicate())


@pytest.mark.slow
def test_a_run_interrupted_and_then_killed_ends_as_if_it_had_not_been(
    workspace, tfmodel, start_slowly
):
    command = ["run", "small.yaml", "run=runs/again", "train.checkpoint_seconds=0.01"]
    process = start_slowly(*command)
    wait_for_step(2, process)
    second = tfmodel(*command)
    assert second.code == 2
    assert "nobody else is using" in second.err and f"process {process.pid}" in second.err
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert errors.endswith("tfmodel: interrupted: the same command continues\n")
    assert "Traceback" not in errors

    process = start_slowly(*command)
    wait_for_step(9, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()

    done = tfmodel(*command)
    assert done.code == 0, done.err
    assert "continues at step" in done.err
    metrics = read("runs/again/metrics.json")
    first, second = metrics["train"]["resumed_at_steps"]
    assert 2 <= first < 9 <= second
    # Step by step it is the run that nothing happened to.
    whole, again = read(RUN / "history.json"), read("runs/again/history.json")
    assert [s["step"] for s in again["steps"]] == [s["step"] for s in whole["steps"]]
    assert [s["loss"] for s in again["steps"]] == pytest.approx(
        [s["loss"] for s in whole["steps"]], rel=1e-2, abs=1e-3
    )
    before = read(RUN / "metrics.json")
    assert metrics["test"]["accuracy"] == before["test"]["accuracy"]
    assert metrics["train"]["examples"] == before["train"]["examples"]
    assert not list(Path("runs/again").rglob(".*partial*"))
    assert not Path("runs/again/checkpoints").exists()


def test_the_message_after_an_interrupted_restart_names_what_continues(
    workspace, tfmodel, monkeypatch
):
    from tfmodel.stages import finetune

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(finetune, "seed_everything", interrupt)
    done = tfmodel("run", "small.yaml", "--restart")
    assert done.code == 130
    assert done.err.endswith("interrupted: the same command without --restart continues\n")
