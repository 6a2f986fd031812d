"""The top of the page: how good the model is, what it cost, what to do next."""

from pathlib import Path
from typing import Any

from tfmodel.report import wording
from tfmodel.report.results import Figures, Results

TASKS = {"classify": "text classification"}


def eyebrow(results: Results) -> str:
    """Say what kind of run this is."""
    return f"tfmodel · {TASKS.get(results.task, results.task)}"


def headline(part: str, figures: Figures) -> dict[str, Any] | None:
    """Prepare the accuracy, its interval and what a constant answer would reach, in percent."""
    if not figures:
        return None
    low, high = figures["accuracy_interval"]
    context = f"95% interval {wording.percent(low)} to {wording.percent(high)}."
    support = {label: scores["support"] for label, scores in figures["per_class"].items()}
    commonest = max(support, key=lambda label: support[label])
    baseline = support[commonest] / figures["examples"]
    context += (
        f" Always answering {wording.name(commonest)} would reach {wording.percent(baseline)}."
    )
    if part == "dev":
        context += " The dev part steered the training, so expect a little less on new texts."
    return {
        "value": wording.percent(figures["accuracy"]).removesuffix("%"),
        "at": _place(figures["accuracy"]),
        "low": _place(low),
        "width": _place(high - low),
        "baseline": _place(baseline),
        "meaning": f"of {wording.plural(figures['examples'], f'{part} row')} answered right",
        "context": context,
    }


def facts(results: Results) -> list[dict[str, str]]:
    """List the few further numbers a reader looks for first."""
    found = []
    part, figures = results.judged()
    if figures:
        found.append(_fact("Macro F1", wording.percent(figures["macro_f1"]), "mean over classes"))
        off = wording.percent(figures["calibration_error"])
        found.append(_fact("Calibration error", off, "how far scores are off"))
    if part == "test" and results.evaluation.get("dev"):
        reached = wording.percent(results.evaluation["dev"]["accuracy"])
        found.append(_fact("Dev accuracy", reached, "which steered training"))
    if results.training.get("seconds") is not None:
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


def _place(share: float) -> str:
    return f"{100 * share:.3f}"
