"""What the page and the terminal say of a model that gives labels."""

from typing import Any

from tfmodel.report import sections, wording
from tfmodel.report.results import Figures


def view(part: str, figures: Figures) -> dict[str, Any]:
    """Prepare the headline and the sections of the part that judges the model."""
    return {
        "headline": _headline(part, figures),
        "confusion": sections.confusion(part, figures),
        "classes": sections.classes(part, figures),
        "calibration": sections.calibration(figures),
        "mistakes": sections.mistakes(figures),
        "correct": sections.correct(figures),
    }


def facts(figures: Figures) -> list[tuple[str, str, str]]:
    """Name, value and note of the numbers that a reader looks for next."""
    return [
        ("Macro F1", wording.percent(figures["macro_f1"]), "mean over classes"),
        (
            "Calibration error",
            wording.percent(figures["calibration_error"]),
            "how far scores are off",
        ),
    ]


def dev_fact(figures: Figures) -> tuple[str, str]:
    """Name and value of what the dev part reached."""
    return "Dev accuracy", wording.percent(figures["accuracy"])


def lines(part: str, figures: Figures) -> list[tuple[str, str, str]]:
    """Name, value and what else there is to say, for the terminal."""
    low, high = figures["accuracy_interval"]
    rows = wording.plural(figures["examples"], f"{part} row")
    interval = f"95% interval {wording.percent(low)} to {wording.percent(high)}, {rows}"
    off = wording.percent(figures["calibration_error"])
    return [
        ("accuracy", wording.percent(figures["accuracy"]), interval),
        ("macro F1", wording.percent(figures["macro_f1"]), f"calibration error {off}"),
    ]


def _headline(part: str, figures: Figures) -> dict[str, Any] | None:
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
        "unit": "%",
        "at": _place(figures["accuracy"]),
        "low": _place(low),
        "width": _place(high - low),
        "baseline": _place(baseline),
        "meaning": f"of {wording.plural(figures['examples'], f'{part} row')} answered right",
        "context": context,
    }


def _place(share: float) -> str:
    return f"{100 * share:.3f}"
