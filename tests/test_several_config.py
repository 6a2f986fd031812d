"""The config of a run of several tasks: what is understood, and the words for what is not.

Run: pytest tests/test_several_config.py
"""

import copy

import pytest
import yaml

from tfmodel.config import ConfigError
from tfmodel.kinds import SEVERAL, load_run_config
from tfmodel.run_folder import Run
from tfmodel.stages.settling import as_asked

CONFIG = yaml.safe_load("""
run: runs/both
tasks:
  topic: {data: {train: topics.csv}}
  stars: {data: {train: stars.csv}, task: {name: regress}}
""")


def changed(**values):
    """The config with dotted keys (`__` for the dots) set, or taken away by None."""
    config = copy.deepcopy(CONFIG)
    for path, value in values.items():
        *parents, last = path.split("__")
        section = config
        for key in parents:
            section = section.setdefault(key, {})
        if value is None:
            del section[last]
        else:
            section[last] = value
    return config


def test_each_task_has_the_config_of_a_run_of_its_own():
    kind, settings = load_run_config(
        changed(
            seed=5,
            tasks__answer={
                "data": {"train": "qa.json", "format": "squad"},
                "task": {"name": "span"},
            },
            train={"batch_tokens": 2048, "epochs": 2},
            tasks__stars__train={"max_length": 40, "batch_size": 4, "monitor": "pearson"},
            export={"tflite": ["int8"]},
            tasks__stars__export={"savedmodel": False, "tflite": ["float32"]},
        )
    )
    assert kind is SEVERAL and settings.exports()
    topic, stars, answer = map(settings.run_of, settings.tasks)
    assert [each.run for each in (topic, stars)] == [
        "runs/both/tasks/topic",
        "runs/both/tasks/stars",
    ]
    assert topic.seed == 5 and topic.encoder == settings.encoder and topic.train.epochs == 2
    assert [each.train.max_length for each in (topic, stars, answer)] == [128, 40, 384]
    assert (topic.train.batch_tokens, topic.train.batch_size) == (2048, None)
    assert (stars.train.batch_tokens, stars.train.batch_size) == (None, 4)
    assert stars.train.monitor == "pearson"
    assert [each.data.target for each in (topic, stars, answer)] == ["auto", "number", "answers"]
    assert topic.export.tflite == ["int8"] and stars.export.tflite == ["float32"]
    assert settings.run_of("topic", together="abc").together == "abc"
    # What stands in the run's own copy of the config means the same.
    again = type(settings).model_validate(settings.model_dump(mode="json"))
    assert [again.run_of(name) for name in again.tasks] == [topic, stars, answer]


@pytest.mark.parametrize("length", [128, 200])
def test_a_length_for_all_is_that_of_questions_too(length):
    """Also where it is what others have by default."""
    answer = {"data": {"train": "qa.json", "format": "squad"}, "task": {"name": "span"}}
    more = {"data": {"train": "b.json", "format": "squad"}, "task": {"name": "span"}}
    _, settings = load_run_config(
        changed(
            train={"max_length": length},
            tasks__answer=answer,
            tasks__more={**more, "train": {"max_length": 300}},
        )
    )
    lengths = [settings.run_of(name).train.max_length for name in settings.tasks]
    assert lengths == [length, length, length, 300]
    config = changed(tasks__answer=answer)
    config["tasks"]["topic"]["task"] = None  # every line under it is commented out
    _, settings = load_run_config(config)
    assert settings.run_of("answer").train.max_length == 384


@pytest.mark.parametrize("size", [None, 8])
def test_the_config_of_a_run_is_that_of_its_weights(tmp_path, size):
    """Also where a task has batches by tokens, and so no size, beside others that have one."""
    config = changed(
        run=str(tmp_path / "run"),
        train={} if size is None else {"batch_size": size},
        tasks__stars__train={"batch_tokens": 64},
    )
    _, settings = load_run_config(config)
    run = Run.open(tmp_path / "run")
    lengths = {name: settings.run_of(name).train for name in settings.tasks}
    inputs = {f"tasks.{name}.train.batch_size": each.batch_size for name, each in lengths.items()}
    assert [*inputs.values()] == [size, None]
    run.record_stage("finetune", "x", {**inputs, "train.precision": "auto"})
    train = settings.train.model_copy(update={"batch_size": size or 32, "precision": "float32"})
    resolved = settings.model_copy(update={"train": train})
    run.save_config(resolved)
    assert as_asked(settings, run, "finetune") == settings
    assert as_asked(resolved, run, "finetune") == settings


