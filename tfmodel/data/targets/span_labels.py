"""Labels with a place in the text: spans of it, and answers in the second text.

Offsets are half open and count Python's characters, Unicode code points.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfmodel.data.cleaning import clean_and_tell, clean_label, clean_with_spans
from tfmodel.data.reading.json_values import MISSING, as_text, find_value
from tfmodel.data.rows import BadLabel, Row, encodable
from tfmodel.data.settings import DataSettings
from tfmodel.data.targets.tagged_words import as_spans
from tfmodel.data.targets.word_tags import words_and_tags

_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_spans(row: Row, settings: DataSettings) -> list[dict[str, Any]]:
    """Read spans as objects, as triples, or as `{label: {surface: [[start, end]]}}`.

    Words with a tag each, as in CoNLL files, are read as the text that they make and its spans.
    """
    if _is_tagged(row):
        words, tags = words_and_tags(row, settings)
        if not all(words):
            raise BadLabel("bad_tags", f"word {words.index('') + 1} is empty")
        row.text, spans = as_spans([encodable(word) for word in words], tags)
        return spans
    if isinstance(row.text, list) and not _holds_spans(row.label):
        raise BadLabel(
            "bad_tags",
            f"{settings.text} holds words, and {settings.label} no name of a tag for each, such "
            f"as B-PER or O: {_shown(row.label)}",
        )
    if not isinstance(row.text, str):
        raise BadLabel("not_text", f"{settings.text} holds a {type(row.text).__name__}, not a text")
    names = settings.spans
    spans = {}
    for start, end, raw_label in _raw_spans(row.label, settings):
        label = as_text(raw_label)
        if not _is_offset(start) or not _is_offset(end) or not (label or "").strip():
            given = [(names.start, start), (names.end, end), (names.label, raw_label)]
            shown = ", ".join(f"{key} {_shown(value)}" for key, value in given)
            raise BadLabel("bad_span", f"not two whole numbers and a label: {shown}")
        end += names.inclusive
        if not 0 <= start < end <= len(row.text):
            detail = f"{start}:{end} ({label}) in a text of {len(row.text)} characters"
            raise BadLabel("bad_span", detail)
        spans[start, end, label.strip()] = None  # said twice, it is one
    return [dict(zip(("start", "end", "label"), span, strict=True)) for span in sorted(spans)]


def _holds_spans(label: object) -> bool:
    return isinstance(label, list) and any(isinstance(each, Mapping | list) for each in label)


def _is_tagged(row: Row) -> bool:
    """Whether a row has a tag for each word: none of the ways in which spans are written."""
    if isinstance(row.label, Mapping):
        return {*row.label} == {"words", "tags"} and isinstance(row.label["words"], list)
    is_list = isinstance(row.label, list) and bool(row.label)
    return is_list and all(isinstance(tag, str) for tag in row.label)


def _raw_spans(raw: Any, settings: DataSettings) -> Iterable[tuple[Any, Any, Any]]:
    names = settings.spans
    if isinstance(raw, list):
        for item in raw:
            if isinstance(item, Mapping):
                yield tuple(find_value(item, n) for n in (names.start, names.end, names.label))
            elif isinstance(item, list) and len(item) == 3:
                yield tuple(item)
            else:
                yield MISSING, MISSING, None
    elif isinstance(raw, Mapping):
        for label, surfaces in raw.items():
            lists = surfaces.values() if isinstance(surfaces, Mapping) else [surfaces]
            for pairs in lists:
                for pair in pairs if isinstance(pairs, list) else [None]:
                    yield (*pair, label) if _is_pair(pair) else (MISSING, MISSING, label)
    else:
        raise BadLabel("bad_span", f"{settings.label} holds a {type(raw).__name__}, not spans")


def _shown(value: Any) -> str:
    return "missing" if value is MISSING else repr(value)[:40]


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def _is_offset(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def clean_spans(row: Row, steps: Sequence[str]) -> tuple[str, ...]:
    """Clean the text; the spans stay on their characters."""
    pairs = [(span["start"], span["end"]) for span in row.label]
    row.text, places, changed = clean_with_spans(_one_for_one(row.text), pairs, steps)
    if row.text_pair is not None:
        row.text_pair, pair_changed = clean_and_tell(encodable(row.text_pair), steps)
        changed = tuple(dict.fromkeys((*changed, *pair_changed)))
    if None in places:
        raise BadLabel("span_lost", "cleaning leaves nothing of a span")
    row.label = [
        {"start": start, "end": end, "label": clean_label(encodable(span["label"]))}
        for span, (start, end) in zip(row.label, places, strict=True)
    ]
    return tuple(changed)


def _one_for_one(text: str) -> str:
    """Replace lone surrogates as `encodable` does, but keep every character's place."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def parse_answers(row: Row, settings: DataSettings) -> dict[str, Any]:
    """Read answers as SQuAD has them, as two lists `text` and `answer_start`, or as one text.

    An empty text, or none at all, says that there is no answer.
    """
    raw = row.label if isinstance(row.label, Mapping) else {"answers": row.label}
    answers = raw.get("answers", raw)
    if answers is None or isinstance(answers, str):
        answers = [answers] if answers and answers.strip() else []
    if isinstance(answers, Mapping) and isinstance(answers.get("text"), str):
        answers = [answers] if answers["text"].strip() else []
    if isinstance(answers, Mapping):
        texts, starts = answers.get("text"), answers.get("answer_start", answers.get("start"))
        if not isinstance(texts, list) or not isinstance(starts, list):
            raise BadLabel("bad_answers", f"expected text and answer_start in {settings.label}")
        if len(texts) != len(starts):
            raise BadLabel("bad_answers", f"{len(starts)} starts for {len(texts)} answers")
        answers = [{"text": t, "start": s} for t, s in zip(texts, starts, strict=True)]
    if not isinstance(answers, list):
        raise BadLabel("bad_answers", f"expected a list of answers in {settings.label}")
    placed = [_place_answer(answer, row.text_pair or "") for answer in answers]
    return {"answers": placed, "id": as_text(raw.get("id", "")) or row.origin}


