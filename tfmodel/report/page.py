"""A run's results -> one HTML file."""

from pathlib import Path
from typing import Any

from tfmodel.report import head, sections
from tfmodel.report.answers import words_of
from tfmodel.report.artifacts import artifacts
from tfmodel.report.data import data_section
from tfmodel.report.html import write_html
from tfmodel.report.label_noise import label_noise
from tfmodel.report.results import Results

_OF_SOME_TASKS = (
    "headline",
    "confusion",
    "classes",
    "calibration",
    "scatter",
    "retrieval",
    "mistakes",
    "correct",
)
"""What a page shows where the task's answers have it."""


def write_report(path: str | Path, results: Results) -> Path:
    """Write a run's page: one HTML file that needs nothing else, no network and no script.

    Texts and labels are escaped, as they may come from anywhere. The same results give the same
    bytes. It works for a run that stopped half-way: what is not there yet is left out.

    Args:
        path: the file; it appears whole or not at all.
        results: what the run has found so far.

    Returns:
        `path`.
    """
    return write_html(path, "page.html.jinja", _view(results))


def _view(results: Results) -> dict[str, Any]:
    part, figures = results.judged()
    if figures and "temperature" in results.training:
        figures = {**figures, "temperature": results.training["temperature"]}
    return {
        "eyebrow": head.eyebrow(results),
        "title": results.title,
        "facts": head.facts(results),
        "unfinished": head.unfinished(results),
        "commands": head.commands(results),
        "data": data_section(results.account),
        "noise": label_noise(results),
        "training": sections.training(results),
        "artifacts": artifacts(results.parity),
        "settings": sections.settings(results),
        "footer": head.footer(results),
        **dict.fromkeys(_OF_SOME_TASKS),
        **words_of(results.task).view(part, figures),
    }
