"""Counters and histograms under TF Serving's names, as Prometheus reads them."""

from __future__ import annotations

import bisect
import dataclasses
import threading
from collections.abc import Sequence

METRICS_PATH = "/monitoring/prometheus/metrics"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_MICROSECONDS = tuple(10 * 1.8**power for power in range(33))
_QUEUING_MICROSECONDS = tuple(100 * 1.2**power for power in range(52))
_EXAMPLES = tuple(float(2**power) for power in range(15))


@dataclasses.dataclass(frozen=True)
class _Description:
    kind: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...] = ()


_SERVING = ":tensorflow:serving:"
_POOL = "batch_threads"
_DESCRIPTIONS = {
    f"{_SERVING}request_count": _Description("counter", ("model_name", "status")),
    f"{_SERVING}request_latency": _Description(
        "histogram", ("model_name", "API", "entrypoint"), _MICROSECONDS
    ),
    f"{_SERVING}runtime_latency": _Description(
        "histogram", ("model_name", "API", "runtime"), _MICROSECONDS
    ),
    f"{_SERVING}request_example_counts": _Description("histogram", ("model",), _EXAMPLES),
    f"{_SERVING}request_example_count_total": _Description("counter", ("model",)),
    f"{_SERVING}batching_session:queuing_latency": _Description(
        "histogram", ("thread_pool_name",), _QUEUING_MICROSECONDS
    ),
    f"{_SERVING}model_warmup_latency": _Description(
        "histogram", ("model_path", "status"), _MICROSECONDS
    ),
    ":tfmodel:serving:batch_rows": _Description("histogram", ("model_name",), _EXAMPLES),
    ":tfmodel:serving:batch_latency": _Description("histogram", ("model_name",), _MICROSECONDS),
    ":tfmodel:serving:queue_rows": _Description("gauge", ("model_name",)),
    ":tfmodel:serving:version_available": _Description("gauge", ("model_name", "version")),
    ":tfmodel:serving:feedback_requests": _Description("counter", ("model_name", "outcome")),
    ":tfmodel:serving:mirrored_requests": _Description("counter", ("model_name", "outcome")),
    ":tfmodel:serving:feedback_corrections": _Description("counter", ("outcome",)),
}
LABELS = {name: {*each.labels} for name, each in _DESCRIPTIONS.items()}
"""Of each series; those of a histogram have `le` as well."""


class Metrics:
    """All series of a server; each method may be called from any thread.

    Source: names, labels and buckets (of microseconds) are those of TF Serving's
    `servables/tensorflow/util.cc`, `saved_model_warmup_util.cc` and `batching/batching_session.cc`,
    and so is what is counted (`model_servers/prediction_service_impl.cc`): requests to predict,
    classify and regress, latency of those that were answered. Of `model_path` only the name of the
    model and the version are told. Those that begin with `:tfmodel:` are ours.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._values: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in _DESCRIPTIONS}
        self._histograms: dict[str, dict[tuple[str, ...], list[float]]] = {
            name: {} for name in _DESCRIPTIONS
        }

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        """Add to a counter."""
        with self._lock:
            values = self._values[name]
            values[labels] = values.get(labels, 0) + by

    def set(self, name: str, *labels: str, to: float | None) -> None:
        """Set a gauge; None takes the series away."""
        with self._lock:
            if to is None:
                self._values[name].pop(labels, None)
            else:
                self._values[name][labels] = to

    def observe(self, name: str, *labels: str, value: float) -> None:
        """Add a value to a histogram."""
        bounds = _DESCRIPTIONS[name].bounds
        with self._lock:
            # Counts by bucket, those above the last bound, and the sum.
            buckets = self._histograms[name].setdefault(labels, [0.0] * (len(bounds) + 2))
            buckets[bisect.bisect_left(bounds, value)] += 1
            buckets[-1] += value

    def request(self, model: str, api: str, entrypoint: str, code: str, seconds: float) -> None:
        """Note a request to predict, classify or regress that is over."""
        self.count(f"{_SERVING}request_count", model, code)
        if code == "OK":
            self.observe(f"{_SERVING}request_latency", model, api, entrypoint, value=seconds * 1e6)

    def computed(self, model: str, api: str, seconds: float) -> None:
        """Note how long a request waited for TensorFlow, and for its batch."""
        self.observe(f"{_SERVING}runtime_latency", model, api, "TF1", value=seconds * 1e6)

    def warm_up(self, model: str, version: int, code: str, seconds: float) -> None:
        """Note that the warm-up requests of a version are over."""
        path = f"{model}/{version}"
        self.observe(f"{_SERVING}model_warmup_latency", path, code, value=seconds * 1e6)

    def examples(self, model: str, count: int) -> None:
        """Note the `Example`s of a request to classify or regress."""
        self.observe(f"{_SERVING}request_example_counts", model, value=count)
        self.count(f"{_SERVING}request_example_count_total", model, by=count)

    def batch(self, model: str, rows: int, seconds: float, waited: Sequence[float]) -> None:
        """Note a batch that was computed, and how long its requests had waited."""
        self.observe(":tfmodel:serving:batch_rows", model, value=rows)
        self.observe(":tfmodel:serving:batch_latency", model, value=seconds * 1e6)
        for each in waited:
            self.observe(f"{_SERVING}batching_session:queuing_latency", _POOL, value=each * 1e6)

    def page(self) -> str:
        """Everything, in Prometheus's text format."""
        lines = []
        with self._lock:
            for name, description in _DESCRIPTIONS.items():
                lines.append(f"# TYPE {name} {description.kind}")
                for labels, value in sorted(self._values[name].items()):
                    lines.append(f"{name}{_written(description.labels, labels)} {_number(value)}")
                for labels, buckets in sorted(self._histograms[name].items()):
                    lines += _histogram(name, description, labels, buckets)
        return "\n".join(lines) + "\n"


def _histogram(
    name: str, description: _Description, labels: tuple[str, ...], buckets: list[float]
) -> list[str]:
    *counts, total = buckets
    lines, reached = [], 0.0
    for bound, count in zip((*description.bounds, float("inf")), counts, strict=True):
        reached += count
        limit = "+Inf" if bound == float("inf") else f"{bound:g}"
        written = _written((*description.labels, "le"), (*labels, limit))
        lines.append(f"{name}_bucket{written} {_number(reached)}")
    own = _written(description.labels, labels)
    return [*lines, f"{name}_sum{own} {_number(total)}", f"{name}_count{own} {_number(reached)}"]


def _written(names: Sequence[str], values: Sequence[str]) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    pairs = ",".join(
        f'{name}="{escaped(value)}"' for name, value in zip(names, values, strict=True)
    )
    return f"{{{pairs}}}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
