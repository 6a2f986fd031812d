"""How far two versions answer alike, and how good each is: by what a task's answers are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfmodel.evaluate.answering import normalized, scored
from tfmodel.evaluate.classification import wilson_interval
from tfmodel.evaluate.regression import ranks
from tfmodel.evaluate.vectors import cosines, nearest, ranks_of_partners, unit
from tfmodel.serve.rollout.resampling import Counted, correlation, f1, interval, means

NEIGHBOURS = 10
_TOLERANCE = 0.1
_ROUNDING = 1e-3

Answer = Mapping[str, Any]
"""What `predict` says of a text."""


@dataclasses.dataclass(frozen=True, eq=False)
class Agreement:
    """How far two versions answer alike.

    Attributes:
        means: what is counted as agreeing, in words.
        rows: float (n,), how far each row agrees, in [0, 1].
        beside: further figures, by name.
    """

    means: str
    rows: np.ndarray
    beside: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def figures(self) -> dict[str, Any]:
        """`agreement`, its `agreement_interval` (95%; Wilson's where rows agree or do not), `rows`,
        `means`, and those beside.
        """
        count, total = len(self.rows), float(self.rows.sum())
        if np.isin(self.rows, (0, 1)).all():
            ends = [float(end) for end in wilson_interval(int(total), count)]
        else:
            counted = means(self.rows)
            generator = np.random.default_rng(0)
            kinds, rows = np.unique(self.rows, return_counts=True)
            times = generator.multinomial(count, rows / count, size=1000)
            ends = interval(times @ kinds / count)
            total = counted.value * count
        found = {"agreement": total / count, "agreement_interval": ends, "rows": count}
        return {**found, "means": self.means, **self.beside}


def agreement(kind: str, old: Sequence[Answer], new: Sequence[Answer]) -> Agreement:
    """Compare the answers of two versions to the same n texts, at least one.

    Args:
        kind: the task's `ANSWERS`.
        old: answers as `predict` gives them.
        new: likewise.
    """
    return _AGREEMENT[kind](old, new)


def _same(what: str, read: Callable[[Answer], Any]) -> Callable[..., Agreement]:
    def compare(old: Sequence[Answer], new: Sequence[Answer]) -> Agreement:
        rows = [read(a) == read(b) for a, b in zip(old, new, strict=True)]
        return Agreement(what, np.array(rows, np.float64))

    return compare


def _numbers(old: Sequence[Answer], new: Sequence[Answer]) -> Agreement:
    one, other = (np.array([each["score"] for each in side], np.float64) for side in (old, new))
    differences = np.abs(other - one)
    # Where all are alike, the last digits of the arithmetic would decide.
    tolerance, share = max(
        (_TOLERANCE * float(one.std()), "a tenth of their spread"),
        (_ROUNDING * float(np.abs(one).max()), "a thousandth of the largest"),
    )
    return Agreement(
        f"numbers that differ by {tolerance:.3g} at most, {share}",
        (differences <= tolerance).astype(np.float64),
        {
            "mean_difference": float((other - one).mean()),
            "mean_absolute_difference": float(differences.mean()),
            "largest_difference": float(differences.max()),
        },
    )


def entities(answer: Answer) -> frozenset[tuple[int, int, str]]:
    """The entities of an answer: where each begins and ends, and its label."""
    return frozenset((each["start"], each["end"], each["label"]) for each in answer["entities"])


def _entities(old: Sequence[Answer], new: Sequence[Answer]) -> Agreement:
    pairs = [(entities(a), entities(b)) for a, b in zip(old, new, strict=True)]
    counts = np.array([(len(a & b), len(b), len(a)) for a, b in pairs])
    rows = np.array([a == b for a, b in pairs], np.float64)
    # Texts in which neither finds anything agree, but say little.
    share = f1(*counts.T).value if counts[:, 1:].any() else 1.0
    return Agreement("texts with the same entities", rows, {"entity_f1": share})


def _spans(old: Sequence[Answer], new: Sequence[Answer]) -> Agreement:
    same = [
        normalized(a["answer"]) == normalized(b["answer"]) for a, b in zip(old, new, strict=True)
    ]
    return Agreement("the same answer, but for articles and marks", np.array(same, np.float64))


def _vectors(old: Sequence[Answer], new: Sequence[Answer]) -> Agreement:
    one, other = (np.array([each["vector"] for each in side], np.float64) for side in (old, new))
    beside = {}
    if one.shape == other.shape:
        beside["mean_cosine"] = float(cosines(np.stack([one, other], axis=1)).mean())
    count = min(NEIGHBOURS, len(one) - 1)
    if count < 1:
        return Agreement("the same neighbours", np.ones(len(one)), beside)
    # Two versions may lay out the same neighbourhoods in other directions.
    shared = [len({*a} & {*b}) for a, b in zip(_near(one, count), _near(other, count), strict=True)]
    what = f"the same of the {count} nearest texts, each by the version's own vectors"
    return Agreement(what, np.array(shared) / count, beside)


def _near(vectors: np.ndarray, count: int) -> list[list[int]]:
    found, _ = nearest(vectors, unit(vectors), count=count + 1)
    return [[row for row in rows if row != own][:count] for own, rows in enumerate(found.tolist())]


_AGREEMENT = {
    "classes": _same("the same label", lambda answer: answer["label"]),
    "sets": _same("the same labels", lambda answer: {*answer["labels"]}),
    "number": _numbers,
    "spans": _entities,
    "span": _spans,
    "vectors": _vectors,
}


# --- against the right answers --------------------------------------------------------------


def quality(kind: str, right: Any, answers: Any) -> dict[str, Counted]:
    """A version's figures against the right answers of n rows; the first one decides.

    Args:
        kind: the task's `ANSWERS`.
        right: of `classes` names, of `sets` lists of names, of `number` numbers, of `spans` lists
            of (start, end, label), of `span` the `Question`s, of `vectors` what the task's
            `targets_of` gives.
        answers: n answers as `predict` gives them; of `vectors` float (n, K, D).
    """
    return _QUALITY[kind](right, answers)


def _accuracy(right: Sequence[str], answers: Sequence[Answer]) -> dict[str, Counted]:
    same = [name == answer["label"] for name, answer in zip(right, answers, strict=True)]
    return {"accuracy": means(np.array(same, np.float64))}


def _micro_f1(right: Sequence[Sequence[str]], answers: Sequence[Answer]) -> dict[str, Counted]:
    pairs = [({*a}, {*b["labels"]}) for a, b in zip(right, answers, strict=True)]
    return {"micro_f1": _shared(pairs)}


def _shared(pairs: Sequence[tuple[set, set]]) -> Counted:
    return f1(*np.array([(len(a & b), len(b), len(a)) for a, b in pairs]).T)


def _correlations(right: Sequence[float], answers: Sequence[Answer]) -> dict[str, Counted]:
    return _of_numbers(right, np.array([each["score"] for each in answers]))


def _of_numbers(right: Sequence[float], given: np.ndarray) -> dict[str, Counted]:
    wanted = np.asarray(right, np.float64)
    return {
        "spearman": correlation(ranks(wanted), ranks(np.asarray(given, np.float64))),
        "pearson": correlation(wanted, given),
    }


def _entity_f1(right: Sequence[Sequence[tuple]], answers: Sequence[Answer]) -> dict[str, Counted]:
    pairs = [
        ({tuple(span[:3]) for span in a}, {*entities(b)})
        for a, b in zip(right, answers, strict=True)
    ]
    return {"f1": _shared(pairs)}


def _answered(right: Sequence[Any], answers: Sequence[Answer]) -> dict[str, Counted]:
    found = [
        scored(question, each["answer"]) for question, each in zip(right, answers, strict=True)
    ]
    exact, words = np.array(found).T
    return {"f1": means(words), "exact_match": means(exact)}


def _neighbours(right: np.ndarray, vectors: np.ndarray) -> dict[str, Counted]:
    if np.ndim(right) == 1:
        return _of_numbers(right, cosines(vectors))
    places, _ = ranks_of_partners(right, vectors)
    return {
        "recall_at_10": means(places <= 10),
        "recall_at_1": means(places <= 1),
        "mrr": means(1 / places),
    }


_QUALITY = {
    "classes": _accuracy,
    "sets": _micro_f1,
    "number": _correlations,
    "spans": _entity_f1,
    "span": _answered,
    "vectors": _neighbours,
}
