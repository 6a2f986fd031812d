"""What a request asked and what it was answered, row by row, from TF Serving's two languages."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfmodel.data.targets.tagged_words import spans_of_tags

DEFAULT_SIGNATURE = "serving_default"
_LONGEST_ANSWER = 20_000
_LONGEST_VECTOR = 8192
_LARGEST = 65504.0
"""Number of 16 bits, in which vectors are stored."""


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
        vector: the numbers that it gave for the text, where it gave such.
    """

    text: str
    text_pair: str | None
    answer: dict[str, Any] | None
    vector: Sequence[float] | None = None


def rows_of_json(request: Mapping[str, Any], answer: Mapping[str, Any]) -> list[AskedRow]:
    """Rows of a request to predict, classify or regress over REST.

    Args:
        request: the object of the body.
        answer: the object of the answer.

    Raises:
        NoTexts: there are none.
    """
    if "examples" in request:
        context = request.get("context") or {}
        inputs = [_features(context | each) for each in request["examples"]]
        return _rows(inputs, [*map(_result, answer.get("results") or ())])
    if "instances" in request:
        inputs = [each if _is_named(each) else {"": each} for each in request["instances"]]
        answers = answer.get("predictions")
    else:
        inputs = _by_row(request.get("inputs"))
        answers = answer.get("outputs")
        if isinstance(answers, Mapping):
            answers = _by_row(answers)
    return _rows(inputs, answers)


def rows_of_messages(request: Any, response: Any) -> list[AskedRow]:
    """Rows of a request to predict, classify or regress over gRPC, and its response.

    Raises:
        NoTexts: there are none.
    """
    kind = request.DESCRIPTOR.name
    if kind == "ClassificationRequest":
        found = response.result.classifications
        results = [[(each.label, each.score) for each in row.classes] for row in found]
        return _rows(_of_input(request.input), [*map(_result, results)])
    if kind == "RegressionRequest":
        results = [each.value for each in response.result.regressions]
        return _rows(_of_input(request.input), [*map(_result, results)])
    from tensorflow.core.framework import types_pb2

    strings = {
        name: [*tensor.string_val]
        for name, tensor in request.inputs.items()
        if tensor.dtype == types_pb2.DT_STRING and tensor.string_val
    }
    outputs = {name: _listed(tensor) for name, tensor in response.outputs.items()}
    return _rows(_by_row(strings), _by_row(outputs))


def _rows(inputs: Sequence[Mapping[str, Any]], answers: Any) -> list[AskedRow]:
    if not isinstance(answers, list) or len(answers) != len(inputs):
        answers = [None] * len(inputs)
    return [
        AskedRow(*_texts(columns), _answer(given), _vector(given))
        for columns, given in zip(inputs, answers, strict=True)
    ]


def _features(example: Mapping[str, Any]) -> dict[str, Any]:
    """The features of an example, those of one value as the value."""
    return {
        name: value[0] if isinstance(value, list) and len(value) == 1 else value
        for name, value in example.items()
    }


def _of_input(given: Any) -> list[dict[str, Any]]:
    """The strings among the features of each example of an `Input`."""
    listed = getattr(given, given.WhichOneof("kind"))
    context = getattr(listed, "context", None)
    found = []
    for example in listed.examples:
        columns: dict[str, Any] = {}
        for each in (context, example):
            for name, feature in each.features.feature.items() if each is not None else ():
                columns[name] = [*feature.bytes_list.value]
        found.append(_features(columns))
    return found


def _result(given: Any) -> dict[str, Any] | None:
    """What is answered for an example, in the form of `predict`: a number, or labels and scores."""
    if not isinstance(given, list):
        return {"score": given}
    if not given:
        return None
    scores = [score for _, score in given]
    label, score = max(given, key=lambda each: each[1])
    # A model that has no names for its classes gives empty ones.
    named = {"label": label, "score": score} if label else {}
    return {**named, "scores": scores}


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


def _vector(given: Any) -> list[float] | None:
    """The numbers of a text: an output called `vector`, or the one output of a model."""
    found = given.get("vector") if isinstance(given, Mapping) else given
    if not isinstance(found, list) or not 1 < len(found) <= _LONGEST_VECTOR:
        return None
    are_numbers = all(isinstance(each, float | int) and abs(each) <= _LARGEST for each in found)
    return found if are_numbers else None


def task_of_answer(answer: Mapping[str, Any] | None) -> str | None:
    """The task whose answers have this form; None: none has."""
    forms: dict[str, tuple[str, Callable[[Mapping[str, Any]], bool]]] = {
        "entities": ("tag", lambda found: _are_entities(found["entities"])),
        "answer": ("span", _is_part),
        "labels": ("multilabel", lambda found: _are_strings(found["labels"])),
        "label": ("classify", lambda found: isinstance(found["label"], str)),
        "score": ("regress", lambda found: _is_number(found["score"])),
    }
    for name, (task, has_form) in forms.items():
        if name in (answer or {}):
            return task if has_form(answer) else None
    return None


def _are_entities(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, Mapping)
        and isinstance(each.get("label"), str)
        and _is_place(each.get("start"))
        and _is_place(each.get("end"))
        for each in value
    )


def _is_part(answer: Mapping[str, Any]) -> bool:
    """Whether an answer is a part of a text, and says where; an empty one stands nowhere."""
    part = answer["answer"]
    is_placed = _is_place(answer.get("start")) and _is_place(answer.get("end"))
    return isinstance(part, str) and (is_placed or not part)


def _are_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e300


def _is_place(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


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
