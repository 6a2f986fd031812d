"""The `train.adversarial` section of a config."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tfmodel.config import Settings

# What can be set for each method; what is not set is the method's own default.
_KEYS = {
    "fgm": ("epsilon", "norm", "weight"),
    "pgd": ("epsilon", "step_size", "steps", "norm", "weight"),
    "freelb": ("epsilon", "step_size", "steps", "start_size", "norm"),
    "smart": ("epsilon", "step_size", "steps", "start_size", "weight"),
    "vat": ("epsilon", "steps", "probe_size", "norm", "weight"),
}


class AdversarialSettings(Settings):
    """Training on word embeddings that are moved to where they hurt most."""

    name: Literal["fgm", "pgd", "freelb", "smart", "vat"] = Field(
        description="The method: fgm, pgd or freelb (worse losses are learned from), smart or vat "
        "(answers that change are)."
    )
    epsilon: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="How far embeddings are moved: the norm, or with smart the largest value.",
    )
    step_size: float | None = Field(
        None, gt=0, le=1000, description="How far in one step: pgd, freelb, smart."
    )
    steps: int | None = Field(
        None, ge=1, le=100, description="Steps of the search: pgd, freelb, smart, vat."
    )
    start_size: float | None = Field(
        None, ge=0, le=1000, description="Size of the random start: freelb, smart."
    )
    probe_size: float | None = Field(
        None, gt=0, le=1000, description="Norm of the first small perturbation: vat."
    )
    norm: Literal["row", "token"] | None = Field(
        None,
        description="row: of all real tokens of a row together; token: of each by itself; not "
        "smart.",
    )
    weight: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="Weight in the loss beside the rows as they are; not freelb.",
    )

    def arguments(self) -> dict[str, float | int | str]:
        """What the config sets for the method."""
        return self.model_dump(exclude={"name"}, exclude_none=True)

    @model_validator(mode="after")
    def _keys_of_the_method(self) -> AdversarialSettings:
        foreign = [key for key in self.arguments() if key not in _KEYS[self.name]]
        if foreign:
            raise ValueError(
                f"{self.name} has no {', '.join(foreign)}; it takes {', '.join(_KEYS[self.name])}"
            )
        if self.name == "smart" and self.start_size == 0:
            raise ValueError(
                "smart needs a start_size above 0: at the rows themselves answers have no slope"
            )
        return self
