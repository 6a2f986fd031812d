"""TFLite for phones: builtin operations only, vocabulary and labels inside, verified."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.export import graph
from tfmodel.export.manifest import MANIFEST_FILE, Manifest, files_of
from tfmodel.export.places import make_folder
from tfmodel.export.settings import ExportSettings
from tfmodel.export.tflite.check import verify
from tfmodel.export.tflite.metadata import OUTPUT_NAMES, add_metadata
from tfmodel.export.tflite.phone_runtimes import RUNTIMES, check_operations, choose_runtime
from tfmodel.export.tflite.traced import Traced
from tfmodel.export.tflite.variants import VARIANTS, ConversionError, convert
from tfmodel.export.trained import Trained
from tfmodel.run_folder import write_aside
from tfmodel.tokens.row_tokenizer import RowTokenizer

__all__ = ["ConversionError", "export_tflite", "export_tflite_variants", "write_artifacts"]

LENGTHS = ("fixed", "dynamic")
_VECTOR_SAYS = "What the answers are read from."

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Kind:
    """One file: its number format, the length of its rows, and what it gives."""

    variant: str
    length: str = "fixed"
    output: str = "scores"

    def __post_init__(self):
        for name, value, known in (
            ("variants", self.variant, VARIANTS),
            ("lengths", self.length, LENGTHS),
            ("outputs", self.output, OUTPUT_NAMES),
        ):
            if value not in known:
                raise ConfigError(
                    f"Expected TFLite {name} among {', '.join(known)}. Received: {value!r}."
                )

    @property
    def stem(self) -> str:
        """What the file is called."""
        start = "vector_" if self.output == "vector" else ""  # beside the task's own values
        end = "_dynamic_length" if self.length == "dynamic" else ""
        return f"{start}{self.variant}{end}"


def export_tflite(
    model: keras.Model,
    tokenizer: RowTokenizer,
    path: str | Path,
    *,
    labels: Sequence[str],
    max_length: int,
    quantization: str = "float32",
    length: str = "fixed",
    output: str = "scores",
    runtime: str = "auto",
    has_pairs: bool = False,
    task: str = "classify",
    decoding: Mapping[str, Any] | None = None,
    calibration_texts: Sequence[str] = (),
    calibration_pairs: Sequence[str] | None = None,
) -> Path:
    """Export a model as one `.tflite` that MediaPipe and the Task Library take as it is.

    They have a WordPiece tokenizer and no other: with another one, an app makes the ids.

    Args:
        model: float32 model from a token batch to outputs (B, C).
        tokenizer: the tokenizer the model was trained with.
        path: the file to write; it appears whole, or not at all.
        labels: the name of each output: of `classify` the classes, in the order of the logits.
        max_length: tokens a row at most.
        quantization: `float32`, `float16` (half the size), `int8` (a quarter; dynamic range),
            `int8_weights` (a quarter; computed with in float32) or `int8_full` (a quarter;
            activations in int8 too, floats in and out).
        length: `fixed` (rows of `max_length`, shorter ones padded) or `dynamic` (each row at the
            length of its text).
        output: `scores` for the task's values, or `vector` for what they are read from.
        runtime: what the file must run in: `task-library-0.4`, `mediapipe` or `litert`; each
            takes what those before it take. `auto`: the first that the model can satisfy.
        has_pairs: whether a row is two texts; the phone runtimes know single texts alone.
        task: one of `tasks.TASKS`.
        decoding: what the task's answers are decoded by beside the labels.
        calibration_texts: real texts for `int8_full`, a hundred or so.
        calibration_pairs: as many second texts, for a model of pairs.

    Returns:
        `path`. Inputs `ids`, `mask` and `segment_ids`, int32 (1, T); output `probability`, the
        task's values, float32 (1, C), or `vector`, float32 (1, D). The phone runtimes look for
        `probability` whatever the numbers are: of `regress` it is the score.

    Raises:
        ConfigError: an unknown kind, labels or `max_length` do not fit the model, the runtime
            cannot run such a model, or `int8_full` has no texts to be calibrated on.
        ConversionError: an operation is no TFLite builtin or too new for the runtime, or the
            file does not answer as the model does.
        OSError: the disk is full.

    Example:
        >>> export_tflite(model, tokenizer, "phone.tflite", labels=["no", "yes"],
        ...               max_length=128, quantization="int8", length="dynamic")
        PosixPath('phone.tflite')
    """
    kind = _Kind(quantization, length, output)
    trained = Trained(
        model,
        tokenizer,
        labels=labels,
        max_length=max_length,
        has_pairs=has_pairs,
        task=task,
        decoding=decoding or {},
        calibration_texts=calibration_texts,
        calibration_pairs=calibration_pairs,
    )
    return _export(trained, {kind: Path(path)}, runtime)[kind]


def export_tflite_variants(
    model: keras.Model,
    tokenizer: RowTokenizer,
    folder: str | Path,
    *,
    variants: Sequence[str],
    lengths: Sequence[str] = ("fixed",),
    outputs: Sequence[str] = ("scores",),
    runtime: str = "auto",
    **described: Any,
) -> dict[str, Path]:
    """Export several files of one model: every variant in every length, for every output.

    Args:
        model: as in `export_tflite`, and so are the others.
        tokenizer: the tokenizer the model was trained with.
        folder: where the files go; made where missing.
        variants: values of `quantization`.
        lengths: values of `length`.
        outputs: values of `output`.
        runtime: what the files must run in.
        **described: `labels`, `max_length`, `has_pairs`, `task`, `decoding`, `calibration_texts`
            and `calibration_pairs`.

    Returns:
        Name to file: `<variant>`, `<variant>_dynamic_length`, `vector_<variant>` or
        `vector_<variant>_dynamic_length`; the file adds `.tflite`.

    Raises:
        ConfigError: as `export_tflite`.
        ConversionError: as `export_tflite`.
        OSError: the disk is full.
    """
    kinds = [
        _Kind(variant, length, output)
        for output, length, variant in itertools.product(outputs, lengths, variants)
    ]
    paths = {kind: Path(folder, f"{kind.stem}.tflite") for kind in kinds}
    written = _export(Trained(model, tokenizer, **described), paths, runtime)
    return {kind.stem: path for kind, path in written.items()}


def write_artifacts(
    settings: ExportSettings, trained: Trained, aside: Path, tell: Callable[[str], None]
) -> dict[str, Path]:
    """The TFLite files that the settings ask for: name to file below `aside`."""
    if not settings.tflite:
        return {}
    rows = settings.calibration_rows
    pairs = trained.calibration_pairs
    outputs = ("scores", "vector") if settings.tflite_vector else ("scores",)
    tell(f"converting to TFLite {', '.join(settings.tflite)}")
    files = export_tflite_variants(
        trained.model,
        trained.tokenizer,
        aside / "tflite",
        variants=settings.tflite,
        lengths=settings.tflite_length,
        outputs=outputs,
        runtime=settings.runtime,
        calibration_texts=trained.calibration_texts[:rows],
        calibration_pairs=None if pairs is None else pairs[:rows],
        **trained.described,
    )
    return {f"tflite/{stem}": path for stem, path in files.items()}


def _export(trained: Trained, paths: dict[_Kind, Path], runtime: str) -> dict[_Kind, Path]:
    """Check what is wished for, all of it before anything is converted; then write each."""
    runtime = choose_runtime(runtime, trained)
    _log.info("TFLite files are made for %s", RUNTIMES[runtime].shown)
    positions = graph.positions_of(trained.model)
    graph.check_exportable(
        trained.model,
        labels=trained.labels,
        max_length=trained.max_length,
        positions=positions,
        task=trained.task,
        decoding=trained.decoding,
    )
    if tasks.fills_gaps(trained.task) and any(
        VARIANTS[kind.variant].is_calibrated or (kind.length, kind.output) != ("fixed", "scores")
        for kind in paths
    ):
        raise ConfigError(
            f"Expected length fixed, output scores and no int8_full of {trained.task}, which gives "
            "the logits of one gap. Received: others. Leave them out."
        )
    if any(kind.output == "vector" for kind in paths) and tasks.reads_tokens(trained.task):
        raise ConfigError(
            f"export.tflite_vector: expected a task that reads the sentence vector. Received: "
            f"{trained.task}, which reads tokens: no vector was learned. Leave it out."
        )
    if positions is None and any(kind.output == "vector" for kind in paths):
        raise ConfigError(
            "Expected a model on an encoder from build_encoder, whose pooled output is the "
            "sentence vector. Received: another model. Leave the vector out."
        )
    if any(VARIANTS[kind.variant].is_calibrated for kind in paths):
        _check_calibration(trained)
    with tempfile.TemporaryDirectory() as folder:
        traced = Traced(trained, Path(folder))
        for kind, path in paths.items():
            _write(kind, path, traced, runtime)
    return paths


def _check_calibration(trained: Trained) -> None:
    if not len(trained.calibration_texts):
        raise ConfigError(
            "Expected real texts to calibrate int8_full on. Received: none. Pass "
            "calibration_texts, a hundred or so of the training texts."
        )


def _write(kind: _Kind, path: Path, traced: Traced, runtime: str) -> None:
    """Convert, describe, verify, and only then put the file where it is wanted."""
    trained = traced.trained
    variant = VARIANTS[kind.variant]
    saved, module = traced.saved(
        is_dynamic=kind.length == "dynamic", output=kind.output, small_tables=variant.small_tables
    )
    manifest = trained.manifest(precision=kind.variant, output=kind.output)
    task = tasks.find(trained.task)
    converted = convert(
        saved,
        kind.variant,
        per_channel=RUNTIMES[runtime].has_per_channel,
        calibration=traced.calibration() if variant.is_calibrated else None,
    )
    check_operations(converted, runtime)
    content = add_metadata(
        converted,
        files_of(manifest, trained.tokenizer),
        name="text embedder" if manifest.output == "vector" else task.TITLE,
        description=_description(manifest, runtime),
        says=_VECTOR_SAYS if kind.output == "vector" else task.SAYS + _of_transitions(manifest),
        version=manifest.version,
    )
    make_folder(path.parent)
    with write_aside(path) as aside:
        aside.write_bytes(content)
        verify(
            aside,
            traced.answer(kind.output),
            module.weights,
            variant=kind.variant,
            vocabulary=trained.tokenizer.vocabulary,
            max_length=trained.max_length,
        )


def _of_transitions(manifest: Manifest) -> str:
    """What an app must know of a file whose words are not read each by itself."""
    if "transitions" not in manifest.decoding:
        return ""
    return f" Words get their tags together, with the transitions in {MANIFEST_FILE}."


def _description(manifest: Manifest, runtime: str) -> str:
    texts = "two texts" if manifest.has_pairs else "a text"
    gives = "a vector"
    if manifest.output == "scores":
        gives = tasks.find(manifest.task).GIVES.format(len(manifest.labels))
        texts = "a row with a gap" if tasks.fills_gaps(manifest.task) else texts
    return (
        f"BERT: {texts} of at most {manifest.max_length} tokens to {gives}. {manifest.precision}, "
        f"for {RUNTIMES[runtime].shown}. Made by tfmodel {manifest.version}."
    )
