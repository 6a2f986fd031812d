"""A comparison of two versions in words, and as one self-contained page."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any

import jinja2

from tfmodel.run_folder import write_aside
from tfmodel.serve.rollout.compare import Comparison

_TEMPLATE = "comparison.html.jinja"


def comparison_lines(figures: dict[str, Any]) -> list[str]:
    """What a terminal shows of a comparison.

    Args:
        figures: of a `Comparison`, or as the state has kept them.
    """
    found = [
        f"{figures['model']}: version {figures['new']} beside {figures['old']}, "
        f"{figures['rows']:,} rows of {figures['rows_from']}"
    ]
    table = _table(figures)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        found.append("  " + "  ".join(cells).rstrip())
    if figures["agreement"] is not None:
        agreed = figures["agreement"]
        ends = _ends(agreed["agreement_interval"], _percent)
        found.append(f"  agreement {_percent(agreed['agreement'])} {ends}: {agreed['means']}")
        found += [f"  {_words(name)} {value:.4g}" for name, value in beside(agreed).items()]
    found += [f"  {words}" for words in _notes(figures)]
    return [*found, *verdict_lines(figures)]


def _notes(figures: dict[str, Any]) -> list[str]:
    """What the figures are of, where that is not all rows."""
    found = []
    if figures.get("corrected_rows"):
        names = " and ".join(figures["quality"])
        found.append(f"{names}: of {figures['corrected_rows']:,} rows that people corrected")
    if figures.get("left_out"):
        found.append(f"{figures['left_out']:,} rows cannot be compared, and are left out")
    return found


def verdict_lines(figures: dict[str, Any]) -> list[str]:
    """Whether it passed, and if not why."""
    if figures["passed"]:
        return [f"passed: version {figures['new']} may be promoted"]
    return ["not passed:", *(f"  {words}" for words in figures["failures"])]


def beside(agreement: dict[str, Any]) -> dict[str, float]:
    """The figures of an agreement beside its share."""
    known = ("agreement", "agreement_interval", "rows", "means")
    return {name: value for name, value in agreement.items() if name not in known}


def write_page(path: str | Path, comparison: Comparison) -> Path:
    """Write the page; it holds texts of the rows that are answered otherwise.

    Args:
        path: the file; it appears whole or not at all.
        comparison: what came of it.
    """
    path = Path(path)
    source = importlib.resources.files("tfmodel.serve.rollout").joinpath(_TEMPLATE)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    figures = comparison.figures
    agreed = figures["agreement"]
    view = {
        "figures": figures,
        "table": _table(figures),
        "agreement": None
        if agreed is None
        else {
            "share": _percent(agreed["agreement"]),
            "ends": _ends(agreed["agreement_interval"], _percent),
            "means": agreed["means"],
            "beside": {_words(name): f"{value:.4g}" for name, value in beside(agreed).items()},
        },
        "notes": _notes(figures),
        "rule": {_words(name): value for name, value in figures["rule"].items()},
        "examples": comparison.examples,
    }
    page = environment.from_string(source.read_text("utf-8")).render(view)
    with write_aside(path) as aside:
        aside.write_bytes(page.encode("utf-8", "replace"))
    return path


def _table(figures: dict[str, Any]) -> list[tuple[str, ...]]:
    """Figure, old, new, and how they differ, with 95% intervals."""
    head = ("", f"version {figures['old']}", f"version {figures['new']}", "difference")
    found: list[tuple[str, ...]] = [head]
    for name, each in figures["quality"].items():
        ends = _ends(each["difference_interval"], lambda value: f"{value:+.4f}")
        difference = "-" if each["difference"] is None else f"{each['difference']:+.4f} {ends}"
        one, other = (
            f"{_number(each[side])} {_ends(each[f'{side}_interval'], _number)}".strip()
            for side in ("old", "new")
        )
        found.append((name, one, other, difference))
    for name in ("p50", "p99") if figures["latency"] else ():
        each = figures["latency"][name]
        one, other = (
            f"{each[side]:.1f} {_ends(each[f'{side}_interval'], lambda value: f'{value:.1f}')}"
            for side in ("old", "new")
        )
        ends = _ends(each["ratio_interval"], lambda value: f"{value:.2f}")
        found.append((f"{name} ms", one, other, f"x {each['ratio']:.2f} {ends}"))
    return found


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _percent(value: float) -> str:
    return f"{value:.1%}"


def _ends(interval: list[float] | None, written: Any) -> str:
    return "" if interval is None else f"({written(interval[0])} to {written(interval[1])})"


def _words(name: str) -> str:
    return name.replace("_", " ")
