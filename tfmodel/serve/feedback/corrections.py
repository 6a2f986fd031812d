"""What a client says is right: read, and held against the row and the model it is about."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tfmodel.serve.errors import ServingError, invalid
from tfmodel.serve.feedback.asked import storable, task_of_answer
from tfmodel.serve.feedback.facts import KIND_OF_TASK, SCORED_PAIRS, TASK_OF_KIND, Facts
from tfmodel.serve.feedback.scrubbing import Scrubber, StoredRow, StoredText

IN_PRIVATE_DATA = "span_in_private_data"
"""The problem of a correction whose span begins or ends inside of what was replaced."""

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
_NAME = re.compile(r"[\w.-]{1,128}")
_REQUEST_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_FIELDS = ("request_id", "row", "text", "text_pair", "model", "feedback_id", "start")
_MOST = 10_000
_SHOWN_LABELS = 20


@dataclasses.dataclass(frozen=True)
class Correction:
    """What a client says, in due form.

    Attributes:
        kind: `label`, `labels`, `spans`, `answer` or `score`.
        value: what is right: a label, labels, spans, an answer's text, a number.
        start: of an answer, its first character in the context as it was sent.
        request_id: the request that it is about.
        row: the row of that request.
        text: the text that it is about, where the request is not known.
        text_pair: likewise.
        model: the model's name; None: there is one alone.
        feedback_id: the same for every time that this is sent.
    """

    kind: str
    value: Any
    start: int | None = None
    request_id: str | None = None
    row: int | None = None
    text: str | None = None
    text_pair: str | None = None
    model: str | None = None
    feedback_id: str | None = None


def parse_correction(content: Mapping[str, Any], *, max_characters: int) -> Correction:
    """Read the object of a body.

    Raises:
        ServingError: INVALID_ARGUMENT; nothing that was sent is repeated.
    """
    kinds = [kind for kind in TASK_OF_KIND if kind in content]
    if {*content} - {*_FIELDS, *TASK_OF_KIND}:
        raise invalid(
            f"Expected fields of {', '.join((*_FIELDS, *TASK_OF_KIND))}. Received: another one."
        )
    if len(kinds) != 1:
        raise invalid(
            "Expected what is right in one field: label, labels, spans, answer or score. Received: "
            f"{' and '.join(kinds) or 'none of them'}."
        )
    (kind,) = kinds
    if "start" in content and kind != "answer":
        raise invalid("start: expected only with answer.")
    text = _string(content, "text", max_characters)
    if "text_pair" in content and text is None:
        raise invalid("text_pair: expected only with text.")
    if text is None and "request_id" not in content:
        raise invalid("Expected request_id, or the text itself as text. Received: neither.")
    return Correction(
        kind,
        _VALUES[kind](content[kind], max_characters),
        start=_place(content, "start"),
        request_id=_id(content, "request_id", _REQUEST_ID, "the id that came with the answer"),
        row=_place(content, "row"),
        text=text,
        text_pair=_string(content, "text_pair", max_characters),
        model=_id(content, "model", _NAME, "the name of a model"),
        feedback_id=_id(content, "feedback_id", _ID, "1 to 64 letters, digits, and any of _.:-"),
    )


def _string(content: Mapping[str, Any], name: str, longest: int) -> str | None:
    value = content.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > longest:
        raise invalid(f"{name}: expected a string of at most {longest:,} characters.")
    return storable(value)


def _place(content: Mapping[str, Any], name: str) -> int | None:
    value = content.get(name)
    if value is None:
        return None
    if not _is_index(value):
        raise invalid(f"{name}: expected a whole number from 0.")
    return value


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _id(content: Mapping[str, Any], name: str, form: re.Pattern[str], words: str) -> str | None:
    value = content.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or form.fullmatch(value) is None:
        raise invalid(f"{name}: expected {words}.")
    return value


def _label(value: Any, longest: int) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > longest:
        raise invalid("label: expected a string that is not blank.")
    return storable(value)


def _labels(value: Any, longest: int) -> list[str]:
    if not isinstance(value, list) or len(value) > _MOST:
        raise invalid("labels: expected a list of strings; an empty one says that none is right.")
    return sorted({_label(each, longest) for each in value})


def _spans(value: Any, longest: int) -> list[dict[str, Any]]:
    words = "spans: expected a list of objects with start, end and label; an empty one says none."
    if not isinstance(value, list) or len(value) > _MOST:
        raise invalid(words)
    found = []
    for each in value:
        if not isinstance(each, Mapping) or not {"start", "end", "label"} <= {*each}:
            raise invalid(words)
        if not (_is_index(each["start"]) and _is_index(each["end"])):
            raise invalid("spans: expected start and end to be whole numbers from 0.")
        label = _label(each["label"], longest)
        found.append({"start": each["start"], "end": each["end"], "label": label})
    return sorted(found, key=lambda span: (span["start"], span["end"], span["label"]))


def _answer(value: Any, longest: int) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise invalid("answer: expected a part of the context; an empty one says that none is.")
    return storable(value)


def _score(value: Any, longest: int) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or abs(value) > 1e300 or not math.isfinite(value):
        raise invalid("score: expected a finite number.")
    return float(value)


_VALUES = {
    "label": _label,
    "labels": _labels,
    "spans": _spans,
    "answer": _answer,
    "score": _score,
}


# --- held against the model and the row -----------------------------------------------------


def task_of(correction: Correction, facts: Facts | None, answer: Mapping[str, Any] | None) -> str:
    """The task of the model that a correction is about, by what is known of it.

    Args:
        correction: what the client says.
        facts: of the model.
        answer: what it has answered.

    Raises:
        ServingError: INVALID_ARGUMENT, models of this task take another correction, or none.
    """
    task = facts.task if facts is not None else task_of_answer(answer)
    if task is None:
        return TASK_OF_KIND[correction.kind]
    if task == SCORED_PAIRS:
        _check_scored_pair(correction)
        return task
    if task not in KIND_OF_TASK:
        raise invalid(f"Models of the task {task} take no corrections.")
    if KIND_OF_TASK[task] != correction.kind:
        raise invalid(
            f"Expected {KIND_OF_TASK[task]}, as the answers of this model are. Received: "
            f"{correction.kind}."
        )
    return task


def _check_scored_pair(correction: Correction) -> None:
    is_pair = correction.text is not None and correction.text_pair is not None
    if correction.kind == "score" and is_pair and correction.request_id is None:
        return
    raise invalid(
        f"Models of the task {SCORED_PAIRS} take no corrections of a single text, whose vector is "
        "neither right nor wrong. Expected two texts as text and text_pair, and as score how alike "
        "they are, on the scale of the rows that the model was trained on; without request_id."
    )


def settled(
    correction: Correction, row: StoredRow, facts: Facts | None, scrubber: Scrubber
) -> tuple[Any, str | None]:
    """What is right, in places of the texts as they are stored.

    Returns:
        The label in the form of a data set, and why no training can use it; None where it can.

    Raises:
        ServingError: INVALID_ARGUMENT, a label that the model does not have, or a place that is
            none.
    """
    if correction.kind in ("label", "labels"):
        named = [correction.value] if correction.kind == "label" else correction.value
        _check_labels(named, facts)
        return _known_or_scrubbed(correction.value, facts, scrubber), None
    if correction.kind == "spans":
        _check_labels([span["label"] for span in correction.value], facts)
        spans = _known_or_scrubbed(correction.value, facts, scrubber)
        return _placed_spans(spans, row.text)
    if correction.kind == "answer":
        return _placed_answer(correction, row.context, scrubber)
    return correction.value, None


def _known_or_scrubbed(value: Any, facts: Facts | None, scrubber: Scrubber) -> Any:
    """Labels; where no model has said that they are its own, stored as any string is."""
    return value if facts is not None and facts.labels else scrubber.anything(value)


def _check_labels(named: Sequence[str], facts: Facts | None) -> None:
    if facts is None or not facts.labels or {*named} <= {*facts.labels}:
        return
    shown = ", ".join(facts.labels[:_SHOWN_LABELS])
    more = len(facts.labels) - _SHOWN_LABELS
    raise invalid(
        f"Expected labels that the model has: {shown}{f' and {more} more' if more > 0 else ''}. "
        "Received: another one."
    )


def _placed_spans(
    spans: Sequence[Mapping[str, Any]], text: StoredText
) -> tuple[list[dict[str, Any]], str | None]:
    placed, are_exact = [], True
    for span in spans:
        if not span["start"] < span["end"] <= text.sent_length:
            raise invalid(
                "spans: expected places inside of the text, in characters, the end excluded. "
                "Received: another one."
            )
        start, end, is_exact = text.place(span["start"], span["end"])
        are_exact &= is_exact
        placed.append({"start": start, "end": end, "label": span["label"]})
    return placed, None if are_exact else IN_PRIVATE_DATA


def _placed_answer(
    correction: Correction, context: StoredText, scrubber: Scrubber
) -> tuple[dict[str, list], str | None]:
    """The answer as SQuAD has it."""
    answer = correction.value
    if not answer:
        return {"text": [], "answer_start": []}, None
    start = correction.start
    if start is None:
        return _found_answer(answer, context, scrubber), None
    elsewhere = invalid("answer: expected a part of the context that stands at start.")
    if start + len(answer) > context.sent_length:
        raise elsewhere
    start, end, is_exact = context.place(start, start + len(answer))
    stored = context.text[start:end]
    if not is_exact:
        return {"text": [stored], "answer_start": [start]}, IN_PRIVATE_DATA
    if stored not in (answer, scrubber.text(answer).text) and not _was_changed(context, correction):
        raise elsewhere
    return {"text": [stored], "answer_start": [start]}, None


def _was_changed(context: StoredText, correction: Correction) -> bool:
    """Whether something inside of the answer was replaced, so that it cannot be compared."""
    end = correction.start + len(correction.value)
    first = context.changes[0] if context.changes else ()
    return any(correction.start < last and start < end for start, last, _ in first)


def _found_answer(answer: str, context: StoredText, scrubber: Scrubber) -> dict[str, list]:
    for text in dict.fromkeys((answer, scrubber.text(answer).text)):
        start = context.text.find(text)
        if start < 0:
            continue
        if context.text.find(text, start + 1) >= 0:
            raise invalid("answer: stands in more than one place. Send start, too.")
        return {"text": [text], "answer_start": [start]}
    raise invalid("answer: expected a part of the context, word for word.")


def as_json(label: Any) -> str:
    """A label as it is stored; equal labels are equal strings."""
    return json.dumps(label, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def unknown_request() -> ServingError:
    """What is said of an id that nothing is known of."""
    return invalid(
        "request_id: no recorded request has this id. It was not sampled, could not be written, or "
        "was deleted. Send the text itself as text."
    )
