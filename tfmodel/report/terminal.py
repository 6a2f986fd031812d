"""The few lines a run ends with."""

import textwrap
from collections.abc import Iterable

from tfmodel.report import wording
from tfmodel.report.answers import words_of
from tfmodel.report.artifacts import (
    agreement,
    difference,
    further_runtimes,
    memory,
    names_of,
    quality,
    shown_name,
)
from tfmodel.report.results import Figures, Results

_WIDTH = 80
_COLUMNS = ("artifact", "size", "p50", "memory", "differs", "agrees")


def summary_text(results: Results, *, report: str = "", data_report: str = "") -> str:
    """Say in plain text how good the model is, what was exported and what to do next.

    Args:
        results: what the run has found so far; what is missing is left out.
        report: path of the page, if one was written.
        data_report: path of the page about the data, if one was written.

    Returns:
        Lines of at most 80 columns, but for paths and commands, which are for copying and never
        cut; no newline at the end.
    """
    places = [
        ("files", results.run_folder),
        ("data", data_report),
        ("report", report),
        ("next", results.next_command),
    ]
    return last_lines(_figures(results), places, parity=results.parity)


def last_lines(
    figures: Iterable[tuple[str, str, str]],
    places: Iterable[tuple[str, object]],
    *,
    parity: Figures | None = None,
    widths: tuple[int, int] = (10, 12),
) -> str:
    """Set figures, exported files and places below each other.

    Args:
        figures: name, value, and what more there is to say.
        places: name, and a path or command; an empty one is left out.
        parity: of the exported files.
        widths: columns of the names and of the values.

    Returns:
        Lines of at most 80 columns, but for places; no newline at the end.
    """
    first, second = widths
    indent = " " * (first + second + 2)
    lines = [
        textwrap.fill(
            f"{name:<{first}} {value:<{second}} {more}".rstrip(), _WIDTH, subsequent_indent=indent
        )
        for name, value, more in figures
    ]
    blocks = [
        "\n".join(lines).replace("\xa0", " "),
        artifact_lines(parity or {}),
        "\n".join(f"{name:<8} {value}" for name, value in places if value),
    ]
    return "\n\n".join(block for block in blocks if block).replace("–", "-")


def _figures(results: Results) -> list[tuple[str, str, str]]:
    part, figures = results.judged()
    lines = []
    if figures:
        lines += words_of(results.task).lines(part, figures)
    if noise := results.label_noise:
        of = f"of {wording.plural(noise['rows'], 'train row')}: data_review/label_issues.jsonl"
        lines.append(("disputed", wording.count(noise["disputed"]), of))
    if results.timings:
        stages = ", ".join(
            f"{stage} {wording.duration(seconds)}".replace(" ", "\xa0")
            for stage, seconds in results.timings.items()
        )
        lines.append(("time", wording.duration(sum(results.timings.values())), stages))
    elif results.training.get("seconds") is not None:
        lines.append(("training", wording.duration(results.training["seconds"]), ""))
    return lines


def artifact_lines(parity: Figures) -> str:
    """A line for each exported file, under their columns; nothing where there is none."""
    found = parity.get("artifacts", {})
    if not found:
        return ""
    rows = [(*_COLUMNS, names_of(parity).quality.lower(), "")]
    for name, figures in found.items():
        rows.append(_row(shown_name(name, figures).removesuffix(".tflite"), figures))
        rows += [_row(f" {there}", ran) for there, ran in further_runtimes(figures).items()]
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    widths[0] = min(widths[0], _WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1))
    lines = []
    for row in rows:
        cells = [_fitted(row[0], widths[0]).ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines)


def _fitted(name: str, width: int) -> str:
    """An artifact's name in so many characters."""
    if len(name) > width:
        # Whatever is left out here, no two names become the same.
        name = name.removeprefix("tflite/").removesuffix("_length")
    # The end of a path tells more than its beginning.
    return name if len(name) <= width else ".." + name[2 - width :]


def _row(name: str, figures: Figures) -> tuple[str, ...]:
    latency = figures.get("latency_ms") or {}
    return (
        name,
        wording.size(figures.get("bytes")),
        wording.milliseconds(latency.get("p50")),
        memory(figures.get("peak_memory_mb")),
        difference(figures),
        agreement(figures),
        quality(figures),
        "ok" if figures.get("passed") else "FAILED",
    )
