"""What the page and the terminal say of a model that gives vectors."""

from typing import Any

import markupsafe

from tfmodel.report import wording
from tfmodel.report.results import Figures
from tfmodel.report.sections import folded


def view(part: str, figures: Figures) -> dict[str, Any]:
    """Prepare the headline and the sections of the part that judges the model."""
    if not figures:
        return {}
    return _scored_view(part, figures) if _is_scored(figures) else _retrieval_view(part, figures)


def facts(figures: Figures) -> list[tuple[str, str, str]]:
    """Name, value and note of the numbers that a reader looks for next."""
    if _is_scored(figures):
        return [("Pearson", wording.correlation(figures["pearson"]), "of score and cosine")]
    found = [
        ("Recall at 1", wording.percent(figures["recall_at_1"]), "the partner is the nearest"),
        ("MRR", wording.correlation(figures["mrr"]), "mean of 1 / rank"),
    ]
    if "triplet_accuracy" in figures:
        share = wording.percent(figures["triplet_accuracy"])
        found.append(("Triplets", share, "the partner is nearer than the negative"))
    return found


def dev_fact(figures: Figures) -> tuple[str, str]:
    """Name and value of what the dev part reached."""
    if _is_scored(figures):
        return "Dev Spearman", wording.correlation(figures["spearman"])
    return "Dev recall at 10", wording.percent(figures["recall_at_10"])


def lines(part: str, figures: Figures) -> list[tuple[str, str, str]]:
    """Name, value and what else there is to say, for the terminal."""
    rows = wording.plural(figures["examples"], f"{part} row")
    if _is_scored(figures):
        interval = _interval(figures["spearman_interval"], wording.correlation)
        return [
            ("Spearman", wording.correlation(figures["spearman"]), f"{interval}, {rows}"),
            ("Pearson", wording.correlation(figures["pearson"]), "of score and cosine"),
        ]
    interval = _interval(figures["recall_at_10_interval"], wording.percent)
    among = f"{interval}, {rows}, among {wording.plural(figures['candidates'], 'text')}"
    return [
        ("Recall at 10", wording.percent(figures["recall_at_10"]), among),
        ("Recall at 1", wording.percent(figures["recall_at_1"]), ""),
        ("MRR", wording.correlation(figures["mrr"]), ""),
    ]


def _is_scored(figures: Figures) -> bool:
    return "spearman" in figures


# --- scored pairs ---------------------------------------------------------------------------


def _scored_view(part: str, figures: Figures) -> dict[str, Any]:
    from tfmodel.evaluate.scatter import scatter  # matplotlib takes a moment

    drawing = scatter(figures["points"], labels=("score", "cosine"))
    value = figures["spearman"] or 0.0
    rows = wording.plural(figures["examples"], f"{part} pair")
    return {
        "headline": _headline(
            wording.correlation(figures["spearman"]),
            value,
            figures["spearman_interval"],
            meaning=f"is the correlation of ranks (Spearman) of score and cosine over {rows}",
            context=_interval(figures["spearman_interval"], wording.correlation) + _of_dev(part),
        ),
        "scatter": {
            "lede": "The more alike two texts are, the nearer their vectors should be.",
            "drawing": markupsafe.Markup(drawing),
            "note": f"A dot a pair of the {part} part: its score to the right, the cosine of both "
            "vectors upwards.",
        },
        "mistakes": {
            "lede": "Where the order by cosine and the order by score differ most. Look at the "
            "score too: often it is the wrong one.",
            "rows": [_scored(item) for item in figures["mistakes"] if "text" in item],
        },
        "correct": [_scored(item) for item in figures["correct"] if "text" in item],
    }


def _scored(item: Figures) -> dict[str, Any]:
    cosine = f"{item['cosine']:.2f} (cosine)"
    return _example(item, f"{item['score']:g} (score)", cosine)


# --- retrieval ------------------------------------------------------------------------------


def _retrieval_view(part: str, figures: Figures) -> dict[str, Any]:
    from tfmodel.evaluate.recall import recall

    found, candidates = figures["recall_at_10"], figures["candidates"]
    interval = _interval(figures["recall_at_10_interval"], wording.percent)
    chance = wording.percent(min(1.0, 10 / candidates))
    rows = wording.plural(figures["examples"], f"{part} row")
    return {
        "headline": _headline(
            wording.percent(found).removesuffix("%"),
            found,
            figures["recall_at_10_interval"],
            unit="%",
            meaning=f"of {rows} have their partner among the 10 nearest of "
            f"{wording.plural(candidates, 'text')}",
            context=f"{interval}. By chance it would be {chance}{_of_dev(part)}",
        ),
        "retrieval": {
            "lede": f"Half of the partners are at rank {figures['median_rank']:g} or before.",
            "drawing": markupsafe.Markup(recall(figures["recall_curve"])),
            "note": "The share of texts whose partner is found, by how many of the nearest are "
            "looked at.",
        },
        "mistakes": {
            "lede": "The partners that are found last. Look at what is nearest: often it is right, "
            "too.",
            "rows": [_ranked(item) for item in figures["mistakes"] if "text" in item],
        },
        "correct": [_ranked(item) for item in figures["correct"] if "text" in item],
    }


def _ranked(item: Figures) -> dict[str, Any]:
    nearest = item.get("found")
    shown = f"rank {item['rank']:g}"
    if nearest and item["rank"] > 1:
        shown += f"; the nearest is {wording.name(nearest)}"
    return _example(item, "rank 1", shown)


# --- both -----------------------------------------------------------------------------------


def _headline(
    shown: str,
    value: float,
    interval: list[float] | None,
    *,
    meaning: str,
    context: str,
    unit: str = "",
) -> dict[str, Any]:
    low, high = interval or (value, value)
    return {
        "value": shown,
        "unit": unit,
        "at": _place(value),
        "low": _place(low),
        "width": f"{float(_place(high)) - float(_place(low)):.3f}",
        "baseline": None,
        "meaning": meaning,
        "context": f"{context}.",
    }


def _of_dev(part: str) -> str:
    if part != "dev":
        return ""
    return ". The dev part steered the training, so expect a little less on new texts"


def _interval(ends: list[float] | None, words: Any) -> str:
    return "no interval" if not ends else f"95% interval {words(ends[0])} to {words(ends[1])}"


def _example(item: Figures, label: str, predicted: str) -> dict[str, Any]:
    texts = [item[key] for key in ("text", "text_pair") if item.get(key) is not None]
    return {
        "texts": [folded(text) for text in texts],
        "label": label,
        "predicted": predicted,
        "score": "",
        "label_score": "",
        "origin": item.get("origin", ""),
    }


def _place(value: float) -> str:
    """Where a figure lies on a scale from 0 to 1; below 0 is at its beginning."""
    return f"{100 * min(max(value, 0.0), 1.0):.3f}"
