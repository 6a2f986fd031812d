"""Rows whose label is disputed: how they are looked for, how they are shown, what becomes of them.

The arithmetic is `confident_learning`'s.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from tfmodel.config import Settings
from tfmodel.data.confident_learning import LabelIssues, Method, Ranking, noise_matrix
from tfmodel.run_folder import write_aside

if TYPE_CHECKING:
    from tfmodel.data.dataset import Split

Action = Literal["report", "drop", "relabel"]


class LabelNoiseSettings(Settings):
    """How rows with a doubtful label are looked for, and what becomes of them."""

    folds: int = Field(
        5, ge=2, le=100, description="Models trained; each judges the rows that it did not see."
    )
    method: Method = Field(
        "both",
        description="Which rows are disputed: by_class (the least sure of each class), "
        "by_noise_rate (the surest of each mix-up), both (those in both), confident_joint (surer "
        "of another class than is usual for that class).",
    )
    ranking: Ranking = Field(
        "self_confidence",
        description="Which come first: self_confidence (the label is the least probable), "
        "normalized_margin (another label is likelier by the most).",
    )
    action: Action = Field(
        "report",
        description="What becomes of disputed rows of train: report (nothing), drop, relabel.",
    )


def describe_issues(
    issues: LabelIssues, split: Split, probabilities: np.ndarray, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Tell of each disputed row what a reader needs to judge it, the most doubtful first.

    Args:
        issues: what was found in `split`.
        split: the rows, n.
        probabilities: float (n, C), out of fold.
        names: the C label names.

    Returns:
        For each row `{"text", "label", "suggested", "score", "label_probability",
        "suggested_probability", "origin"}`, and `text_pair` for pairs.
    """
    described = []
    for row, score, suggested in zip(
        issues.rows.tolist(), issues.scores.tolist(), issues.suggested.tolist(), strict=True
    ):
        texts = {"text": split.texts[row]}
        if split.text_pairs is not None:
            texts["text_pair"] = split.text_pairs[row]
        given = int(split.labels[row])
        described.append(
            {
                **texts,
                "label": names[given],
                "suggested": names[suggested],
                "score": round(score, 4),
                "label_probability": round(float(probabilities[row, given]), 4),
                "suggested_probability": round(float(probabilities[row, suggested]), 4),
                "origin": split.origins[row],
            }
        )
    return described


def write_issues(path: Path, described: Sequence[dict[str, Any]]) -> None:
    """Write the file to review: JSON Lines, one disputed row a line."""
    with write_aside(path) as aside, open(aside, "w", encoding="utf-8") as file:
        for row in described:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def summarize_issues(
    issues: LabelIssues, labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str]
) -> dict[str, Any]:
    """Give the figures about all rows together.

    Args:
        issues: what was found.
        labels: int (n,), the given labels.
        probabilities: float (n, C), out of fold.
        names: the C label names.

    Returns:
        `rows`, `disputed`; `estimated_wrong_share`, by the joint; `agreement`, the share of rows
        whose label is the likeliest; `labels`; `rows_by_label` and `disputed_by_label`, as many;
        `noise`, (C, C): of the rows that are right as the column says, the share labelled as the
        row says; `estimated_rows`, (C, C): how many rows that are.
    """
    classes = len(names)
    return {
        "rows": len(labels),
        "disputed": len(issues.rows),
        "estimated_wrong_share": issues.noise_share,
        "agreement": float(np.mean(probabilities.argmax(axis=1) == labels)),
        "labels": list(names),
        "rows_by_label": np.bincount(labels, minlength=classes),
        "disputed_by_label": np.bincount(labels[issues.rows], minlength=classes),
        "noise": noise_matrix(issues.joint).round(4),
        "estimated_rows": np.rint(issues.joint * len(labels)).astype(int),
    }


def corrected(
    labels: np.ndarray, issues: LabelIssues, action: Action
) -> tuple[np.ndarray, np.ndarray]:
    """Leave disputed rows out, or give them the label that is suggested.

    Args:
        labels: int (n,), the given labels.
        issues: what was found among them.
        action: `report` leaves all as it is; `drop` leaves disputed rows out; `relabel` changes
            the labels of those whose suggested label is likelier than the given one.

    Returns:
        int64 (m,) the rows to train on, ascending, and int (m,) their labels. Each class keeps at
        least one row: its least doubtful stays as it is.
    """
    rows, labels = np.arange(len(labels)), np.array(labels)
    if action == "report":
        return rows, labels
    meant = np.ones(len(issues.rows), bool) if action == "drop" else issues.margins < 0
    chosen, suggested = issues.rows[meant], issues.suggested[meant]
    given = labels[chosen]
    left = np.bincount(labels, minlength=len(issues.joint))
    left = left - np.bincount(given, minlength=len(left))
    # Ranked, so the last row of a class is its least doubtful.
    last = {label: place for place, label in enumerate(given.tolist())}
    changes = np.ones(len(chosen), bool)
    changes[[place for label, place in last.items() if left[label] == 0]] = False
    if action == "drop":
        return np.delete(rows, chosen[changes]), np.delete(labels, chosen[changes])
    labels[chosen[changes]] = suggested[changes]
    return rows, labels
