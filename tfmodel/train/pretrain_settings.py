"""The `train:` section of a pretraining."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tfmodel.config import ConfigError, Settings
from tfmodel.tokens.objectives import ObjectiveSettings, most_masked
from tfmodel.train.settings import DeviceCount, Rate, check_step, fast_bfloat16
from tfmodel.train.watch.settings import WatchSettings

_STEPS = 10_000
# Of one product; a place in it is a number of 32 bits.
_MOST_LOGITS = 2**31 - 1


class PretrainSettings(Settings):
    """How an encoder is trained on text alone."""

    steps: int | None = Field(
        None,
        ge=1,
        le=100_000_000,
        description="Steps of the optimizer; 10,000 where seconds is not given.",
    )
    seconds: float | None = Field(
        None,
        gt=0,
        description="Time to train in place of steps: the first steps are timed, and how many "
        "there will be is fixed then. Evaluation on dev comes on top.",
        examples=[1800],
    )
    batch_size: int = Field(64, ge=1, le=65536, description="Rows a batch.")
    max_length: int = Field(
        128, ge=8, le=100_000, description="Tokens of a row, special tokens included."
    )
    learning_rate: Literal["auto"] | Rate = Field(
        "auto",
        description="Peak learning rate; auto: from random weights 1e-3 for encoders up to 384 "
        "wide, 5e-4 up to 512, 2e-4 above; a fifth of it where an encoder is trained on.",
        examples=[5e-4],
    )
    warmup_share: float = Field(
        0.1, ge=0, le=1, description="Share of the steps in which the learning rate rises."
    )
    weight_decay: float = Field(
        0.01, ge=0, lt=1, description="Decoupled weight decay; none on biases and norms."
    )
    beta_2: float = Field(
        0.98, gt=0, lt=1, description="Decay of Adam's second moment; 0.98 as RoBERTa's."
    )
    clip_norm: float | None = Field(
        1.0, gt=0, description="Norm the gradient of all weights is clipped to; null: not clipped."
    )
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Dropout in training; null: the encoder's own, which stays what is saved. 0 "
        "where text is seen but once; simcse needs some.",
    )
    accumulation_steps: int = Field(
        1,
        ge=1,
        le=65536,
        description="Micro-batches that each batch is cut into; memory is that of one of them.",
    )
    recompute: bool = Field(
        False,
        description="Compute attention weights and activations again on the way back instead of "
        "keeping them: less memory, more time.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where the processor multiplies it faster."
    )
    jit: Literal["auto"] | bool = Field(
        "auto", description="Compile the step with XLA; auto: no, it is slower on a processor."
    )
    dev_every_steps: int | None = Field(
        None,
        ge=1,
        description="Steps between two evaluations on dev; null: a twentieth of all steps.",
    )
    watch: WatchSettings = Field(
        default_factory=WatchSettings, description="Where the training is watched."
    )
    devices: Literal["all"] | DeviceCount = Field(
        1,
        description="GPUs of this machine that share each batch; all: every one. With several "
        "workers (TF_CONFIG) each uses all it sees.",
        examples=["all", 4],
    )
    worker_timeout_seconds: float = Field(
        300, gt=0, description="Time to wait for the other workers that TF_CONFIG names."
    )
    checkpoint_seconds: float = Field(
        300, gt=0, description="Time between checkpoints that an interrupted run continues from."
    )

    @model_validator(mode="after")
    def _one_budget(self) -> PretrainSettings:
        if self.steps is not None and self.seconds is not None:
            raise ValueError("give steps or seconds, not both; null takes one of them away")
        check_step(self)
        return self

    def dev_rows(self, objective: ObjectiveSettings, pieces: int) -> int:
        """Rows of a batch that is measured on: as many as are trained on at a time.

        Args:
            objective: what is asked.
            pieces: V, rows of the token table.
        """
        places = most_masked(objective, self.max_length)
        if not places:  # rows are told apart from each other: of fewer that is easier
            return self.batch_size
        rows = -(-self.batch_size // self.accumulation_steps)
        return max(min(rows, _MOST_LOGITS // (places * pieces)), 1)

    def resolve(self, *, hidden_size: int, continued: bool = False) -> PretrainSettings:
        """Replace each `auto` by what it means on this machine and for this encoder.

        Args:
            hidden_size: the encoder's width D.
            continued: whether the encoder was trained before.
        """
        rate = self.learning_rate
        if rate == "auto":
            rate = 1e-3 if hidden_size <= 384 else 5e-4 if hidden_size <= 512 else 2e-4
            rate = rate / 5 if continued else rate
        precision = self.precision
        if precision == "auto":
            precision = "bfloat16" if fast_bfloat16() else "float32"
        steps = _STEPS if self.steps is None and self.seconds is None else self.steps
        return self.model_copy(
            update={
                "learning_rate": rate,
                "precision": precision,
                "jit": False if self.jit == "auto" else self.jit,
                "steps": steps,
            }
        )


def check_logits(
    objective: ObjectiveSettings, *, rows: int, parts: int, max_length: int, pieces: int
) -> None:
    """Refuse batches that ask for more logits at a time than can be counted.

    Args:
        objective: what is asked.
        rows: of a batch.
        parts: that it is cut into: micro-batches times devices.
        max_length: tokens of a row.
        pieces: V, rows of the token table.

    Raises:
        ConfigError: rows of a part times masked places times pieces are 2^31 or more.
    """
    places = most_masked(objective, max_length)
    at_once = -(-rows // parts)
    if at_once * places * pieces <= _MOST_LOGITS:
        return
    most = _MOST_LOGITS // (places * pieces)
    fix = (
        f"Set train.accumulation_steps so that a part has at most {most:,} rows, which changes no "
        "result, or lower train.batch_size"
        if most
        else "Lower train.max_length or objective.mask_rate"
    )
    raise ConfigError(
        f"train.batch_size: expected fewer than 2^31 (2,147,483,648) logits at a time. Received: "
        f"{at_once:,} rows x {places:,} masked tokens (objective.mask_rate "
        f"{objective.mask_rate:g}, train.max_length {max_length:,}) x {pieces:,} pieces = "
        f"{at_once * places * pieces:,}. {fix}."
    )
