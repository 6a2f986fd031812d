"""The page and the last lines of a run of several tasks.

Run: pytest tests/report/test_several_report.py
"""

import pytest

from tfmodel.report import SeveralResults, TaskResults, several_summary, write_several_report

TASKS = {
    "topic": TaskResults(
        task="classify",
        rows={"train": 1200, "dev": 100, "test": 500},
        evaluation={
            "dev": {"examples": 100, "accuracy": 0.91, "macro_f1": 0.9},
            "test": {"examples": 500, "accuracy": 0.9, "macro_f1": 0.88},
        },
        exported=2,
    ),
    "stars": TaskResults(
        task="regress",
        rows={"train": 300, "dev": 40},
        weight=0.5,
        evaluation={"dev": {"examples": 40, "spearman": 0.84127, "pearson": None}},
    ),
    "names": TaskResults(task="tag", rows={"train": 80}),
}
TRAINING = {
    "steps": 120,
    "examples": 3840,
    "seconds": 192.0,
    "examples_per_second": 20.0,
    "epochs": 3,
    "best_epoch": 2,
    "dev_mean": 0.8756,
    "tasks": {"topic": {"steps": 90}, "stars": {"steps": 24}, "names": {"steps": 6}},
}


def results(**changes):
    values = {
        "title": "support <desk>",
        "run_folder": "runs/support",
        "command": "tfmodel run support.yaml",
        "next_command": "tfmodel predict runs/support/tasks/topic 'a text of yours'",
        "config": {"seed": 7},
        "training": TRAINING,
        "tasks": TASKS,
        "timings": {"data": 2.0, "finetune": 200.0},
    }
    return SeveralResults(**{**values, **changes})


def test_the_last_lines_say_how_good_each_task_is():
    text = several_summary(results(), report="runs/support/report.html")
    figures, places = text.split("\n\n")
    assert figures.splitlines() == [
        "topic        accuracy 90.0%       on test, 90 of 120 steps",
        "stars        spearman 0.841       pearson -, on dev, 24 of 120 steps",
        "names                             80 train",
        "trained      3 min 12 s           epoch 2 of 3: mean of the dev figures 0.876",
    ]
    assert "next     tfmodel predict runs/support/tasks/topic" in places
    assert all(len(line) <= 80 for line in figures.splitlines())


def test_the_page_has_all_tasks_and_leads_to_each(tmp_path):
    page = write_several_report(tmp_path / "report.html", results()).read_text("utf-8")
    assert page.startswith("<!doctype html>") and "support &lt;desk&gt;" in page
    for name in TASKS:
        assert f'<a href="tasks/{name}/report.html">{name}</a>' in page
    for cell in ("1,200 train, 100 dev, 500 test", "accuracy 90.0%", "spearman 0.841", "2 files"):
        assert f"<td>{cell}" in page
    assert "<dd>0.876<small>epoch 2 of 3</small></dd>" in page
    assert "http://" not in page and "https://" not in page and "<script" not in page
    again = write_several_report(tmp_path / "again.html", results())
    assert again.read_text("utf-8") == page


@pytest.mark.parametrize("tasks", [{}, {"topic": TaskResults(task="classify", rows={"train": 9})}])
def test_what_is_not_there_yet_is_left_out(tasks, tmp_path):
    begun = results(training={}, tasks=tasks, timings={})
    page = write_several_report(tmp_path / "report.html", begun).read_text("utf-8")
    assert "nothing has been trained yet" in page and "tensorboard" not in page
    assert "trained " not in several_summary(begun)
    assert ('id="tasks"' in page) == bool(tasks)


def test_without_dev_rows_no_epoch_is_the_best():
    text = several_summary(results(training={**TRAINING, "dev_mean": None, "best_epoch": None}))
    assert "3 epochs, without dev rows" in text
