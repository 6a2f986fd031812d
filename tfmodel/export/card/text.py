"""A model card's facts as `README.md`: YAML as Hugging Face reads it, then Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from tfmodel import tasks
from tfmodel.model.families import FAMILIES
from tfmodel.tokens.gaps import GAP

_UNKNOWN = "not known: whoever exported this did not say"
_METRICS = {
    "accuracy": ("accuracy", "Accuracy"),
    "macro_f1": ("f1", "Macro F1"),
    "weighted_f1": ("f1", "Weighted F1"),
    "micro_f1": ("f1", "Micro F1"),
    "mlm_accuracy": ("accuracy", "Hidden tokens named rightly"),
    "f1": ("f1", "F1"),
    "precision": ("precision", "Precision"),
    "recall": ("recall", "Recall"),
    "pearson": ("pearsonr", "Pearson's correlation"),
    "spearman": ("spearmanr", "Spearman's correlation"),
    "recall_at_1": ("recall", "Recall at 1"),
    "recall_at_10": ("recall", "Recall at 10"),
}
_PIECES = {
    "wordpiece": "WordPieces",
    "byte_pairs": "pieces of byte-level BPE",
    "unigram": "pieces of SentencePiece's unigrams",
}
_CORRELATIONS = ("pearson", "spearman")


def readme(card: Mapping[str, Any], *, call: str = "") -> str:
    """Word a card.

    Args:
        card: what `card.json` holds.
        call: how the artifact is asked, in Markdown; by default by TF Serving's REST.

    Returns:
        The content of `README.md`.
    """
    header = yaml.safe_dump(_front_matter(card), sort_keys=False, allow_unicode=True, width=1000)
    sections = [
        _head(card),
        f"## How to call it\n\n{call.strip() or _rest(card)}",
        _figures(card["evaluation"]),
        "## Limits\n\n" + "\n".join(f"- {plain(limit)}" for limit in card["limits"]),
        _data(card["data"]),
        _training(card),
        _versions(card),
    ]
    return f"---\n{header}---\n\n" + "\n\n".join(sections) + "\n"


def _front_matter(card: Mapping[str, Any]) -> dict[str, Any]:
    """What Hugging Face's hub reads; what is not known has no key."""
    kind = _pipeline(card["model"])
    name = card["name"] or tasks.find(card["model"]["task"]).TITLE.split()[-1]
    encoder = re.fullmatch(r"hf:([\w.-]+/[\w.-]+)(?:@.*)?", card["encoder"] or "")
    results = [
        {
            "task": {"type": kind},
            "dataset": {"type": name, "name": f"{name}, {part} part", "split": part},
            "metrics": [
                {"type": metric, "name": title, "value": round(figures[key], 6)}
                for key, (metric, title) in _METRICS.items()
                if figures.get(key) is not None
            ],
        }
        for part, figures in (card["evaluation"] or {}).items()
    ]
    found = {
        "language": card["language"],
        "license": card["license"],
        "library_name": "tfmodel",
        "pipeline_tag": kind,
        "tags": ["tfmodel", "tensorflow", _family(card), kind],
        "base_model": encoder[1] if encoder else None,
        "metrics": list(
            dict.fromkeys(metric["type"] for result in results for metric in result["metrics"])
        ),
        "model-index": [{"name": name, "results": results}] if results else None,
    }
    return {key: value for key, value in found.items() if value}


def _head(card: Mapping[str, Any]) -> str:
    model = card["model"]
    reads = "a pair of texts" if model["has_pairs"] else "a text"
    if gives_span(model):
        reads = "a question (`text`) and a context (`text_pair`)"
    shape = model["encoder_shape"] or {}
    size = f"{model['parameters']:,} parameters"
    if shape:
        size += f", {shape['layers']} layers of width {shape['hidden_size']}"
    case = "lower-cased, accents stripped" if model["lowercase"] else "kept as it is (cased)"
    title = tasks.find(model["task"]).TITLE
    gives = "any" if gives_several(model) else "one"
    gives, labels = f"{gives} of {len(model['labels'])} labels", map(_code, model["labels"])
    labels = ", ".join(labels)
    below = f"\n\nLabels, in the order of the scores: {labels}."
    reads_at_most = f"at most {model['max_length']} tokens"
    if gives_number(model):
        gives, below = "a number", ""
    if gives_span(model):
        gives, below = "a span of the context", ""
    if gives_spans(model):
        gives, below = "entities, by a tag for each word,", below.replace("Labels", "Tags")
        reads_at_most = f"windows of at most {model['max_length']} tokens"
    if gives_gaps(model):
        gives, below = f"the likeliest tokens of each `{model.get('gap', GAP)}`", ""
    if gives_vector(model):
        gives, below = f"a vector of {(shape or {}).get('hidden_size', 'some')} numbers", ""
    rows = [
        ("Answers", f"{gives} for {reads}"),
        ("Encoder", f"{_kind(card)}, {size}; from {_code(card['encoder']) or _UNKNOWN}"),
        ("Reads", f"{reads_at_most}; text is {case}"),
        ("Vocabulary", f"{model['vocabulary_pieces']:,} {_PIECES[model['tokenizer']]}"),
        ("Number format", model["precision"]),
        ("Exported", plain(card["date"] or _UNKNOWN)),
        ("Licence", plain(card["license"] or f"{_UNKNOWN}; the encoder's and the data's apply")),
    ]
    title = plain(card["name"] or f"A {title}")
    return f"# {title}\n\n{_table(('', ''), rows)}{below}"


