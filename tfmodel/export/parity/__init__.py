"""Does every artifact answer as the Keras model does? Figures, and a gate."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmodel import tasks
from tfmodel.export.parity.by_answers import QUALITY, read_by
from tfmodel.export.parity.gate import Gate, latency_of
from tfmodel.export.parity.rows import draw
from tfmodel.export.parity.verdicts import (
    LARGEST_FLOAT32_DIFFERENCE,
    LARGEST_SHARE_OF_SPREAD,
    NEAR_TIE,
    SMALLEST_COSINE,
    SMALLEST_NEIGHBOUR_AGREEMENT,
)
from tfmodel.export.predictor import Predictor

ROWS = 200
SECOND_LOOK_ROWS = 1000
MEASURE_VARIABLE = "TFMODEL_MEASURE_ARTIFACTS"
"""With `0` artifacts are asked in this process, and nothing is measured apart from it."""

# What a file must run in, by the runtime that it is demanded for; each takes what those before
# it take. LiteRT always counts.
_DEMANDED = {
    "task-library-0.4": ("task-library-0.4", "mediapipe"),
    "mediapipe": ("mediapipe",),
}
# What has an artifact of reduced precision written.
_SETTINGS = {
    "keras_hub": "export.keras_hub",
    "savedmodel": "export.savedmodel_precision",
    "tflite": "export.tflite",
}
_STARTING_SECONDS = 600
"""A machine with much else to do takes minutes to import TensorFlow."""
_PATIENCE = 10
"""A process may take this many times as long as the Keras model on one thread."""


class ParityError(RuntimeError):
    """An artifact answers otherwise than the Keras model it was made from, or cannot be served.

    Attributes:
        parity: every figure, as `check_parity` returns them.
    """

    def __init__(self, message: str, parity: dict[str, Any]):
        super().__init__(message)
        self.parity = parity


def check_parity(
    reference: Predictor,
    artifacts: Mapping[str, str | Path],
    texts: Sequence[str],
    text_pairs: Sequence[str] | None = None,
    *,
    targets: Sequence[Any] | np.ndarray | None = None,
    max_drop: float = 0.01,
    runtime: str = "auto",
    rows: int = ROWS,
    seed: int = 0,
    measure: bool | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Ask the Keras model and every artifact the same real texts.

    A float32 artifact fails when a score is off by more than 1e-4. One of reduced precision
    fails when it loses more than `max_drop` of accuracy, or, where no targets are known, gives
    another label on more than `2 * max_drop` of the rows: a changed label was right before or
    is right now about as often, so half of them at most are lost; one row is never proof. Of a
    task that gives numbers, one of reduced precision fails when it loses more than `max_drop` of
    Spearman's correlation, or strays from the Keras model's; see `verdicts.compare_numbers`. Of
    entities it is their F1; see `entity_verdicts.compare_spans`. With
    more rows at hand, a reduced one that fails on the first is asked up to 1,000 before the
    verdict, which chance must not give. Sentence vectors: see `verdicts.compare_vectors`.

    Args:
        reference: the float32 Keras model.
        artifacts: name to what `load` takes.
        texts: real texts, at least one; drawn from where there are more than `rows`.
        text_pairs: as many second texts, for a model of pairs.
        targets: the right answers, (n,), where known: class ids, of `regress` numbers.
        max_drop: share of rows an artifact of reduced precision may lose, in [0, 1]; of numbers,
            how much of Spearman's correlation.
        runtime: a runtime of phones that TFLite files must answer rightly in, where it is at hand:
            `export.runtime`.
        rows: how many texts to ask.
        seed: which ones are drawn.
        measure: ask SavedModels and TFLite files in processes of their own, in every runtime at
            hand, and measure load time, latency on one thread and memory there; by default unless
            the environment says TFMODEL_MEASURE_ARTIFACTS=0.
        progress: told the name of each artifact before it is asked.

    Returns:
        What `parity.json` holds: `task`, `rows`, `limits`, `passed`, `reference` and `artifacts`
        with largest score difference, label agreement and accuracy (or correlations), bytes, load
        time, latency and memory each, and `runtimes`: the same in each runtime, or why it was not
        run.

    Raises:
        ParityError: an artifact fails; it names each with its figures.
        ConfigError: no texts, or not as many pairs or targets as texts.
    """
    drawn = draw(reference, texts, text_pairs, targets, rows=max(rows, SECOND_LOOK_ROWS), seed=seed)
    first = drawn.first(rows)
    reference_latency = latency_of(reference, first)
    if measure is None:
        measure = os.environ.get(MEASURE_VARIABLE) != "0"
    on_one_thread = reference_latency["p50"] / 1000 * (os.cpu_count() or 1)
    gate = Gate(
        drawn,
        first,
        max_drop=max_drop,
        demanded=_DEMANDED.get(runtime, ()),
        measure=measure,
        timeout_seconds=_STARTING_SECONDS + _PATIENCE * on_one_thread * len(first),
    )
    answers = tasks.find(reference.task).ANSWERS
    parity = {
        "task": reference.task,
        "rows": len(first),
        "limits": _limits(answers, max_drop, targets),
        "reference": {
            **QUALITY[answers](first.values, first.targets, **read_by(reference)),
            "latency_ms": reference_latency,
            "threads": os.cpu_count(),
        },
        "artifacts": {},
    }
    for name, path in artifacts.items():
        if progress is not None:
            progress(name)
        parity["artifacts"][name] = gate.check(Path(path))
    failed = [name for name, figures in parity["artifacts"].items() if not figures["passed"]]
    parity["passed"] = not failed
    if failed:
        raise ParityError(_message(parity, failed), parity)
    return parity


