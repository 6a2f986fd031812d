"""Multinomial logistic regression, to its one minimum."""

from __future__ import annotations

import numpy as np

_STEPS = 20_000
_TOLERANCE = 1e-5


def fit_logistic(
    vectors: np.ndarray, labels: np.ndarray, *, classes: int, penalty: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Fit weights by the summed cross-entropy and half the penalty times their squares.

    Args:
        vectors: float (n, D).
        labels: int (n,), class ids below `classes`.
        classes: C; of a class without rows the bias falls as far as the steps take it.
        penalty: above 0; biases have none.

    Returns:
        Weights (D, C) and biases (C,), float32: what scikit-learn's `LogisticRegression` with
        `C = 1 / penalty` finds, whose biases are the same but for a constant.

    Source: Nesterov's accelerated gradient with restarts (O'Donoghue and Candès 2015), its step by
    the largest curvature there can be.
    """
    rows = np.hstack([np.asarray(vectors, np.float64), np.ones((len(vectors), 1))])
    right = np.eye(classes)[labels]
    shrink = np.full((rows.shape[1], 1), penalty)
    shrink[-1] = 0.0
    # Softmax curves by at most one half in any direction of its logits.
    curvature = 0.5 * np.linalg.norm(rows, 2) ** 2 + penalty
    weights = ahead = np.zeros((rows.shape[1], classes))
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
    return ahead[:-1].astype(np.float32), ahead[-1].astype(np.float32)
