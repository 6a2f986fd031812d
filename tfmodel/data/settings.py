"""The `data:` section of a config."""

from __future__ import annotations

import codecs
import difflib
import re
from encodings.aliases import aliases
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from tfmodel.config import Settings
from tfmodel.data.augmentation.settings import AugmentSettings
from tfmodel.data.cleaning.settings import CleaningSettings
from tfmodel.data.label_noise import LabelNoiseSettings

DETECT = "detect"

# A tab is hard to write in YAML (only "\t" in double quotes is one), so it has a name.
_NAMED_DELIMITERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "space": " "}
_NAMES = "|".join(map(re.escape, _NAMED_DELIMITERS))
_A_CHARACTER = {"type": "string", "pattern": rf'^(?:[^"\r\n]|{_NAMES})$'}


def _delimiter(schema: dict[str, Any]) -> None:
    schema.clear()
    schema["anyOf"] = [_A_CHARACTER, {"enum": [*range(10)]}]  # a digit reads as a number


class SpanSettings(Settings):
    """How the spans of `target: spans` are written: the names of their fields."""

    start: str = Field("start", min_length=1, description="Field with the first character.")
    end: str = Field("end", min_length=1, description="Field with the end.")
    label: str = Field("label", min_length=1, description="Field with the span's label.")
    inclusive: bool = Field(
        False, description="Whether the end is the last character; else the one after it."
    )


