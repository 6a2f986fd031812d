"""Multinomial logistic regression, to its one minimum."""

from __future__ import annotations

import logging

import numpy as np

_log = logging.getLogger(__name__)
_STEPS = 20_000
_TOLERANCE = 1e-5
_NEVER = -20.0


def fit_logistic(
    vectors: np.ndarray, labels: np.ndarray, *, classes: int, penalty: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Fit weights by the summed cross-entropy and half the penalty times their squares.

    Args:
        vectors: float (n, D).
        labels: int (n,), class ids below `classes`.
        classes: C; one without rows gets no weights and the bias -20, in the place of its endless
            fall: the largest logit of the others is 0 or more, so its score is 2e-9 at most.
        penalty: above 0; biases have none.

    Returns:
        Weights (D, C) and biases (C,), float32: what scikit-learn's `LogisticRegression` with
        `C = 1 / penalty` finds, whose biases are the same but for a constant. Each row of weights,
        and the biases, sum to 0 over the classes with rows. A warning says where 20,000 steps were
        not enough for the minimum.

    Source: Nesterov's accelerated gradient with restarts (O'Donoghue and Candès 2015), its step by
    the largest curvature there can be.
    """
    rows = np.hstack([np.asarray(vectors, np.float64), np.ones((len(vectors), 1))])
    present, labels = np.unique(labels, return_inverse=True)
    right = np.eye(len(present))[labels]
    shrink = np.full((rows.shape[1], 1), penalty)
    shrink[-1] = 0.0
    # Softmax curves by at most one half in any direction of its logits.
    curvature = 0.5 * np.linalg.norm(rows, 2) ** 2 + penalty
    weights = ahead = np.zeros((rows.shape[1], len(present)))
    momentum = 1.0
    for _ in range(_STEPS):
        logits = rows @ ahead
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        slope = rows.T @ (scores - right) + shrink * ahead
        if np.abs(slope).max() < _TOLERANCE:
            break
        moved = ahead - slope / curvature
        turned = np.sum(slope * (moved - weights)) > 0
        following = 1.0 if turned else (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        share = 0.0 if turned else (momentum - 1) / following
        ahead, weights, momentum = moved + share * (moved - weights), moved, following
    else:
        _log.warning(
            "few_labels contrastive: expected the regression to reach its minimum in %s steps. "
            "Received: a slope of %.2g, where %g would do; the weights of the last step are taken. "
            "A larger train.few_labels.penalty takes fewer steps.",
            f"{_STEPS:,}",
            np.abs(slope).max(),
            _TOLERANCE,
        )
    found = np.zeros((rows.shape[1], classes))
    found[-1] = _NEVER
    found[:, present] = ahead
    return found[:-1].astype(np.float32), found[-1].astype(np.float32)
