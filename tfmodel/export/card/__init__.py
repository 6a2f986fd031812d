"""The model card: what whoever deploys a model must know of it, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tfmodel.export.card.text import (
    gives_gaps,
    gives_number,
    gives_one,
    gives_several,
    gives_span,
    gives_spans,
    gives_vector,
    readme,
)
from tfmodel.export.manifest import package_version
from tfmodel.export.trained import Trained

README_FILE = "README.md"
CARD_FILE = "card.json"
FORMAT = 1

Signatures = Mapping[str, Mapping[str, Mapping[str, str]]]
"""Signature to `inputs` and `outputs`, each tensor name to what it holds: `string (rows)`."""

_BELIEVABLE = 0.03  # of a calibration error; as in the report
_FEW_ROWS = 30
_PACKAGES = ("tensorflow", "keras", "tensorflow-text")


def card_files(
    trained: Trained,
    *,
    precision: str,
    signatures: Signatures,
    call: str = "",
    limits: Sequence[str] = (),
) -> dict[str, bytes]:
    """Write the card of an artifact.

    All of it comes from `trained`; what its `facts` leave out is said to be unknown. The same
    facts give the same bytes. No row of the data is in it.

    Args:
        trained: the model. Of its `facts` these are read, each where known: `name`, `date`,
            `encoder`, `seed`, `license` and `language` (as Hugging Face writes them), `data`
            (`raw`, `kept`, `dropped` by reason, `files`, `parts` with `rows` and `labels`,
            `cleaning` rows by step, `source`, `split`), `training` (`settings`, `figures`),
            `evaluation` (`dev` and `test`, as the task's `evaluate` gives them), `skew` (what
            `tfmodel data --skew` found) and `environment` (package to version).
        precision: number format of the artifact.
        signatures: what can be asked of it.
        call: how it is asked, in Markdown; by default by TF Serving's REST.
        limits: what else it does not do: sentences.

    Returns:
        `README.md`, in the form of Hugging Face's model cards, and `card.json`, the same facts
        for programs.

    Source: Mitchell et al. 2019, "Model Cards for Model Reporting".
    """
    card = _card(trained, precision, signatures)
    card["limits"] += limits
    return {
        README_FILE: readme(card, call=call).encode("utf-8", "replace"),
        CARD_FILE: (json.dumps(card, ensure_ascii=False, indent=2, default=str) + "\n").encode(
            "utf-8", "replace"
        ),
    }


def signatures_of(functions: Mapping[str, Any]) -> Signatures:
    """Describe signatures for `card_files`.

    Args:
        functions: name to a concrete function with named inputs and a dict of outputs.

    Example:
        >>> signatures_of(tf.saved_model.load("served/1").signatures)["ids"]["outputs"]["score"]
        'float32 (rows)'
    """
    return {
        name: {
            "inputs": _tensors(function.structured_input_signature[1]),
            "outputs": _tensors(function.structured_outputs),
        }
        for name, function in functions.items()
    }


def _tensors(specs: Mapping[str, Any]) -> dict[str, str]:
    unknown = ["rows", "tokens"]
    described = {}
    for name, spec in specs.items():
        rank = spec.shape.rank or 0
        sizes = [
            unknown[min(axis, 1)] if size is None else str(size)
            for axis, size in enumerate(spec.shape.as_list() if rank else [])
        ]
        described[name] = f"{spec.dtype.name} ({', '.join(sizes)})"
    return described


def _card(trained: Trained, precision: str, signatures: Signatures) -> dict[str, Any]:
    """What `card.json` holds."""
    facts = trained.facts
    evaluation = {
        part: {key: value for key, value in figures.items() if key in _FIGURES}
        for part, figures in (facts.get("evaluation") or {}).items()
    }
    card = {
        "format": FORMAT,
        "name": facts.get("name"),
        "date": facts.get("date"),
        "license": facts.get("license"),
        "language": facts.get("language"),
        "model": _model(trained, precision),
        "encoder": facts.get("encoder"),
        "signatures": {name: dict(tensors) for name, tensors in signatures.items()},
        "data": facts.get("data"),
        "training": facts.get("training"),
        "seed": facts.get("seed"),
        "evaluation": evaluation or None,
        "skew": facts.get("skew"),
        "versions": _versions(facts.get("environment") or {}),
    }
    return {**card, "limits": _limits(card)}


# Whitelisted: figures come with examples, which are rows of the data.
_FIGURES = (
    "examples",
    "accuracy",
    "accuracy_interval",
    "macro_f1",
    "macro_f1_interval",
    "weighted_f1",
    "log_loss",
    "calibration_error",
    "per_class",
    "pearson",
    "pearson_interval",
    "spearman",
    "spearman_interval",
    "micro_f1",
    "micro_f1_interval",
    "exact_match",
    "exact_match_interval",
    "f1",
    "f1_interval",
    "has_answer_f1",
    "has_answer_exact_match",
    "no_answer_accuracy",
    "unanswerable",
    "precision",
    "recall",
    "entities",
    "rmse",
    "mae",
    "target_deviation",
    "recall_at_1",
    "recall_at_1_interval",
    "recall_at_10",
    "recall_at_10_interval",
    "mrr",
    "triplet_accuracy",
    "candidates",
    "loss",
    "perplexity",
    "mlm_accuracy",
)


def _model(trained: Trained, precision: str) -> dict[str, Any]:
    import dataclasses

    from tfmodel.export.graph import encoder_of
    from tfmodel.model.encoder import encoder_config

    try:
        shape = dataclasses.asdict(encoder_config(encoder_of(trained.model)))
    except ValueError:  # a model that build_encoder did not make
        shape = None
    return {
        "task": trained.task,
        "labels": [str(label) for label in trained.labels],
        "has_pairs": trained.has_pairs,
        "max_length": trained.max_length,
        "lowercase": trained.tokenizer.lowercase,
        "vocabulary_pieces": len(trained.tokenizer.vocabulary),
        "tokenizer": trained.tokenizer.kind,
        **({"template": trained.tokenizer.template} if trained.tokenizer.template else {}),
        **({"gap": gap} if (gap := trained.manifest().decoding.get("gap")) else {}),
        "parameters": trained.model.count_params(),
        "precision": precision,
        "encoder_shape": shape,
    }


def _versions(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Of the software that the artifact was written with."""
    from importlib import metadata

    found = {"tfmodel": environment.get("tfmodel") or package_version()}
    for package in _PACKAGES:
        version = environment.get(package)
        try:
            found[package] = version or metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


