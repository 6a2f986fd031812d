"""Which columns are a question, its context and the answer that stands in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_QUESTIONS = ("question", "query")
_CONTEXTS = ("context", "passage", "paragraph", "document")
_ANSWERS = ("answers", "answer", "answer_text")
_LEAST_SHARE = 0.9


def guess_answers(rows: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    """Guess what of a `data:` section reads the answers of a table.

    Names alone do not tell: an answer must stand in its context, word for word, in nine of ten
    rows that have one.

    Args:
        rows: values by the names of their columns; an answer is a text, a list of texts or objects
            with a `text`, or an object with a list of texts.

    Returns:
        `text`, `text_pair`, `label` and `target`; None where no columns are such.
    """
    columns = {name.lower(): name for row in reversed(rows) for name in row}
    question, context, answer = (
        next((columns[name] for name in names if name in columns), None)
        for names in (_QUESTIONS, _CONTEXTS, _ANSWERS)
    )
    if question is None or context is None or answer is None:
        return None
    answered = found = 0
    for row in rows:
        texts = [*_texts(row.get(answer))]
        answered += bool(texts)
        found += bool(texts) and all(text in str(row.get(context)) for text in texts)
    if not answered or found < _LEAST_SHARE * answered:
        return None
    return {"text": question, "text_pair": context, "label": answer, "target": "answers"}


def _texts(value: Any) -> Iterator[str]:
    """The texts of an answer that are not empty."""
    if isinstance(value, Mapping):
        value = value.get("text")
    for each in value if isinstance(value, list) else [value]:
        text = each.get("text") if isinstance(each, Mapping) else each
        if isinstance(text, str) and text.strip():
            yield text
