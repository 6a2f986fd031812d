"""What a request asked and what it was answered, row by row, from TF Serving's two languages."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tfmodel.data.targets.tagged_words import spans_of_tags

DEFAULT_SIGNATURE = "serving_default"
_LONGEST_ANSWER = 20_000


class NoTexts(Exception):
    """A request without texts: numbers, or several columns of strings of which none is `text`."""


@dataclasses.dataclass(frozen=True)
class AskedRow:
    """A row of a request.

    Attributes:
        text: as it was sent.
        text_pair: likewise.
        answer: in the form of `predict`: `label`, `labels`, `entities`, `answer` or `score`, and
            what else the model gave; None where it gave a vector, or nothing that has a form.
    """

    text: str
    text_pair: str | None
    answer: dict[str, Any] | None


def rows_of_json(request: Mapping[str, Any], answer: Mapping[str, Any]) -> list[AskedRow]:
    """Rows of a request to predict over REST.

    Args:
        request: the object of the body.
        answer: the object of the answer.

    Raises:
        NoTexts: there are none.
    """
    if "instances" in request:
        inputs = [each if _is_named(each) else {"": each} for each in request["instances"]]
        answers = answer.get("predictions")
    else:
        inputs = _by_row(request.get("inputs"))
        answers = answer.get("outputs")
        if isinstance(answers, Mapping):
            answers = _by_row(answers)
    if not isinstance(answers, list) or len(answers) != len(inputs):
        answers = [None] * len(inputs)
    return [
        AskedRow(*_texts(columns), _answer(given))
        for columns, given in zip(inputs, answers, strict=True)
    ]


def rows_of_messages(request: Any, response: Any) -> list[AskedRow]:
    """Rows of a `PredictRequest` and its `PredictResponse`.

    Raises:
        NoTexts: there are none.
    """
    from tensorflow.core.framework import types_pb2

    strings = {
        name: [*tensor.string_val]
        for name, tensor in request.inputs.items()
        if tensor.dtype == types_pb2.DT_STRING and tensor.string_val
    }
    outputs = {name: _listed(tensor) for name, tensor in response.outputs.items()}
    inputs = _by_row(strings)
    answers = _by_row(outputs)
    if len(answers) != len(inputs):
        answers = [None] * len(inputs)
    return [
        AskedRow(*_texts(columns), _answer(given))
        for columns, given in zip(inputs, answers, strict=True)
    ]


def _listed(tensor: Any) -> Any:
    import tensorflow as tf

    return tf.make_ndarray(tensor).tolist()


def _by_row(columns: Any) -> list[dict[str, Any]]:
    """Columns by name, or one without, to rows."""
    if not isinstance(columns, Mapping):
        columns = {"": columns}
    lists = {name: values for name, values in columns.items() if isinstance(values, list)}
    sizes = {len(values) for values in lists.values()}
    if len(sizes) != 1:
        raise NoTexts
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def _is_named(instance: Any) -> bool:
    return isinstance(instance, Mapping) and {*instance} != {"b64"}


def _texts(columns: Mapping[str, Any]) -> tuple[str, str | None]:
    """Text and second text of a row; the one column of strings may have any name."""
    found = {name: text for name, value in columns.items() if (text := _text(value)) is not None}
    if len(found) == 1:
        return next(iter(found.values())), None
    if "text" not in found:
        raise NoTexts
    return found["text"], found.get("text_pair")


def _text(value: Any) -> str | None:
    """A string, as `storable`; None: no string."""
    if isinstance(value, Mapping) and {*value} == {"b64"}:
        try:
            value = base64.b64decode(value["b64"])
        except (TypeError, ValueError, binascii.Error):
            return None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return storable(value) if isinstance(value, str) else None


def storable(text: str) -> str:
    """The text with U+FFFD for what UTF-8 or a database cannot hold, character by character."""
    if not text.isascii():
        text = "".join("\ufffd" if "\ud800" <= each <= "\udfff" else each for each in text)
    return text.replace("\0", "\ufffd")


# --- answers --------------------------------------------------------------------------------


def _answer(given: Any) -> dict[str, Any] | None:
    if not isinstance(given, Mapping):
        if isinstance(given, bool | None) or not isinstance(given, int | float | str | bytes):
            return None
        # The one output of a model has no name.
        given = {"label" if isinstance(given, str | bytes) else "score": given}
    values = {
        name: _plain(value) for name, value in given.items() if name not in ("vector", "span")
    }
    if {"tags", "starts", "ends"} <= {*values}:
        return {"entities": _entities(values["tags"], values["starts"], values["ends"])}
    if isinstance(values.get("labels"), list):
        values["labels"] = [label for label in values["labels"] if label]
    if not values:
        return None
    return values if len(json.dumps(values)) <= _LONGEST_ANSWER else None


def task_of_answer(answer: Mapping[str, Any] | None) -> str | None:
    """The task whose answers have this form; None: none has."""
    forms = {
        "entities": "tag",
        "answer": "span",
        "labels": "multilabel",
        "label": "classify",
        "score": "regress",
    }
    return next((task for name, task in forms.items() if name in (answer or {})), None)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [*map(_plain, value)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return text if (text := _text(value)) is not None else value


def _entities(tags: Sequence[str], starts: Sequence[int], ends: Sequence[int]) -> list[dict]:
    """The spans that tags of words make; behind the last word a tag is empty."""
    words = [tag for tag in tags if tag]
    return [
        {"start": int(starts[first]), "end": int(ends[end - 1]), "label": label}
        for first, end, label in spans_of_tags(words)
    ]
