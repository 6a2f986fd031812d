"""What a config may hold, as JSON Schema: editors check and complete configs by it.

It takes what `load_config` takes. Where a text is wanted a number or a boolean is one too, as it
was written; a boolean may be written `on`; an empty section means its defaults. What depends on
another key is no matter of the schema.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pydantic
from pydantic.json_schema import GenerateJsonSchema

from tfmodel.annotations import flat_types, is_model, is_read_as_empty

_WORDS_OF_A_BOOLEAN = ("on", "off", "yes", "no", "true", "false", "y", "n", "t", "f", "0", "1")


def json_schema(schema: type[pydantic.BaseModel]) -> dict:
    """Describe a config for editors: JSON Schema with titles, descriptions and examples.

    A key without an example of its own shows its default as one.
    """
    described = schema.model_json_schema(schema_generator=_AsLoaded)
    for model in [described, *described.get("$defs", {}).values()]:
        for key, entry in model.get("properties", {}).items():
            entry.setdefault("title", key.replace("_", " ").capitalize())
            if entry.get("default") not in (None, {}, []):
                entry.setdefault("examples", [entry["default"]])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **described}


def in_any_case(words: Iterable[str]) -> dict[str, Any]:
    """One of some words, small or large, a space in place of an underscore: for schemas of text."""

    def both(letter: str) -> str:
        if letter == "_":
            return "[_ ]"
        return f"[{letter.lower()}{letter.upper()}]" if letter.isalpha() else letter

    alike = "|".join("".join(map(both, word)) for word in words)
    return {"type": "string", "pattern": f"^(?:{alike})$"}


class _AsLoaded(GenerateJsonSchema):
    """Types as `load_config` reads them."""

    def str_schema(self, schema: Any) -> dict[str, Any]:
        """A number or a boolean is taken as the text that was written."""
        described = super().str_schema(schema)
        return {**described, "type": [described["type"], "number", "boolean"]}

    def bool_schema(self, schema: Any) -> dict[str, Any]:
        """And in words."""
        words = in_any_case(_WORDS_OF_A_BOOLEAN)
        return {"anyOf": [super().bool_schema(schema), {"enum": [0, 1]}, words]}

    def model_schema(self, schema: Any) -> dict[str, Any]:
        """A section without a line in it is an empty one."""
        described = super().model_schema(schema)
        for key, field in schema["cls"].model_fields.items():
            if is_read_as_empty(field) and _may_be_empty(field):
                entry = described["properties"][key]
                kinds = {name: entry.pop(name) for name in _KINDS if name in entry}
                entry["anyOf"] = [*kinds.pop("anyOf", []), *([kinds] if kinds else []), _NOTHING]
        return described


def _may_be_empty(field: pydantic.fields.FieldInfo) -> bool:
    models = filter(is_model, flat_types(field.annotation))
    return any(
        not any(inner.is_required() for inner in model.model_fields.values()) for model in models
    )


_KINDS = ("$ref", "allOf", "anyOf", "oneOf", "discriminator")
_NOTHING = {"type": "null"}
