"""One artifact against the Keras model: asked in its runtimes, compared, judged."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.export import linting
from tfmodel.export.artifacts import load
from tfmodel.export.manifest import Manifest, output_of
from tfmodel.export.parity.by_answers import COMPARE, read_by
from tfmodel.export.parity.description import Description, describe
from tfmodel.export.parity.gap_runtimes import ask_litert_gaps, ask_tensorflow_gaps
from tfmodel.export.parity.measure import ClientError, percentiles
from tfmodel.export.parity.phones import PHONE_ROWS, ask_phone, phones
from tfmodel.export.parity.rows import Rows
from tfmodel.export.parity.runtimes import (
    CHECK_ROWS,
    RUNTIME_OF_KIND,
    Asked,
    ask_litert,
    ask_tensorflow,
)
from tfmodel.export.parity.token_runtimes import ask_litert_windows, ask_tensorflow_tokens
from tfmodel.export.parity.verdicts import compare_vectors
from tfmodel.export.predictor import Predictor

LATENCY_ROWS = 50


@dataclasses.dataclass(frozen=True)
class Gate:
    """What every artifact is held to.

    Attributes:
        drawn: all rows that may be asked.
        first: the rows that every artifact is asked.
        max_drop: share of rows an artifact of reduced precision may lose, in [0, 1].
        demanded: runtimes of phones that a TFLite file must answer rightly in.
        measure: whether SavedModels and TFLite files are asked in processes of their own.
        timeout_seconds: for one such process.
    """

    drawn: Rows
    first: Rows
    max_drop: float
    demanded: tuple[str, ...]
    measure: bool
    timeout_seconds: float

    def check(self, path: Path) -> dict[str, Any]:
        """Figures and verdict on one artifact."""
        try:
            described = describe(path)
            if self.measure and described is not None:
                found = self._check_apart(described)
            else:
                found = self._check_here(path, described)
        except ConfigError as error:
            return {"passed": False, "failures": [f"it cannot be loaded: {error}"]}
        return _linted(path, found) if found["kind"] == "savedmodel" else found

    def _check_here(self, path: Path, described: Description | None) -> dict[str, Any]:
        """Ask it in this process: texts alone, no signature of token ids or limits."""
        started = time.perf_counter()
        artifact = load(path, threads=1)
        load_seconds = time.perf_counter() - started
        values, latency = _ask(artifact, self.first)
        threads = 1 if artifact.kind == "tflite" else os.cpu_count()
        taken = {"load_seconds": round(load_seconds, 3), "latency_ms": latency, "threads": threads}
        others = {}
        if artifact.kind == "savedmodel" and artifact.gives_vectors:
            few = self.first.first(CHECK_ROWS)
            others["vector"] = artifact.vectors(few.texts, few.text_pairs)
        asked = Asked(values, taken, others=others)
        figures = self._compare(asked, artifact.manifest, path, artifact)
        if described is not None:
            figures["failures"] += described.contradictions()
        runtime = RUNTIME_OF_KIND.get(artifact.kind, artifact.kind)
        return _verdict(path, artifact.kind, artifact.manifest, {runtime: figures})

    def _check_apart(self, described: Description) -> dict[str, Any]:
        """Ask it in processes of their own, one for each runtime."""
        path, manifest, first = described.path, described.manifest, self.first
        texts, timeout_seconds = (first.texts, first.text_pairs), self.timeout_seconds
        runtime = RUNTIME_OF_KIND[described.kind]
        try:
            if tasks.fills_gaps(manifest.task):
                ask = ask_litert_gaps if described.kind == "tflite" else ask_tensorflow_gaps
                asked = ask(described, first.texts, timeout_seconds=timeout_seconds)
            elif tasks.gives_lists(manifest.task):
                ask = ask_litert_windows if described.kind == "tflite" else ask_tensorflow_tokens
                asked = ask(described, first.texts, timeout_seconds=timeout_seconds)
            elif described.kind == "tflite":
                asked = ask_litert(described, *texts, timeout_seconds=timeout_seconds)
            else:
                asked = ask_tensorflow(
                    described,
                    *texts,
                    with_vectors=first.reference.gives_vectors,
                    timeout_seconds=timeout_seconds,
                )
        except ClientError as error:
            failed = {"failures": [str(error)], "passed": False}
            return _verdict(path, described.kind, manifest, {runtime: failed})
        figures = self._compare(asked, manifest, path)
        figures["failures"] += described.contradictions()
        runtimes = {runtime: figures}
        if described.kind == "tflite":
            runtimes |= self._phones(described, asked)
        return _verdict(path, described.kind, manifest, runtimes, demanded=self.demanded)

    def _phones(self, described: Description, asked: Asked) -> dict[str, Any]:
        """Ask a TFLite file in the runtimes of phones that are at hand."""
        found = {}
        few = self.first.first(PHONE_ROWS)
        for name, phone in phones().items():
            if phone.python is None:
                found[name] = {"not_run": phone.missing}
            elif described.manifest.tokenizer != "wordpiece":
                found[name] = {"not_run": f"it has no tokenizer {described.manifest.tokenizer}"}
            elif described.manifest.template:
                found[name] = {"not_run": "it puts texts into no template"}
            elif tasks.fills_gaps(described.manifest.task):
                found[name] = {"not_run": "it has no task that fills gaps"}
            elif tasks.gives_lists(described.manifest.task):
                found[name] = {"not_run": "it has no task that answers each token"}
            elif self.first.text_pairs is not None:
                found[name] = {"not_run": _not_asked(described.manifest, name)}
            elif asked.values is None:
                found[name] = {"not_run": "it does not answer in LiteRT"}
            else:
                found[name] = ask_phone(
                    phone,
                    described,
                    few.texts,
                    asked.values[:PHONE_ROWS],
                    few.targets,
                    max_drop=self.max_drop,
                    timeout_seconds=self.timeout_seconds,
                )
        return found

    def _compare(
        self, asked: Asked, manifest: Manifest, path: Path, artifact: Predictor | None = None
    ) -> dict[str, Any]:
        """Figures of what an artifact answers, and in words what is beyond its limits."""
        figures: dict[str, Any] = {"failures": []}
        if asked.values is not None:
            figures = self._values(asked.values, self.first, manifest)
        if figures["failures"] and self._deserves_a_second_look(asked, manifest):
            # Chance may lose three rows of 200.
            artifact = artifact or load(path)
            values = artifact.values(self.drawn.texts, self.drawn.text_pairs)
            figures = self._values(values, self.drawn, manifest)
        figures["failures"] = [*asked.failures, *figures["failures"]]
        few = self.first.first(CHECK_ROWS)
        for name, values in asked.others.items():
            output = output_of(manifest.task, "vector" if name == "vector" else "scores")
            other = dataclasses.replace(manifest, output=output)
            compared = self._values(values, few, other)
            figures["failures"] += [f"signature {name}: {text}" for text in compared["failures"]]
            del compared["failures"]
            figures.setdefault("signatures", {})[name] = compared
        if (task := self.first.reference.task) != manifest.task:
            figures["failures"].append(f"its task is {manifest.task}, the Keras model's {task}")
        if dict(manifest.decoding) != dict(self.first.reference.manifest.decoding):
            figures["failures"].append("its answers are decoded otherwise than the Keras model's")
        if (labels := self.first.reference.labels) != list(manifest.labels):
            figures["failures"].append(
                f"its labels are {list(manifest.labels[:5])}, the Keras model's {labels[:5]}"
            )
        return {**figures, **asked.figures, "passed": not figures["failures"]}

    def _deserves_a_second_look(self, asked: Asked, manifest: Manifest) -> bool:
        return (
            not asked.failures
            and manifest.output == "scores"
            and manifest.precision != "float32"
            and len(self.drawn) > len(self.first)
        )

    def _values(self, values: np.ndarray | list, rows: Rows, manifest: Manifest) -> dict[str, Any]:
        if manifest.output == "vector":
            return compare_vectors(values, rows.vectors, precision=manifest.precision)
        compare = COMPARE[tasks.find(rows.reference.task).ANSWERS]
        return compare(
            values,
            rows.values,
            rows.targets,
            precision=manifest.precision,
            max_drop=self.max_drop,
            **read_by(rows.reference),
        )


def _not_asked(manifest: Manifest, runtime: str) -> str:
    """Why a runtime of phones is not asked pairs of texts."""
    if tasks.find(manifest.task).ANSWERS == "span" and runtime == "task-library-0.4":
        return "its BertQuestionAnswerer gives words, not logits"
    return "it takes single texts alone"


def _linted(path: Path, found: dict[str, Any]) -> dict[str, Any]:
    """The entry of a SavedModel with what TF Serving says of its graph."""
    try:
        report = linting.lint(path, target=linting.DEFAULT_TARGET)
    except ConfigError as error:
        return {**found, "failures": [*found["failures"], str(error)], "passed": False}
    failures = [*found["failures"], *report.problems]
    serving = {"needs": report.needs, "warnings": list(report.warnings)}
    return {**found, "serving": serving, "failures": failures, "passed": not failures}


def _verdict(
    path: Path,
    kind: str,
    manifest: Manifest,
    runtimes: dict[str, dict[str, Any]],
    *,
    demanded: Sequence[str] = (),
) -> dict[str, Any]:
    """One artifact's entry: the figures of its first runtime, and those of each below."""
    main, *_ = runtimes
    for figures in runtimes.values():
        if "failures" in figures:
            figures["passed"] = not figures["failures"]
    failures = list(runtimes[main]["failures"])
    for name in demanded:
        failures += [f"in {name}: {text}" for text in runtimes.get(name, {}).get("failures", ())]
    return {
        "path": str(path),
        "kind": kind,
        "precision": manifest.precision,
        "output": manifest.output,
        **runtimes[main],
        "bytes": _bytes(path),
        "runtime": main,
        "runtimes": runtimes,
        "failures": failures,
        "passed": not failures,
    }


