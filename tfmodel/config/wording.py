"""What is wrong with a config, in words: each mistake with its key, its value and the fix."""

from __future__ import annotations

import copy
import difflib
import json
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import pydantic

from tfmodel.annotations import flat_types, is_model, is_number_in_quotes

_TEXT_ERRORS = ("string_type", "literal_error", "enum", "path_type")


def _data_path(location: tuple, values: Any) -> tuple:
    """The part of a pydantic location that leads through the data; union tags left out."""
    path: list = []
    for part in location:
        in_list = isinstance(values, list) and isinstance(part, int) and part < len(values)
        if in_list or (isinstance(values, dict) and part in values):
            values = values[part]
            path.append(part)
    return tuple(path)


def _at(values: Any, path: tuple) -> Any:
    for part in path:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return None
    return values


def text_where_text_is_wanted(values: dict, written: dict, problems: list[dict]) -> dict:
    """The values with scalars as written wherever a text field refused a number or boolean."""
    values = copy.deepcopy(values)
    for problem in problems:
        path = _data_path(problem["loc"], values)
        text = _at(written, path)
        refused = problem["type"] in _TEXT_ERRORS and path and isinstance(text, str)
        if refused and isinstance(_at(values, path), bool | int | float | dict):
            _at(values, path[:-1])[path[-1]] = text
    return values


def word_problems(
    problems: list[dict],
    values: dict,
    schema: type[pydantic.BaseModel],
    *,
    where: str,
    origins: dict[tuple, str],
) -> list[str]:
    """One line per mistake; the branches of a union are one mistake."""
    by_path: dict[tuple, list[dict]] = {}
    for problem in problems:
        *parents, last = problem["loc"] or ("",)
        if problem["type"] == "missing":
            path = (*_data_path(tuple(parents), values), last)
        elif problem["type"].startswith("union_tag"):
            path = (*_data_path(problem["loc"], values), problem["ctx"]["discriminator"].strip("'"))
        else:
            path = _data_path(problem["loc"], values)
        by_path.setdefault(path, []).append(problem)
    # Only a union reports both a value and something inside it; what is inside says more.
    inner = [p for p in by_path if not any(q[: len(p)] == p != q for q in by_path if p)]
    known = dict(known_fields(schema, values))
    lines = []
    for path in inner:
        origin = next((o for keys, o in origins.items() if path[: len(keys)] == keys), where)
        lines.append(f"{origin}: {_word_problem(path, by_path[path], values, known)}")
    return list(dict.fromkeys(lines))


def _word_problem(path: tuple, problems: list[dict], values: dict, known: dict) -> str:
    name, kind = ".".join(map(str, path)), problems[0]["type"]
    field = known.get(tuple(part for part in path if isinstance(part, str)))
    if kind == "extra_forbidden":
        if path in known:  # of another branch of a union, whose tag stands before the key
            return f"unknown key {name}: {problems[0]['loc'][-2]} has no such key. Remove it."
        return _word_unknown_key(path, list(known))
    about = f" ({field.description.rstrip('.')})" if field and field.description else ""
    if kind in ("missing", "union_tag_not_found"):
        # What must be there below it; what only a section that may be left out needs is not.
        inside = [p for p in known if p[: len(path)] == path and p != path]
        above = {p: [p[:end] for end in range(len(path) + 1, len(p) + 1)] for p in inside}
        required = [p for p in inside if all(known[each].is_required() for each in above[p])]
        last = [p for p in required if not any(q[: len(p)] == p != q for q in required)]
        needed = [".".join(p) for p in last] or [name]
        return (
            f"missing key {name}{about}. Received: nothing. "
            f"Add {', '.join(needed)} to the config, or give {needed[0]}=VALUE."
        )
    received = _at(values, path)
    if kind in ("value_error", "assertion_error"):
        message = f"{name}: " * bool(path) + str(problems[0]["ctx"]["error"])
        if "Received:" in message:
            return message
        return f"{message.rstrip('.')}. Received: {shown(received)}. Change it."
    choices = [choice for problem in problems for choice in _choices(problem)]
    near = difflib.get_close_matches(str(received), choices, n=1)
    expected = " or ".join(dict.fromkeys(_expected(problem, field) for problem in problems))
    if near:
        fix = f"Did you mean {near[0]}?"
    elif "number" in expected and is_number_in_quotes(received):
        fix = "Write it without quotes."
    elif kind in ("list_type", "tuple_type") and isinstance(received, str | int | float):
        fix = f"Write [{received}]."
    elif field is None or field.is_required() or kind == "union_tag_invalid":
        fix = "Change it."
    else:
        default = field.get_default(call_default_factory=True)
        plain = default is not None and not isinstance(default, pydantic.BaseModel)
        fix = "Change it, or leave it out" + f" for the default, {shown(default)}" * plain + "."
    return f"{name}: expected {expected}. Received: {shown(received)}. {fix}"


