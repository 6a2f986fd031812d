"""SQuAD JSON: questions about paragraphs, with the answers in them; versions 1.1 and 2.0.

Source of the format: Rajpurkar et al. 2016 and 2018. Also read: a list of contexts in place of
articles, and answers without an offset, which are looked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.data.reading.archives import DataFile
from tfmodel.data.reading.fields import Fields
from tfmodel.data.reading.json_stream import JsonStream
from tfmodel.data.rows import Reject, Row
from tfmodel.data.targets import parse_row

_RAW_CHARACTERS = 4_000


def read_squad(
    file: DataFile, name: str, *, encoding: str, fields: Fields, facts: dict
) -> Iterator[Row | Reject]:
    """Read one row a question: the text is the question, the second text the paragraph.

    Args:
        file: the file.
        name: what origins call it.
        encoding: its encoding.
        fields: the settings; `records` names the field with the articles, `data` by default.
        facts: receives, where answers are read, `answers_placed`, those without an offset, and
            `answers_moved`, those that stand elsewhere than it says.

    Raises:
        ConfigError: there is no list of articles, or the file ends too early.
    """
    if fields.target.name == "answers":
        facts |= {"answers_placed": 0, "answers_moved": 0}
    records = fields.settings.records or "data"
    stream = JsonStream(file, encoding)
    try:
        in_array = stream.peek() == "["
        if not in_array or fields.settings.records:
            stream.enter(records)
        for place, (line, article, raw, problem) in enumerate(stream.values()):
            origin = f"{name}:{'' if in_array else records}[{place}]"
            if problem:
                yield Reject("malformed", origin, raw[:_RAW_CHARACTERS], problem)
                continue
            yield from _read_article(article, origin, fields, facts, line)
    finally:
        stream.close()


def not_squad(file: DataFile, first: Reject) -> ConfigError:
    """Word the error for a file most of whose questions cannot be read."""
    return ConfigError(
        f"{file}: expected SQuAD JSON: articles with paragraphs, a context and its qas each. "
        f"Received: most rows are not, the first at {first.origin} ({first.reason}: "
        f"{first.detail[:200]}). Check `format:` and `records:` under `data:`."
    )


def _read_article(
    article: Any, origin: str, fields: Fields, facts: dict, line: int
) -> Iterator[Row | Reject]:
    paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
    if paragraphs is None:
        paragraphs, within = [article], ""
    else:
        within = ".paragraphs[{}]"
    if not isinstance(paragraphs, list):
        yield _malformed(article, origin, f"line {line:,}: paragraphs is not a list")
        return
    for place, paragraph in enumerate(paragraphs):
        at = origin + within.format(place)
        context = paragraph.get("context") if isinstance(paragraph, dict) else None
        questions = paragraph.get("qas") if isinstance(paragraph, dict) else None
        if not isinstance(context, str) or not isinstance(questions, list):
            yield _malformed(paragraph, at, f"line {line:,}: no context or no list qas")
            continue
        for number, question in enumerate(questions):
            yield _read_question(question, context, f"{at}.qas[{number}]", fields, facts)


def _read_question(
    question: Any, context: str, origin: str, fields: Fields, facts: dict
) -> Row | Reject:
    text = question.get("question") if isinstance(question, dict) else None
    if not isinstance(text, str):
        return _malformed(question, origin, "no question")
    answers = question.get("answers", question.get("answer"))
    if question.get("is_impossible"):
        answers = []
    if answers is None and fields.target.name == "answers":
        return Reject("missing_field", origin, _raw(question), "answers")
    answers = _as_list(answers)
    row = Row(text, context, {"answers": answers, "id": question.get("id", "")}, origin)
    found = parse_row(row, fields.settings, fields.target, raw=_raw(question))
    if isinstance(found, Row) and fields.target.name == "answers":
        for answer, placed in zip(answers, found.label["answers"], strict=True):
            said = answer.get("answer_start") if isinstance(answer, dict) else None
            facts["answers_placed"] += said is None
            facts["answers_moved"] += said is not None and said != placed["start"]
    return found


def _as_list(answers: Any) -> list:
    """Answers as a list: one alone is one, and lists of texts and of starts are as many."""
    if isinstance(answers, list):
        return answers
    if isinstance(answers, dict) and isinstance(texts := answers.get("text"), list):
        starts = answers.get("answer_start", [None] * len(texts))
        if isinstance(starts, list) and len(starts) == len(texts):
            return [{"text": t, "answer_start": s} for t, s in zip(texts, starts, strict=True)]
    return [answers]


def _malformed(value: Any, origin: str, detail: str) -> Reject:
    return Reject("malformed", origin, _raw(value), detail)


def _raw(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:_RAW_CHARACTERS]
