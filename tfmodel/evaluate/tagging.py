"""How good answers of entities are: spans in, figures out.

A span is (first character, the one behind its last, label). It is right where all three are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmodel.evaluate.examples import check_columns, shown_row

MISTAKES = 50
CORRECT = 20

_DRAWS = 1000

Span = tuple[int, int, str]


def tagging(
    targets: Sequence[Sequence[Span]],
    given: Sequence[Sequence[Span]],
    labels: Sequence[str],
    *,
    texts: Sequence[str] | None = None,
    text_pairs: Sequence[str] | None = None,
    origins: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Measure entities on rows whose right ones are known.

    A label that is never given has precision 0, one that is nowhere right recall 0, as in seqeval
    with `zero_division=0`.

    Args:
        targets: the right spans of n rows.
        given: the answered ones.
        labels: the names of the labels.
        texts: n texts, for the examples; without them spans are shown as `0:5 (LABEL)`.
        text_pairs: None.
        origins: n places the rows came from (`train.csv:12`).

    Returns:
        A dict that `json.dumps` takes: `examples` (n), `entities` (right ones in all), `f1`,
        `precision` and `recall` of all spans together (micro), `f1_interval` (95%, low and high),
        `macro_f1` (the mean over labels that are right or given somewhere), `exact_match` (share of
        rows with the very spans), `per_class` ({label: precision, recall, f1, support}),
        `mistakes` (at most 50, the most wrong spans first) and `correct` (at most 20 with spans),
        each with `entities`, `predicted`, `missing` and `wrong`.

    Raises:
        ValueError: not as many rows of both, or none.

    Source: the figures are those of conlleval (Tjong Kim Sang and De Meulder 2003) and seqeval; the
    interval is the percentile bootstrap over rows, Efron and Tibshirani 1993, chapter 13.
    """
    if len(targets) != len(given) or not len(targets):
        raise ValueError(
            "targets and given must hold the spans of as many rows, at least one. Received: "
            f"{len(targets)} and {len(given)}."
        )
    columns = {"texts": texts, "text_pairs": text_pairs, "origins": origins}
    check_columns(columns, rows=len(targets))
    right = [{tuple(span[:3]) for span in row} for row in targets]
    found = [{tuple(span[:3]) for span in row} for row in given]
    counts = np.array(
        [(len(a & b), len(b), len(a)) for a, b in zip(right, found, strict=True)], np.int64
    )
    wrong = counts[:, 1] + counts[:, 2] - 2 * counts[:, 0]
    order = np.argsort(-wrong, kind="stable")

    def words(row: int, spans: set[Span]) -> list[str]:
        return [shown_span(None if texts is None else texts[row], span) for span in sorted(spans)]

    def example(row: int) -> dict[str, Any]:
        return {
            **shown_row(columns, row),
            "entities": words(row, right[row]),
            "predicted": words(row, found[row]),
            "missing": words(row, right[row] - found[row]),
            "wrong": words(row, found[row] - right[row]),
        }

    by_class = _per_class(right, found, labels)
    seen = [each["f1"] for each in by_class.values() if each.pop("seen")]
    hits, named, support = counts.sum(axis=0).tolist()
    precision, recall, f1 = _scores(hits, named, support)
    answered = np.flatnonzero((wrong == 0) & (counts[:, 2] > 0))
    return {
        "examples": len(targets),
        "entities": support,
        "f1": f1,
        "f1_interval": _interval(counts),
        "precision": precision,
        "recall": recall,
        "macro_f1": float(np.mean(seen)) if seen else 0.0,
        "exact_match": float(np.mean(wrong == 0)),
        "per_class": by_class,
        "mistakes": [example(row) for row in order[:MISTAKES].tolist() if wrong[row]],
        "correct": [example(row) for row in answered[:CORRECT].tolist()],
    }


def shown_span(text: str | None, span: Span) -> str:
    """A span in words: `Paris (LOC)`."""
    start, end, label = span[:3]
    return f"{f'{start}:{end}' if text is None else text[start:end]} ({label})"


def entity_f1(targets: Sequence[Sequence[Span]], given: Sequence[Sequence[Span]]) -> float:
    """F1 of all spans together; 0 where none is right."""
    hits = sum(
        len({tuple(s[:3]) for s in a} & {tuple(s[:3]) for s in b})
        for a, b in zip(targets, given, strict=True)
    )
    return _scores(hits, sum(map(len, given)), sum(map(len, targets)))[2]


def _per_class(
    right: Sequence[set[Span]], found: Sequence[set[Span]], labels: Sequence[str]
) -> dict[str, dict[str, Any]]:
    hits, named, support = (Counter() for _ in range(3))
    for one, other in zip(right, found, strict=True):
        hits.update(span[2] for span in one & other)
        named.update(span[2] for span in other)
        support.update(span[2] for span in one)
    scores = {
        label: (*_scores(hits[label], named[label], support[label]), support[label])
        for label in dict.fromkeys([*labels, *sorted({*named, *support})])
    }
    return {
        label: {
            **dict(zip(("precision", "recall", "f1", "support"), each, strict=True)),
            "seen": bool(named[label] or support[label]),
        }
        for label, each in scores.items()
    }


def _scores(hits: int, named: int, support: int) -> tuple[float, float, float]:
    """Precision, recall and F1 of counts; 0 where there is nothing to divide by."""
    precision = hits / named if named else 0.0
    recall = hits / support if support else 0.0
    return precision, recall, 2 * hits / (named + support) if hits else 0.0


def _interval(counts: np.ndarray) -> list[float]:
    """The 95% interval of F1: the rows drawn again, with repeats, 1,000 times."""
    # Rows alike in all counts are drawn together: there are few such kinds.
    kinds, rows = np.unique(counts, axis=0, return_counts=True)
    drawn = np.random.default_rng(0).multinomial(len(counts), rows / rows.sum(), size=_DRAWS)
    hits, named, support = (drawn @ kinds).T
    found = 2 * hits / np.maximum(named + support, 1)
    return [float(end) for end in np.percentile(found, [2.5, 97.5])]
