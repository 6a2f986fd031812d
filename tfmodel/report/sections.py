"""The sections below the headline: each function prepares one, or gives None to leave it out."""

import json
from typing import Any

import markupsafe
import yaml

from tfmodel.report import wording
from tfmodel.report.results import Figures, Results
from tfmodel.report.tables import FOLDED_AFTER, bar, column

_FIRST_CHARACTERS = 260


def training(results: Results) -> dict[str, Any] | None:
    """Prepare the learning curves and what they cost."""
    from tfmodel.evaluate import plots  # matplotlib takes a moment: only where it is needed

    curves = plots.learning_curves(results.history)
    if not curves:
        return None
    return {
        "lede": _training_lede(results.training),
        "curves": {caption: markupsafe.Markup(drawing) for caption, drawing in curves.items()},
    }


def _training_lede(figures: Figures) -> str:
    if figures.get("examples") is None or figures.get("seconds") is None:
        return ""
    lede = f"{wording.plural(figures['examples'], 'example')} seen in "
    lede += wording.duration(figures["seconds"])
    rates = [
        f"{wording.rate(figures[key])} {what} a second"
        for key, what in (("examples_per_second", "examples"), ("tokens_per_second", "tokens"))
        if figures.get(key) is not None
    ]
    if rates:
        lede += f": {wording.listed(rates)}"
    if figures.get("resumed_at_steps"):
        steps = [wording.count(step) for step in figures["resumed_at_steps"]]
        lede += f". Interrupted and taken up again at step {wording.listed(steps)}"
    return lede + "."


def confusion(part: str, figures: Figures) -> dict[str, Any] | None:
    """Prepare the confusion matrix and the most frequent mix-ups."""
    if not figures:
        return None
    from tfmodel.evaluate import plots

    labels = list(figures["per_class"])
    drawing = plots.confusion_matrix(figures["confusion"], labels, name="confusion")
    pairs = figures["confused"]
    wrong = figures["examples"] - sum(row[index] for index, row in enumerate(figures["confusion"]))
    lede = f"All {wording.plural(figures['examples'], f'{part} row')} are answered right."
    if wrong:
        lede = (
            f"{wording.count(wrong)} of {wording.plural(figures['examples'], f'{part} row')} "
            f"{'is' if wrong == 1 else 'are'} answered wrong."
        )
    if pairs and pairs[0]["count"] > 1:
        first = pairs[0]
        lede += (
            f" Most often {wording.name(first['label'])} is taken for "
            f"{wording.name(first['predicted'])}: {wording.count(first['count'])} times."
        )
    return {
        "lede": lede,
        "drawing": markupsafe.Markup(drawing),
        "caption": f"{part.capitalize()} part; a cell is as strong as its share of the row",
        "beside": len(labels) <= 8 or len(labels) > plots.ANNOTATED_CLASSES,
        "columns": [
            column("Right label"),
            column("Taken for"),
            column("Rows", numeric=True),
            column("Of its class", numeric=True),
        ],
        "pairs": [
            [
                pair["label"],
                pair["predicted"],
                wording.count(pair["count"]),
                wording.percent(pair["share"]),
            ]
            for pair in pairs
        ],
    }


def classes(part: str, figures: Figures) -> dict[str, Any] | None:
    """Prepare the table of classes, the weakest first."""
    if not figures:
        return None
    ranked = sorted(figures["per_class"].items(), key=lambda entry: entry[1]["f1"])
    seen = [entry for entry in ranked if entry[1]["support"]]
    if not seen:
        return None
    (worst, low), (best, high) = seen[0], seen[-1]
    lede = (
        f"F1 runs from {wording.percent(low['f1'])} ({wording.name(worst)}) "
        f"to {wording.percent(high['f1'])} ({wording.name(best)})."
    )
    if low["f1"] == high["f1"]:
        lede = f"F1 is {wording.percent(low['f1'])} for every class."
    if len(ranked) > len(seen):
        unseen = wording.plural(len(ranked) - len(seen), "class", "classes")
        lede += f" The {part} part holds no row of {unseen}."
    return {
        "lede": lede,
        "columns": [
            column("Class"),
            column("F1", bar=True),
            column("Precision", numeric=True),
            column("Recall", numeric=True),
            column(f"Rows in {part}", numeric=True),
        ],
        "rows": [
            [
                label,
                bar(scores["f1"], wording.percent(scores["f1"])),
                wording.percent(scores["precision"]),
                wording.percent(scores["recall"]),
                wording.count(scores["support"]),
            ]
            for label, scores in ranked
        ],
        "shown": len(ranked) if len(ranked) <= FOLDED_AFTER else 12,
    }