MISTAKES = {
    "one task": (
        {"tasks__stars": None},
        "tasks: expected at least 2 of them. Received: a mapping with the keys topic",
    ),
    "a task without data": (
        {"tasks__more": {"task": {"name": "tag"}}},
        "missing key tasks.more.data (Labelled rows: where they are, how they are read). "
        "Received: nothing. Add tasks.more.data.train to the config",
    ),
    "no task": (
        {"tasks": None, "mixing": {"alpha": 1}},
        "missing key tasks (The tasks by name, which is that of their folder in RUN/tasks, each "
        "with data). Received: nothing. Add tasks.NAME.data.train to the config",
    ),
    "a task without a line": (
        {"tasks__more": {}},
        "missing key tasks.more.data (Labelled rows: where they are, how they are read). Received",
    ),
    "a file in place of a task": (
        {"tasks__more": "more.csv"},
        "tasks.more: expected a mapping with keys such as data, task, train, weight, export. "
        'Received: "more.csv". Change it.',
    ),
    "a kind of task that there is not": (
        {"tasks__topic__task": {"name": "clasify"}},
        "tasks.topic.task.name: expected one of classify, regress, tag, span, embed. "
        'Received: "clasify". Did you mean classify?',
    ),
    "a slip in a key": (
        {"tasks__stars__wieght": 2},
        "unknown key tasks.stars.wieght. Did you mean tasks.stars.weight?",
    ),
    "a key of all in a task": (
        {"tasks__stars__train": {"learning_rate": 1e-4}},
        "unknown key tasks.stars.train.learning_rate. Did you mean train.learning_rate?",
    ),
    "a name that is no folder's": (
        {"tasks__Our Topic": {"data": {"train": "a.csv"}}},
        "tasks: a task's name must be small letters, digits, - and _, which do not begin with dev_ "
        "or val_: it names its folder and its figures. Received: Our Topic. Change it",
    ),
    "a name that figures have": (
        {"tasks__dev_topic": {"data": {"train": "a.csv"}}},
        "Received: dev_topic. Change it",
    ),
    "alpha out of range": (
        {"mixing": {"alpha": 1.5}},
        "mixing.alpha: alpha must be from 0, all tasks alike, to 1, in proportion to their rows, "
        "or annealed. Received: 1.5. Change it, or leave it out",
    ),
    "an unknown rule": ({"mixing": {"alpha": "anealed"}}, "Did you mean annealed?"),
    "a cap of none": (
        {"mixing": {"cap": 0}},
        "mixing.cap: expected a value at least 1. Received: 0. Change it, or leave it out",
    ),
    "a weight of nothing": (
        {"tasks__stars__weight": 0},
        "tasks.stars.weight: expected a value greater than 0 and at most 1000. Received: 0.",
    ),
    "few labels": (
        {"train": {"few_labels": {"name": "contrastive"}}},
        "train.few_labels: expected a training of one task, which has it. Received: contrastive, "
        "with 2 tasks. Leave it out",
    ),
    "several devices": (
        {"train": {"devices": "all"}},
        "train.devices: expected a training of one task, which has it. Received: all, with 2 "
        "tasks. Leave it out",
    ),
    "averaged weights": (
        {"train": {"regularize": {"moving_average": {}}}},
        "train.regularize.moving_average: expected a training of one task, which has it. "
        "Received: some, with 2 tasks. Leave it out",
    ),
    "one figure for all": (
        {"train": {"monitor": "accuracy"}},
        "train.monitor: expected it of each task, in tasks.NAME.train.monitor. Received: accuracy "
        "for all. Move it there",
    ),
    "a loss among figures": (
        {"tasks__stars__train": {"monitor": "loss"}},
        "tasks.stars.train.monitor: expected a figure of which more is better, to be averaged with "
        "those of the other tasks. Received: loss. Leave it out",
    ),
    "a figure of another task": (
        {"tasks__stars__train": {"monitor": "accuracy"}},
        "tasks.stars: train.monitor must be one of spearman, pearson, loss where task.name is "
        "regress and data.target number. Received: accuracy. Choose one of these, or leave it out",
    ),
    "class weights of numbers": (
        {"tasks__stars__train": {"class_weights": "balanced"}},
        "tasks.stars: train.class_weights: expected rows with one class each. Received: task.name "
        "regress with data.target number. Leave it out",
    ),
    "what only some of the tasks have": (
        {"train": {"calibrate": False}},
        "tasks.stars: train.calibrate: expected rows with one class each. Received: task.name "
        "regress with data.target number. Leave it out, or say it of the tasks that have it, by "
        "tasks.NAME.train.calibrate",
    ),
    "smoothed labels of numbers": (
        {"train": {"regularize": {"label_smoothing": 0.1}}},
        "tasks.stars: train.regularize.label_smoothing: expected rows with one class each.",
    ),
    "disputed labels": (
        {"tasks__topic__data__label_noise": {}},
        "tasks.topic.data.label_noise: expected none: rows with a disputed label are looked for by "
        "models of one task.",
    ),
    "no epoch": (
        {"train": {"epochs": 0}},
        "train.epochs must be at least 1 with several tasks. Received: 0",
    ),
    "an export for nobody": (
        {
            "export": {},
            "tasks__topic__export": {"tflite": ["int8"]},
            "tasks__stars__export": {"tflite": ["int8"]},
        },
        "export: expected a task without an export of its own, which it would be for. Received: "
        "every task has one. Leave export out, or theirs",
    ),
    "one task's keys beside": (
        {"data": {"train": "a.csv"}},
        "a multi-task run (tasks, mixing)",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_has_a_clear_message(name):
    changes, said = MISTAKES[name]
    with pytest.raises(ConfigError) as error:
        load_run_config(changed(**changes))
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_two_tasks_of_one_name_are_refused(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text(
        "run: r\ntasks:\n  topic: {data: {train: a.csv}}\n  topic: {data: {train: b.csv}}\n"
    )
    said = "twice.yaml:4: expected each key once. Received: tasks.topic a second time"
    with pytest.raises(ConfigError, match=said):
        load_run_config(path)


def test_a_task_with_every_line_commented_out_lacks_its_data():
    with pytest.raises(ConfigError, match="missing key tasks.topic.data"):
        load_run_config({**CONFIG, "tasks": {**CONFIG["tasks"], "topic": None}})


def test_pairs_without_a_label_are_a_task_of_vectors():
    pairs = {"data": {"train": "pairs.csv", "text_pair": "other"}, "task": {"name": "embed"}}
    _, settings = load_run_config(changed(tasks__near=pairs))
    assert settings.run_of("near").data.target == "none"
    again = type(settings).model_validate(settings.model_dump(mode="json"))
    assert again.run_of("near") == settings.run_of("near")


def test_overrides_reach_the_sections_of_a_task():
    overrides = ["tasks.stars.weight=0.25", "mixing.alpha=0", "tasks.topic.data.max_rows=50"]
    _, settings = load_run_config(CONFIG, overrides)
    assert settings.tasks["stars"].weight == 0.25 and settings.mixing.alpha == 0
    assert settings.run_of("topic").data.max_rows == 50


def test_a_stage_of_another_kind_of_run_is_refused():
    with pytest.raises(ConfigError, match="expected the config of a pretraining run. Received"):
        load_run_config(CONFIG, stage="pretrain")


def test_several_processes_are_refused(monkeypatch, tmp_path):
    from tfmodel import pipeline

    monkeypatch.chdir(tmp_path)
    workers = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}'
    monkeypatch.setenv("TF_CONFIG", workers)
    with pytest.raises(ConfigError, match="TF_CONFIG: expected one process for a multi-task run"):
        pipeline.run(CONFIG)
    assert not (tmp_path / "runs").exists()
