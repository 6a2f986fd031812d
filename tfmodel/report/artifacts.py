"""The section on exported files: what each answers, weighs and takes, in each runtime."""

import dataclasses
from typing import Any

from tfmodel.report import wording
from tfmodel.report.results import Figures
from tfmodel.report.tables import column

RUNTIME_NAMES = {
    "tensorflow": "TensorFlow",
    "litert": "LiteRT",
    "mediapipe": "MediaPipe",
    "task-library-0.4": "Task Library 0.4",
    "keras_hub": "KerasHub",
    "onnx": "ONNX Runtime",
}


def artifacts(parity: Figures) -> dict[str, Any] | None:
    """Prepare the table of exported files: what each weighs, takes, and gives away."""
    found = parity.get("artifacts", {})
    if not found:
        return None
    names = names_of(parity)
    rows = [row for name, figures in found.items() for row in _artifact_rows(name, figures)]
    if parity.get("reference"):
        own = {names.agreement_key: 1.0, "largest_score_difference": 0.0}
        if names.quality == _COSINE:
            own["cosine"] = 1.0
        reference = {**parity["reference"], **own}
        rows.insert(0, _row("Keras model, float32", reference))
    notes = [] if names.quality == _COSINE else _vectors(found)  # which the table shows then
    return {
        "lede": _lede(found),
        "columns": [
            column("Artifact"),
            column("Gate", verdict=True),  # where a narrow window does not cut it off
            column("Size", numeric=True),
            column("Loads", numeric=True),
            column("p50", numeric=True),
            column("p99", numeric=True),
            column("Memory (runtime)", numeric=True),
            column("Difference", numeric=True),
            column(names.agreement, numeric=True),
            column(f"{names.quality} (95%)", numeric=True),
        ],
        "rows": rows,
        "failures": [line for name, each in found.items() for line in _failures(name, each)],
        "notes": [_note(parity), *notes, *phone_notes(parity)],
    }


@dataclasses.dataclass(frozen=True)
class Names:
    """What the figures of a task's artifacts are called.

    Attributes:
        agreement: how far answers go with the Keras model's.
        agreement_key: its key in the figures.
        quality: how good answers are.
    """

    agreement: str
    agreement_key: str
    quality: str


_COSINE = "Cosine"
_NAMES = {
    "multilabel": Names("Same decisions", "label_agreement", "Micro F1"),
    "regress": Names("Correlation", "score_correlation", "Spearman"),
    "embed": Names("Same nearest", "neighbour_agreement", _COSINE),
    "tag": Names("Same tags", "label_agreement", "F1"),
    "span": Names("Same answer", "answer_agreement", "F1"),
    "fill": Names("Same token", "token_agreement", "Accuracy"),
}
_OF_ONE_LABEL = Names("Same label", "label_agreement", "Accuracy")
_QUALITIES = {
    "spearman": wording.correlation,
    "micro_f1": wording.percent,
    "f1": wording.percent,
    "accuracy": wording.percent,
    "cosine": wording.correlation,
}


def names_of(parity: Figures) -> Names:
    """What the figures are called where the artifacts are of this task."""
    return _NAMES.get(parity.get("task", ""), _OF_ONE_LABEL)


def agreement(figures: Figures) -> str:
    """How far an artifact's answers go with the Keras model's: same labels, or a correlation."""
    if figures.get("score_correlation") is not None:
        return wording.correlation(figures["score_correlation"])
    if figures.get("neighbour_agreement") is not None:
        return wording.percent(figures["neighbour_agreement"])
    keys = ("label_agreement", "answer_agreement", "token_agreement")
    return wording.percent(next((figures[key] for key in keys if key in figures), None))


def quality(figures: Figures, *, interval: bool = False) -> str:
    """How good an artifact's answers are, by the task's own figure."""
    for key, words in _QUALITIES.items():
        if figures.get(key) is None:
            continue
        ends = figures.get(f"{key}_interval")
        if not interval or not ends:
            return words(figures[key])
        low, high = (words(end).removesuffix("%") for end in ends)
        return f"{words(figures[key])} ({low}–{high})"
    return "–"


def shown_name(name: str, figures: Figures) -> str:
    """Where an artifact stands below the export folder."""
    return figures.get("path") or name


def further_runtimes(figures: Figures) -> dict[str, Figures]:
    """The runtimes that an artifact was asked in beside its first, by the names people know."""
    return {
        RUNTIME_NAMES.get(name, name): ran
        for name, ran in figures.get("runtimes", {}).items()
        if name != figures.get("runtime") and "not_run" not in ran
    }


