"""What the page and the terminal say of a model that gives numbers."""

from typing import Any

import markupsafe

from tfmodel.report import wording
from tfmodel.report.results import Figures
from tfmodel.report.sections import folded

_TOO_FAR = 0.1  # of a deviation: an error on average that is worth a sentence


def view(part: str, figures: Figures) -> dict[str, Any]:
    """Prepare the headline and the sections of the part that judges the model."""
    if not figures:
        return {}
    from tfmodel.evaluate.scatter import scatter  # matplotlib takes a moment

    return {
        "headline": _headline(part, figures),
        "scatter": {
            "lede": _lede(figures),
            "drawing": markupsafe.Markup(scatter(figures["points"])),
            "note": f"A dot a row of the {part} part: the right number to the right, the given one "
            "upwards. On the dashed line both are the same.",
        },
        "mistakes": {
            "lede": "The farthest off come first. Look at the right number too: often it is the "
            "wrong one.",
            "rows": [_example(item) for item in figures["mistakes"] if "text" in item],
        },
        "correct": [_example(item) for item in figures["correct"] if "text" in item],
    }


def facts(figures: Figures) -> list[tuple[str, str, str]]:
    """Name, value and note of the numbers that a reader looks for next."""
    return [
        ("Pearson", wording.correlation(figures["pearson"]), "of the numbers themselves"),
        ("Error", wording.number(figures["rmse"]), "root mean square"),
    ]


def dev_fact(figures: Figures) -> tuple[str, str]:
    """Name and value of what the dev part reached."""
    return "Dev Spearman", wording.correlation(figures["spearman"])


def lines(part: str, figures: Figures) -> list[tuple[str, str, str]]:
    """Name, value and what else there is to say, for the terminal."""
    rows = wording.plural(figures["examples"], f"{part} row")
    error = f"error {wording.number(figures['rmse'])}, always the mean "
    error += wording.number(figures["target_deviation"])
    return [
        ("Spearman", wording.correlation(figures["spearman"]), f"{_interval(figures)}, {rows}"),
        ("Pearson", wording.correlation(figures["pearson"]), error),
    ]


def _headline(part: str, figures: Figures) -> dict[str, Any]:
    value = figures["spearman"] or 0.0
    low, high = figures["spearman_interval"] or (value, value)
    context = f"{_interval(figures)}." if figures["spearman_interval"] else ""
    context += (
        f" The numbers are off by {wording.number(figures['rmse'])} (root mean square); always "
        f"answering the mean would be by {wording.number(figures['target_deviation'])}."
    )
    if part == "dev":
        context += " The dev part steered the training, so expect a little less on new texts."
    rows = wording.plural(figures["examples"], f"{part} row")
    return {
        "value": wording.correlation(figures["spearman"]),
        "unit": "",
        "at": _place(value),
        "low": _place(low),
        "width": f"{float(_place(high)) - float(_place(low)):.3f}",
        "baseline": None,
        "meaning": f"is the correlation of ranks (Spearman) over {rows}",
        "context": context.strip(),
    }


def _lede(figures: Figures) -> str:
    mean, bias = wording.number(figures["mae"]), figures["bias"]
    lede = f"On average a number is off by {mean}."
    if abs(bias) > _TOO_FAR * (figures["target_deviation"] or 1.0):
        side = "high" if bias > 0 else "low"
        lede += f" On the whole they are too {side}, by {wording.number(abs(bias))}."
    return lede


def _interval(figures: Figures) -> str:
    if not figures["spearman_interval"]:
        return "no interval"
    low, high = map(wording.correlation, figures["spearman_interval"])
    return f"95% interval {low} to {high}"


def _example(item: Figures) -> dict[str, Any]:
    texts = [item[key] for key in ("text", "text_pair") if item.get(key) is not None]
    return {
        "texts": [folded(text) for text in texts],
        "label": wording.number(item["score"]),
        "predicted": wording.number(item["predicted"]),
        "score": "",
        "label_score": "",
        "origin": item.get("origin", ""),
    }


def _place(correlation: float) -> str:
    """Where a correlation lies on a scale from 0 to 1; below 0 is at its beginning."""
    return f"{100 * min(max(correlation, 0.0), 1.0):.3f}"
