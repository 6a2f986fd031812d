"""What Weights & Biases and MLflow have of a training; secrets; the projector's files."""

import html
import io
import json
import re
import struct
import sys
import time

import event_reading
import needs
import numpy as np
import pytest
import toy

from tfmodel.config import ConfigError, load_config
from tfmodel.train.watch import MLflow, WatchSettings, WeightsAndBiases, write_projector
from tfmodel.train.watch.event_files import markdown_list
from tfmodel.train.watch.tracker import flat_config, kept_run_id


def picture() -> bytes:
    """A red dot."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (1, 1), "red").save(file, "png")
    return file.getvalue()


PNG = picture()
SECRET = "sk-0123456789abcdef"


def test_settings_are_flat_and_secrets_stay_secret(monkeypatch):
    monkeypatch.setenv("COMPANY_API_KEY", SECRET)
    config = {
        "train": {"epochs": 3, "dropout": None, "class_weights": {"spam": 5.0}},
        "hub_token": "hf_1",
        "password": {"of": "mine"},
        "proxy": "https://me:hunter2@example.org/data",
        "url": f"https://example.org/?key={SECRET}&part=train",
        "batch_tokens": 4096,
        "tokenizer": "bert",
        "steps": [10, 15],
    }
    assert flat_config(config) == {
        "train.epochs": 3,
        "train.class_weights.spam": 5.0,
        "hub_token": "(hidden)",
        "password": "(hidden)",
        "proxy": "https://(hidden)@example.org/data",
        "url": "https://example.org/?key=(hidden)&part=train",
        "batch_tokens": 4096,
        "tokenizer": "bert",
        "steps": "[10, 15]",
    }


def test_a_runs_id_outlives_the_process(tmp_path):
    assert kept_run_id(tmp_path / "logs/id") is None
    assert kept_run_id(tmp_path / "logs/id", "a1") == "a1" == kept_run_id(tmp_path / "logs/id")


@pytest.mark.parametrize("name, tracker", [("wandb", WeightsAndBiases), ("mlflow", MLflow)])
def test_a_missing_extra_is_named(monkeypatch, tmp_path, name, tracker):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf"pip install 'tfmodel\[{name}\]'"):
        tracker(tmp_path)


@pytest.mark.parametrize(
    "changed, expected",
    [
        ({"profile_steps": [0, 3]}, "from 1 on"),
        ({"profile_steps": [5, 3]}, r"Received: \[5, 3\]"),
        ({"profile_steps": [1, 3], "tensorboard": False}, "profile_steps needs tensorboard: true"),
        ({"every_steps": 0}, "every_steps"),
        ({"mlflow": {"tracking": "x"}}, "Did you mean.*tracking_uri"),
    ],
)
def test_settings_that_cannot_be_are_refused(changed, expected):
    with pytest.raises(ConfigError, match=expected):
        load_config(changed, WatchSettings)


def test_texts_stay_texts_in_a_list():
    markdown = pytest.importorskip("markdown")
    text = "a | b\n<script>x</script> *no* [l](http://x) `c` \\ &amp; _u_ # h\t\x00 ~~s~~"
    rows = [
        {"label": "a|*b*", "score": 0.25, "text": text},
        {"label": "", "score": 1.0, "text": "x" * 999},
    ]
    page = markdown.markdown(markdown_list(rows), extensions=["markdown.extensions.tables"])
    tags = re.findall(r"<(\w+)>", page)
    assert tags == ["ul", *["li", "p", "strong", "strong", "p"] * 2]
    shown = [html.unescape(re.sub("<.*?>", "", each)) for each in re.findall("<p>(.*?)</p>", page)]
    assert shown[0] == "label a|*b*, score 0.250"
    assert shown[1] == " ".join(text.replace("\x00", " ").split())
    assert shown[2] == "label \xa0, score 1.000"
    assert len(shown[3]) == 300 and shown[3].endswith("…")
    assert markdown_list([]) == "none"


def test_the_projectors_files_have_a_line_a_vector(tmp_path):
    vectors = np.array([[1.5, -2e-7], [3, 4], [0, 1e9]], np.float32)
    texts = ["tab\there", "two\nlines\r\n\u2028 and \x00", ""]
    write_projector(tmp_path, "sentences", vectors, {"label": ["a", "b", "c"], "text": texts})
    lines = (tmp_path / "sentences.metadata.tsv").read_text("utf-8").split("\n")
    assert lines == ["label\ttext", "a\ttab here", "b\ttwo lines and", "c\t(empty)", ""]
    np.testing.assert_allclose(np.loadtxt(tmp_path / "sentences.tensor.tsv"), vectors, rtol=1e-5)
    write_projector(tmp_path, "one", vectors, {"label": ["a", "b", "c"]})
    assert (tmp_path / "one.metadata.tsv").read_text("utf-8") == "a\nb\nc\n"
    with pytest.raises(ValueError, match=r"Received: vectors \(3, 2\), metadata {'text': 2}"):
        write_projector(tmp_path, "one", vectors, {"text": ["a", "b"]})
    with pytest.raises(ValueError, match="Expected finite vectors. Received: 1 that are not"):
        write_projector(tmp_path, "one", np.array([[np.nan]]), {"text": ["a"]})


def show(tracker, steps, *, at):
    """What a training says from step `at` on."""
    tracker.start({"train.epochs": 3, "encoder": "tiny"}, step=at)
    for step in steps:
        tracker.log(step, {"train/loss": 1 / step, "speed/tokens_per_second": 100.0 * step})
    tracker.image(steps[-1], "dev/confusion_matrix", PNG)
    rows = [{"label": "a", "predicted": "b", "score": 0.9, "text": "x|\ny"}]
    tracker.table(steps[-1], "dev/mistakes", rows)
    tracker.flush()


@pytest.mark.slow
def test_mlflow_has_each_step_once_in_one_run(tmp_path, monkeypatch):
    mlflow = needs.package("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    show(MLflow(tmp_path / "logs", experiment="reviews", name="first"), range(1, 9), at=0)
    # Killed after step 8, taken up again from the checkpoint of step 5.
    tracker = MLflow(tmp_path / "logs", experiment="reviews", name="first")
    show(tracker, range(6, 11), at=5)
    tracker.finish({"dev_accuracy": 0.75})
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/logs/mlflow.db")
    [run] = client.search_runs([client.get_experiment_by_name("reviews").experiment_id])
    assert run.info.run_name == "first" and run.info.status == "FINISHED"
    assert run.data.params == {"train.epochs": "3", "encoder": "tiny"}
    for name, value in (("train/loss", lambda step: 1 / step),
                        ("speed/tokens_per_second", lambda step: 100.0 * step)):  # fmt: skip
        history = client.get_metric_history(run.info.run_id, name)
        assert [(p.step, p.value) for p in sorted(history, key=lambda p: p.step)] == [
            (step, pytest.approx(value(step))) for step in range(1, 11)
        ]
    assert run.data.metrics["kept/dev_accuracy"] == 0.75
    files = {each.path for each in client.list_artifacts(run.info.run_id, "dev")}
    assert {"dev/confusion_matrix_step_0000010.png", "dev/mistakes_step_0000010.json"} <= files
    assert list((tmp_path / "logs/mlflow-artifacts").rglob("*.png"))[0].read_bytes() == PNG


@pytest.mark.slow
def test_wandb_has_each_step_once_in_one_run_and_no_secret(tmp_path, monkeypatch):
    needs.package("wandb")
    monkeypatch.setenv("COMPANY_API_KEY", SECRET)
    monkeypatch.setattr(sys, "argv", ["train.py", f"token={SECRET}"])
    steps, summary = {}, {}
    for at, end in ((0, 9), (5, 11)):
        tracker = WeightsAndBiases(tmp_path / "logs", project="reviews", mode="offline", name="one")
        show(tracker, range(at + 1, end), at=at)
        tracker.finish({"dev_accuracy": 0.75})
    files = sorted((tmp_path / "logs/wandb").glob("offline-run-*/run-*.wandb"))
    written = time.monotonic() + 20  # by a process of W&B's own
    while not all("exit" in dict(wandb_records(file)) for file in files):
        assert time.monotonic() < written
        time.sleep(0.2)
    run_id = (tmp_path / "logs/wandb_run_id").read_text()
    assert [file.stem for file in files] == [f"run-{run_id}"] * 2
    for file in files:
        for name, record in wandb_records(file):
            if name == "history":
                values = {i.key or i.nested_key[0]: json.loads(i.value_json) for i in record.item}
                if "train/loss" in values:
                    steps.setdefault(record.step.num, []).append(values["train/loss"])
            elif name == "run":
                assert (record.run_id, record.project) == (run_id, "reviews")
            elif name == "summary":
                summary |= {i.key or i.nested_key[0]: i.value_json for i in record.update}
    assert steps == {step: [pytest.approx(1 / step)] for step in range(1, 11)}
    assert summary["kept/dev_accuracy"] == "0.75"
    for file in (tmp_path / "logs").rglob("*"):
        assert file.is_dir() or SECRET.encode() not in file.read_bytes(), file


def wandb_records(file):
    """The records of an offline run: protobuf messages in LevelDB's log, after a header of 7 bytes.

    Source: leveldb/doc/log_format.md: blocks of 32 KiB; of each piece a checksum of 4 bytes, its
    length in 2, and whether it is a whole (1), the first (2), a middle (3) or the last (4).
    """
    from wandb.proto import wandb_internal_pb2

    data, at, message = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        if at + 7 + length > len(data):
            return  # being written
        message += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record.FromString(message)
            name, message = record.WhichOneof("record_type"), b""
            yield name, getattr(record, name)


@pytest.mark.slow
def test_a_config_shows_one_training_in_all_three(tmp_path, monkeypatch):
    mlflow = needs.package("mlflow")
    needs.package("wandb")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    logs = tmp_path / "reviews/logs"
    _, result = toy.train(
        tmp_path / "reviews/checkpoints", logs=logs, epochs=2,
        watch={"wandb": {"mode": "offline"}, "mlflow": {}},
    )  # fmt: skip
    expected = {step["step"]: pytest.approx(step["loss"], rel=1e-5) for step in result.steps}
    assert dict(event_reading.scalars(logs / "train")["metrics/loss"]) == expected
    client = mlflow.MlflowClient(f"sqlite:///{logs}/mlflow.db")
    [run] = client.search_runs([client.get_experiment_by_name("tfmodel").experiment_id])
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert {point.step: point.value for point in history} == expected
    assert run.info.run_name == "reviews" and run.data.params["train.learning_rate"] == "0.03"
    best = result.epochs[result.best_epoch]
    assert run.data.metrics["kept/dev_accuracy"] == pytest.approx(best["dev_accuracy"])
    names = {each.path for each in client.list_artifacts(run.info.run_id, "dev")}
    assert any(name.startswith("dev/reliability") for name in names)
    [file] = (logs / "wandb").glob("offline-run-*/run-*.wandb")
    assert any(name == "history" for name, _ in wandb_records(file))
