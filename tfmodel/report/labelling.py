"""What the page and the terminal say of a model that gives any number of labels."""

from typing import Any

from tfmodel.report import sections, wording
from tfmodel.report.results import Figures
from tfmodel.report.sections import folded
from tfmodel.report.tables import column


def view(part: str, figures: Figures) -> dict[str, Any]:
    """Prepare the headline and the sections of the part that judges the model."""
    if not figures:
        return {}
    return {
        "headline": _headline(part, figures),
        "classes": _with_thresholds(sections.classes(part, figures), figures),
        "mistakes": {
            "lede": "The rows with the most wrong labels come first. Look at the right labels too: "
            "often they are the wrong ones.",
            "rows": [_example(item) for item in figures["mistakes"] if "text" in item],
        },
        "correct": [_example(item) for item in figures["correct"] if "text" in item],
    }


def facts(figures: Figures) -> list[tuple[str, str, str]]:
    """Name, value and note of the numbers that a reader looks for next."""
    return [
        ("Macro F1", wording.percent(figures["macro_f1"]), "mean over labels"),
        ("Exact", wording.percent(figures["exact_match"]), "rows with the very labels"),
    ]


def dev_fact(figures: Figures) -> tuple[str, str]:
    """Name and value of what the dev part reached."""
    return "Dev micro F1", wording.percent(figures["micro_f1"])


def lines(part: str, figures: Figures) -> list[tuple[str, str, str]]:
    """Name, value and what else there is to say, for the terminal."""
    rows = wording.plural(figures["examples"], f"{part} row")
    exact = f"the very labels on {wording.percent(figures['exact_match'])} of the rows"
    return [
        ("micro F1", wording.percent(figures["micro_f1"]), f"{_interval(figures)}, {rows}"),
        ("macro F1", wording.percent(figures["macro_f1"]), exact),
    ]


def _headline(part: str, figures: Figures) -> dict[str, Any]:
    low, high = figures["micro_f1_interval"]
    context = (
        f"{_interval(figures)}. A label is given where its score reaches its threshold, which "
    )
    context += "the dev part chose."
    if part == "dev":
        context += " It steered the training too, so expect a little less on new texts."
    return {
        "value": wording.percent(figures["micro_f1"]).removesuffix("%"),
        "unit": "%",
        "at": _place(figures["micro_f1"]),
        "low": _place(low),
        "width": _place(high - low),
        "baseline": None,
        "meaning": "is the F1 of all labels together (micro) over "
        + wording.plural(figures["examples"], f"{part} row"),
        "context": context,
    }


def _with_thresholds(table: dict[str, Any], figures: Figures) -> dict[str, Any]:
    """The table of classes with the threshold of each beside it."""
    per_class = figures["per_class"]
    return {
        **table,
        "columns": [*table["columns"], column("Threshold", numeric=True)],
        "rows": [[*row, wording.number(per_class[row[0]]["threshold"])] for row in table["rows"]],
    }


def _interval(figures: Figures) -> str:
    low, high = map(wording.percent, figures["micro_f1_interval"])
    return f"95% interval {low} to {high}"


def _example(item: Figures) -> dict[str, Any]:
    texts = [item[key] for key in ("text", "text_pair") if item.get(key) is not None]
    return {
        "texts": [folded(text) for text in texts],
        "label": ", ".join(item["labels"]) or "none",
        "predicted": ", ".join(item["predicted"]) or "none",
        "score": "",
        "label_score": "",
        "origin": item.get("origin", ""),
    }


def _place(share: float) -> str:
    return f"{100 * share:.3f}"