def _ask(artifact: Predictor, rows: Rows) -> tuple[np.ndarray, dict[str, float]]:
    """What an artifact answers to all rows, and how long one takes."""
    if artifact.kind != "tflite":
        return _answer(artifact)(rows.texts, rows.text_pairs), latency_of(artifact, rows)
    # A phone's file takes a row at a time anyway: one pass gives both.
    values, milliseconds = _one_by_one(artifact, rows)
    return values, percentiles(milliseconds)


def _answer(predictor: Predictor) -> Callable[..., np.ndarray]:
    return predictor.values if predictor.gives_scores else predictor.vectors


def latency_of(predictor: Predictor, rows: Rows) -> dict[str, float]:
    """How long one row at a time takes: `p50` and `p99` in ms, of so many `rows`."""
    return percentiles(_one_by_one(predictor, rows.first(LATENCY_ROWS))[1])


def _one_by_one(predictor: Predictor, rows: Rows) -> tuple[np.ndarray, list[float]]:
    answer = _answer(predictor)
    values, milliseconds = [], []
    for row, text in enumerate(rows.texts):
        pair = None if rows.text_pairs is None else [rows.text_pairs[row]]
        if row == 0:
            answer([text], pair)  # the first call allocates
        started = time.perf_counter()
        values.append(answer([text], pair)[0])
        milliseconds.append(1000 * (time.perf_counter() - started))
    return values if predictor.gives_lists else np.stack(values), milliseconds


def _bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
