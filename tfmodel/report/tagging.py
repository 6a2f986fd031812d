"""What the page and the terminal say of a model that finds entities."""

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
        "classes": _of_entities(part, sections.classes(part, figures)),
        "mistakes": {
            "lede": "The rows with the most wrong entities come first. Look at the right ones too: "
            "often they are wrong.",
            "rows": [_example(item) for item in figures["mistakes"] if "text" in item],
        },
        "correct": [_example(item) for item in figures["correct"] if "text" in item],
    }


def facts(figures: Figures) -> list[tuple[str, str, str]]:
    """Name, value and note of the numbers that a reader looks for next."""
    return [
        ("Precision", wording.percent(figures["precision"]), "of the entities given"),
        ("Recall", wording.percent(figures["recall"]), "of those that are there"),
    ]


def dev_fact(figures: Figures) -> tuple[str, str]:
    """Name and value of what the dev part reached."""
    return "Dev F1", wording.percent(figures["f1"])


def lines(part: str, figures: Figures) -> list[tuple[str, str, str]]:
    """Name, value and what else there is to say, for the terminal."""
    rows = wording.plural(figures["examples"], f"{part} row")
    entities = wording.plural(figures["entities"], "entity", "entities")
    return [
        ("F1", wording.percent(figures["f1"]), f"{_interval(figures)}, {entities} in {rows}"),
        (
            "precision",
            wording.percent(figures["precision"]),
            f"recall {wording.percent(figures['recall'])}",
        ),
    ]


def _headline(part: str, figures: Figures) -> dict[str, Any]:
    low, high = figures["f1_interval"]
    context = (
        f"{_interval(figures)}. An entity is right where its first and last character and its "
        f"label are: {wording.percent(figures['precision'])} of those given, "
        f"{wording.percent(figures['recall'])} of those that are there."
    )
    if part == "dev":
        context += " The dev part steered the training, so expect a little less on new texts."
    entities = wording.plural(figures["entities"], "entity", "entities")
    return {
        "value": wording.percent(figures["f1"]).removesuffix("%"),
        "unit": "%",
        "at": _place(figures["f1"]),
        "low": _place(low),
        "width": _place(high - low),
        "baseline": None,
        "meaning": f"is the F1 of {entities} in "
        + wording.plural(figures["examples"], f"{part} row"),
        "context": context,
    }


def _of_entities(part: str, table: dict[str, Any] | None) -> dict[str, Any] | None:
    """The table of classes, which counts entities."""
    if table is None:
        return None
    columns = [*table["columns"][:-1], column(f"Entities in {part}", numeric=True)]
    return {**table, "columns": columns}


def _interval(figures: Figures) -> str:
    low, high = map(wording.percent, figures["f1_interval"])
    return f"95% interval {low} to {high}"


def _example(item: Figures) -> dict[str, Any]:
    return {
        "texts": [folded(item["text"])],
        "label": ", ".join(item["entities"]) or "none",
        "predicted": ", ".join(item["predicted"]) or "none",
        "score": "",
        "label_score": "",
        "origin": item.get("origin", ""),
    }


def _place(share: float) -> str:
    return f"{100 * share:.3f}"
