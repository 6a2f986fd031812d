"""The `corpus:` section of a config."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from tfmodel.config import Settings
from tfmodel.data.cleaning.settings import CleaningSettings
from tfmodel.data.privacy.settings import PrivacySettings, Switched
from tfmodel.data.settings import DataSettings, known_encoding


class DocumentCleaningSettings(CleaningSettings):
    """What is cleaned in documents, and which documents stay.

    A corpus is read by a model alone and never served: so what only some rows want is on here.
    """

    mojibake: bool = Field(True, description="Undo wrong decoding (cafÃ© to café), by ftfy.")
    html: bool = Field(
        True,
        description="Remove tags, comments, scripts and styles, turn entities into characters.",
    )
    html_entities: bool = Field(True, description="Turn HTML entities into characters (&amp; to &)")
    whitespace: bool = Field(
        True, description="Turn each run of whitespace in a line into one space; no blank lines."
    )
    wiki_markup: bool | Literal["auto"] = Field(
        "auto",
        description="Remove what extractors leave of wiki text: tags, templates, tables, links "
        "(their words stay), empty brackets. auto: where corpus.train is WikiExtractor's, as code "
        "and templates have such signs too.",
    )
    navigation: bool = Field(
        True, description="Remove lines that are menus, or notices about cookies and the like."
    )
    min_characters: int = Field(
        0, ge=0, description="Documents with a shorter text, after cleaning, are left out."
    )
    min_words: int = Field(
        20,
        ge=0,
        description="Documents of fewer words, after cleaning, are left out; in scripts without "
        "spaces two characters count as a word.",
    )
    repetitive: bool = Field(
        True,
        description="Leave out documents that repeat themselves more than text does, by the rules "
        "of Gopher.",
    )


class LineSettings(Settings):
    """Which lines are taken out of documents because others have them too."""

    shared: int | None = Field(
        20,
        ge=2,
        description="Lines that stand in at least this many documents go from all of them: menus, "
        "notices, headings; none: they stay.",
    )
    repeated: int | None = Field(
        80,
        ge=1,
        description="Lines of at least this many characters stay in the first document that has "
        "them and go from the others; none: they stay.",
    )


class CorpusSettings(Settings):
    """Where the documents are, how to read, clean and split them."""

    train: str = Field(
        min_length=1,
        description="File, files (`*`) or folder of documents: text, JSON Lines, WikiExtractor, "
        "CSV, Parquet, TFDS; plain, gzip, zstd or in a zip.",
        examples=["corpus/*.jsonl.zst"],
    )
    dev: str | None = Field(
        None, min_length=1, description="Documents for the dev loss; none: split off train."
    )
    text: str = Field(
        "text", min_length=1, description="Field (JSON: or path a.b) or column with the text."
    )
    format: Literal[
        "auto", "text", "jsonl", "json", "wikiextractor", "csv", "tsv", "parquet", "tfds"
    ] = Field("auto", description="auto: by the file's name and a look inside.")
    documents: Literal["line", "blank_line", "file"] = Field(
        "line",
        description="What a document is in format text: a line; the lines up to a blank one; a "
        "whole file.",
    )
    encoding: str = Field(
        "utf-8",
        description="Name of the text encoding, or detect: guessed for each file and logged.",
        examples=["utf-8", "gb18030", "detect"],
    )
    records: str | None = Field(
        None,
        min_length=1,
        description="JSON: the field, or path a.b, with the array of documents; none: the file.",
    )
    skip_damaged: bool = Field(
        False,
        description="Go on after a file that cannot be read to its end: what was read stays, the "
        "account names the file. false: stop there.",
    )
    max_documents: int | None = Field(
        None, ge=2, description="Train on a seeded sample of this many documents."
    )
    max_characters: int = Field(
        1_000_000,
        ge=1_000,
        description="Longer documents are cut into several, at the ends of lines where there are.",
    )
    dev_share: float = Field(
        0.01,
        gt=0,
        le=0.5,
        description="Share of the documents split off for dev, by a hash of the text, where none "
        "is named.",
    )
    min_dev_documents: int = Field(
        200,
        ge=1,
        description="Dev gets at least this many of them, but never more than a tenth of all.",
    )
    near_duplicates: float | None = Field(
        0.8,
        gt=0.3,
        le=1,
        description="Drop documents that share at least this much of their runs of 5 words "
        "(Jaccard similarity) with an earlier one; none: only equal texts are dropped.",
    )
    workers: int | None = Field(
        None,
        ge=0,
        le=256,
        description="Processes that clean and compare; none: one a core; 0: this process alone. "
        "Changes no result.",
    )
    cleaning: DocumentCleaningSettings = Field(
        default_factory=DocumentCleaningSettings, description="What is cleaned, what stays."
    )
    privacy: PrivacySettings | None = Field(
        None,
        description="What private is replaced by a placeholder of its kind (true: all of it); "
        "none: nothing. Needs the extra privacy.",
    )
    lines: LineSettings = Field(
        default_factory=LineSettings, description="Lines that several documents share."
    )

    @field_validator("privacy", mode="before", json_schema_input_type=Switched | None)
    @classmethod
    def _switched(cls, value: Any) -> Any:
        return ({} if value else None) if isinstance(value, bool) else value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str) -> str:
        return known_encoding(name)

    def settled(self, train_format: str) -> CorpusSettings:
        """Give the settings with what the format of train decides."""
        if self.cleaning.wiki_markup != "auto":
            return self
        chosen = {"wiki_markup": train_format == "wikiextractor"}
        return self.model_copy(update={"cleaning": self.cleaning.model_copy(update=chosen)})

    def as_rows(self) -> DocumentRows:
        """Give the settings by which documents are read and compared as rows without labels."""
        return DocumentRows(
            train=self.train,
            dev=self.dev,
            text=self.text,
            format=self.format,
            documents=self.documents,
            skip_damaged=self.skip_damaged,
            encoding=self.encoding,
            records=self.records,
            target="none",
            max_rows=self.max_documents,
            max_characters=self.max_characters,
            test_share=0,
            near_duplicates=self.near_duplicates,
            workers=self.workers,
            hides_texts=self.privacy is not None,
        )


class DocumentRows(DataSettings):
    """`data:` settings with what readers of documents know beyond rows; as in `corpus:`."""

    documents: Literal["line", "blank_line", "file"] = "line"
    skip_damaged: bool = False
    hides_texts: bool = False  # no message shows what stands in the files
