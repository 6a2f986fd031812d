"""The figure by which a callback decides."""

from __future__ import annotations

from collections.abc import Mapping


def monitored(logs: Mapping[str, float] | None, name: str) -> float | None:
    """A figure of an epoch, turned so that more is better.

    Args:
        logs: what Keras gives `on_epoch_end`.
        name: of the figure; one that ends in `loss` should fall, others rise.

    Returns:
        The figure, minus infinity where it is not a number; None where it is one of an evaluation,
        and this epoch had none.

    Raises:
        ValueError: there are such figures, and none of this name.
    """
    logs = logs or {}
    if name in logs:
        value = float(logs[name])
        if value != value:
            return -float("inf")
        return -value if name.endswith("loss") else value
    if name.startswith("val_") and not any(other.startswith("val_") for other in logs):
        return None
    raise ValueError(
        f"monitor must name a figure of the epoch: {', '.join(sorted(logs)) or 'none'}. "
        f"Received: {name}."
    )