# --- limits -------------------------------------------------------------------------------


def _limits(card: Mapping[str, Any]) -> list[str]:
    """What the model was not tried on, and what it does not do: sentences."""
    model = card["model"]
    limits = [
        *_limits_of_figures(card),
        _limit_of_answers(model),
        _limit_of_length(model),
        _limit_of_languages(card),
        "Nothing was measured for groups of people. What is one-sided in the encoder's texts or "
        "in the training rows is one-sided in the answers.",
        *_limits_of_phones(card["skew"], model),
    ]
    if model["precision"] != "float32":
        limits.append(
            f"Computed in {model['precision']}: scores differ a little from the float32 model that "
            "the figures are of; parity.json beside the export says how much."
        )
    return limits


def _limit_of_length(model: Mapping[str, Any]) -> str:
    longest = model["max_length"]
    if gives_span(model):
        return (
            f"A long context is read in windows of {longest} tokens: an answer that no window "
            "holds whole is not found. On a phone the first window alone is read."
        )
    if gives_spans(model):
        return (
            f"A text of more than {longest} tokens is read in windows: what is farther apart than "
            "one of them is not seen together."
        )
    texts = "both texts together" if model["has_pairs"] else "a text"
    return f"Of {texts} no more than {longest} tokens are read; the rest is cut off."


def _limit_of_answers(model: Mapping[str, Any]) -> str:
    if gives_number(model):
        return (
            "Every answer is a number on the scale of the training rows: there is none for what "
            "has no such number, and nothing keeps it inside their range."
        )
    if gives_vector(model):
        return (
            "Every text has a vector, one of no meaning too. What is near in it is what the "
            "training rows had together, and cosines are to be compared with each other, not read "
            "as shares."
        )
    if gives_span(model):
        return (
            "Every answer is a span of the context, word for word, or none where the training rows "
            "had questions without an answer: whether it is true is the context's matter."
        )
    if gives_gaps(model):
        return (
            "Every answer is a piece of the vocabulary that often stood in such a place in the "
            "texts of pretraining: likely there, not true."
        )
    names = len(model["labels"])
    if gives_spans(model):
        return (
            "An entity is a run of whole words with one label: one inside another, or one that "
            "begins inside a word, is not found."
        )
    if gives_several(model):
        return (
            f"Every answer is any of {names} labels, or none: each where its score reaches its "
            "threshold, which the dev part chose."
        )
    return f"Every answer is one of the {names} labels: there is none for what belongs to no label."


