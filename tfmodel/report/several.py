"""A run of several tasks: its results -> one page with a table of all, and the last few lines."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import markupsafe

from tfmodel.report import wording
from tfmodel.report.html import write_html
from tfmodel.report.results import Figures
from tfmodel.report.sections import settings
from tfmodel.report.tables import column
from tfmodel.report.terminal import last_lines
from tfmodel.tasks import TASKS

_CORRELATIONS = ("spearman", "pearson", "mrr")
_FIGURES_OF_A_TASK = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskResults:
    """What a run of several has found of one of its tasks; whatever is empty is left out.

    Attributes:
        task: its key in `tasks.TASKS`.
        rows: part -> rows.
        weight: what its loss is multiplied by.
        evaluation: `dev` and `test` -> figures.
        history: its own `history.json`.
        exported: how many artifacts it has.
    """

    task: str
    rows: Mapping[str, int] = dataclasses.field(default_factory=dict)
    weight: float = 1.0
    evaluation: Mapping[str, Figures] = dataclasses.field(default_factory=dict)
    history: Figures = dataclasses.field(default_factory=dict)
    exported: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeveralResults:
    """What a run of several tasks has found so far; whatever is empty is left out.

    Attributes:
        title: the run's name.
        run_folder: where everything lies.
        command: what made the run.
        next_command: what to type now.
        config: the resolved settings.
        environment: name -> version or machine.
        history: `steps` of the training of all.
        training: the `train` part of `metrics.json`.
        tasks: by name what was found of each.
        timings: stage -> seconds.
    """

    title: str
    run_folder: str | Path = ""
    command: str = ""
    next_command: str = ""
    config: Figures = dataclasses.field(default_factory=dict)
    environment: Figures = dataclasses.field(default_factory=dict)
    history: Figures = dataclasses.field(default_factory=dict)
    training: Figures = dataclasses.field(default_factory=dict)
    tasks: Mapping[str, TaskResults] = dataclasses.field(default_factory=dict)
    timings: Mapping[str, float] = dataclasses.field(default_factory=dict)


def write_several_report(path: str | Path, results: SeveralResults) -> Path:
    """Write the page of a run of several tasks: a table of all, links to the page of each.

    One HTML file that needs no network and no script. What is not there yet is left out.

    Args:
        path: the file; it appears whole or not at all.
        results: what the run has found so far.

    Returns:
        `path`.
    """
    view = {
        "title": results.title,
        "facts": _facts(results),
        "unfinished": ""
        if results.training
        else "This run is not finished: nothing has been trained yet.",
        "commands": _commands(results),
        "tasks": _tasks(results),
        "training": _training(results),
        "settings": settings(results),
        "footer": f"Report of {results.title} · seed {results.config.get('seed', 0)} · this page "
        "asks nothing of the network",
    }
    return write_html(path, "several.html.jinja", view)


def several_summary(results: SeveralResults, *, report: str = "") -> str:
    """Say in plain text how good each task is, and what to do next.

    Args:
        results: what the run has found so far; what is missing is left out.
        report: path of the page, if one was written.

    Returns:
        Lines of at most 80 columns, but for paths and commands, which are for copying and never
        cut; no newline at the end.
    """
    lines = []
    for name, task in results.tasks.items():
        part = next((part for part in ("test", "dev") if part in task.evaluation), None)
        if part is None:
            lines.append((name, "", _rows_in_words(task)))
            continue
        found = _named_figures(task, part)
        rest = ", ".join(f"{figure} {value}" for figure, value in found[1:])
        steps = _steps_in_words(results, name)
        words = ", ".join(each for each in (rest, f"on {part}", steps) if each)
        lines.append((name, " ".join(found[0]), words))
    if results.training:
        seconds = wording.duration(results.training["seconds"])
        lines.append(("trained", seconds, _mean_in_words(results)))
    places = [("files", results.run_folder), ("report", report), ("next", results.next_command)]
    return last_lines(lines, places, widths=(12, 20))


def _named_figures(task: TaskResults, part: str) -> list[tuple[str, str]]:
    """The first figures of a part, by name, in words."""
    figures = task.evaluation.get(part, {})
    names = [name for name in TASKS[task.task].figures if name != "loss" and name in figures]
    return [
        (
            name.replace("_", " "),
            wording.correlation(figures[name])
            if name in _CORRELATIONS
            else wording.percent(figures[name]),
        )
        for name in names[:_FIGURES_OF_A_TASK]
    ] or [("rows", wording.count(figures.get("examples", 0)))]


def _rows_in_words(task: TaskResults) -> str:
    return ", ".join(f"{wording.count(rows)} {part}" for part, rows in task.rows.items())


def _steps_in_words(results: SeveralResults, name: str) -> str:
    found = results.training.get("tasks", {}).get(name)
    if not found:
        return ""
    return f"{wording.count(found['steps'])} of {wording.count(results.training['steps'])} steps"


def _mean_in_words(results: SeveralResults) -> str:
    training = results.training
    if training.get("dev_mean") is None:
        return f"{wording.plural(training['epochs'], 'epoch')}, without dev rows"
    best = f"epoch {training['best_epoch']} of {training['epochs']}"
    return f"{best}: mean of the dev figures {wording.correlation(training['dev_mean'])}"


# --- the page -----------------------------------------------------------------------------


def _facts(results: SeveralResults) -> list[dict[str, str]]:
    found = [("Tasks", wording.count(len(results.tasks)), "on one encoder")]
    if training := results.training:
        if training.get("dev_mean") is not None:
            note = f"epoch {training['best_epoch']} of {training['epochs']}"
            found.append(("Dev mean", wording.correlation(training["dev_mean"]), note))
        note = f"{wording.count(training['steps'])} steps"
        found.append(("Training", wording.duration(training["seconds"]), note))
    if results.timings:
        found.append(("Whole run", wording.duration(sum(results.timings.values())), ""))
    return [{"name": name, "value": value, "note": note} for name, value, note in found]


def _commands(results: SeveralResults) -> list[dict[str, Any]]:
    lines = [("Next", results.next_command)]
    if results.training:
        lines.append(("Curves", f"tensorboard --logdir {Path(results.run_folder) / 'logs'}"))
    lines += [("Files", str(results.run_folder)), ("Made by", results.command)]
    return [
        {"name": name, "value": value, "next": name == "Next"} for name, value in lines if value
    ]


def _tasks(results: SeveralResults) -> dict[str, Any] | None:
    if not results.tasks:
        return None
    rows = [
        {
            "name": name,
            "link": f"tasks/{name}/report.html",
            "cells": [
                TASKS[task.task].name,
                _rows_in_words(task),
                _steps_in_words(results, name),
                f"{task.weight:g}",
                *(
                    ", ".join(f"{figure} {value}" for figure, value in _named_figures(task, part))
                    if task.evaluation.get(part)
                    else ""
                    for part in ("dev", "test")
                ),
                wording.plural(task.exported, "file") if task.exported else "",
            ],
        }
        for name, task in results.tasks.items()
    ]
    names = ("Task", "Kind", "Rows", "Steps", "Weight", "Dev", "Test", "Exported")
    return {
        "lede": "Each has a run folder of its own, with its report, predictions and exports; all "
        "have the same encoder. A step is a batch of one task.",
        "columns": [column(name) for name in names],
        "rows": rows,
    }


def _training(results: SeveralResults) -> dict[str, Any] | None:
    """The learning curves of each task, and the rate of learning of all."""
    records = [
        {"step": step["step"], "learning_rate": step["learning_rate"]}
        for step in results.history.get("steps", [])
    ]
    for name, task in results.tasks.items():
        records += [
            {"step": step["step"], f"{name} loss": step["loss"]}
            for step in task.history.get("steps", [])
        ]
        figures = [f"dev_{figure}" for figure in (TASKS[task.task].figures[0], "loss")]
        records += [
            {"step": epoch["step"]}
            | {f"dev_{name} {key[4:]}": epoch[key] for key in figures if key in epoch}
            for epoch in task.history.get("epochs", [])
        ]
    if not records:
        return None
    from tfmodel.evaluate import plots  # matplotlib takes a moment: only where it is needed

    training, curves = results.training, plots.learning_curves(records)
    lede = (
        f"{wording.count(training['steps'])} steps in {wording.duration(training['seconds'])}, "
        f"{wording.rate(training['examples_per_second'])} examples a second"
    )
    if training.get("resumed_at_steps"):
        steps = [wording.count(step) for step in training["resumed_at_steps"]]
        lede += f". Interrupted and taken up again at step {wording.listed(steps)}"
    return {
        "lede": f"{lede}.",
        "curves": {caption: markupsafe.Markup(drawing) for caption, drawing in curves.items()},
    }
