"""Deletes what is stored of somebody, by the ids that their answers came with."""

from __future__ import annotations

from collections.abc import Sequence

from tfmodel.config import ConfigError
from tfmodel.serve.feedback.opening import open_store


def delete_feedback(database: str, ids: Sequence[str]) -> tuple[int, int]:
    """Delete requests with their rows and corrections, and corrections by themselves.

    Args:
        database: its URL.
        ids: of requests, or of corrections.

    Returns:
        How many requests and how many corrections are gone.

    Raises:
        ConfigError: no such database, or nothing is known under any of the ids.
        RuntimeError: it cannot be written.
    """
    with open_store(database) as store:
        gone = store.delete([*ids])
    if not any(gone):
        raise ConfigError(
            f"Expected ids of requests or corrections. Received: {len(ids)} that nothing is known "
            "of. They stand in the answers' header tfmodel-request-id."
        )
    return gone
