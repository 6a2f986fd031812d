"""From text files to an encoder that a supervised run takes; resting, restarting, going on.

Run: pytest tests/test_pretraining_run.py
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import needs
import pytest
import small_pretraining
import small_run
import yaml
from command import run_command

from tfmodel.train.checkpoint import Checkpoint

ROOT = Path(__file__).parents[1]
RUN = Path("runs/words")
STAGES = ["corpus", "vocabulary", "tokens", "pretrain"]


def read(path):
    return json.loads(Path(path).read_text("utf-8"))


def stages_done(done):
    return [line for line in done.err.splitlines() if line in STAGES]


def stages_skipped(done):
    return [name for name in STAGES if f"{name}: up to date" in done.err]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A folder with `words.yaml`, its corpus and its finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("pretrained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small_pretraining.write_corpus(Path("texts.jsonl"), small_pretraining.documents())
        small_pretraining.write_vocabulary(Path("vocab.txt"))
        Path("words.yaml").write_text(small_pretraining.CONFIG)
        done = run_command("pretrain", "words.yaml")
    assert done.code == 0, done.err
    (folder / "said.txt").write_text(done.out)
    (folder / "logged.txt").write_text(done.err)
    return folder


@pytest.fixture
def words(pretrained, tmp_path, monkeypatch):
    """A copy of `pretrained` that a test may change, as the current folder."""
    folder = tmp_path / "work"
    shutil.copytree(pretrained, folder)
    monkeypatch.chdir(folder)
    return folder


def test_what_a_run_leaves(pretrained):
    run = pretrained / RUN
    metrics = read(run / "metrics.json")
    assert metrics["train"]["steps"] == 8 and metrics["train"]["tokens_per_second"] > 0
    assert metrics["train"]["resumed_at_steps"] == []
    assert metrics["dev"]["perplexity"] == pytest.approx(
        2.718281828 ** metrics["dev"]["loss"], 1e-3
    )
    assert metrics["corpus"] == {"raw": 120, "kept": 120, "dropped": 0, "train": 108, "dev": 12}
    assert metrics["tokens"]["train"] + metrics["tokens"]["dev"] > 120 * 12
    history = read(run / "history.json")
    assert [each["step"] for each in history["dev"]][-2:] == [4, 8]
    assert history["dev"][-1]["loss"] < history["dev"][0]["loss"]  # it learned
    assert (run / "vocabulary/vocab.txt").read_text() == (pretrained / "vocab.txt").read_text()
    assert list((run / "logs").rglob("events*")) and not (run / "checkpoints").exists()
    config = read(run / "model/config.json")
    assert config["architectures"] == ["BertForMaskedLM"]
    assert config["vocab_size"] == metrics["vocabulary"]["pieces"]
    # What `auto` meant is written down.
    assert yaml.safe_load((run / "config.yaml").read_text())["train"]["learning_rate"] == 1e-3


def test_the_last_lines_and_the_page(pretrained):
    said = (pretrained / "said.txt").read_text()
    lines = said.splitlines()
    assert lines[0].startswith("dev loss ") and lines[1].startswith("perplexity ")
    assert "real tokens" in said and "documents  120" in said
    assert lines[-1] == "next     tfmodel run CONFIG encoder=runs/words/model"
    assert stages_done(type("Done", (), {"err": (pretrained / "logged.txt").read_text()})) == STAGES
    page = (pretrained / RUN / "report.html").read_text("utf-8")
    for words in ("Perplexity", "120 documents read", "Given by the config.", "max_length: 16"):
        assert words in page
    assert "<script" not in page and page.count("<svg") == 3


def test_the_next_command_trains_a_classifier_on_the_encoder(words, tfmodel):
    said = (words / "said.txt").read_text()
    following = said.splitlines()[-1].removeprefix("next     tfmodel ").split()
    small_run.write_rows(Path("train.csv"), small_run.rows())
    Path("topics.yaml").write_text(
        "run: runs/topics\ndata: {train: train.csv}\n"
        "train: {epochs: 1, max_length: 12, precision: float32}\n"
    )
    following[following.index("CONFIG")] = "topics.yaml"
    done = tfmodel(*following)
    assert done.code == 0, done.err
    assert read("runs/topics/metrics.json")["test"]["examples"] == 24
    config = read("runs/topics/model/config.json")
    assert config["vocab_size"] == read(RUN / "model/config.json")["vocab_size"]


def test_a_second_run_rests(words, tfmodel):
    before = read(RUN / "metrics.json")
    for command in ("pretrain", "run"):
        done = tfmodel(command, "words.yaml")
        assert done.code == 0, done.err
        assert stages_skipped(done) == STAGES and not stages_done(done)
    assert read(RUN / "metrics.json") == before
    assert done.out.splitlines()[0].startswith("dev loss ")


def test_what_changed_runs_again_but_weights_are_replaced_only_with_restart(words, tfmodel):
    weights = (RUN / "model/model.safetensors").read_bytes()
    refused = tfmodel("pretrain", "words.yaml", "objective.mask_rate=0.3", "train.steps=4")
    assert refused.code == 2 and "--restart" in refused.err
    assert "objective.mask_rate was 0.15, is 0.3; train.steps was 8, is 4" in refused.err
    # More text: the corpus alone may be made anew, the weights still stand.
    small_pretraining.write_corpus(Path("texts.jsonl"), small_pretraining.documents(130))
    done = tfmodel("corpus", "words.yaml")
    assert done.code == 0, done.err
    assert read(RUN / "metrics.json")["corpus"]["raw"] == 130
    assert done.out.splitlines()[-1] == "next     tfmodel pretrain words.yaml"
    refused = tfmodel("run", "words.yaml")
    assert refused.code == 2 and "changed: the content of corpus.train" in refused.err
    assert (RUN / "model/model.safetensors").read_bytes() == weights

    done = tfmodel("pretrain", "words.yaml", "train.steps=4", "--restart")
    assert done.code == 0, done.err
    assert stages_skipped(done) == ["corpus"] and stages_done(done) == STAGES[1:]
    assert (RUN / "model/model.safetensors").read_bytes() != weights
    assert read(RUN / "metrics.json")["train"]["steps"] == 4


def test_time_between_checkpoints_and_workers_change_no_result(words, tfmodel):
    done = tfmodel("pretrain", "words.yaml", "train.checkpoint_seconds=7", "corpus.workers=1")
    assert done.code == 0 and stages_skipped(done) == STAGES


def test_training_goes_on_from_an_encoder_with_its_vocabulary(words, tfmodel):
    command = [
        "pretrain", "words.yaml", "run=runs/more", "model=null", "vocabulary=null",
        "encoder=runs/words/model", "train.steps=4",
    ]  # fmt: skip
    done = tfmodel(*command)
    assert done.code == 0, done.err
    assert "goes on with the encoder's own head" in done.err
    first, before = read("runs/more/history.json")["dev"][0], read(RUN / "metrics.json")["dev"]
    # The same documents and masks: it begins where the other ended.
    assert first["step"] == 0 and first["loss"] == pytest.approx(before["loss"], abs=1e-3)
    assert "the encoder's; " in done.out
    kept = yaml.safe_load(Path("runs/more/config.yaml").read_text())["train"]
    assert kept["learning_rate"] == pytest.approx(2e-4)  # a fifth of a new encoder's
    refused = tfmodel(*command, "run=runs/words", "--restart")
    assert refused.code == 2
    assert "encoder: expected a path outside of what the run replaces" in refused.err


def test_a_vocabulary_is_trained_from_the_corpus(words, tfmodel):
    needs.package("tokenizers")
    trained = "vocabulary={size: 120, unused: 0, placeholders: false}"
    done = tfmodel("pretrain", "words.yaml", "run=runs/own", trained, "train.steps=2")
    assert done.code == 0, done.err
    assert len(Path("runs/own/model/vocab.txt").read_text().splitlines()) == 120
    assert "pieces     120          trained; " in done.out
    assert read("runs/own/metrics.json")["vocabulary"]["unknown_rate"] == 0


# --- accidents ----------------------------------------------------------------------------

_KILLED_IN = """\
import os, signal, sys
import tfmodel.{module} as module