def _limits_of_figures(card: Mapping[str, Any]) -> list[str]:
    part, figures = judged(card["evaluation"])
    if figures is None:
        limits = [
            "How good it is, is not known here: no figures were given when it was exported. "
            "Measure it on rows of your own before you rely on it.",
        ]
        if gives_one(card["model"]):
            limits.append("Whether its scores can be read as probabilities was not measured.")
        return limits
    limits = [
        f"Measured on the {figures['examples']:,} rows of the {part} part alone. Texts of another "
        "time, place or kind were not tried."
    ]
    if part == "dev":
        limits.append("There was no test part: dev also chose the epoch, so it flatters the model.")
    if not gives_one(card["model"]):
        return [*limits, *_limit_of_few_rows(part, figures)]
    error = figures.get("calibration_error")
    if error is None:
        limits.append("Whether its scores can be read as probabilities was not measured.")
    elif error < _BELIEVABLE:
        limits.append(f"The scores fit ({part}: expected calibration error {error:.1%}).")
    else:
        limits.append(
            "The scores are not calibrated: do not read them as probabilities "
            f"({part}: expected calibration error {error:.1%})."
        )
    return [*limits, *_limit_of_few_rows(part, figures)]


def _limit_of_few_rows(part: str, figures: Mapping[str, Any]) -> list[str]:
    few = [
        label
        for label, scores in figures.get("per_class", {}).items()
        if scores["support"] < _FEW_ROWS
    ]
    if not few:
        return []
    shown = ", ".join(f"“{' '.join(label.split())}”" for label in few[:10])
    more = f" and {len(few) - 10} more" if len(few) > 10 else ""
    return [f"Fewer than {_FEW_ROWS} {part} rows, so that their figures say little: {shown}{more}."]


def _limit_of_languages(card: Mapping[str, Any]) -> str:
    languages = card["language"]
    if not languages:
        return (
            "The languages of the training rows were not recorded; texts in others were not tried."
        )
    names = languages if isinstance(languages, str) else ", ".join(languages)
    return f"Trained on texts in these languages alone: {names}. Others were not tried."


def _limits_of_phones(skew: Mapping[str, Any] | None, model: Mapping[str, Any]) -> list[str]:
    if model["tokenizer"] != "wordpiece":
        kind = {"byte_pairs": "byte-level BPE", "unigram": "SentencePiece"}[model["tokenizer"]]
        return [
            f"Phone runtimes (MediaPipe, tflite-support) have no tokenizer of {kind}: the app "
            "makes the ids there."
        ]
    limits = []
    if model.get("template"):
        return [
            "Phone runtimes (MediaPipe, tflite-support) put texts into no template: the app makes "
            "the ids there."
        ]
    if model["has_pairs"] and not gives_span(model):
        limits.append("Phone runtimes (MediaPipe, tflite-support) cannot be asked pairs.")
    phone = (skew or {}).get("runtimes", {}).get("phone", {})
    if "share" not in phone:
        limits.append(
            "On a phone the runtime splits texts with a tokenizer of its own, which keeps accents "
            "and lower-cases ASCII letters alone; on how many rows that differs was not counted "
            "(tfmodel data CONFIG --skew does)."
        )
    else:
        limits.append(
            f"On a phone the runtime's own tokenizer gives {phone['differ']:,} of "
            f"{phone['rows']:,} rows ({phone['share']:.1%}) other tokens than those of training."
        )
    return limits


def judged(evaluation: Mapping[str, Any] | None) -> tuple[str, Mapping[str, Any] | None]:
    """The part that judges the model and its figures: test, or else dev."""
    for part in ("test", "dev"):
        if evaluation and evaluation.get(part):
            return part, evaluation[part]
    return "", None
