"""Several tasks on one encoder, from a config to what each task's own run folder answers.

Run: pytest tests/test_several_run.py
"""

import json
import re
import shlex
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import small_run
import yaml
from command import run_command

from tfmodel.train.callbacks import StepRecorder

pytestmark = pytest.mark.slow

GUIDE = Path(__file__).parents[1] / "docs" / "several.md"
TASKS = Path("runs/several/tasks")


def marked(language: str) -> str:
    """The block of the guide that can be followed."""
    found = rf"<!-- test -->\n```{language}\n(.*?)^```$"
    (block,) = re.findall(found, GUIDE.read_text("utf-8"), re.S | re.M)
    return block


@pytest.fixture(scope="module")
def finished_both(tmp_path_factory):
    """A folder with the guide's run, finished, and what it said; not to be changed."""
    folder = tmp_path_factory.mktemp("several")
    (script,) = re.findall(r"^python - <<'END'\n(.*?\n)END$", marked("bash"), re.S | re.M)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small_run.write_encoder(Path("encoder"))
        exec(compile(script, "several.md", "exec"), {})
        config = yaml.safe_load(Path("several.yaml").read_text())
        # A random encoder wants a larger rate than a pretrained one, and more epochs.
        config |= {"encoder": "encoder", "seed": 3}
        config["train"] |= {"learning_rate": 0.01, "precision": "float32", "epochs": 6}
        Path("several.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        done = run_command("run", "several.yaml")
    assert done.code == 0, done.err
    return folder, done


@pytest.fixture
def both(finished_both, tmp_path, monkeypatch):
    """A copy of it that a test may change, as the current folder."""
    folder = tmp_path / "work"
    shutil.copytree(finished_both[0], folder)
    monkeypatch.chdir(folder)
    return folder


def tensors(folder):
    from safetensors.numpy import load_file

    return load_file(Path(folder) / "model.safetensors")


def test_each_task_has_an_ordinary_run_folder_and_the_run_tells_of_all(finished_both):
    folder, done = finished_both
    run = folder / "runs/several"
    metrics = json.loads((run / "metrics.json").read_text())
    train = metrics["train"]
    assert train["steps"] == sum(each["steps"] for each in train["tasks"].values())
    assert train["examples"] == sum(each["examples"] for each in train["tasks"].values())
    assert train["dev_mean"] > 0.8 and 1 <= train["best_epoch"] <= 6
    for name, figure in (("topic", "accuracy"), ("stars", "spearman"), ("names", "f1")):
        task = run / "tasks" / name
        own = json.loads((task / "metrics.json").read_text())
        assert own["test"][figure] > 0.8, name
        assert metrics["test"][name] == own["test"] and metrics["dev"][name] == own["dev"]
        assert own["train"]["examples"] == train["tasks"][name]["examples"]
        others = [other for other in ("topic", "stars", "names") if other != name]
        assert own["train"]["trained_with"] == others
        history = json.loads((task / "history.json").read_text())
        assert len(history["steps"]) == train["tasks"][name]["steps"]
        assert f"dev_{figure}" in history["epochs"][-1] and "loss" in history["epochs"][-1]
        assert (task / "report.html").read_text("utf-8").startswith("<!doctype html>")
        assert f"tasks/{name}/report.html" in (run / "report.html").read_text("utf-8")
        assert f"{name:<12} {figure}" in done.out
    assert list(metrics["export"]) == ["topic"]
    card = (run / "tasks/topic/export/savedmodel/1/README.md").read_text("utf-8")
    assert "stars, names" in card
    assert "next     tfmodel predict runs/several/tasks/topic 'a text of yours'" in done.out
    lengths = [
        yaml.safe_load((run / "tasks" / name / "config.yaml").read_text())["train"]["max_length"]
        for name in ("topic", "stars", "names")
    ]
    assert lengths == [32, 24, 32]


def test_the_guide_can_be_followed_to_its_end(both, tfmodel, capsys):
    answers = []
    for line in re.findall(r"^tfmodel (predict .*)$", marked("bash"), re.M):
        done = tfmodel(*shlex.split(line))
        assert done.code == 0, done.err
        answers.append(json.loads(done.out))
    assert [[*answer] for answer in answers] == [
        ["text", "label", "score", "scores"],
        ["text", "entities"],
    ]
    exec(compile(marked("python"), "several.md", "exec"), {})
    assert capsys.readouterr().out.strip() == "['loss']"


def test_every_task_answers_with_the_encoder_of_all(both):
    import keras

    import tfmodel as tm
    from tfmodel.tasks import classify

    texts = ["after the storm the wind was new", "then the coach said"]
    shared = tm.load_encoder("runs/several/model", sequence=False)
    model = classify.build(shared, classes=3)
    saved = tensors(TASKS / "topic/model")
    model.get_layer("head").kernel.assign(saved["classifier.weight"].T)
    model.get_layer("head").bias.assign(saved["classifier.bias"])
    tokenizer = tm.load_tokenizer("runs/several/model", max_length=32)
    expected = keras.ops.softmax(model.predict(tm.batches(texts, tokenizer=tokenizer), verbose=0))
    answers = tm.load(TASKS / "topic").predict(texts)
    found = [
        [answer["scores"][label] for label in ("business", "sport", "weather")]
        for answer in answers
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    exported = tm.load(TASKS / "topic/export/savedmodel").predict(texts)
    assert [each["label"] for each in exported] == [each["label"] for each in answers]
    encoders = [
        {name.removeprefix("bert."): value for name, value in tensors(folder).items()}
        for folder in ("runs/several/model", TASKS / "stars/model", TASKS / "names/model")
    ]
    for name, value in encoders[0].items():
        for other in encoders[1:]:
            if name in other:  # entities have no pooler
                np.testing.assert_array_equal(value, other[name])


def test_commands_of_one_task_work_on_its_folder_and_nothing_else_is_redone(both, tfmodel):
    again = tfmodel("run", "several.yaml")
    assert again.code == 0, again.err
    assert again.err.splitlines() == [
        f"{stage}: up to date" for stage in ("data", "finetune", "evaluate", "export")
    ]
    config = str(TASKS / "stars/config.yaml")
    assert "evaluate: up to date" in tfmodel("evaluate", config).err
    done = tfmodel("export", config, "export={savedmodel: false, tflite: [float32]}")
    assert done.code == 0, done.err
    answered = tfmodel("predict", str(TASKS / "stars/export/tflite/float32.tflite"), "rain")
    assert answered.code == 0 and "score" in json.loads(answered.out)
    more = tfmodel("run", "several.yaml", "tasks.names.export={tflite: []}")
    assert more.code == 0 and "finetune: up to date" in more.err, more.err
    assert (TASKS / "names/export/parity.json").exists()


def test_what_would_replace_weights_of_others_is_refused(both, tfmodel):
    for arguments, said in (
        (
            ["run", "several.yaml", "tasks.stars.weight=1"],
            "changed: tasks.stars.weight was 0.5, is",
        ),
        (["run", "several.yaml", "mixing.alpha=1"], "changed: mixing.alpha was 0.5, is 1"),
        (
            ["finetune", f"{TASKS}/stars/config.yaml", "--restart"],
            "Received: one of several on one",
        ),
        (
            ["run", f"{TASKS}/stars/config.yaml", "train.epochs=9", "train.dropout=0.2"],
            "Received: another (changed: train.epochs was 6, is 9; train.dropout was None, is "
            "0.2). Leave it out, or train all of them anew by their own config",
        ),
        (["predict", "runs/several", "rain"], "Name one: runs/several/tasks/names, runs"),
        (
            ["kit", "runs/several", "--output", "kit"],
            "tfmodel kit runs/several/tasks/names runs/several",
        ),
        (["data", "several.yaml", "--skew"], "--skew: expected the config of one task"),
    ):
        refused = tfmodel(*arguments)
        assert (refused.code, said in refused.err) == (2, True), refused.err
    rests = tfmodel("finetune", "several.yaml")  # what was refused has forgotten nothing
    assert rests.err.splitlines() == ["finetune: up to date"], rests.err
    small = small_run.CONFIG.replace("runs/small", "runs/several").replace(
        "train.csv", "topics.csv"
    )
    Path("small.yaml").write_text(small)
    refused = tfmodel("run", "small.yaml")
    assert refused.code == 2 and "Received: that of a multi-task run" in refused.err
    # Weights of one task alone are as little replaced unasked as any.
    alone = tfmodel("run", "small.yaml", f"run={TASKS}/topic", "train.epochs=1", "--restart")
    assert alone.code == 0, alone.err
    refused = tfmodel("run", "several.yaml")
    assert refused.code == 2 and "Received: weights of topic alone. Add --restart" in refused.err


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("tasks.stars.train.max_length=60", "tasks.stars: train.max_length must be at most 48"),
        ("tasks.topic.train.class_weights={fun: 2}", "tasks.topic: train.class_weights must name"),
        ("tasks.topic.data.target=number", "tasks.topic: task classify: expected rows with one"),
    ],
)
def test_a_mistake_names_its_task(both, tfmodel, override, said):
    if "number" in override:
        rows = Path("stars.csv").read_text().replace("review,score", "text,label")
        Path("topics.csv").write_text(rows)
    refused = tfmodel("run", "several.yaml", "run=runs/other", override)
    assert (refused.code, said in refused.err) == (2, True), refused.err


