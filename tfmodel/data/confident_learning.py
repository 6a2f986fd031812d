"""Rows whose label a model disputes: confident learning on out-of-fold probabilities.

Source: Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset
Labels", Journal of Artificial Intelligence Research 70.

Shapes: n rows, C classes. A matrix (C, C) has the given label in its rows, the label that is
probably right in its columns.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

Method = Literal["both", "by_class", "by_noise_rate", "confident_joint"]
Ranking = Literal["self_confidence", "normalized_margin"]


@dataclasses.dataclass(frozen=True)
class LabelIssues:
    """What confident learning found.

    Attributes:
        rows: int64 (m,), the disputed rows, the most doubtful first.
        scores: float64 (m,), what they are ranked by, ascending: the self-confidence or the
            normalized margin of each.
        margins: float64 (m,), the normalized margin: the probability of the given label less that
            of the likeliest other; from -1 (surely wrong) to 1.
        suggested: int64 (m,), the label that the model would give.
        joint: float64 (C, C), the estimated share of all rows with this given and right label;
            it sums to 1.
    """

    rows: np.ndarray
    scores: np.ndarray
    margins: np.ndarray
    suggested: np.ndarray
    joint: np.ndarray

    @property
    def noise_share(self) -> float:
        """The estimated share of all rows whose label is wrong."""
        return float(self.joint.sum() - np.trace(self.joint))


def find_label_issues(
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    method: Method = "both",
    ranking: Ranking = "self_confidence",
) -> LabelIssues:
    """Find and rank the rows whose label is probably wrong.

    Args:
        labels: int (n,), the given labels.
        probabilities: float (n, C), of models that did not train on the row.
        method: `by_class` takes of each class as many rows as the joint says are wrong, those
            with the least probability of their label; `by_noise_rate` takes of each pair of given
            and right label as many as the joint says, those with the largest margin between the
            two; `both` takes the rows that both take; `confident_joint` takes the rows counted
            off its diagonal.
        ranking: `self_confidence` puts those first whose label is the least probable,
            `normalized_margin` those where another label is likelier by the most.

    Returns:
        The disputed rows. A class of a single row is never disputed: the model that judged the
        row had not seen the class.

    Raises:
        ValueError: labels or probabilities are not what they should be.

    Source: the module's, methods 2 to 5 of §3.2 and its two rankings.
    """
    labels, probabilities = _checked(labels, probabilities)
    confident = _confident_classes(labels, probabilities)
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    joint = estimated_joint(confident_joint(labels, probabilities), counts)
    disputed = {
        "by_class": lambda: _by_class(labels, probabilities, joint),
        "by_noise_rate": lambda: _by_noise_rate(labels, probabilities, joint),
        "both": lambda: (
            _by_class(labels, probabilities, joint) & _by_noise_rate(labels, probabilities, joint)
        ),
        "confident_joint": lambda: (confident >= 0) & (confident != labels),
    }[method]()
    margins = normalized_margin(labels, probabilities)
    own = self_confidence(labels, probabilities)
    scores = {"self_confidence": own, "normalized_margin": margins}[ranking]
    rows = np.flatnonzero(disputed & (counts[labels] > 1))
    rows = rows[np.argsort(scores[rows], kind="stable")]
    suggested = np.where(
        (confident >= 0) & (confident != labels), confident, _likeliest_other(labels, probabilities)
    )
    return LabelIssues(
        rows=rows,
        scores=scores[rows],
        margins=margins[rows],
        suggested=suggested[rows],
        joint=joint,
    )


def class_thresholds(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Tell from what probability on a row counts as one of a class.

    Args:
        labels: int (n,).
        probabilities: float (n, C).

    Returns:
        float64 (C,): the mean probability of the class over the rows that are labelled so; of a
        class without rows infinity, so that no row counts as one.

    Source: the module's, equation 2.
    """
    labels, probabilities = _checked(labels, probabilities)
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    own = probabilities[np.arange(len(labels)), labels]
    sums = np.bincount(labels, weights=own, minlength=classes)
    return np.divide(sums, counts, out=np.full(classes, np.inf), where=counts > 0)


