"""The top of the page: what kind of run it is, what it cost, what to do next."""

from pathlib import Path
from typing import Any

from tfmodel.report import wording
from tfmodel.report.answers import words_of
from tfmodel.report.results import Figures, Results

TASKS = {
    "classify": "text classification",
    "multilabel": "text classification with several labels",
    "regress": "numbers for texts",
    "tag": "entities in texts",
    "span": "answers from texts",
    "embed": "vectors for texts",
    "embed_triplets": "vectors for texts",
    "embed_scored": "vectors for texts",
}


def eyebrow(results: Results) -> str:
    """Say what kind of run this is."""
    return f"tfmodel · {TASKS.get(results.task, results.task)}"


def facts(results: Results) -> list[dict[str, str]]:
    """List the few further numbers a reader looks for first."""
    found = []
    part, figures = results.judged()
    words = words_of(results.task)
    if figures:
        found += [_fact(*fact) for fact in words.facts(figures)]
    if part == "test" and results.evaluation.get("dev"):
        reached = words.dev_fact(results.evaluation["dev"])
        found.append(_fact(*reached, "which steered training"))
    if results.training.get("seconds"):  # none of an encoder that is taken as it is
        rate = results.training.get("examples_per_second")
        note = f"{wording.rate(rate)} examples a second" if rate is not None else ""
        found.append(_fact("Training", wording.duration(results.training["seconds"]), note))
    if results.timings:
        whole = wording.duration(sum(results.timings.values()))
        slowest = max(results.timings, key=lambda stage: results.timings[stage])
        note = f"{slowest} {wording.duration(results.timings[slowest])}"
        found.append(_fact("Whole run", whole, note if len(results.timings) > 1 else ""))
    smallest = _smallest_artifact(results.parity)
    if smallest:
        found.append(smallest)
    return found


def _fact(name: str, value: str, note: str = "") -> dict[str, str]:
    return {"name": name, "value": value, "note": note}


def _smallest_artifact(parity: Figures) -> dict[str, str] | None:
    good = [
        figures
        for figures in parity.get("artifacts", {}).values()
        if figures.get("passed") and figures.get("bytes") is not None
    ]
    if not good:
        return None
    smallest = min(good, key=lambda figures: figures["bytes"])
    note = smallest.get("precision", "")
    if smallest.get("latency_ms"):
        note += f", {wording.milliseconds(smallest['latency_ms']['p50'])} a text"
    return _fact("Smallest artifact", wording.size(smallest["bytes"]), note)


def unfinished(results: Results) -> str:
    """Say how far a run came that has not been evaluated or exported yet."""
    if not results.judged()[1]:
        done = "trained" if results.training or results.history else "prepared"
        what = "the model is trained" if done == "trained" else "the data is prepared"
        return f"This run is not finished: {what}, but nothing has been measured yet."
    return ""


def commands(results: Results) -> list[dict[str, Any]]:
    """List what to type next, where the files lie and what made them."""
    lines = [
        ("Next", results.next_command),
        ("Files", str(results.run_folder)),
        ("Made by", results.command),
    ]
    return [
        {"name": name, "value": value, "next": name == "Next"} for name, value in lines if value
    ]


def footer(results: Results) -> str:
    """Say how the page can be passed on, and what repeats the run."""
    name = Path(results.run_folder).name if results.run_folder else results.title
    seed = results.config.get("seed")
    parts = [f"Report of {name}"]
    if seed is not None:
        parts.append(f"seed {seed}")
    parts.append("this page is one file and asks nothing of the network")
    return " · ".join(parts)
