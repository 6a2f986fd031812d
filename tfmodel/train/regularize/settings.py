"""The `train.regularize:` section: what keeps a large model from learning few rows by heart."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from tfmodel.config import Settings
from tfmodel.tasks import TASKS

FIGURES = tuple(dict.fromkeys(figure for task in TASKS.values() for figure in task.figures))
"""Dev figures of all tasks."""
WEIGHT_GROUPS = ("embeddings", "kernels", "head", "norms", "biases")
"""What `weight_decay` may name."""


class DropoutSettings(Settings):
    """Which values are dropped in training. The head's own is `train.dropout`."""

    hidden: float | None = Field(
        None, ge=0, lt=1, description="Of what each sublayer adds; none: the encoder's own."
    )
    attention: float | None = Field(
        None, ge=0, lt=1, description="Of attention weights; none: the encoder's own."
    )
    embeddings: float | None = Field(
        None, ge=0, lt=1, description="Of the normalized embeddings; none: the encoder's own."
    )
    words: float = Field(
        0.0, ge=0, lt=1, description="Of whole tokens: their word embedding is zero."
    )


class AveragingSettings(Settings):
    """An exponential moving average of the weights."""

    decay: float = Field(
        0.99, gt=0, lt=1, description="What remains of the average at each step; fewer at first."
    )
    every_steps: int = Field(
        1, ge=1, le=10_000, description="Steps between updates, each then with decay^steps."
    )


class SWASettings(Settings):
    """Stochastic weight averaging."""

    start_epoch: int = Field(
        2, ge=1, le=1000, description="The first epoch (from 1) whose weights are averaged."
    )
    learning_rate: float | None = Field(
        None, gt=0, le=1, description="Constant rate from that epoch on; none: the schedule's."
    )


class PlateauSettings(Settings):
    """A lower learning rate where a dev figure no longer gets better."""

    monitor: Literal[FIGURES] = Field("loss", description="Dev figure that is watched.")
    factor: float = Field(
        0.5, gt=0, lt=1, description="What the learning rate is multiplied with each time."
    )
    patience: int = Field(
        1, ge=1, le=1000, description="Epochs without a better figure before it is."
    )
    min_delta: float = Field(0.0, ge=0, description="A figure is better if by more than this.")
    min_factor: float = Field(
        0.01, gt=0, lt=1, description="The product of all factors never falls below this."
    )


class RegularizeSettings(Settings):
    """Regularization of a supervised training; by default none beyond dropout and decay."""

    weight_decay: dict[str, float] = Field(
        default_factory=dict,
        description="train.weight_decay of single groups: "
        f"{', '.join(WEIGHT_GROUPS)}; the others keep theirs.",
        examples=[{"embeddings": 0.0, "head": 0.1}],
        json_schema_extra={
            "propertyNames": {"enum": [*WEIGHT_GROUPS]},
            "additionalProperties": {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
        },
    )
    dropout: DropoutSettings = Field(
        default_factory=DropoutSettings, description="Which values are dropped in training."
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of each target spread over all classes alike."
    )
    focal_gamma: float = Field(
        0.0, ge=0, le=10, description="Focal loss: the weight of a row is (1 - probability)^gamma."
    )
    class_balance: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Classes weighted by their effective number of rows; this is its beta.",
        examples=[0.999],
    )
    layer_decay: float | None = Field(
        None,
        gt=0,
        le=1,
        description="The learning rate of each layer is this share of that of the layer above.",
        examples=[0.9],
    )
    unfreeze_epochs: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Epochs in which a part of the encoder is frozen: layers join from the top.",
    )
    reinitialize_layers: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="Top layers that start from random weights, the pooler with them (0: it "
        "alone).",
    )
    mixout: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of neurons whose weights are the pretrained ones, drawn each step.",
        examples=[0.7],
    )
    r_drop: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Weight of the divergence between two passes with other dropout.",
        examples=[1.0],
    )
    mixup: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Mixup of hidden states: alpha of the Beta distribution of the shares.",
        examples=[0.4],
    )
    moving_average: AveragingSettings | None = Field(
        None, description="Answer with an exponential moving average of the weights."
    )
    swa: SWASettings | None = Field(
        None, description="Answer with the mean of the weights at the end of several epochs."
    )
    plateau: PlateauSettings | None = Field(
        None, description="Lower the learning rate where a dev figure no longer gets better."
    )

    @field_validator("weight_decay")
    @classmethod
    def _known_groups(cls, decays: dict[str, float]) -> dict[str, float]:
        unknown = sorted(set(decays) - set(WEIGHT_GROUPS))
        if unknown:
            raise ValueError(
                f"the groups are {', '.join(WEIGHT_GROUPS)}; received {', '.join(unknown)}"
            )
        for group, decay in decays.items():
            if not 0 <= decay < 1:
                raise ValueError(f"{group} must be in [0, 1); received {decay}")
        return decays

    @model_validator(mode="after")
    def _one_average(self) -> RegularizeSettings:
        if self.moving_average is not None and self.swa is not None:
            raise ValueError("give moving_average or swa, not both: each is the answer's weights")
        return self

    def check(self, *, epochs: int, class_weights: object) -> None:
        """Compare with the rest of the section `train`.

        Args:
            epochs: of the whole training.
            class_weights: `none`, or another kind of weights.

        Raises:
            ValueError: they contradict each other.
        """
        if self.unfreeze_epochs is not None and self.unfreeze_epochs >= epochs:
            raise ValueError(
                "regularize.unfreeze_epochs must be below epochs, so that all layers are trained; "
                f"received {self.unfreeze_epochs} of {epochs} epochs"
            )
        if self.swa is not None and self.swa.start_epoch > epochs:
            raise ValueError(
                "regularize.swa.start_epoch must not come after the last epoch; "
                f"received {self.swa.start_epoch} of {epochs} epochs"
            )
        if self.class_balance is not None and class_weights != "none":
            raise ValueError("give class_weights or regularize.class_balance, not both")
