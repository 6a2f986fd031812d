"""What the annotation of a config's field wants, and what of a value it must not be given."""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from typing import Any

import pydantic


def flat_types(annotation: Any) -> set:
    """The plain types of an annotation, out of unions, lists, values of mappings and Annotated."""
    inner, origin = typing.get_args(annotation), typing.get_origin(annotation)
    if not inner or origin is typing.Literal:
        return {annotation}
    inner = inner[:1] if origin is typing.Annotated else inner[1:] if origin is dict else inner
    return set().union(*(flat_types(part) for part in inner if part is not Ellipsis))


def is_model(kind: Any) -> bool:
    """Whether a plain type is a section of a config."""
    return isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def is_read_as_empty(field: pydantic.fields.FieldInfo) -> bool:
    """Whether nothing means an empty section: `train:` with every line under it commented out."""
    wanted = flat_types(field.annotation)
    return type(None) not in wanted and any(map(is_model, wanted))


def no_other_type(value: Any, annotation: Any) -> Any:
    """A value in which what is a number to Python alone is refused where a number is wanted.

    True is an int there, so that `epochs: true` would quietly become 1; and `"5"` is 5.
    """
    wanted = flat_types(annotation)
    if not wanted & {int, float} or any(map(is_model, wanted)):
        return value
    if isinstance(value, Mapping):
        return {key: no_other_type(inner, annotation) for key, inner in value.items()}
    if isinstance(value, list):
        return [no_other_type(inner, annotation) for inner in value]
    if isinstance(value, bool) and bool not in wanted:
        return str(value).lower()
    return f'"{value}"' if str not in wanted and is_number_in_quotes(value) else value


def is_number_in_quotes(value: Any) -> bool:
    """Whether a value is text that Python would take for a number."""
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False