def test_interrupted_it_ends_as_if_it_had_not_been(finished_both, both, tfmodel, monkeypatch):
    shutil.rmtree("runs")
    record = StepRecorder.on_train_batch_end
    for step in (5, 31):

        def interrupted(self, batch, logs=None, at=step):
            record(self, batch, logs)
            if self.history[-1]["step"] == at:
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(StepRecorder, "on_train_batch_end", interrupted)
        assert tfmodel("run", "several.yaml").code == 130
    monkeypatch.setattr(StepRecorder, "on_train_batch_end", record)
    done = tfmodel("run", "several.yaml")
    assert done.code == 0 and "continues at step 31 (epoch 2)" in done.err, done.err
    train = json.loads(Path("runs/several/metrics.json").read_text())["train"]
    assert train["resumed_at_steps"] == [5, 31]
    for name in ("topic", "stars", "names"):
        whole = tensors(finished_both[0] / TASKS / name / "model")
        found = tensors(TASKS / name / "model")
        assert {*found} == {*whole}
        for tensor, value in whole.items():
            np.testing.assert_array_equal(found[tensor], value)
    names = (*whole, "steps")
    before, now = (
        json.loads((folder / "runs/several/history.json").read_text())
        for folder in (finished_both[0], both)
    )
    assert names and [each["loss"] for each in now["steps"]] == [
        each["loss"] for each in before["steps"]
    ]
    assert now["epochs"] == before["epochs"]


def test_the_training_is_watched_task_by_task(finished_both):
    from tensorflow.python.summary.summary_iterator import summary_iterator

    tags = {
        value.tag
        for path in (finished_both[0] / "runs/several/logs").rglob("events.*")
        for event in summary_iterator(str(path))
        for value in event.summary.value
    }
    for name, figure in (("topic", "accuracy"), ("stars", "spearman"), ("names", "f1")):
        assert any(tag.endswith(f"{name}/loss") for tag in tags), tags
        assert any(tag.endswith(f"{name}/{figure}") for tag in tags), tags
