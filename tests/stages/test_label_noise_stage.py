"""A run that looks for wrong labels: planted ones are found, listed, dropped; figures add up.

Run: pytest tests/stages/test_label_noise_stage.py
"""

import json
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import small_run

import tfmodel as tm

RUN = Path("runs/noisy")
REVIEW = RUN / "data_review"
CONFIG = """\
run: runs/noisy
seed: 3
encoder: encoder
data:
  train: train.csv
  dev: dev.csv
  test: test.csv
  label_noise: {folds: 2}
train:
  epochs: 16
  learning_rate: 0.005
  patience: null
  warmup_share: 0.3
  batch_size: 8
  max_length: 12
  precision: float32
"""


def planted(rows, count, *, seed=0):
    """The rows, some with a wrong label, and the texts of those."""
    generator = random.Random(seed)
    wrong = generator.sample(range(len(rows)), count)
    labels = [label for _, label in rows]
    for row in wrong:
        labels[row] = generator.choice(
            [other for other in small_run.TOPICS if other != labels[row]]
        )
    texts = [text for text, _ in rows]
    return list(zip(texts, labels, strict=True)), {texts[row] for row in wrong}


def read(path):
    return json.loads(Path(path).read_text("utf-8"))


def disputed():
    lines = (REVIEW / "label_issues.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def done_stages(done):
    names = ("data", "label_noise", "finetune", "evaluate", "export")
    return [line for line in done.err.splitlines() if line in names]


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory):
    """A folder with a run that was reviewed and trained on the labels as they are."""
    folder = tmp_path_factory.mktemp("reviewed")
    rows = small_run.rows(240)
    train, wrong = planted(rows[:150], 15)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small_run.write_encoder(Path("encoder"))
        small_run.write_rows(Path("train.csv"), train)
        small_run.write_rows(Path("dev.csv"), rows[150:180])
        small_run.write_rows(Path("test.csv"), rows[180:])
        Path("noisy.yaml").write_text(CONFIG)
        Path("wrong.json").write_text(json.dumps(sorted(wrong)))
        Path("prepared.txt").write_text(tm.run("noisy.yaml", only="data").summary)
        Path("scores.txt").write_text(str((REVIEW / "folds").stat().st_mtime_ns))
        Path("done.txt").write_text(tm.run("noisy.yaml").summary)
    return folder


