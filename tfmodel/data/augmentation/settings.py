"""The `data.augment` section of a config."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from tfmodel.config import Settings

MethodName = Literal[
    "deletion",
    "swap",
    "insertion",
    "typos",
    "keyboard",
    "synonyms",
    "replacement",
    "back_translation",
]
# What each needs that only Python can give.
CALLABLES = {"replacement": "replace", "back_translation": "translate"}
# The targets whose labels stand at places in the text.
PLACES = ("tags", "spans", "answers")


class AugmentSettings(Settings):
    """Which new versions of the training rows are made; dev and test stay as they are."""

    methods: list[MethodName] = Field(
        min_length=1,
        description="What is done, each to every training row: deletion, swap, insertion of "
        "words, typos, keyboard slips, synonyms, replacement by a model; back_translation in "
        "Python only.",
        examples=[["deletion", "typos"]],
        json_schema_extra={"uniqueItems": True},
    )
    copies: int = Field(
        1, ge=1, le=100, description="New versions that each method makes of each row."
    )
    rate: float = Field(
        0.1, gt=0, le=1, description="Share of a text's words that are changed, at least one."
    )
    synonyms: str | None = Field(
        None,
        min_length=1,
        description="File of words and those that may stand in their place: TSV, JSON or text.",
        examples=["synonyms.tsv"],
    )

    model: str | None = Field(
        None,
        min_length=1,
        description="Folder of a masked language model, which proposes the words of replacement.",
        examples=["runs/pages/model"],
    )

    def check_in_config(self, target: str) -> None:
        """Refuse what a config cannot ask for.

        Args:
            target: the kind of label, as `data.target` says.

        Raises:
            ValueError: a method needs a callable, or labels name places in the text, which
                would no longer be there.
        """
        for method, name in CALLABLES.items():
            if method in self.methods and not (method == "replacement" and self.model):
                way = ", or name a masked language model by model: FOLDER"
                raise ValueError(
                    f"augment.methods names {method}, which needs a callable ({name}) that only "
                    "Python can give: tfmodel.data.augmentation.augment_split; leave it out here"
                    + way
                    * (method == "replacement")
                )
        if target in PLACES:
            raise ValueError(
                f"augment moves words, and with target {target} labels name places in the text; "
                "leave augment out"
            )

    @field_validator("methods")
    @classmethod
    def _each_once(cls, methods: list[str]) -> list[str]:
        if len(set(methods)) < len(methods):
            raise ValueError(f"names a method twice: {methods}; for more versions raise copies")
        return methods

    @model_validator(mode="after")
    def _list_where_needed(self) -> AugmentSettings:
        if "synonyms" in self.methods and self.synonyms is None:
            raise ValueError("the method synonyms needs a list: name its file by synonyms: FILE")
        if self.synonyms is not None and not {"synonyms", "insertion"} & set(self.methods):
            raise ValueError(
                "synonyms names a list that no method uses; add synonyms or insertion to methods"
            )
        if self.model is not None and "replacement" not in self.methods:
            raise ValueError("model names a model that no method uses; add replacement to methods")
        return self
