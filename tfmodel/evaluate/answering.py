"""How good answers taken from a text are: right and given answers in, one dict of figures out.

Letters: n questions.
"""

from __future__ import annotations

import collections
import dataclasses
import re
import string
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmodel.evaluate.classification import (
    calibration_bins,
    calibration_error,
    wilson_interval,
)
from tfmodel.evaluate.examples import check_columns, shown_row

MISTAKES = 50
CORRECT = 20

_DRAWS = 1000
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_CHARACTER = re.compile(f"[{_CJK}]")
_LETTER = re.compile(r"[^\W\d_]")
_PIECES = re.compile(rf"[{_CJK}]|[^\s{_CJK}]+")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ASCII_MARKS = str.maketrans("", "", string.punctuation)


@dataclasses.dataclass(frozen=True, eq=False)
class Question:
    """A question whose answers are known.

    Attributes:
        context: the text that holds them.
        answers: any of these is right; none where the text does not answer the question.
    """

    context: str
    answers: tuple[str, ...]

    @property
    def by_characters(self) -> bool:
        """Whether its answers are compared by characters: most of the context's are Chinese."""
        return 2 * len(_CHARACTER.findall(self.context)) > len(_LETTER.findall(self.context))


def normalized(answer: str, *, by_characters: bool = False) -> list[str]:
    """What is compared of an answer: its words, or its characters.

    Args:
        answer: as it stands in its text.
        by_characters: each Chinese or Japanese character is a word of its own, and all of
            Unicode's punctuation is left out; else ASCII punctuation and English articles are.

    Source: SQuAD's evaluate-v2.0.py; of characters MLQA's mlqa_evaluation_v1.py, which keeps the
    F1 of SQuAD. Deviation: CMRC 2018's script, used for DRCD too, has the same characters and
    exact matches but takes the longest run that both answers share for the F1's overlap.
    """
    answer = answer.lower()
    if by_characters:
        kept = (
            mark
            for mark in answer
            if mark not in string.punctuation and not unicodedata.category(mark).startswith("P")
        )
        return _PIECES.findall("".join(kept))
    return _ARTICLES.sub(" ", answer.translate(_ASCII_MARKS)).split()


def exact_match(right: str, given: str, *, by_characters: bool = False) -> float:
    """1 where two answers are the same but for what `normalized` leaves out, else 0."""
    words = (normalized(each, by_characters=by_characters) for each in (right, given))
    return float(len({tuple(each) for each in words}) == 1)


def word_f1(right: str, given: str, *, by_characters: bool = False) -> float:
    """The F1 of the words of an answer, in [0, 1]; of no words, whether neither has some."""
    wanted, said = (normalized(each, by_characters=by_characters) for each in (right, given))
    if not wanted or not said:
        return float(wanted == said)
    shared = (collections.Counter(wanted) & collections.Counter(said)).total()
    return 2 * shared / (len(wanted) + len(said))


def scored(question: Question, given: str) -> tuple[float, float]:
    """Exact match and F1 of an answer with the right one that is nearest to it.

    Args:
        question: what is right.
        given: an answer; empty for none.
    """
    by = question.by_characters
    # An answer of which nothing is left to compare cannot be given: SQuAD leaves it out.
    wanted = [each for each in question.answers if normalized(each, by_characters=by)] or [""]
    return (
        max(exact_match(each, given, by_characters=by) for each in wanted),
        max(word_f1(each, given, by_characters=by) for each in wanted),
    )


def best_null_threshold(questions: Sequence[Question], spans: Sequence[str], margins) -> float:
    """The threshold above which no answer is better than the best span, by the F1 of these rows.

    Args:
        questions: n questions, some without an answer.
        spans: n best spans.
        margins: float (n,), how much higher the span scores than no answer.

    Returns:
        Of -margin: where it is above, no answer is given; the middle of the two rows beside it.

    Source: SQuAD's evaluate-v2.0.py, `find_best_thresh`.
    """
    above = -np.asarray(margins, np.float64)
    order = np.argsort(above, kind="stable")
    of_span, of_none = (
        np.array([scored(q, each)[1] for q, each in zip(questions, given, strict=True)])[order]
        for given in (spans, [""] * len(questions))
    )
    # With the first k rows answered: their spans' F1, and that of no answer for all others.
    total = np.concatenate([[0], np.cumsum(of_span)]) + np.concatenate(
        [np.cumsum(of_none[::-1])[::-1], [0]]
    )
    above = above[order]
    fits = np.concatenate([[True], above[1:] > above[:-1], [True]])  # equal ones go together
    count = int(np.argmax(np.where(fits, total, -np.inf)))
    ends = np.concatenate([[above[0] - 1], above, [above[-1] + 1]])
    return float((ends[count] + ends[count + 1]) / 2)


