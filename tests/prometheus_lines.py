"""Prometheus's text format, read strictly."""

from __future__ import annotations

import re

_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{(.*)\} (\S+)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')


def samples(page: str) -> dict[str, dict[tuple, float]]:
    """Name to labels (sorted pairs) to value; histograms are checked to grow."""
    found: dict[str, dict[tuple, float]] = {}
    for line in page.splitlines():
        if line.startswith("#"):
            assert re.fullmatch(r"# TYPE [\w:]+ (counter|gauge|histogram)", line), line
            continue
        name, labels, value = _SAMPLE.fullmatch(line).groups()
        pairs = _LABEL.findall(labels)
        assert ",".join(f'{key}="{text}"' for key, text in pairs) == labels, line
        found.setdefault(name, {})[tuple(sorted(pairs))] = float(value)
    for name, series in found.items():
        if name.endswith("_bucket"):
            _check_buckets(series, found[name.removesuffix("_bucket") + "_count"])
    return found


def _check_buckets(series: dict[tuple, float], counts: dict[tuple, float]) -> None:
    grown: dict[tuple, list[float]] = {}
    for labels, value in series.items():
        rest = tuple(pair for pair in labels if pair[0] != "le")
        grown.setdefault(rest, []).append(value)
    for rest, values in grown.items():
        assert values == sorted(values) and values[-1] == counts[rest]