def difference(figures: Figures) -> str:
    """How far an artifact's numbers are from the Keras model's."""
    for key in ("largest_score_difference", "largest_vector_difference"):
        if figures.get(key) is not None:
            return wording.tiny(figures[key])
    return wording.tiny(None)


def memory(megabytes: float | None) -> str:
    """`961.2` as `961 MB`."""
    return "–" if megabytes is None else f"{wording.count(megabytes)} MB"


def _artifact_rows(name: str, figures: Figures) -> list[list[Any]]:
    rows = [_row(shown_name(name, figures), figures)]
    rows += [_row(f"… in {there}", ran) for there, ran in further_runtimes(figures).items()]
    return rows


def _row(name: str, figures: Figures) -> list[Any]:
    latency = figures.get("latency_ms") or {}
    peak, runtime = (memory(figures.get(f"{key}_memory_mb")) for key in ("peak", "runtime"))
    seconds = figures.get("load_seconds")
    return [
        name,
        figures.get("passed"),
        wording.size(figures.get("bytes")),
        wording.milliseconds(None if seconds is None else 1000 * seconds),
        wording.milliseconds(latency.get("p50")),
        wording.milliseconds(latency.get("p99")),
        peak if peak == runtime else f"{peak} ({runtime.removesuffix(' MB')})",
        difference(figures),
        agreement(figures),
        quality(figures, interval=True),
    ]


def _failures(name: str, figures: Figures) -> list[str]:
    """What failed an artifact, and what it does not do in runtimes that nobody demanded."""
    shown, failures = shown_name(name, figures), list(figures.get("failures", ()))
    lines = [f"{shown}: {'; '.join(failures)}."] if failures else []
    for there, ran in further_runtimes(figures).items():
        others = [text for text in ran["failures"] if not any(text in known for known in failures)]
        if others:
            lines.append(f"{shown} in {there}: {'; '.join(others)}.")
    return lines


def _lede(found: Figures) -> str:
    failed = [shown_name(name, each) for name, each in found.items() if not each.get("passed")]
    if failed:
        does = "does" if len(failed) == 1 else "do"
        return f"{wording.listed(failed)} {does} not answer as the Keras model does."
    if len(found) == 1:
        return "The artifact answers as the Keras model does."
    number = "Both" if len(found) == 2 else f"All {len(found)}"
    return f"{number} artifacts answer as the Keras model does."


def _note(parity: Figures) -> str:
    note = "Difference: the largest distance of a score from the Keras model’s"
    if names_of(parity).quality == _COSINE:
        note += ", of vectors as a share of the largest number"
    if parity.get("rows") is not None:
        note += f", over {wording.plural(parity['rows'], 'real row')}"
    note += ". p50 and p99: half, and 99%, of single texts were answered within that time here"
    measured = [each for each in parity["artifacts"].values() if each.get("peak_memory_mb")]
    if not measured:
        return f"{note}."
    note += ", on one thread; the Keras model’s on all, and TFLite’s in LiteRT without tokenizing"
    return (
        f"{note}. Each was loaded and asked in a process of its own: memory is all that the "
        "process took at its peak, in brackets what it took once the runtime was imported. In "
        "brackets behind the last figure: its 95% interval."
    )


def _vectors(found: Figures) -> list[str]:
    notes = []
    for name, figures in found.items():
        if figures.get("cosine") is not None:
            agreement = figures.get("neighbour_agreement")
            near = f", the same nearest text on {wording.percent(agreement)} of the rows"
            notes.append(
                f"{shown_name(name, figures)} gives vectors: mean cosine {figures['cosine']:.3f} "
                f"with the Keras model’s{near if agreement is not None else ''}."
            )
    return notes


def phone_notes(parity: Figures) -> list[str]:
    """Say which rows a phone tokenizes otherwise, and which runtimes were not asked."""
    not_run: dict[str, None] = {}
    most: Figures = {}
    for figures in parity.get("artifacts", {}).values():
        for name, ran in figures.get("runtimes", {}).items():
            if "not_run" in ran:
                not_run[f"{RUNTIME_NAMES.get(name, name)}: {ran['not_run']}"] = None
            elif ran.get("skew", {}).get("rows", 0) > most.get("skew", {}).get("rows", 0):
                most = ran
    notes = []
    if most:
        example = most["skew"]["example"]
        notes.append(
            f"A phone makes other tokens of {wording.plural(most['skew']['rows'], 'row')} of "
            f"{wording.count(most['rows'])}, and may answer otherwise there: in "
            f"{wording.name(example['text'])} it reads {' '.join(example['theirs'])} where the "
            f"model was trained on {' '.join(example['ours'])}."
        )
    if not_run:
        notes.append(f"Not run in {'; in '.join(not_run)}.")
    return notes
