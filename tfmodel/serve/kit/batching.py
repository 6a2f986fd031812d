"""Batches of a model, chosen by what was measured of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

MEASURED_SIZES = (1, 2, 4, 8, 16, 32, 64)
# TF Serving fills a batch up to the next of these sizes with copies of a row, which cost what a
# row costs. Twice as many sizes as powers of two halve that.
_STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_ENOUGH_OF_BEST = 0.95
_WORTH_A_THREAD = 1.05
_SHARE_OF_A_ROW = 0.1
_ROUND_MICROSECONDS = 100
_LONGEST_QUEUE = 1000


@dataclasses.dataclass(frozen=True)
class Batching:
    """How TF Serving batches the requests to a model.

    Attributes:
        max_batch_size: rows computed at once, and of one request at most.
        allowed_batch_sizes: ascending, the last is `max_batch_size`.
        batch_timeout_micros: how long a batch that is not full waits.
        max_enqueued_batches: that wait, for each signature; more are refused.
        reasons: a sentence for each, with the figures.
    """

    max_batch_size: int
    allowed_batch_sizes: tuple[int, ...]
    batch_timeout_micros: int
    max_enqueued_batches: int
    reasons: tuple[str, ...]

    @property
    def figures(self) -> dict[str, Any]:
        """All but the reasons."""
        return {
            name: value for name, value in dataclasses.asdict(self).items() if name != "reasons"
        }


def largest_batch(batches: Sequence[Mapping[str, float]], *, latency_ms: float) -> int:
    """The smallest batch that is nearly as fast a row as the best one.

    Args:
        batches: `rows`, `p50_ms` and `rows_per_second` of each size measured.
        latency_ms: what a batch may take.

    Returns:
        Its rows; 1 where even a row takes longer.
    """
    fit = [each for each in batches if each["p50_ms"] <= latency_ms]
    if not fit:
        return 1
    best = max(each["rows_per_second"] for each in fit)
    return min(
        int(each["rows"]) for each in fit if each["rows_per_second"] >= _ENOUGH_OF_BEST * best
    )


def choose_batching(
    measured: Mapping[str, Any], *, latency_ms: float, queue_ms: float, threads: int
) -> Batching:
    """Batches of a model.

    Args:
        measured: what `measuring` found: `batches`, see `largest_batch`.
        latency_ms: what a batch may take.
        queue_ms: how long the last batch in a full queue shall wait, about.
        threads: batches computed at once.

    Returns:
        The choice, with its reasons.
    """
    by_rows = {int(each["rows"]): each for each in measured["batches"]}
    size = largest_batch(measured["batches"], latency_ms=latency_ms)
    one, full = by_rows[1], by_rows[size]
    allowed = tuple(step for step in _STEPS if step <= size)
    saved_ms = one["p50_ms"] - by_rows[2]["p50_ms"] / 2 if 2 in by_rows else 0.0
    wait_ms = max(0.0, min(saved_ms, _SHARE_OF_A_ROW * one["p50_ms"])) if size > 1 else 0.0
    timeout = int(wait_ms * 1000) // _ROUND_MICROSECONDS * _ROUND_MICROSECONDS
    queue = math.ceil(queue_ms * threads / full["p50_ms"])
    queue = min(max(2 * threads, queue), _LONGEST_QUEUE)
    return Batching(
        max_batch_size=size,
        allowed_batch_sizes=allowed,
        batch_timeout_micros=timeout,
        max_enqueued_batches=queue,
        reasons=(
            _size_reason(by_rows, size, latency_ms),
            f"`allowed_batch_sizes`: {', '.join(map(str, allowed))}. A batch is filled up to the "
            "next of these with copies of a row, which cost what a row costs; so the steps are "
            "small, and there is a warm-up request for each.",
            _timeout_reason(one, saved_ms, timeout),
            f"`max_enqueued_batches` {queue}: {threads} at once, {full['p50_ms']:,.1f} ms each, so "
            f"the last one waits about {queue * full['p50_ms'] / threads:,.0f} ms; what comes when "
            "the queue is full is refused (UNAVAILABLE, 503), and a client may try again.",
        ),
    )


def _size_reason(by_rows: Mapping[int, Mapping[str, float]], size: int, latency_ms: float) -> str:
    full, one = by_rows[size], by_rows[1]
    if one["p50_ms"] > latency_ms:
        return (
            f"`max_batch_size` 1: a single row takes {one['p50_ms']:,.1f} ms, more than the "
            f"{latency_ms:g} ms that a batch may take."
        )
    gain = full["rows_per_second"] / one["rows_per_second"]
    return (
        f"`max_batch_size` {size}: a batch of {size} takes {full['p50_ms']:,.1f} ms, within the "
        f"{latency_ms:g} ms that it may take, and gives {full['rows_per_second']:,.0f} rows a "
        f"second, {gain:.2f} times those of single rows and {_ENOUGH_OF_BEST:.0%} or more of the "
        "best size's. A request has as many rows at most."
    )


def _timeout_reason(one: Mapping[str, float], saved_ms: float, timeout: int) -> str:
    name = f"`batch_timeout_micros` {timeout}"
    if timeout == 0:
        return (
            f"{name}: a row that is computed with a second one saves {max(saved_ms, 0):,.2f} ms "
            f"of {one['p50_ms']:,.2f}, which is not worth a wait; under load batches fill while "
            "others are computed."
        )
    return (
        f"{name}: no longer than the {saved_ms:,.2f} ms that a row saves by being computed with a "
        f"second one, and than {_SHARE_OF_A_ROW:.0%} of the {one['p50_ms']:,.2f} ms of a single "
        "row."
    )


def choose_threads(measured: Sequence[Mapping[str, Any]]) -> tuple[int, str]:
    """How many batches a server computes at once.

    Args:
        measured: of each model; `threads` has `threads` and `rows_per_second` of full batches.

    Returns:
        The number, for all models together, and the reason.
    """
    chosen, shown = 1, ""
    for figures in measured:
        entries = figures["threads"]
        best = entries[0]
        for entry in entries[1:]:
            if entry["rows_per_second"] > _WORTH_A_THREAD * best["rows_per_second"]:
                best = entry
        if best["threads"] >= chosen:
            chosen = int(best["threads"])
            shown = ", ".join(
                f"{entry['threads']}: {entry['rows_per_second']:,.0f}" for entry in entries
            )
    return chosen, (
        f"`num_batch_threads` {chosen}: the fewest that no larger number beats by "
        f"{_WORTH_A_THREAD - 1:.0%}. Batches at once, and rows a second: {shown}. A batch alone "
        "uses all cores."
    )
