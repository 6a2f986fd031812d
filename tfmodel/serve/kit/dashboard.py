"""The Grafana dashboard: traffic, errors, latency and queue of TF Serving, by model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

SOURCE = {"type": "prometheus", "uid": "prometheus"}
SERIES = {
    ":tensorflow:serving:request_count": "counter",
    ":tensorflow:serving:request_latency": "histogram",
    ":tensorflow:serving:runtime_latency": "histogram",
    ":tensorflow:serving:batching_session:queuing_latency": "histogram",
}
"""Series of TF Serving that dashboard and rules read, without `_bucket` and the like."""

_WIDTH, _HEIGHT = 12, 8
_MODEL = 'model_name=~"$model"'
_COUNT = ":tensorflow:serving:request_count"
_CLIENTS_FAULT = "INVALID_ARGUMENT|NOT_FOUND"


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana provisions it."""
    panels = [
        {**panel, "id": number, "gridPos": _place(number - 1)}
        for number, panel in enumerate(_panels(), 1)
    ]
    return {
        "annotations": {"list": []},
        "editable": True,
        "graphTooltip": 1,
        "links": [],
        "panels": panels,
        "refresh": "10s",
        "schemaVersion": 39,
        "tags": ["tf-serving"],
        "templating": {"list": [_models()]},
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": "TF Serving",
        "uid": "tf-serving",
        "version": 1,
    }


def _panels() -> Iterator[dict[str, Any]]:
    yield _panel("Servers that answer", "short", ('up{job="tf-serving"}', "{{instance}}"))
    yield _panel(
        "Requests a second",
        "reqps",
        (
            f"sum by (model_name, status) (rate({_COUNT}{{{_MODEL}}}[$__rate_interval]))",
            "{{model_name}} {{status}}",
        ),
    )
    faults = f'{_MODEL}, status!~"OK|{_CLIENTS_FAULT}"'
    yield _panel(
        "Share of requests that fail, clients' mistakes left out",
        "percentunit",
        (
            f"sum by (model_name) (rate({_COUNT}{{{faults}}}[$__rate_interval])) / "
            f"sum by (model_name) (rate({_COUNT}{{{_MODEL}}}[$__rate_interval]))",
            "{{model_name}}",
        ),
    )
    yield _panel(
        "Latency of requests that were answered",
        "µs",
        *(
            (
                _quantile(share, "request_latency", "model_name, le", _MODEL),
                f"{{{{model_name}}}} p{100 * share:g}",
            )
            for share in (0.5, 0.95, 0.99)
        ),
    )
    yield _panel(
        "Time in TensorFlow, waiting for a batch included",
        "µs",
        *(
            (
                _quantile(share, "runtime_latency", "model_name, le", _MODEL),
                f"{{{{model_name}}}} p{100 * share:g}",
            )
            for share in (0.5, 0.99)
        ),
    )
    yield _panel(
        "Waiting in the queue, all models",
        "µs",
        *(
            (_quantile(share, "batching_session:queuing_latency", "le", ""), f"p{100 * share:g}")
            for share in (0.5, 0.99)
        ),
    )


def _quantile(share: float, series: str, by: str, labels: str) -> str:
    chosen = f"{{{labels}}}" if labels else ""
    return (
        f"histogram_quantile({share:g}, sum by ({by}) "
        f"(rate(:tensorflow:serving:{series}_bucket{chosen}[$__rate_interval])))"
    )


def _panel(title: str, unit: str, *queries: tuple[str, str]) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": title,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {
                "datasource": SOURCE,
                "editorMode": "code",
                "expr": expression,
                "legendFormat": legend,
                "range": True,
                "refId": chr(ord("A") + number),
            }
            for number, (expression, legend) in enumerate(queries)
        ],
    }


def _place(number: int) -> dict[str, int]:
    row, column = divmod(number, 2)
    return {"h": _HEIGHT, "w": _WIDTH, "x": column * _WIDTH, "y": row * _HEIGHT}


def _models() -> dict[str, Any]:
    query = f"label_values({_COUNT}, model_name)"
    return {
        "name": "model",
        "label": "Model",
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": "models"},
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
        "refresh": 2,
        "sort": 1,
    }
