"""What is recorded of the traffic, where, and for how long."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import pydantic
from pydantic import Field, field_validator

from tfmodel.config import ConfigError, Settings
from tfmodel.data.privacy.findings import KINDS
from tfmodel.data.privacy.settings import PrivacySettings, Switched

DEFAULT_DATABASE = "sqlite:///feedback.db"


class FeedbackSettings(Settings):
    """What a server keeps of requests and corrections."""

    # The database's URL may hold a password.
    model_config = pydantic.ConfigDict(hide_input_in_errors=True)

    database: str = Field(
        DEFAULT_DATABASE,
        min_length=1,
        repr=False,
        description="Any URL of SQLAlchemy; `${NAME}` is read from the environment.",
    )
    sample: float = Field(1.0, gt=0, le=1, description="Share of the requests recorded.")
    mirror: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the recorded requests to `stable` that `canary` is asked, too.",
    )
    privacy: PrivacySettings | None = Field(
        default_factory=PrivacySettings,
        description="What private is replaced before it is stored; none: nothing.",
    )
    days: float | None = Field(
        90.0, gt=0, description="How long requests and corrections are kept; none: for ever."
    )
    rows: int | None = Field(
        1_000_000,
        ge=1,
        le=10**12,
        description="Rows without a correction that are kept, the newest.",
    )
    max_characters: int = Field(100_000, ge=1, description="Longer texts are not recorded.")
    queue: int = Field(1000, ge=1, description="Requests that wait to be written; more are lost.")
    queue_bytes: int = Field(
        2**26, ge=1, description="Of what waits to be written, requests and answers as sent."
    )
    wait_seconds: float = Field(
        5.0,
        gt=0,
        le=3600,
        description="How long the database may take, before a correction gets 503.",
    )

    @field_validator("privacy", mode="before", json_schema_input_type=Switched | None)
    @classmethod
    def _switch(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return PrivacySettings() if value else None
        return value


def feedback_of(
    database: str | None, *, privacy: str | None, regions: str | None, **values: Any
) -> dict[str, Any] | None:
    """The value of `ServeSettings.feedback` that options say.

    Args:
        database: of `--feedback`; None: nothing is recorded.
        privacy: of `--feedback-privacy`.
        regions: of `--feedback-regions`.
        **values: of the other options, None where one is not given; `none` for a limit that there
            is not.

    Raises:
        ConfigError: options without `--feedback`, or an unknown kind of private data.
    """
    given = {name: value for name, value in values.items() if value is not None}
    if database is None:
        names = [*given, *(["privacy"] if privacy else []), *(["regions"] if regions else [])]
        if names:
            raise ConfigError(
                f"Expected --feedback beside --feedback-{names[0].replace('_', '-')}. Received: no "
                f"--feedback. Name a database, such as --feedback {DEFAULT_DATABASE}"
            )
        return None
    limits = {name: _limit(value) for name, value in given.items()}
    return {"database": database, "privacy": privacy_of(privacy, regions), **limits}


def _limit(value: Any) -> Any:
    """A number that an option gives as words; None: no limit."""
    if not isinstance(value, str):
        return value
    if value == "none":
        return None
    for read in (int, float):
        with contextlib.suppress(ValueError):
            return read(value)
    return value


def privacy_of(words: str | None, regions: str | None = None) -> Any:
    """The value of `privacy` that options say.

    Args:
        words: `all`, `none`, or kinds with commas between; None: all.
        regions: codes of countries with commas between; None: those that are the default.

    Raises:
        ConfigError: an unknown kind.
    """
    if words == "none":
        return False
    kinds: Sequence[str] = KINDS if words in (None, "all") else words.split(",")
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(
                f"--feedback-privacy: expected all, none, or kinds of {', '.join(KINDS)}. "
                f"Received: {kind!r}."
            )
    chosen: dict[str, Any] = {kind: kind in kinds for kind in KINDS}
    if regions is not None:
        chosen["regions"] = regions.split(",")
    return chosen
