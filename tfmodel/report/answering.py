"""What the page and the terminal say of a model that takes answers from texts."""

from typing import Any

from tfmodel.report import wording
from tfmodel.report.results import Figures
from tfmodel.report.sections import calibration, folded

_NONE = "no answer"


def view(part: str, figures: Figures) -> dict[str, Any]:
    """Prepare the headline and the sections of the part that judges the model."""
    if not figures:
        return {}
    return {
        "headline": _headline(part, figures),
        "calibration": calibration({**figures, "accuracy": figures["exact_match"]}),
        "mistakes": {
            "lede": "The worst that the model is surest of come first. An answer may be right in "
            "other words than the ones that are known.",
            "rows": [_example(item) for item in figures["mistakes"] if "text" in item],
        },
        "correct": [_example(item) for item in figures["correct"] if "text" in item],
    }


def facts(figures: Figures) -> list[tuple[str, str, str]]:
    """Name, value and note of the numbers that a reader looks for next."""
    found = [("Exact match", wording.percent(figures["exact_match"]), "the very words")]
    if "unanswerable" in figures:
        value = wording.percent(figures["no_answer_accuracy"])
        rows = wording.plural(figures["unanswerable"], "question")
        found.append(("No answer", value, f"right where there is none: {rows}"))
    return found


def dev_fact(figures: Figures) -> tuple[str, str]:
    """Name and value of what the dev part reached."""
    return "Dev F1", wording.percent(figures["f1"])


def lines(part: str, figures: Figures) -> list[tuple[str, str, str]]:
    """Name, value and what else there is to say, for the terminal."""
    rows = wording.plural(figures["examples"], f"{part} question")
    found = [
        ("F1", wording.percent(figures["f1"]), f"{_interval('f1', figures)}, {rows}"),
        ("exact match", wording.percent(figures["exact_match"]), _interval("exact_match", figures)),
    ]
    if "unanswerable" in figures:
        found.append(
            (
                "no answer",
                wording.percent(figures["no_answer_accuracy"]),
                f"right of {wording.plural(figures['unanswerable'], 'question')} without one",
            )
        )
    return found


def _headline(part: str, figures: Figures) -> dict[str, Any]:
    low, high = figures["f1_interval"]
    context = f"{_interval('f1', figures)}."
    if "has_answer_f1" in figures:
        context += f" Where there is an answer it is {wording.percent(figures['has_answer_f1'])}."
    if part == "dev":
        context += " The dev part steered the training, so expect a little less on new texts."
    rows = wording.plural(figures["examples"], f"{part} question")
    return {
        "value": f"{100 * figures['f1']:.1f}",
        "unit": "%",
        "at": f"{100 * figures['f1']:.3f}",
        "low": f"{100 * low:.3f}",
        "width": f"{100 * (high - low):.3f}",
        "baseline": None,
        "meaning": f"is the F1 of the answers' words (SQuAD's) over {rows}",
        "context": context,
    }


def _interval(name: str, figures: Figures) -> str:
    low, high = (wording.percent(end).removesuffix("%") for end in figures[f"{name}_interval"])
    return f"95% interval {low} to {high}%"


def _example(item: Figures) -> dict[str, Any]:
    texts = [item[key] for key in ("text", "text_pair") if item.get(key) is not None]
    return {
        "texts": [folded(text) for text in texts],
        "label": " | ".join(item["answers"]) or _NONE,
        "predicted": item["predicted"] or _NONE,
        "score": wording.percent(item["score"]),
        "label_score": "",
        "origin": item.get("origin", ""),
    }