def _limits(answers: str, max_drop: float, targets: object) -> dict[str, Any]:
    own: dict[str, Any] = {"share_of_spread": LARGEST_SHARE_OF_SPREAD}
    if answers == "vectors":
        own = {}
    elif answers != "number":
        own = {"label_agreement": None if targets is not None else 1 - 2 * max_drop}
    if answers == "classes":
        own["near_tie"] = NEAR_TIE
    if answers == "gaps":
        own = {"token_agreement": None if targets is not None else 1 - 2 * max_drop}
    if answers == "span":
        own = {"answer_agreement": None if targets is not None else 1 - 2 * max_drop}
    return {
        "float32_score_difference": LARGEST_FLOAT32_DIFFERENCE,
        "max_drop": max_drop,
        **own,
        "vector_cosine": SMALLEST_COSINE,
        "vector_neighbour_agreement": SMALLEST_NEIGHBOUR_AGREEMENT,
    }


def _message(parity: dict[str, Any], failed: Sequence[str]) -> str:
    artifacts = parity["artifacts"]
    wrong = [artifacts[name] for name in failed if not _is_only_unfit(artifacts[name])]
    what = ["do not answer as the Keras model does"] if wrong else []
    if len(wrong) < len(failed):
        what.append("are not fit for TF Serving")
    lines = [
        f"{len(failed)} of {len(artifacts)} artifacts {' or '.join(what)}, so none was published:"
    ]
    lines += [f"  {name}: {'; '.join(artifacts[name]['failures'])}" for name in failed]
    if wrong and all(figures.get("precision", "float32") != "float32" for figures in wrong):
        keys = ", ".join(dict.fromkeys(map(_setting, wrong)))
        advice = f"Leave out what is of reduced precision ({keys})"
        if any(figures["output"] == "scores" for figures in wrong):
            advice += f", or allow more with export.max_drop (now {parity['limits']['max_drop']})"
        lines.append(f"{advice}.")
    return "\n".join(lines)


def _is_only_unfit(figures: dict[str, Any]) -> bool:
    """Whether a SavedModel answers rightly, and its graph alone was refused."""
    asked = figures.get("runtimes", {}).get(figures.get("runtime"), {})
    return figures.get("kind") == "savedmodel" and asked.get("passed", False)


def _setting(figures: dict[str, Any]) -> str:
    """The key that has an artifact of reduced precision written."""
    if figures["output"] == "vector":
        return "export.tflite_vector"
    return _SETTINGS.get(figures["kind"], "export")
