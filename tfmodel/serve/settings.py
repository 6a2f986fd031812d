"""How a server serves: its doors, its limits, its batches."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pydantic
from pydantic import Field, field_validator

from tfmodel.config import ConfigError, Settings
from tfmodel.serve.feedback.settings import FeedbackSettings

_LONGEST = 1e8  # more than three years; the system's clocks cannot count 300


class ServeSettings(Settings):
    """What `tfmodel serve` and `Server` take beside the models."""

    model_config = pydantic.ConfigDict(hide_input_in_errors=True)

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen at.")
    rest_port: int = Field(8501, ge=0, le=65535, description="Port of REST; 0: any free one.")
    grpc_port: int = Field(8500, ge=0, le=65535, description="Port of gRPC; 0: any free one.")
    token_file: str | None = Field(None, description="File with the token clients must send.")
    tls_certificate: str | None = Field(None, description="File with the certificate chain.")
    tls_key: str | None = Field(None, description="File with the certificate's private key.")
    target: str = Field("2.12", description="TF Serving release that versions must fit.")
    poll_seconds: float = Field(
        1.0, gt=0, le=_LONGEST, description="Between looks at the base folder."
    )

    max_batch_size: int = Field(32, ge=1, description="Rows computed at once.")
    batch_timeout_ms: float = Field(
        0.0, ge=0, le=_LONGEST, description="How long a batch that is not full waits for more rows."
    )
    batch_threads: int | None = Field(
        None, ge=1, description="Batches computed at once; by default one a processor core."
    )
    max_queue: int = Field(4096, ge=1, description="Rows that wait; more get 503.")

    max_body_bytes: int = Field(2**24, ge=1, description="Of one request.")
    max_rows: int = Field(1024, ge=1, description="Of one request.")
    max_requests: int = Field(512, ge=1, description="Open at once; more get 429.")
    timeout_seconds: float = Field(
        30.0, gt=0, le=_LONGEST, description="For an answer, waiting included."
    )
    read_seconds: float = Field(
        20.0, gt=0, le=_LONGEST, description="For a client to send a request, or to read an answer."
    )
    stop_seconds: float = Field(
        30.0, gt=0, le=_LONGEST, description="For open requests when the server stops."
    )
    feedback: FeedbackSettings | None = Field(
        None, description="What is recorded of requests, and where; none: nothing."
    )

    @field_validator("feedback", mode="before")
    @classmethod
    def _database_alone(cls, value: Any) -> Any:
        return {"database": value} if isinstance(value, str) else value

    @property
    def threads(self) -> int:
        """Batches computed at once."""
        return self.batch_threads or os.cpu_count() or 1

    @property
    def has_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.tls_certificate is not None


def serve_settings(**values: Any) -> ServeSettings:
    """Settings from options, those that are None left out.

    Raises:
        ConfigError: an option out of its range, or half of a certificate.
    """
    try:
        settings = ServeSettings(
            **{key: value for key, value in values.items() if value is not None}
        )
    except pydantic.ValidationError as error:
        problem = error.errors()[0]
        option = "--" + "-".join(map(str, problem["loc"])).replace("_", "-")
        option = option.replace("--feedback-privacy-", "--feedback-")
        received = "a value not shown here" if _is_secret(problem) else repr(problem["input"])
        raise ConfigError(
            f"{option}: expected another value: {problem['msg']}. Received: {received}."
        ) from None
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        raise ConfigError(
            "Expected --tls-certificate and --tls-key together. Received: one of them."
        )
    return settings


def _is_secret(problem: Mapping[str, Any]) -> bool:
    """Whether what was received may be the URL of a database, which may hold a password."""
    place = problem["loc"]
    is_database = place[:1] == ("feedback",) and place[1:2] in ((), ("database",))
    return is_database or problem["type"] == "extra_forbidden"