def answering(
    questions: Sequence[Question],
    given: Sequence[str],
    *,
    scores: Sequence[float] | None = None,
    texts: Sequence[str] | None = None,
    text_pairs: Sequence[str] | None = None,
    origins: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Measure answers to questions whose right ones are known.

    Args:
        questions: n questions.
        given: n answers; empty where none was given.
        scores: how sure each is, floats in [0, 1].
        texts: n questions in words, for the examples.
        text_pairs: n contexts.
        origins: n places the rows came from (`train.json:12`).

    Returns:
        A dict that `json.dumps` takes: `examples` (n), `exact_match` and `f1` with their
        `_interval` (95%, low and high), both in [0, 1]; where some questions have no answer
        `has_answer_exact_match`, `has_answer_f1`, `no_answer_accuracy` and `unanswerable` (how
        many they are); `calibration` and `calibration_error` of the scores and exact matches, as
        `classification` has them; `mistakes` (at most 50, the surest of the worst first) and
        `correct` (at most 20), each with `answers`, `predicted`, `f1` and `score`.

    Raises:
        ValueError: no rows, or columns that are not as long as there are rows.

    Source: SQuAD's evaluate-v2.0.py, which gives 100 times these numbers; the interval of F1 is
    the percentile bootstrap, Efron and Tibshirani 1993, chapter 13.
    """
    if not len(questions):
        raise ValueError("at least one row is needed to measure anything. Received: 0 rows.")
    columns = {"texts": texts, "text_pairs": text_pairs, "origins": origins}
    check_columns({**columns, "given": given, "scores": scores}, rows=len(questions))
    exact, f1 = np.array([scored(q, each) for q, each in zip(questions, given, strict=True)]).T
    sure = np.ones(len(given)) if scores is None else np.asarray(scores, float)
    answerable = np.array([bool(question.answers) for question in questions])

    def example(row: int) -> dict[str, Any]:
        return {
            **shown_row(columns, row),
            "answers": list(dict.fromkeys(questions[row].answers)),
            "predicted": given[row],
            "f1": float(f1[row]),
            "score": float(sure[row]),
        }

    order = np.lexsort((-sure, f1))
    calibration = calibration_bins(sure, exact, 10)
    return {
        "examples": len(questions),
        "exact_match": float(exact.mean()),
        "exact_match_interval": list(wilson_interval(int(exact.sum()), len(exact))),
        "f1": float(f1.mean()),
        "f1_interval": _interval(f1),
        **({} if answerable.all() else _by_kind(exact, f1, answerable)),
        "calibration_error": calibration_error(calibration),
        "calibration": calibration,
        "mistakes": [example(row) for row in order.tolist() if not exact[row]][:MISTAKES],
        "correct": [example(row) for row in np.flatnonzero(exact)[:CORRECT].tolist()],
    }


def _by_kind(exact: np.ndarray, f1: np.ndarray, answerable: np.ndarray) -> dict[str, Any]:
    found: dict[str, Any] = {
        "unanswerable": int((~answerable).sum()),
        "no_answer_accuracy": float(exact[~answerable].mean()),
    }
    if answerable.any():
        found["has_answer_exact_match"] = float(exact[answerable].mean())
        found["has_answer_f1"] = float(f1[answerable].mean())
    return found


def _interval(f1: np.ndarray) -> list[float]:
    """The 95% interval of a mean: the rows drawn again, with repeats, 1,000 times."""
    kinds, counts = np.unique(f1, return_counts=True)
    drawn = np.random.default_rng(0).multinomial(len(f1), counts / counts.sum(), size=_DRAWS)
    return [float(end) for end in np.percentile(drawn @ kinds / len(f1), [2.5, 97.5])]
