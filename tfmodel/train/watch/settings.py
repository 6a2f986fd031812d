"""The `train.watch:` section: where a training is watched, and what is shown of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tfmodel.config import Settings

_Step = Annotated[int, Field(json_schema_extra={"minimum": 1})]


class WandbSettings(Settings):
    """Weights & Biases beside TensorBoard."""

    project: str = Field("tfmodel", min_length=1, description="W&B project.")
    name: str | None = Field(None, description="Name of the run; null: the run folder's.")
    entity: str | None = Field(None, description="W&B user or team; null: the account's own.")
    mode: Literal["online", "offline"] | None = Field(
        None, description="null: as WANDB_MODE says, online without it."
    )


class MlflowSettings(Settings):
    """MLflow beside TensorBoard."""

    tracking_uri: str | None = Field(
        None,
        description="Server, sqlite:///FILE or folder; null: as MLFLOW_TRACKING_URI says, without "
        "it a SQLite file in the run's logs/.",
        examples=["sqlite:///mlflow.db", "http://localhost:5000"],
    )
    experiment: str = Field("tfmodel", min_length=1, description="MLflow experiment.")
    name: str | None = Field(None, description="Name of the run; null: the run folder's.")


class WatchSettings(Settings):
    """What is written while an encoder is trained; none of it changes a result."""

    tensorboard: bool = Field(True, description="Write event files for TensorBoard to RUN/logs.")
    every_steps: int | None = Field(
        None,
        ge=1,
        description="Steps between two points of a curve; null: 1, in long runs as many as make "
        "10,000 points.",
    )
    pictures: bool = Field(
        True, description="Draw the dev part's confusion matrix, reliability and precision-recall."
    )
    mistakes: int = Field(
        20, ge=0, le=50, description="Dev mistakes shown as text, the surest first; 0: none."
    )
    projector_rows: int = Field(
        200, ge=0, le=10_000, description="Dev rows whose vectors the projector shows; 0: none."
    )
    profile_steps: tuple[_Step, _Step] | None = Field(
        None,
        description="First and last step to profile, counted from 1 (the first few trace and warm "
        "up); null: none.",
        examples=[[10, 15]],
    )
    wandb: WandbSettings | None = Field(
        None, description="Weights & Biases too (extra wandb); {} takes the defaults."
    )
    mlflow: MlflowSettings | None = Field(
        None, description="MLflow too (extra mlflow); {} takes the defaults."
    )

    @model_validator(mode="after")
    def _steps_in_order(self) -> WatchSettings:
        if self.profile_steps is not None:
            check_profile_steps(self.profile_steps)
            if not self.tensorboard:
                raise ValueError("profile_steps needs tensorboard: true, which shows the profile")
        return self


def check_profile_steps(steps: tuple[int, int]) -> None:
    """Refuse a profile that could not be taken.

    Raises:
        ValueError: not 1 <= first <= last, or more than 1,000 steps.
    """
    first, last = steps
    if not 1 <= first <= last or last - first >= 1000:
        raise ValueError(
            "profile_steps must be the first and the last step, from 1 on and at most 1,000 of "
            f"them. Received: {list(steps)}."
        )
