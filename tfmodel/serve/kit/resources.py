"""Processor and memory of a server, by what was measured."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

_STEP_MIB = 64
_MARGIN = 1.25
_PROBE_SECONDS = 5
_SLOWER_MACHINE = 5
_FEWEST_PROBES = 12


@dataclasses.dataclass(frozen=True)
class Resources:
    """What a server gets.

    Attributes:
        cores: processor cores.
        memory_request_mib: what one was measured to need.
        memory_limit_mib: for two versions of each model, while one takes the other's place.
        probe_seconds: between looks at whether it has started.
        probes: how many of them until it is given up.
        reason: the figures in a sentence.
    """

    cores: int
    memory_request_mib: int
    memory_limit_mib: int
    probe_seconds: int
    probes: int
    reason: str


def resources_of(measured: Sequence[Mapping[str, Any]], *, cores: int) -> Resources:
    """Resources of a server with these models.

    Args:
        measured: of each model, `runtime_memory_mb`, `model_memory_mb` and `ready_seconds`.
        cores: processor cores.
    """
    runtime = max(figures["runtime_memory_mb"] for figures in measured)
    own = sum(figures["model_memory_mb"] for figures in measured)
    ready = sum(figures["ready_seconds"] for figures in measured)
    probes = max(_FEWEST_PROBES, math.ceil(_SLOWER_MACHINE * ready / _PROBE_SECONDS))
    request = _mib(runtime + own)
    limit = _mib((runtime + 2 * own) * _MARGIN)
    return Resources(
        cores=cores,
        memory_request_mib=request,
        memory_limit_mib=limit,
        probe_seconds=_PROBE_SECONDS,
        probes=probes,
        reason=(
            f"TensorFlow took {runtime:,.0f} MB, the models {own:,.0f} MB more at their peak "
            f"(in Python; TF Serving was not measured): {request} MiB are requested. "
            f"The limit, {limit} MiB, has room for two versions of each model, as while one takes "
            f"the other's place, and {_MARGIN - 1:.0%} more. Loading and warming up took "
            f"{ready:,.1f} s; a start is given up after {probes * _PROBE_SECONDS} s."
        ),
    )


def _mib(megabytes: float) -> int:
    return math.ceil(megabytes * 1e6 / 2**20 / _STEP_MIB) * _STEP_MIB
