"""A small text classifier in NumPy and float64, and the papers' algorithms on it, line by line.

Gradients are central differences: nothing here knows how TensorFlow finds one.
"""

from __future__ import annotations

import numpy as np

WORDS, WIDTH, CLASSES, LONGEST = 9, 4, 3, 6
NAMES = ("tokens", "positions", "segments", "gamma", "beta", "kernel", "bias", "head", "offset")
SHAPES = ((WORDS, WIDTH), (LONGEST, WIDTH), (2, WIDTH), (WIDTH,), (WIDTH,),
          (WIDTH, WIDTH), (WIDTH,), (WIDTH, CLASSES), (CLASSES,))  # fmt: skip


def new_weights(seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    weights = [random.normal(size=shape) for shape in SHAPES]
    weights[NAMES.index("gamma")] += 1
    return weights


def new_batch(seed: int = 0, rows: int = 3) -> dict[str, np.ndarray]:
    """Rows of 2 to 5 tokens; what stands at padding is no zero."""
    random = np.random.default_rng(seed)
    lengths = random.permutation(np.arange(rows) % 4 + 2)
    mask = (np.arange(5) < lengths[:, None]).astype(np.int32)
    ids = random.integers(0, WORDS, (rows, 5)).astype(np.int32)
    segments = random.integers(0, 2, (rows, 5)).astype(np.int32)
    return {"token_ids": ids, "segment_ids": segments, "padding_mask": mask}


def vectors(weights, batch, perturbation=0.0):
    """Sentence vectors (B, D)."""
    tokens, positions, segments, gamma, beta, kernel, bias = weights[:7]
    mask = batch["padding_mask"]
    # Padding is a text of its own: its positions begin at 0 again, and count for nothing.
    place = np.where(mask > 0, np.cumsum(mask, 1) - 1, np.cumsum(1 - mask, 1) - 1)
    hidden = tokens[batch["token_ids"]] + positions[place] + segments[batch["segment_ids"]]
    hidden = hidden + perturbation
    mean, variance = hidden.mean(-1, keepdims=True), hidden.var(-1, keepdims=True)
    hidden = gamma * (hidden - mean) / np.sqrt(variance + 1e-12) + beta
    hidden = np.tanh(hidden @ kernel + bias) * mask[..., None]
    return hidden.sum(1) / mask.sum(1, keepdims=True)


def logits(weights, batch, perturbation=0.0):
    return vectors(weights, batch, perturbation) @ weights[7] + weights[8]


def log_softmax(values):
    values = values - values.max(-1, keepdims=True)
    return values - np.log(np.exp(values).sum(-1, keepdims=True))


def cross_entropy(values, labels):
    """Of each row."""
    return -log_softmax(values)[np.arange(len(labels)), labels]


def kl(first, second):
    """KL(first || second) of each row of logits."""
    one, other = log_softmax(first), log_softmax(second)
    return (np.exp(one) * (one - other)).sum(-1)


def slope(function, at, step=1e-5):
    """The gradient of a function of an array, by central differences."""
    found, at = np.zeros_like(at), at.copy()
    for place in np.ndindex(at.shape):
        value = at[place]
        at[place] = value + step
        above = function(at)
        at[place] = value - step
        found[place] = (above - function(at)) / (2 * step)
        at[place] = value
    return found


def weight_slopes(function, weights):
    """The gradient by each weight of a function of all of them."""
    found = []
    for index in range(len(weights)):

        def of_one(value, index=index):
            return function([*weights[:index], value, *weights[index + 1 :]])

        found.append(slope(of_one, weights[index]))
    return found


def unit(values, norm):
    axes = (1, 2) if norm == "row" else (2,)
    size = np.sqrt((values**2).sum(axes, keepdims=True))
    return np.divide(values, size, out=np.zeros_like(values), where=size > 0)


def into_ball(values, radius, norm):
    size = np.sqrt((values**2).sum((1, 2) if norm == "row" else (2,), keepdims=True))
    return np.where(size > radius, unit(values, norm) * radius, values)


def nothing(batch):
    return np.zeros((*batch["token_ids"].shape, WIDTH))


def fgm(weights, batch, loss, *, epsilon, norm, weight):
    """Miyato et al. 2017, equations 1 to 4: the gradient of L + weight * L_adv.

    `loss(weights, perturbation)` is L.
    """
    towards = unit(slope(lambda d: loss(weights, d), nothing(batch)), norm)
    worst = epsilon * towards
    return weight_slopes(lambda w: loss(w, 0.0) + weight * loss(w, worst), weights)


def pgd(weights, batch, loss, *, epsilon, step_size, steps, norm, weight):
    """Madry et al. 2018, section 2.1, in Euclidean balls from the clean point."""
    worst = nothing(batch)
    for _ in range(steps):
        towards = unit(slope(lambda d: loss(weights, d), worst), norm)
        worst = into_ball(worst + step_size * towards, epsilon, norm)
    return weight_slopes(lambda w: loss(w, 0.0) + weight * loss(w, worst), weights)


def freelb(weights, batch, loss, *, start, epsilon, step_size, steps, norm):
    """Zhu et al. 2020, algorithm 1."""
    perturbation = start
    gradient = [np.zeros_like(weight) for weight in weights]
    for _ in range(steps):
        here = perturbation
        found = weight_slopes(lambda w, here=here: loss(w, here), weights)
        gradient = [g + f / steps for g, f in zip(gradient, found, strict=True)]
        towards = unit(slope(lambda d: loss(weights, d), here), norm)
        perturbation = into_ball(here + step_size * towards, epsilon, norm)
    return gradient


def vat(weights, batch, loss, *, first, epsilon, probe_size, steps, norm, weight):
    """Miyato et al. 2018, algorithm 1: the gradient of L + weight * LDS."""
    answers = logits(weights, batch)
    towards = unit(first * batch["padding_mask"][..., None], norm)
    for _ in range(steps):
        found = slope(lambda d: kl(answers, logits(weights, batch, d)).mean(), probe_size * towards)
        towards = unit(found, norm)
    worst = epsilon * towards
    return weight_slopes(
        lambda w: loss(w, 0.0) + weight * kl(answers, logits(w, batch, worst)).mean(), weights
    )


def smart(weights, batch, loss, *, start, epsilon, step_size, steps, weight):
    """Jiang et al. 2020, section 3.1, with the maximum norm: the gradient of L + weight * R."""

    def both(first, second):
        return (kl(first, second) + kl(second, first)).mean()

    answers, worst = logits(weights, batch), start
    for _ in range(steps):
        found = slope(lambda d: both(answers, logits(weights, batch, d)), worst)
        step = step_size * found / np.abs(found).max((1, 2), keepdims=True)
        worst = np.clip(worst + step, -epsilon, epsilon)
    return weight_slopes(
        lambda w: loss(w, 0.0) + weight * both(logits(w, batch), logits(w, batch, worst)), weights
    )


def mixup(weights, batch, labels, row_weights, *, shares, partners):
    """Guo et al. 2019, equations 5 to 7, each row's losses weighted."""
    found = vectors(weights, batch)
    mixed = shares[:, None] * found + (1 - shares[:, None]) * found[partners]
    values = mixed @ weights[7] + weights[8]
    own = shares * row_weights * cross_entropy(values, labels)
    other = (1 - shares) * row_weights[partners] * cross_entropy(values, labels[partners])
    return (own + other).mean()