def calibration(figures: Figures) -> dict[str, Any] | None:
    """Prepare the reliability diagram and say whether scores can be believed."""
    if not figures:
        return None
    from tfmodel.evaluate import plots

    bins = [part for part in figures["calibration"] if part["count"]]
    mean = sum(part["confidence"] * part["count"] for part in bins) / figures["examples"]
    gap, error = mean - figures["accuracy"], figures["calibration_error"]
    believed = f"the average score is {wording.percent(mean)}"
    right = f"{wording.percent(figures['accuracy'])} of the answers are right"
    if error < 0.03:
        lede = f"The scores can be read as probabilities: {believed}, and {right}."
    elif abs(gap) < 0.02:
        lede = f"The scores fit on average only: {believed}, and {right}."
    else:
        lede = f"The model is too {'sure' if gap > 0 else 'modest'}: {believed}, but {right}."
    return {
        "lede": lede,
        "drawing": markupsafe.Markup(plots.reliability(figures["calibration"])),
        "note": "Above: how often the model is right at each score. On the dashed line a score of "
        "80% is right 80% of the time; below it the model is too sure. The larger a dot, the more "
        "rows; the thin lines are 95% intervals. Below: how many rows got each score. "
        f"The expected calibration error is {wording.percent(error)}.{_tempered(figures)}",
    }


def _tempered(figures: Figures) -> str:
    if (temperature := figures.get("temperature")) is None:
        return ""
    been = "too sure" if temperature > 1 else "too modest"
    return (
        f" After training the model was {been} on dev: its logits are divided by "
        f"{temperature:.2f} since."
    )


def mistakes(figures: Figures) -> dict[str, Any] | None:
    """Prepare the most confident mistakes, where texts are known."""
    rows = [_example(item) for item in figures.get("mistakes", []) if "text" in item]
    if not rows:
        return None
    lede = (
        "The most confident mistakes come first. Look at the label too: often it is the wrong one."
    )
    return {"lede": lede, "rows": rows}


def correct(figures: Figures) -> list[dict[str, Any]]:
    """Prepare some right answers, where texts are known."""
    return [_example(item) for item in figures.get("correct", []) if "text" in item]


def _example(item: Figures) -> dict[str, Any]:
    texts = [item[key] for key in ("text", "text_pair") if item.get(key) is not None]
    return {
        "texts": [folded(text) for text in texts],
        "label": item["label"],
        "predicted": item["predicted"],
        "score": wording.percent(item["score"]),
        "label_score": wording.percent(item["label_score"]),
        "origin": item.get("origin", ""),
    }


def folded(text: str) -> dict[str, str]:
    """Split a long text into what is shown and what opens at a click."""
    if len(text) <= _FIRST_CHARACTERS * 1.25:
        return {"start": text, "rest": ""}
    # At a space, unless the script has none.
    cut = text.rfind(" ", _FIRST_CHARACTERS - 40, _FIRST_CHARACTERS)
    cut = cut if cut > 0 else _FIRST_CHARACTERS
    return {"start": text[:cut], "rest": text[cut:]}


def settings(results: Results) -> dict[str, Any] | None:
    """Prepare the resolved config and what it ran on."""
    if not results.config and not results.environment:
        return None
    # Through JSON: paths and tuples become what YAML can write.
    plain = json.loads(json.dumps(dict(results.config), default=str))
    written = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True) if plain else ""
    return {"config": written, "environment": _flat(results.environment)}


def _flat(values: Figures, prefix: str = "") -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            lines += _flat(value, f"{prefix}{name} ")
        elif value not in (None, "", []):
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            lines.append((f"{prefix}{name}".replace("_", " "), text))
    return lines
