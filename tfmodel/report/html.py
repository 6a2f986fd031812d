"""A template and what it shows -> an HTML file."""

import importlib.resources
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from tfmodel.run_folder import write_aside


def write_html(path: str | Path, template: str, view: Mapping[str, Any]) -> Path:
    """Write a page; it appears whole or not at all.

    Args:
        path: the file.
        template: name of a file beside this module.
        view: what the template shows; every text is escaped.

    Returns:
        `path`.
    """
    path = Path(path)
    with write_aside(path) as aside:
        # A lone surrogate in some text cannot be encoded; it must not cost the page.
        aside.write_bytes(_render(template, view).encode("utf-8", "replace"))
    return path


def _render(template: str, view: Mapping[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["breakable"] = _breakable
    return environment.get_template(template).render(view).lstrip()


def _source(name: str) -> str:
    return importlib.resources.files("tfmodel.report").joinpath(name).read_text("utf-8")


def _breakable(text: str) -> markupsafe.Markup:
    """Allow a line break inside names such as `card_not_working` and `tflite/int8.tflite`."""
    escaped = str(markupsafe.escape(text))
    return markupsafe.Markup(re.sub(r"(?<=\w)([_/]|\.(?=[a-z]))(?=\w)", r"\1<wbr>", escaped))