real = module.{function}
def dies(*arguments, **options):
    {before}
    os.kill(os.getpid(), signal.SIGKILL)
module.{function} = dies
from tfmodel.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "module", "function", "before"),
    [
        ("corpus", "data.corpus.prepare", "write_parts", "real(*arguments, **options)"),
        ("vocabulary", "stages.vocabulary", "write_json", "real(*arguments, **options)"),
        ("tokens", "tokens.token_documents._Unfinished", "finish", ""),
        ("pretrain", "tasks.fill", "write_model_folder", ""),
    ],
)
def test_killed_in_a_stage_nothing_half_written_is_taken_for_whole(
    stage, module, function, before, words, tfmodel
):
    shutil.rmtree(RUN)
    code = _KILLED_IN.format(module=module, function=function, before=before or "pass")
    if "_Unfinished" in module:
        code = code.replace(
            "import tfmodel.tokens.token_documents._Unfinished as module",
            "from tfmodel.tokens.token_documents import _Unfinished as module",
        )
    command = ["pretrain", "words.yaml", "train.checkpoint_seconds=0.01"]
    killed = subprocess.run(
        [sys.executable, "-c", code, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    place = RUN / {"pretrain": "model", "tokens": "tokens/train"}.get(stage, stage)
    assert not place.exists()
    done = tfmodel(*command)
    assert done.code == 0, done.err
    assert stages_skipped(done) == STAGES[: STAGES.index(stage)]
    assert stages_done(done) == STAGES[STAGES.index(stage) :]
    if stage == "pretrain":
        assert "continues at step 8" in done.err
    assert not [each for each in RUN.rglob(".*") if each.name != ".lock"]


@pytest.mark.slow
def test_killed_while_training_it_ends_as_if_it_had_not_been(words, tfmodel):
    slow = (
        "import sys, time\n"
        "from tfmodel.cli import main\n"
        "from tfmodel.train.callbacks import StepRecorder\n"
        "at_end = StepRecorder.on_train_batch_end\n"
        "StepRecorder.on_train_batch_end = (\n"
        "    lambda *a, **k: (at_end(*a, **k), time.sleep(1.0))[0])\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = ["pretrain", "words.yaml", "run=runs/again", "train.checkpoint_seconds=0.01"]
    process = subprocess.Popen(
        [sys.executable, "-c", slow, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline, checkpoint = time.monotonic() + 900, Checkpoint("runs/again/checkpoints/last")
    while time.monotonic() < deadline and process.poll() is None and not checkpoint.exists():
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = tfmodel(*command)
    assert done.code == 0, done.err
    again = read("runs/again/metrics.json")
    assert len(again["train"]["resumed_at_steps"]) == 1
    assert stages_skipped(done) == STAGES[:3]
    whole = read(RUN / "history.json")
    losses = [each["loss"] for each in read("runs/again/history.json")["steps"]]
    assert losses == pytest.approx([each["loss"] for each in whole["steps"]], abs=1e-4)
    assert again["dev"]["loss"] == pytest.approx(
        read(RUN / "metrics.json")["dev"]["loss"], abs=1e-4
    )


# --- several workers ----------------------------------------------------------------------


@pytest.mark.slow
def test_two_workers_pretrain_together(words):
    probes = [socket.socket() for _ in range(2)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
    for probe in probes:
        probe.close()
    workers = []
    for index in (1, 0):
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        workers.append(
            subprocess.Popen(
                [sys.executable, "-m", "tfmodel.cli", "pretrain", "words.yaml", "run=runs/two"],
                env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CONFIG": json.dumps(cluster)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        (said, errors), (chiefs, chiefs_errors) = (w.communicate(timeout=900) for w in workers)
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], errors + chiefs_errors
    assert said.startswith("trained along; the chief writes") and "perplexity" in chiefs
    # The step is that of the whole batch; dropout drops other values.
    two, one = (read(run / "metrics.json") for run in (Path("runs/two"), RUN))
    assert two["train"]["tokens"] == one["train"]["tokens"]
    assert two["dev"]["loss"] == pytest.approx(one["dev"]["loss"], abs=0.05)