def _place_answer(answer: Any, context: str) -> dict[str, Any]:
    """Find an answer in its context: where it is said to start, or else stands once.

    Where nothing is said of its start it is the first place.
    """
    text = answer.get("text") if isinstance(answer, Mapping) else answer
    if not isinstance(text, str) or not text:
        raise BadLabel("bad_answers", "an answer without a text")
    said = answer.get("answer_start", answer.get("start")) if isinstance(answer, Mapping) else None
    if _is_offset(said) and said >= 0 and context.startswith(text, said):
        return {"text": text, "start": said}
    first = context.find(text)
    if first < 0:
        raise BadLabel("answer_not_in_context", f"{text[:80]!r} does not stand there")
    if _is_offset(said) and context.find(text, first + 1) >= 0:
        raise BadLabel(
            "answer_start_differs",
            f"{text[:80]!r} does not stand at {said}, and in more than one place elsewhere",
        )
    return {"text": text, "start": first}


def clean_answers(row: Row, steps: Sequence[str]) -> tuple[str, ...]:
    """Clean question and context; the answers stay on their characters."""
    row.text, changed = clean_and_tell(encodable(row.text), steps)
    answers = row.label["answers"]
    pairs = [(answer["start"], answer["start"] + len(answer["text"])) for answer in answers]
    context = _one_for_one(row.text_pair or "")
    row.text_pair, places, pair_changed = clean_with_spans(context, pairs, steps)
    if None in places:
        raise BadLabel("span_lost", "cleaning leaves nothing of an answer")
    cleaned = [{"text": row.text_pair[start:end], "start": start} for start, end in places]
    row.label = {"answers": cleaned, "id": encodable(row.label["id"])}
    return tuple(dict.fromkeys((*changed, *pair_changed)))
