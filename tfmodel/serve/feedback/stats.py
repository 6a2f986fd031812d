"""What a feedback database holds, by model and version, on a few lines."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from tfmodel.serve.feedback.exporting import label_of_answer
from tfmodel.serve.feedback.opening import open_store


@dataclasses.dataclass
class VersionFigures:
    """A version, and what people said of its answers.

    Attributes:
        model: its name.
        version: its number; None: not known, or a text that was sent by itself.
        requests: recorded.
        rows: of these.
        asked: rows asked for in all, estimated from the share that is recorded.
        corrected: rows that somebody corrected or confirmed.
        compared: of these, those whose answer is known.
        agreed: of these, those whose answer was right by the latest correction.
        difference: of numbers, the mean distance of answer and correction; None of others.
    """

    model: str
    version: int | None
    requests: int = 0
    rows: int = 0
    asked: float = 0.0
    corrected: int = 0
    compared: int = 0
    agreed: int = 0
    difference: float | None = None

    @property
    def agreement(self) -> float | None:
        """Share of the compared rows whose answer was right."""
        return self.agreed / self.compared if self.compared else None


def feedback_stats(database: str) -> list[VersionFigures]:
    """Count what a database holds.

    Args:
        database: its URL.

    Raises:
        ConfigError: no such database.
        RuntimeError: it cannot be read.
    """
    with open_store(database) as store:
        found = {
            (row.model, row.version): VersionFigures(
                row.model, row.version, row.requests, row.rows, float(row.asked)
            )
            for row in store.versions()
        }
        seen: set[str] = set()
        for row in store.corrections():
            if row.row_key in seen:
                continue
            seen.add(row.row_key)
            key = row.model, row.version
            figures = found.setdefault(key, VersionFigures(*key))
            figures.corrected += 1
            if row.row_answer is not None:
                _compare(figures, row)
    return sorted(found.values(), key=lambda each: (each.model, each.version or 0))


def _compare(figures: VersionFigures, row: Any) -> None:
    given, problem = label_of_answer(json.loads(row.row_answer), row.task)
    if problem is not None or row.problem is not None or given is None:
        return
    right = json.loads(row.label)
    if row.task == "regress":
        distance, before = abs(given - right), figures.compared
        figures.difference = ((figures.difference or 0.0) * before + distance) / (before + 1)
    figures.compared += 1
    figures.agreed += _alike(given, right, row.task)


def _alike(given: Any, right: Any, task: str) -> bool:
    if task == "multilabel":
        return sorted(given) == sorted(right)
    if task == "tag":
        return _places(given) == _places(right)
    if task == "span":
        return given["text"] == right["text"]
    return given == right


def _places(spans: Sequence[dict[str, Any]]) -> set[tuple[int, int, str]]:
    return {(span["start"], span["end"], span["label"]) for span in spans}


def table_lines(found: Sequence[VersionFigures]) -> list[str]:
    """The figures as a table."""
    header = ("model", "version", "requests", "rows", "asked", "corrected", "agreement")
    table = [header]
    for each in found:
        agreement = "-"
        if each.difference is not None:
            agreement = f"{each.difference:.3g} off"
        elif each.agreement is not None:
            agreement = f"{each.agreement:.1%}"
        version = "-" if each.version is None else str(each.version)
        counts = (each.requests, each.rows, round(each.asked), each.corrected)
        table.append((each.model, version, *(f"{count:,}" for count in counts), agreement))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]
