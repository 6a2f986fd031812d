"""The `train.few_labels` section of a config: how a classifier learns from a few rows a class."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from tfmodel.config import Settings


class ContrastiveSettings(Settings):
    """Rows of a class near each other, those of two apart; then a logistic regression.

    Source: Tunstall et al. 2022 (SetFit).
    """

    name: Literal["contrastive"] = Field(
        description="Fine-tune the encoder on pairs of rows, of one class or of two, then put a "
        "logistic regression on its sentence vectors."
    )
    pairs: int = Field(
        20, ge=1, le=10_000, description="contrastive: pairs of one class, and as many of two, for "
        "each row."
    )  # fmt: skip
    penalty: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="contrastive: half of this times the squared weights of the regression is "
        "added to the sum of its losses.",
    )


class PromptSettings(Settings):
    """A text in a sentence with a gap; which label's word fills it is the answer.

    Source: Schick and Schütze 2021 (PET); Gao et al. 2021 (LM-BFF).
    """

    name: Literal["prompt"] = Field(
        description="Put each text into a template with a gap, and answer with the label whose "
        "word fills it best."
    )
    template: str = Field(
        min_length=1,
        description="prompt: with {text}, {text_pair} where rows are pairs, and [MASK], the gap, "
        "whatever the model's own mask is called.",
        examples=["{text} It was [MASK]."],
        json_schema_extra={
            "type": "string",
            "pattern": r"^(?=[\s\S]*\{text\})(?=[\s\S]*\[MASK\])",
        },
    )
    words: dict[str, str] | None = Field(
        None,
        description="prompt: the word that stands for each label, one piece of the vocabulary; by "
        "default the label itself.",
        examples=[{"negative": "terrible", "positive": "great"}],
    )

    @field_validator("template")
    @classmethod
    def _has_a_gap(cls, template: str) -> str:
        for part in ("{text}", "[MASK]"):
            if template.count(part) != 1:
                raise ValueError(
                    f"expected {part} once. Received: {template!r}. Write for example "
                    "'{text} It was [MASK].'"
                )
        if template.count("{text_pair}") > 1:
            raise ValueError(f"expected {{text_pair}} once at most. Received: {template!r}.")
        return template

    @field_validator("words")
    @classmethod
    def _each_another(cls, words: dict[str, str] | None) -> dict[str, str] | None:
        twice = [word for word in (words or {}).values() if [*words.values()].count(word) > 1]
        if twice:
            raise ValueError(
                f"expected a word of its own for each label. Received: {twice[0]!r} twice."
            )
        return words


FewLabelsSettings = Annotated[ContrastiveSettings | PromptSettings, Field(discriminator="name")]
"""Any of the methods, told apart by `name`."""


@dataclasses.dataclass(frozen=True)
class Method:
    """What a config must know of a method before anything heavy is imported.

    Attributes:
        module: in this package.
        defaults: of `train`, where the config says nothing.
        foreign: keys of a config that mean nothing to it.
        pairs: whether rows may be two texts.
        reads: what its head reads, for messages.
    """

    module: str
    defaults: Mapping[str, Any]
    foreign: tuple[str, ...]
    pairs: bool
    reads: str


_ROWS = ("data.label_noise", "data.none_label")
METHODS = {
    "contrastive": Method(
        "contrastive",
        defaults={"epochs": 1, "batch_size": 16, "learning_rate": 2e-5},
        foreign=(
            *_ROWS,
            "train.class_weights",
            "train.dropout",
            "train.adversarial",
            "train.regularize.label_smoothing",
            "train.regularize.focal_gamma",
            "train.regularize.class_balance",
            "train.regularize.mixup",
            "train.regularize.mixout",
            "train.regularize.r_drop",
            "train.regularize.plateau",
        ),
        pairs=False,
        reads="the sentence vector",
    ),
    "prompt": Method(
        "prompt",
        defaults={"epochs": 30, "batch_size": 8, "patience": None},
        foreign=(*_ROWS, "train.regularize.mixout"),
        pairs=True,
        reads="a gap in a template",
    ),
}
"""The methods there are."""
