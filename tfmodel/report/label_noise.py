"""The labels that models dispute, on the page: how many, where they mix up, the first of them."""

from typing import Any

import numpy as np

from tfmodel.report import wording
from tfmodel.report.results import Figures, Results
from tfmodel.report.sections import folded
from tfmodel.report.tables import FOLDED_AFTER, bar, column

_PAIRS = 30


def label_noise(results: Results) -> dict[str, Any] | None:
    """Prepare what `data_review/label_noise.json` tells."""
    found = results.label_noise
    if not found:
        return None
    return {
        "lede": _lede(found),
        "note": _note(results.training),
        "rows": [_row(item) for item in found["first"]],
        "pairs": _pairs(found),
        "classes": _classes(found),
    }


def _lede(found: Figures) -> str:
    wrong = wording.percent(found["estimated_wrong_share"])
    if not found["disputed"]:
        return f"Of {wording.plural(found['rows'], 'train row')} no label is disputed."
    rows = wording.plural(found["rows"], "train row")
    return (
        f"Models that had not seen them dispute the labels of {wording.count(found['disputed'])} "
        f"of {rows}. About {wrong} of all labels are wrong, by their estimate."
    )


def _note(training: Figures) -> str:
    note = "The most doubtful first. All are in data_review/label_issues.jsonl."
    dropped, changed = training.get("rows_dropped"), training.get("rows_relabelled")
    if dropped:
        note += f" {wording.plural(dropped, 'row')} left out of training."
    if changed:
        note += f" {wording.plural(changed, 'row')} trained on with the label suggested."
    if training and not dropped and not changed:
        note += " Training was on the labels as they are."
    return note


def _row(item: Figures) -> dict[str, Any]:
    texts = [item[key] for key in ("text", "text_pair") if item.get(key) is not None]
    return {
        "texts": [folded(text) for text in texts],
        "label": item["label"],
        "suggested": item["suggested"],
        "label_probability": wording.percent(item["label_probability"]),
        "suggested_probability": wording.percent(item["suggested_probability"]),
        "origin": item.get("origin", ""),
    }


def _pairs(found: Figures) -> dict[str, Any] | None:
    """The noise matrix as its largest cells off the diagonal."""
    labels, rows = found["labels"], np.array(found["estimated_rows"])
    np.fill_diagonal(rows, 0)
    largest = np.argsort(-rows, axis=None, kind="stable")[:_PAIRS]
    cells = [divmod(int(cell), len(labels)) for cell in largest if rows.flat[cell]]
    if not cells:
        return None
    return {
        "columns": [
            column("Labelled"),
            column("Probably right"),
            column("Rows, estimated", numeric=True),
            column("Of that class", numeric=True),
        ],
        "rows": [
            [
                labels[given],
                labels[right],
                wording.count(rows[given, right]),
                wording.percent(found["noise"][given][right]),
            ]
            for given, right in cells
        ],
    }


def _classes(found: Figures) -> dict[str, Any] | None:
    lines = sorted(
        (
            (disputed / rows, label, disputed, rows)
            for label, rows, disputed in zip(
                found["labels"], found["rows_by_label"], found["disputed_by_label"], strict=True
            )
            if disputed
        ),
        reverse=True,
    )
    if not lines:
        return None
    return {
        "columns": [
            column("Labelled"),
            column("Disputed", bar=True),
            column("Rows", numeric=True),
        ],
        "rows": [
            [
                label,
                bar(share, f"{wording.percent(share)} ({wording.count(disputed)})"),
                wording.count(rows),
            ]
            for share, label, disputed, rows in lines
        ],
        "shown": len(lines) if len(lines) <= FOLDED_AFTER else 8,
    }