def _family(card: Mapping[str, Any]) -> str:
    return (card["model"]["encoder_shape"] or {}).get("family", "bert")


def _kind(card: Mapping[str, Any]) -> str:
    family = _family(card)
    return "BERT" if family == "bert" else FAMILIES[family].architecture


def _rest(card: Mapping[str, Any]) -> str:
    """How TF Serving is asked, with the model's own labels in the answer."""
    model, name = card["model"], re.sub(r"[^\w.-]+", "_", card["name"] or "model")
    text = f"some {model.get('gap', GAP)} text" if gives_gaps(model) else "some text"
    instance = {"text": text} | ({"text_pair": "another"} if model["has_pairs"] else {})
    count = len(model["labels"])
    shorter = ", and all but three left out):" if gives_vector(model) else "):"
    answer = _example(model)
    lines = [
        "With TF Serving (REST; gRPC takes the same names):",
        f"```bash\ncurl -d '{json.dumps({'instances': [instance]})}' \\\n"
        f"  http://localhost:8501/v1/models/{name}:predict\n```",
        "An answer has this form (the numbers are made up"
        + (f", and {count - 20} scores left out):" if count > 20 else shorter),
        f"```json\n{json.dumps({'predictions': [answer]}, ensure_ascii=False)}\n```",
    ]
    if card["signatures"]:
        rows = [
            (_code(signature), _tensors(tensors["inputs"]), _tensors(tensors["outputs"]))
            for signature, tensors in card["signatures"].items()
        ]
        lines.append(_table(("Signature", "Takes", "Gives"), rows))
    return "\n\n".join(lines)


def _example(model: Mapping[str, Any]) -> Any:
    """An answer as TF Serving words it: of a single named output, the number alone."""
    if gives_number(model):
        return 1.25
    if gives_vector(model):
        return [0.0123, -0.0456, 0.0789]
    if gives_span(model):
        answer = {"answer": "another", "start": 0, "end": 7, "score": 0.92}
        return answer | {"span": [0.0, 7.0, 0.92, 6.5]}
    if gives_gaps(model):
        found = {"tokens": [["more", "good"]], "scores": [[0.31, 0.12]]}
        return {**found, "filled": "some more text"}
    count = len(model["labels"])
    if gives_spans(model):
        scores = [0.9, *[round(0.1 / (count - 1), 4)] * (count - 1)]
        tags = [model["labels"][min(1, count - 1)], model["labels"][0]]
        return {"tags": tags, "starts": [0, 5], "ends": [4, 9], "scores": [scores, scores]}
    best = round(1 - 0.01 * (count - 1), 2) if count <= 20 else 0.9
    if gives_several(model):
        names = [model["labels"][0], *[""] * (count - 1)]
        return {"labels": names[:20], "scores": [best, *[0.01] * (count - 1)][:20]}
    scores = [best, *[round((1 - best) / (count - 1), 4)] * (count - 1)]
    return {"label": model["labels"][0], "score": best, "scores": scores[:20]}


def gives_one(model: Mapping[str, Any]) -> bool:
    """Whether one of a card's `model`'s labels is right."""
    return tasks.find(model["task"]).ANSWERS == "classes"


def gives_several(model: Mapping[str, Any]) -> bool:
    """Whether any number of a card's `model`'s labels may be right."""
    return tasks.find(model["task"]).ANSWERS == "sets"


def gives_spans(model: Mapping[str, Any]) -> bool:
    """Whether a card's `model` answers with spans of the text."""
    return tasks.find(model["task"]).ANSWERS == "spans"


def gives_number(model: Mapping[str, Any]) -> bool:
    """Whether a card's `model` answers with a number, not with labels."""
    return tasks.find(model["task"]).ANSWERS == "number"


def gives_vector(model: Mapping[str, Any]) -> bool:
    """Whether a card's `model` answers with a vector."""
    return tasks.find(model["task"]).ANSWERS == "vectors"


def gives_span(model: Mapping[str, Any]) -> bool:
    """Whether a card's `model` answers with a span of its second text."""
    return tasks.find(model["task"]).ANSWERS == "span"


def gives_gaps(model: Mapping[str, Any]) -> bool:
    """Whether a card's `model` answers with what may stand in the gaps of a text."""
    return tasks.find(model["task"]).ANSWERS == "gaps"


def _pipeline(model: Mapping[str, Any]) -> str:
    """What Hugging Face calls the task of a card's `model`."""
    known = {
        "span": "question-answering",
        "spans": "token-classification",
        "vectors": "sentence-similarity",
        "gaps": "fill-mask",
    }
    return known.get(tasks.find(model["task"]).ANSWERS, "text-classification")