def _word_unknown_key(path: tuple, known: list[tuple]) -> str:
    name, last = ".".join(map(str, path)), str(path[-1])
    if tuple(last.split(".")) in known and "." in last:
        nested = "".join(f"{part}: {{" for part in last.split("."))[:-3]
        return (
            f"unknown key {last}. Received: a key with dots in it. "
            f"Write it nested: {nested}: ...{'}' * last.count('.')}"
        )
    parent = tuple(part for part in path[:-1] if isinstance(part, str))

    def closeness(candidate: tuple) -> float:
        alike = difflib.SequenceMatcher(None, last.lower(), candidate[-1].lower()).ratio()
        # A slip of the finger is likelier beside the right key than far from it.
        return alike + 0.1 if candidate[:-1] == parent else alike - 0.1 if alike < 1 else alike

    nearest = max(known, key=closeness, default=())
    if nearest and closeness(nearest) >= 0.7:
        return f"unknown key {name}. Did you mean {'.'.join(nearest)}?"
    beside = [candidate[-1] for candidate in known if candidate[:-1] == parent]
    return f"unknown key {name}. Known here: {', '.join(beside)}. Remove it or use one of these."


def _choices(problem: dict) -> list[str]:
    source = "expected" if problem["type"] in ("literal_error", "enum") else "expected_tags"
    return re.findall(r"'([^']*)'", problem.get("ctx", {}).get(source, ""))


_EXPECTED = (
    (("int_",), "a whole number"),
    (("float_",), "a number"),
    (("finite_number",), "a finite number"),
    (("bool_",), "true or false"),
    (("string_too_short",), "text of at least {min_length} characters"),
    (("string_too_long",), "text of at most {max_length} characters"),
    (("string_pattern_mismatch",), "text that matches {pattern}"),
    (("string_",), "text"),
    (("path_type",), "a path"),
    (("list_type", "tuple_type", "set_type", "frozen_set_type"), "a list such as [a, b]"),
    (("dict_type", "mapping_type"), "a mapping of keys to values"),
    (("none_required",), "nothing"),
    (("too_short",), "at least {min_length} of them"),
    (("too_long",), "at most {max_length} of them"),
)
_BOUNDS = (("gt", "greater than"), ("ge", "at least"), ("lt", "less than"), ("le", "at most"))


def _expected(problem: dict, field: pydantic.fields.FieldInfo | None) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if choices := _choices(problem):
        return f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
    if kind.startswith(("greater_than", "less_than")):
        metadata = field.metadata if field is not None else []  # with both ends of the range
        bounds = [
            f"{words} {getattr(item, name)}"
            for name, words in _BOUNDS
            for item in metadata
            if getattr(item, name, None) is not None
        ]
        broken = [f"{words} {context[name]}" for name, words in _BOUNDS if name in context]
        return f"a value {' and '.join(bounds or broken)}"
    if kind in ("model_type", "model_attributes_type") and field is not None:
        models = filter(is_model, flat_types(field.annotation))
        keys = dict.fromkeys(key for model in models for key in model.model_fields)
        return f"a mapping with keys such as {', '.join(keys)}"
    for prefixes, wording in _EXPECTED:
        if kind.startswith(prefixes):
            return wording.format(**context)
    return problem["msg"].removeprefix("Input should be ")


def shown(value: Any) -> str:
    """A received value as the user would write it, cut to 80 characters."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return f"a mapping with the keys {', '.join(map(str, value))}"[:80] or "an empty mapping"
    if isinstance(value, pydantic.BaseModel):
        return "settings"
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def known_fields(
    schema: type[pydantic.BaseModel], values: Any = None, path: tuple = ()
) -> Iterator[tuple[tuple, pydantic.fields.FieldInfo]]:
    """Each key of a schema, in sections too, as a path, and its field.

    Args:
        schema: of the whole config.
        values: a config: in a mapping of sections by names of the user's own, each of them has
            the keys; without one `NAME` stands for all.
        path: where the schema stands in another.
    """
    for key, field in schema.model_fields.items():
        yield (*path, key), field
        given = values.get(key) if isinstance(values, Mapping) else None
        for inner, is_named in _sections(field.annotation):
            below = {(): given}
            if is_named:
                named = given if isinstance(given, Mapping) else {"NAME": None}
                below = {(name,): section for name, section in named.items()}
            for name, section in below.items():
                if name:
                    yield (*path, key, *name), field
                if len(path) < 8:
                    yield from known_fields(inner, section, (*path, key, *name))


def _sections(annotation: Any) -> list[tuple[type[pydantic.BaseModel], bool]]:
    """The sections that a field may hold, and whether it holds several by name."""
    if typing.get_origin(annotation) in (dict, Mapping):
        return [(inner, True) for inner in flat_types(annotation) if is_model(inner)]
    return [(inner, False) for inner in flat_types(annotation) if is_model(inner)]