@pytest.fixture
def noisy(reviewed, tmp_path, monkeypatch):
    """A copy of it that a test may change, as the current folder."""
    shutil.copytree(reviewed, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.mark.slow
def test_planted_wrong_labels_are_found_and_listed(noisy):
    wrong, found = {*read("wrong.json")}, disputed()
    hits = [row["text"] in wrong for row in found]
    assert sum(hits) >= 8 and sum(hits) / len(hits) >= 0.6
    assert all(hits[:5])
    scores = [row["score"] for row in found]
    assert scores == sorted(scores)
    lines = Path("train.csv").read_text("utf-8").splitlines()
    right = dict(small_run.rows(240))
    for row, hit in zip(found, hits, strict=True):
        assert lines[int(row["origin"].split(":")[1]) - 1] == f"{row['text']},{row['label']}"
        assert not hit or row["suggested"] == right[row["text"]]


@pytest.mark.slow
def test_data_reviews_and_run_goes_on_from_there(noisy):
    prepared, done = Path("prepared.txt").read_text(), Path("done.txt").read_text()
    assert str((REVIEW / "folds").stat().st_mtime_ns) == Path("scores.txt").read_text()
    # Looking at the labels changes nothing that is trained on.
    metrics = read(RUN / "metrics.json")
    assert metrics["label_noise"]["rows"] == 150
    assert metrics["label_noise"]["disputed"] == len(disputed())
    assert metrics["train"]["examples"] == 150 * metrics["train"]["epochs"]
    assert "rows_dropped" not in metrics["train"]
    for text in (prepared, done):
        assert f"disputed   {len(disputed())}" in text and "label_issues.jsonl" in text
    page = (RUN / "report.html").read_text("utf-8")
    assert "dispute the labels of" in page and disputed()[0]["text"] in page
    assert "Training was on the labels as they are" in page


@pytest.mark.slow
@pytest.mark.parametrize("action", ["drop", "relabel"])
def test_disputed_rows_are_dropped_or_labelled_anew(noisy, tfmodel, action):
    before = read(RUN / "metrics.json")
    command = ["run", "noisy.yaml", f"data.label_noise.action={action}"]
    refused = tfmodel(*command)
    assert refused.code == 2 and f"data.label_noise.action was None, is {action}" in refused.err
    done = tfmodel(*command, "--restart")
    assert done.code == 0, done.err
    assert done_stages(done) == ["finetune", "evaluate"]
    metrics, found = read(RUN / "metrics.json"), disputed()
    train = metrics["train"]
    assert train["rows"] + train["rows_dropped"] == 150
    assert train["examples"] == train["rows"] * train["epochs"]
    page = (RUN / "report.html").read_text("utf-8")
    if action == "drop":
        assert (train["rows_dropped"], train["rows_relabelled"]) == (len(found), 0)
        assert f"{len(found)} rows left out of training" in page
    else:
        likelier = sum(row["suggested_probability"] > row["label_probability"] for row in found)
        assert (train["rows_dropped"], train["rows_relabelled"]) == (0, likelier)
        assert "trained on with the label suggested" in page
    # What is measured on is what it was, right or wrong.
    for part in ("dev", "test"):
        assert metrics[part]["examples"] == before[part]["examples"]
    again = tfmodel(*command)
    assert again.code == 0 and done_stages(again) == []


@pytest.mark.slow
def test_another_method_judges_anew_and_trains_nothing(noisy, tfmodel):
    done = tfmodel("data", "noisy.yaml", "data.label_noise.method=by_class")
    assert done.code == 0, done.err
    assert done_stages(done) == ["label_noise"]
    assert "model 2 of 2: done before" in done.err and "trains on" not in done.err
    # The weights are still those of this config: nothing that they depend on has changed.
    done = tfmodel("run", "noisy.yaml", "data.label_noise.method=by_class")
    assert done.code == 0 and done_stages(done) == []


@pytest.mark.slow
def test_a_review_that_was_killed_goes_on_in_the_fold_it_was_in(noisy, tfmodel, monkeypatch):
    from tfmodel.train.callbacks import StepRecorder

    at_end, steps = StepRecorder.on_train_batch_end, []

    def interrupt(self, batch, logs=None):
        at_end(self, batch, logs)
        steps.append(batch)
        if len(steps) == 187:  # a fold has 160
            signal.raise_signal(signal.SIGINT)

    command = ["data", "noisy.yaml", "run=runs/again"]
    with monkeypatch.context() as patch:
        patch.setattr(StepRecorder, "on_train_batch_end", interrupt)
        killed = tfmodel(*command)
    assert killed.code == 130 and "model 2 of 2: trains on" in killed.err
    assert not Path("runs/again/data_review/label_issues.jsonl").exists()
    done = tfmodel(*command)
    assert done.code == 0, done.err
    assert "data: up to date" in done.err and "model 1 of 2: done before" in done.err
    assert "continues at step 27" in done.err
    found = np.load("runs/again/data_review/probabilities.npy")
    assert found == pytest.approx(np.load(REVIEW / "probabilities.npy"), abs=0.05)
    assert not list(Path("runs/again/data_review/folds").glob("checkpoints*"))


@pytest.mark.slow
def test_training_without_the_review_it_needs_is_refused(noisy, tfmodel):
    (REVIEW / "probabilities.npy").unlink()
    refused = tfmodel("evaluate", "noisy.yaml", "data.label_noise.action=drop")
    assert refused.code == 2 and "Type: tfmodel finetune noisy.yaml" in refused.err
    refused = tfmodel("finetune", "noisy.yaml", "data.label_noise.action=drop", "--restart")
    assert refused.code == 2 and "needs the stage label_noise done" in refused.err
    assert "Type: tfmodel data noisy.yaml" in refused.err


@pytest.mark.slow
def test_more_folds_than_rows_are_refused(noisy, tfmodel):
    small_run.write_rows(Path("train.csv"), small_run.rows(12))
    refused = tfmodel("data", "noisy.yaml", "data.label_noise.folds=20")
    assert refused.code == 2
    assert "folds: expected at most the 12 rows of train. Received: 20" in refused.err


def test_a_run_that_does_not_ask_for_it_has_no_review(workspace):
    assert not Path("runs/small/data_review").exists()
    assert "label_noise" not in read("runs/small/metrics.json")
