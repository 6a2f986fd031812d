"""The `cleaning:` part of a config's `data:` section."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from tfmodel.config import Settings
from tfmodel.data.cleaning.language import LANGUAGES
from tfmodel.data.cleaning.script import script_names
from tfmodel.schema import in_any_case


def _one_of(names: Callable[[], Sequence[str]]) -> Any:
    def describe(schema: dict[str, Any]) -> None:
        schema.clear()
        schema["anyOf"] = [{"enum": [*names()]}, in_any_case(names())]

    return describe


_Script = Annotated[str, Field(json_schema_extra=_one_of(script_names))]
_Language = Annotated[str, Field(json_schema_extra=_one_of(lambda: LANGUAGES))]


class CleaningSettings(Settings):
    """Which cleaning steps run and which texts stay.

    The steps on by default change nothing that an uncased BERT would have seen, so a served model
    needs none of them (the exceptions stand in docs/data.md). The others do: a model trained on `&`
    would meet `&amp;` in production, so they are for whoever cleans there too.
    """

    mojibake: bool = Field(
        False, description="Undo wrong decoding (cafÃ© to café), by ftfy; serve the same way."
    )
    control_characters: bool = Field(
        True, description="Remove control, zero-width and byte order mark characters."
    )
    html: bool = Field(
        False,
        description="Remove tags, comments, scripts and styles, turn entities into characters; "
        "serve the same way.",
    )
    html_entities: bool = Field(
        False, description="Turn HTML entities into characters (&amp; to &); serve the same way."
    )
    unicode: Literal["NFC", "NFKC"] | bool = Field(
        True,
        description="Normal form of Unicode. NFC (or true): compose characters; NFKC: drop their "
        "variants too, such as full-width letters; serve that the same way.",
    )
    whitespace: bool = Field(
        True, description="Turn each run of whitespace into one space; none at the ends."
    )
    min_characters: int = Field(
        0, ge=0, description="Rows with a shorter text, after cleaning, are left out."
    )
    scripts: list[_Script] | None = Field(
        None,
        min_length=1,
        description="Scripts by their Unicode names; rows written in others are left out.",
        examples=[["Latin"], ["Han", "Hiragana", "Katakana"]],
    )
    min_script_share: float = Field(
        0.5, gt=0, le=1, description="Share of a text's letters that must be in the scripts."
    )
    languages: list[_Language] | None = Field(
        None,
        min_length=1,
        description="Languages by ISO 639 code; rows in others are left out. Needs the extra "
        "language.",
        examples=[["en"], ["zh", "wuu", "yue"]],
    )
    min_language_confidence: float = Field(
        0.99,
        gt=0,
        le=1,
        description="How sure it must be that a text is in another language for its row to be "
        "left out; most short texts stay.",
    )

    @field_validator("scripts")
    @classmethod
    def _known_scripts(cls, names: list[str] | None) -> list[str] | None:
        return names and [
            _known(name, script_names(), "the Unicode name of a script") for name in names
        ]

    @field_validator("languages")
    @classmethod
    def _known_languages(cls, codes: list[str] | None) -> list[str] | None:
        return codes and [
            _known(code, LANGUAGES, "the code of a language that can be told") for code in codes
        ]


def _known(name: str, names: Sequence[str], what: str) -> str:
    """Give the name as it is spelled there, whatever the case."""
    spelled = {known.lower(): known for known in names}
    wanted = name.lower().replace(" ", "_")
    if wanted not in spelled:
        near = difflib.get_close_matches(wanted, list(spelled), n=1, cutoff=0.75)
        raise ValueError(
            f"expected {what}, such as {spelled[near[0]]}"
            if near
            else f"expected {what}: {', '.join(names)}"
        )
    return spelled[wanted]
