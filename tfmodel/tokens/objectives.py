"""The `objective` section of a config: what a pretraining asks of the model, and its figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from tfmodel.config import Settings

# Without its name a mapping is of the masked language model: for editors too.
_BY_NAME = ConfigDict(json_schema_extra={"required": ["name"]})


class _MaskingSettings(Settings):
    """Which tokens are hidden."""

    mask_rate: float = Field(
        0.15, gt=0, le=0.9, description="Share of the tokens that are to be predicted."
    )
    whole_words: bool = Field(
        False,
        description="Hide all pieces of a word or none; the tokens stage says what a word is.",
    )
    spans: bool = Field(
        False, description="Hide runs of whole words, their lengths drawn (see span_stop)."
    )
    span_stop: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="Spans: the chance to end after each word; small is long.",
    )
    longest_span: int = Field(10, ge=1, le=100, description="Spans: words at most.")


class _ReplacingSettings(_MaskingSettings):
    """And what stands in their places."""

    mask_share: float = Field(
        0.8, ge=0, le=1, description="Of the tokens to predict, the share that is [MASK]."
    )
    random_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Of the tokens to predict, the share that is a random piece; the rest stays.",
    )

    @model_validator(mode="after")
    def _shares(self):
        if self.mask_share + self.random_share > 1:
            raise ValueError(
                "mask_share and random_share must not be more than 1 together. Received: "
                f"{self.mask_share} and {self.random_share}. What is left stays as it is."
            )
        return self


class MlmSettings(_ReplacingSettings):
    """Masked language model: predict hidden tokens from both sides.

    Source: Devlin et al. 2018, section 3.1 (BERT): 15% of the tokens, of those 80% [MASK], 10%
    random, 10% as they are. Masks are drawn anew each epoch: Liu et al. 2019, section 4.1
    (RoBERTa). No next sentence, rows filled with whole texts: the same, section 4.2. Whole words:
    the note of 2019 in BERT's repository; Chinese words: Cui et al. 2019. Spans: Joshi et al.
    2020, section 3.1 (SpanBERT; its boundary objective is not built).
    """

    name: Literal["mlm"] = Field("mlm", description="Masked language model.")


class _PairSettings(_ReplacingSettings):
    """Two segments of text a row."""

    short_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of rows that are cut to a random shorter length.",
    )


class NspSettings(_PairSettings):
    """Next sentence: does the second segment follow the first; with a masked language model.

    Source: Devlin et al. 2018, section 3.1 and appendix A.2. Label 1: the second is from another
    document (as in BERT's checkpoints).
    """

    model_config = _BY_NAME

    name: Literal["nsp"] = Field("nsp", description="Next sentence, and masked language model.")


class SopSettings(_PairSettings):
    """Sentence order: which of two consecutive segments came first; with a masked language model.

    Source: Lan et al. 2020, section 3.1 (ALBERT). Label 1: the two are swapped.
    """

    model_config = _BY_NAME

    name: Literal["sop"] = Field("sop", description="Sentence order, and masked language model.")


class ElectraSettings(_MaskingSettings):
    """Replaced tokens: which tokens did a small masked language model put there.

    Source: Clark et al. 2020, section 2 (ELECTRA): every chosen token is [MASK] for the generator.
    """

    model_config = _BY_NAME

    name: Literal["electra"] = Field("electra", description="Replaced-token detection.")


class SimcseSettings(Settings):
    """Sentence vectors: a sentence against itself under another dropout, others as negatives.

    Source: Gao et al. 2021, section 3 (unsupervised SimCSE).
    """

    model_config = _BY_NAME

    name: Literal["simcse"] = Field("simcse", description="Unsupervised SimCSE.")
    shortest: int = Field(
        4, ge=1, le=100, description="Tokens of a sentence at least; shorter ones are left out."
    )


def _named(value: Any) -> Any:
    """An objective without a name is the masked language model."""
    if value is None or (isinstance(value, Mapping) and "name" not in value):
        return {"name": "mlm", **(value or {})}
    return value


ObjectiveSettings = Annotated[
    Annotated[
        MlmSettings | NspSettings | SopSettings | ElectraSettings | SimcseSettings,
        Field(discriminator="name"),
    ],
    BeforeValidator(_named),
]
"""Any of the objectives, told apart by `name`; `mlm` where it is not given."""


def masked_places(rate: float, room: int) -> int:
    """Places P that a row of at most `room` tokens that may be hidden can need."""
    return max(math.ceil(rate * room - 1e-9), 1)


def most_masked(objective: ObjectiveSettings, max_length: int) -> int:
    """Places P of rows of `max_length` tokens, special tokens included; 0 where none is hidden."""
    if isinstance(objective, SimcseSettings):
        return 0
    special = 3 if isinstance(objective, _PairSettings) else 2
    return masked_places(objective.mask_rate, max_length - special)


FILLING = ("mlm", "nsp", "sop")
"""Those whose model fills gaps, and keeps the head that does."""
