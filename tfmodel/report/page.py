"""Results -> one HTML file."""

import importlib.resources
import re
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from tfmodel.report import head, sections
from tfmodel.report.data import data_section
from tfmodel.report.label_noise import label_noise
from tfmodel.report.results import Results
from tfmodel.run_folder import write_aside

_TEMPLATE = "page.html.jinja"


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
    page = render(results)
    path = Path(path)
    with write_aside(path) as aside:
        # A lone surrogate in some text cannot be encoded; it must not cost the page.
        aside.write_bytes(page.encode("utf-8", "replace"))
    return path


def render(results: Results) -> str:
    """Give the page as a string."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["breakable"] = _breakable
    source = importlib.resources.files("tfmodel.report").joinpath(_TEMPLATE).read_text("utf-8")
    return environment.from_string(source).render(_view(results)).lstrip()


def _breakable(text: str) -> markupsafe.Markup:
    """Allow a line break inside names such as `card_not_working` and `tflite/int8.tflite`."""
    escaped = str(markupsafe.escape(text))
    return markupsafe.Markup(re.sub(r"(?<=\w)([_/]|\.(?=[a-z]))(?=\w)", r"\1<wbr>", escaped))


def _view(results: Results) -> dict[str, Any]:
    part, figures = results.judged()
    return {
        "eyebrow": head.eyebrow(results),
        "title": results.title,
        "headline": head.headline(part, figures),
        "facts": head.facts(results),
        "unfinished": head.unfinished(results),
        "commands": head.commands(results),
        "data": data_section(results.account),
        "noise": label_noise(results),
        "training": sections.training(results),
        "confusion": sections.confusion(part, figures),
        "classes": sections.classes(part, figures),
        "calibration": sections.calibration(figures),
        "mistakes": sections.mistakes(figures),
        "correct": sections.correct(figures),
        "artifacts": sections.artifacts(results.parity),
        "settings": sections.settings(results),
        "footer": head.footer(results),
    }
