"""Queries of Prometheus: whether they can be right, without a Prometheus."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set

from tfmodel.serve.metrics import LABELS

_PAIRS = {")": "(", "]": "[", "}": "{"}
_OF_PROMETHEUS = {"le", "job", "instance"}
_SUFFIXES = ("_bucket", "_count", "_sum")


def query_problems(
    query: str, series: Mapping[str, str], *, variables: Set[str] = frozenset()
) -> Iterator[str]:
    """What is wrong with a query.

    Args:
        query: PromQL.
        series: those that there are, and their kinds: `counter` or `histogram`.
        variables: names of the dashboard's variables.

    Yields:
        A sentence for each fault.
    """
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', query)
    open_ones: list[str] = []
    for character in bare:
        if character in _PAIRS.values():
            open_ones.append(character)
        elif character in _PAIRS and (not open_ones or open_ones.pop() != _PAIRS[character]):
            open_ones.append("?")
            break
    if open_ones or bare.count('"') % 2:
        yield f"brackets or quotes do not close in {query!r}"
    for name in re.findall(r":tensorflow:[\w:]+", bare):
        base = next((name.removesuffix(end) for end in _SUFFIXES if name.endswith(end)), name)
        if name in series:
            if series[name] == "histogram":
                yield f"{name} is a histogram: ask its _bucket, _count or _sum"
        elif series.get(base) != "histogram":
            yield f"TF Serving has no series {name}"
    for name, chosen in re.findall(r"(:tensorflow:[\w:]+)\{([^{}]*)\}", bare):
        base = next((name.removesuffix(end) for end in _SUFFIXES if name.endswith(end)), name)
        for label in re.findall(r"(\w+)\s*[=!]", chosen):
            if label not in LABELS.get(base, {label}) | _OF_PROMETHEUS:
                yield f"{base} has no label {label}"
    for used in re.findall(r"\$(\w+)", query):
        if used not in variables and not used.startswith("__"):
            yield f"there is no variable ${used}"