def _tensors(described: Mapping[str, str]) -> str:
    return "; ".join(f"{_code(name)}: {plain(kind)}" for name, kind in described.items())


def _figures(evaluation: Mapping[str, Any] | None) -> str:
    if not evaluation:
        return f"## How good it is\n\n{_UNKNOWN.capitalize()}."
    rows = []
    for part, figures in evaluation.items():
        rows += [
            (part, title, _figure(key, figures[key]), _interval(key, figures))
            for key, (_, title) in _METRICS.items()
            if figures.get(key) is not None
        ]
        rows += [
            (part, title, f"{figures[key]:.4f}", "")
            for key, title in (
                ("log_loss", "Log loss"),
                ("calibration_error", "Expected calibration error"),
                ("mrr", "Mean reciprocal rank"),
                ("triplet_accuracy", "Triplets with the partner nearer"),
                ("rmse", "Root mean squared error"),
                ("mae", "Mean absolute error"),
                ("perplexity", "Perplexity of hidden tokens"),
                ("target_deviation", "Standard deviation of the right numbers"),
                ("has_answer_f1", "F1 where there is an answer"),
                ("no_answer_accuracy", "Right where there is none"),
            )
            if figures.get(key) is not None
        ]
        rows.append((part, "Rows", f"{figures['examples']:,}", ""))
        if figures.get("candidates"):
            rows.append((part, "Texts to choose from", f"{figures['candidates']:,}", ""))
    text = "## How good it is\n\nOf the float32 model.\n\n"
    text += _table(("Part", "Figure", "Value", "95% interval"), rows)
    part, figures = next(reversed(evaluation.items()))
    if classes := figures.get("per_class"):
        text += f"\n\nBy label, on {part}:\n\n" + _table(
            ("Label", "Rows", "Precision", "Recall", "F1"),
            [
                (_code(label), f"{of['support']:,}", *(f"{of[key]:.1%}" for key in _BY_CLASS))
                for label, of in classes.items()
            ],
        )
    return text


_BY_CLASS = ("precision", "recall", "f1")


def _figure(key: str, value: float) -> str:
    return f"{value:.3f}" if key in _CORRELATIONS else f"{value:.2%}"


def _interval(key: str, figures: Mapping[str, Any]) -> str:
    ends = figures.get(f"{key}_interval")
    return " to ".join(_figure(key, end) for end in ends) if ends else ""


def _data(data: Mapping[str, Any] | None) -> str:
    if not data:
        return f"## Data\n\n{_UNKNOWN.capitalize()}."
    lines = ["## Data"]
    if data.get("source"):
        lines.append("\n".join(f"- {part}: {_code(of)}" for part, of in data["source"].items()))
    left_out = sum((data.get("dropped") or {}).values())
    lines.append(f"{data['raw']:,} raw rows: {data['kept']:,} kept, {left_out:,} left out.")
    if data.get("split"):
        lines.append(f"How the parts were made: {plain(data['split'])}.")
    if left_out:
        rows = [(_code(reason), f"{count:,}") for reason, count in data["dropped"].items()]
        lines.append(_table(("Left out because", "Rows"), rows))
    parts = data.get("parts") or {}
    labels = list(dict.fromkeys(name for part in parts.values() for name in part["labels"]))
    rows = [("all", *(f"{part['rows']:,}" for part in parts.values()))]
    rows += [
        (_code(label), *(f"{part['labels'].get(label, 0):,}" for part in parts.values()))
        for label in labels
    ]
    lines.append(_table(("Rows with label", *parts), rows))
    if changed := {step: count for step, count in (data.get("cleaning") or {}).items() if count}:
        rows = [(_code(step), f"{count:,}") for step, count in changed.items()]
        lines.append(_table(("Cleaned", "Rows"), rows))
    return "\n\n".join(lines)


def _training(card: Mapping[str, Any]) -> str:
    training = card["training"]
    if not training:
        return f"## Training\n\n{_UNKNOWN.capitalize()}."
    rows = [("seed", _UNKNOWN if card["seed"] is None else str(card["seed"]))]
    for values in (training.get("settings") or {}, training.get("figures") or {}):
        rows += [
            (_code(key), plain(f"{value:.6g}" if isinstance(value, float) else value))
            for key, value in values.items()
            if value not in (None, [], {})
        ]
    return f"## Training\n\n{_table(('Setting or figure', 'Value'), rows)}"


def _versions(card: Mapping[str, Any]) -> str:
    rows = [(name, plain(version or "unknown")) for name, version in card["versions"].items()]
    return f"## Written with\n\n{_table(('Package', 'Version'), rows)}"


# --- Markdown -----------------------------------------------------------------------------


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def plain(value: Any) -> str:
    """Text that Markdown and HTML show as it is, in one line."""
    text = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", text)


def _code(value: Any) -> str:
    """A name as it is typed; nothing for nothing."""
    text = " ".join(str(value or "").split())
    if not text:
        return ""
    if "`" in text or "|" in text:  # neither can stand in code inside a table
        return plain(text)
    return f"`{text}`"