def confident_joint(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Count rows by given label and by the class that the model confidently sees.

    Args:
        labels: int (n,).
        probabilities: float (n, C).

    Returns:
        int64 (C, C). A row counts for the likeliest of the classes whose threshold it reaches;
        one that reaches none is not counted.

    Source: the module's, equation 1.
    """
    labels, probabilities = _checked(labels, probabilities)
    classes = probabilities.shape[1]
    confident = _confident_classes(labels, probabilities)
    counted = confident >= 0
    cells = labels[counted] * classes + confident[counted]
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def estimated_joint(counted: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Estimate which share of all rows has which given and which right label.

    Args:
        counted: int (C, C), the confident joint.
        counts: int (C,), rows with each given label.

    Returns:
        float64 (C, C): each row of `counted` scaled to the rows of its class, then all to 1. A
        class of which no row was counted is taken to be right.

    Source: the module's, equation 3.
    """
    counted, counts = np.asarray(counted, np.float64), np.asarray(counts, np.float64)
    sums = counted.sum(axis=1)
    shares = np.divide(counted, sums[:, None], out=np.eye(len(counts)), where=sums[:, None] > 0)
    rows = shares * counts[:, None]
    return rows / rows.sum()


def noise_matrix(joint: np.ndarray) -> np.ndarray:
    """Tell how often rows of each right label were given each label.

    Args:
        joint: float (C, C), from `estimated_joint`.

    Returns:
        float64 (C, C): the probability of the given label (row) where the right label is the
        column's. A column sums to 1, or to 0 where no row has that right label.
    """
    sums = joint.sum(axis=0, keepdims=True)
    return np.divide(joint, sums, out=np.zeros_like(joint, np.float64), where=sums > 0)


def normalized_margin(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Score rows by their own label against the likeliest other.

    Returns:
        float64 (n,), from -1 (the model is sure of another label) to 1 (sure of this one).
    """
    labels, probabilities = _checked(labels, probabilities)
    every = np.arange(len(labels))
    other = _likeliest_other(labels, probabilities)
    return probabilities[every, labels] - probabilities[every, other]


def self_confidence(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Score rows by the probability of their own label.

    Returns:
        float64 (n,), from 0 to 1.
    """
    labels, probabilities = _checked(labels, probabilities)
    return probabilities[np.arange(len(labels)), labels]


# --- inside -------------------------------------------------------------------------------


def _checked(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, found = np.asarray(labels), np.asarray(probabilities, np.float64)
    if found.ndim != 2 or found.shape[1] < 2 or labels.shape != found.shape[:1] or not len(labels):
        raise ValueError(
            "Expected labels (n,) and probabilities (n, C) of one row and two classes or more. "
            f"Received: shapes {labels.shape} and {found.shape}."
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"Expected labels to be whole numbers. Received: {labels.dtype}.")
    if labels.min() < 0 or labels.max() >= found.shape[1]:
        raise ValueError(
            f"Expected labels from 0 to {found.shape[1] - 1}, the columns of probabilities. "
            f"Received: {labels.min()} to {labels.max()}."
        )
    wrong = ~np.isfinite(found).all(axis=1)
    if not wrong.any():
        wrong = (found.min(axis=1) < 0) | (np.abs(found.sum(axis=1) - 1) > 1e-3)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            "Expected probabilities, which are not negative and sum to 1 in each row. Received: "
            f"{found[row].tolist()[:10]} in row {row}. Give the softmax of the logits."
        )
    return labels.astype(np.int64), found


def _confident_classes(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """int64 (n,): the likeliest of the classes whose threshold the row reaches; -1 for none."""
    reached = probabilities >= class_thresholds(labels, probabilities)
    return np.where(reached.any(axis=1), np.where(reached, probabilities, -1.0).argmax(axis=1), -1)


def _likeliest_other(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -1.0
    return others.argmax(axis=1)


def _by_class(labels: np.ndarray, probabilities: np.ndarray, joint: np.ndarray) -> np.ndarray:
    own = probabilities[np.arange(len(labels)), labels]
    wrong = np.rint(len(labels) * (joint.sum(axis=1) - np.diagonal(joint))).astype(int)
    found = np.zeros(len(labels), bool)
    for label in np.flatnonzero(wrong):
        members = np.flatnonzero(labels == label)
        found[members[np.argsort(own[members], kind="stable")[: wrong[label]]]] = True
    return found


def _by_noise_rate(labels: np.ndarray, probabilities: np.ndarray, joint: np.ndarray) -> np.ndarray:
    wrong = np.rint(len(labels) * joint).astype(int)
    np.fill_diagonal(wrong, 0)
    found = np.zeros(len(labels), bool)
    for label in np.flatnonzero(wrong.any(axis=1)):
        members = np.flatnonzero(labels == label)
        own = probabilities[members, label]
        for right in np.flatnonzero(wrong[label]):
            margins = own - probabilities[members, right]
            found[members[np.argsort(margins, kind="stable")[: wrong[label, right]]]] = True
    return found