class DataSettings(Settings):
    """Where the labelled rows are, how to read, clean and split them."""

    train: str = Field(
        min_length=1,
        description="File, files (`*`) or folder with the training rows: CSV, TSV, JSON, CoNLL, "
        "SQuAD, Parquet, lines, a folder per class, TFDS; plain, gzip, zstd or in a zip.",
        examples=["train.csv"],
    )
    dev: str | None = Field(
        None, min_length=1, description="Rows that steer training; none: split off train."
    )
    test: str | None = Field(
        None,
        min_length=1,
        description="Rows for the final figures; none: split off train where dev is not named "
        "either, else no test.",
    )
    text: str = Field(
        "text", min_length=1, description="Column (JSON: field or path a.b) with the text."
    )
    text_pair: str | None = Field(
        None, min_length=1, description="Column with the second text, for pairs."
    )
    label: str = Field("label", min_length=1, description="Column with the label.")
    format: Literal[
        "auto",
        "csv",
        "tsv",
        "jsonl",
        "json",
        "conll",
        "squad",
        "text",
        "wikiextractor",
        "parquet",
        "folder",
        "regex",
        "tfds",
    ] = Field(  # fmt: skip
        "auto", description="auto: by the file's name and a look inside."
    )
    encoding: str = Field(
        "utf-8",
        description="Name of the text encoding, or detect: guessed from the bytes and logged.",
        examples=["utf-8", "latin-1", DETECT],
    )
    delimiter: Annotated[str, Field(json_schema_extra=_delimiter)] | None = Field(
        None,
        description="The character between fields of a CSV, or tab, comma, semicolon, space; "
        "none: found by a look.",
        examples=[";", "tab"],
    )
    quoting: Literal["auto"] | bool = Field(
        "auto",
        description='true: "..." holds a field with delimiters or newlines; false: quotes are '
        "plain text; auto: by a look.",
    )
    columns: list[str] | None = Field(
        None,
        min_length=1,
        description="Names of the columns of a file without a header, in order.",
        examples=[["label", "text"]],
    )
    extra_columns: bool = Field(
        False,
        description="Whether rows may have more fields than there are columns; they are left out.",
    )
    records: str | None = Field(
        None,
        min_length=1,
        description="JSON: the field, or path a.b, with the array of rows; none: the whole file.",
        examples=["data"],
    )
    pattern: str | None = Field(
        None,
        description="format regex: matches one line, with groups named as text and label.",
        examples=[r"(?P<label>\w+):\w+ (?P<text>.+)"],
    )
    target: Literal[
        "auto", "class", "classes", "number", "tags", "spans", "answers", "text", "none"
    ] = Field(
        "auto",
        description="What a label is: a class, several classes, a number, a tag for each word, "
        "spans of the text, answers in the second text, a text that the row's text is to be told "
        "apart from, or none; auto: by the format.",
    )
    none_label: str | None = Field(
        None,
        min_length=1,
        description="The label of rows that have none of the others. Texts like none of the "
        "others are answered with it, even if train has no such row.",
        examples=["oos"],
    )
    label_separator: str = Field(
        ",", min_length=1, description="Between the classes of target classes, in a string."
    )
    spans: SpanSettings = Field(
        default_factory=SpanSettings, description="How the spans of target spans are written."
    )
    max_rows: int | None = Field(
        None, ge=2, description="Train on a seeded stratified sample of this many rows."
    )
    max_characters: int = Field(
        100_000, ge=1, description="Rows with a longer text, after cleaning, are left out."
    )
    test_share: float = Field(
        0.2, ge=0, lt=1, description="Share of the rows split off for test where none is named."
    )
    dev_share: float = Field(
        0.1, gt=0, lt=1, description="Share of the rows split off for dev where none is named."
    )
    split: Literal["stratified", "hash", "group", "time"] = Field(
        "stratified",
        description="How rows are split off train. stratified: each class in proportion; hash: by "
        "the text alone, a row stays where it is when others are added; group: rows of one group "
        "stay together; time: the latest rows for test.",
    )
    group: str | None = Field(
        None, min_length=1, description="Column whose equal values stay together (split: group)."
    )
    time: str | None = Field(
        None,
        min_length=1,
        description="Column with a number, a date or a time (split: time).",
    )
    near_duplicates: float | None = Field(
        None,
        gt=0.3,
        le=1,
        description="Drop texts that share at least this much of their runs of 5 characters "
        "(Jaccard similarity) with an earlier one; none: only equal texts are dropped.",
        examples=[0.85],
    )
    workers: int | None = Field(
        None,
        ge=0,
        le=256,
        description="Processes that clean and compare; none: one a core; 0: this process alone. "
        "Changes no result.",
    )
    cleaning: CleaningSettings = Field(
        default_factory=CleaningSettings, description="Which cleaning steps run."
    )
    augment: AugmentSettings | None = Field(
        None, description="New versions of the training rows; none: none are made."
    )
    label_noise: LabelNoiseSettings | None = Field(
        None,
        description="Looks for train rows whose label is probably wrong; none: does not look.",
    )

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str) -> str:
        return known_encoding(name)

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, delimiter: str | None) -> str | None:
        if delimiter is None:
            return None
        delimiter = _NAMED_DELIMITERS.get(delimiter, delimiter)
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise ValueError("expected one character, or tab, comma, semicolon, space")
        return delimiter

    @field_validator("pattern")
    @classmethod
    def _valid_pattern(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
        return pattern

    @model_validator(mode="after")
    def _consistent(self) -> DataSettings:
        wanted = self.wanted()
        if len(set(wanted)) < len(wanted):
            raise ValueError(f"text, text_pair and label must differ; received {wanted}")
        if self.columns is not None:
            if len(set(self.columns)) < len(self.columns):
                raise ValueError(f"columns holds a name twice: {self.columns}")
            _require(self.columns, wanted, "columns does not name {}")
        if self.format == "regex" and self.pattern is None:
            raise ValueError("format regex needs pattern: '(?P<label>...) (?P<text>...)'")
        if self.pattern is not None:
            if self.format not in ("regex", "auto"):
                raise ValueError(f"pattern goes with format regex, not with {self.format}")
            _require(
                re.compile(self.pattern).groupindex, wanted, "pattern has no group (?P<{}>...)"
            )
        for method, column in (("group", self.group), ("time", self.time)):
            if self.split == method and column is None:
                raise ValueError(f"split {method} needs {method}: COLUMN")
            if self.split != method and column is not None:
                raise ValueError(f"{method} goes with split: {method}, not with {self.split}")
        if self.test_share + self.dev_share >= 1:
            raise ValueError("test_share + dev_share must be below 1, or train is left empty")
        if self.augment is not None:
            self.augment.check_in_config(self.target)
        return self

    def changes_labels(self) -> bool:
        """Whether rows with a doubtful label are left out or labelled anew."""
        return self.label_noise is not None and self.label_noise.action != "report"

    def order_column(self) -> str | None:
        """Name the column that keeps rows together or in order, where one is named."""
        return self.group or self.time

    def wanted(self) -> list[str]:
        """Name the columns that are read: text, text_pair where there are pairs, label if any."""
        names = (self.text, self.text_pair, None if self.target == "none" else self.label)
        return [name for name in names if name is not None]


def _require(available, wanted: list[str], message: str) -> None:
    for name in wanted:
        if name not in available:
            raise ValueError(f"{message.format(name)}; it has {', '.join(available) or 'none'}")


def known_encoding(name: str) -> str:
    """Give the name of an encoding, or `detect`, if there is such a one.

    Raises:
        ValueError: there is none, or it does not turn bytes into text.
    """
    if name == DETECT:
        return name
    try:
        codec = codecs.lookup(name)
    except LookupError:
        near = difflib.get_close_matches(name.lower(), [DETECT, *aliases.values()], n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"{name} is not an encoding that Python knows.{hint}") from None
    if not codec._is_text_encoding:  # such as base64 and rot13
        raise ValueError(f"{name} does not turn bytes into text; expected utf-8, latin-1 ...")
    return name
