"""TFLite for phones: builtin operations only, vocabulary and labels inside, verified."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfmodel.config import ConfigError
from tfmodel.export import graph
from tfmodel.export.litert import BATCH_OF_INPUTS, LiteRT
from tfmodel.export.manifest import Manifest, files_of, package_version
from tfmodel.export.metadata import INPUT_NAMES, OUTPUT_NAME, add_metadata
from tfmodel.export.places import make_folder
from tfmodel.export.quiet import quiet
from tfmodel.export.settings import ExportSettings
from tfmodel.export.trained import Trained
from tfmodel.run_folder import write_aside
from tfmodel.tokens.tokenizer import Tokenizer


class ConversionError(RuntimeError):
    """The converter refused the model, or wrote a file that does not answer as the model."""


def _keep(converter: tf.lite.TFLiteConverter) -> None:
    """All weights as they are."""


def _halve(converter: tf.lite.TFLiteConverter) -> None:
    """Weights in float16, computed with in float32."""
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]


def _quantize_dynamically(converter: tf.lite.TFLiteConverter) -> None:
    """Weights in int8, one scale a matrix; activations quantized as they come.

    One scale a column would be FULLY_CONNECTED version 12, which the Task Library 0.4.4 on
    older phones refuses.
    """
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True


VARIANTS: dict[str, Callable[[tf.lite.TFLiteConverter], None]] = {
    "float32": _keep,
    "float16": _halve,
    "int8": _quantize_dynamically,
}
_BYTES_A_WEIGHT = {"float32": 4, "float16": 2, "int8": 1}
# Matrices below this size stay float32 when quantizing.
_SMALLEST_QUANTIZED = 1024
# How far a probe's scores may be off; the quantized one is for check_parity, on real rows.
_PROBE_LIMITS = {"float32": 1e-3, "float16": 0.05, "int8": 1.0}


def export_tflite(
    model: keras.Model,
    tokenizer: Tokenizer,
    path: str | Path,
    *,
    labels: Sequence[str],
    max_length: int,
    quantization: str = "float32",
    has_pairs: bool = False,
) -> Path:
    """Export a classifier as one `.tflite` that MediaPipe and the Task Library take as it is.

    Args:
        model: float32 model from a token batch to logits (B, C).
        tokenizer: the tokenizer the model was trained with.
        path: the file to write; it appears whole, or not at all.
        labels: class names in the order of the logits.
        max_length: tokens a row, always: shorter rows are padded to it.
        quantization: `float32`, `float16` (half the size) or `int8` (a quarter; dynamic range).
        has_pairs: whether a row is two texts; the phone runtimes know single texts alone.

    Returns:
        `path`. Inputs `ids`, `mask` and `segment_ids`, int32 (1, max_length); output
        `probability`, float32 (1, C).

    Raises:
        ConfigError: an unknown quantization, or labels or `max_length` do not fit the model.
        ConversionError: an operation is no TFLite builtin, or the file does not answer as the
            model does.
        OSError: the disk is full.

    Example:
        >>> export_tflite(model, tokenizer, "phone.tflite", labels=["no", "yes"],
        ...               max_length=128, quantization="int8")
        PosixPath('phone.tflite')
    """
    path = Path(path)
    with _converted(
        model, tokenizer, labels=labels, max_length=max_length, has_pairs=has_pairs
    ) as write:
        write(quantization, path)
    return path


def export_tflite_variants(
    model: keras.Model,
    tokenizer: Tokenizer,
    folder: str | Path,
    *,
    variants: Sequence[str],
    labels: Sequence[str],
    max_length: int,
    has_pairs: bool = False,
) -> dict[str, Path]:
    """Export several variants of one model: `<variant>.tflite` each, the graph traced once.

    Args:
        model: as in `export_tflite`, and so are the others.
        tokenizer: the tokenizer the model was trained with.
        folder: where the files go; made where missing.
        variants: names of `VARIANTS`.
        labels: class names in the order of the logits.
        max_length: tokens a row.
        has_pairs: whether a row is two texts.

    Returns:
        Variant to file.

    Raises:
        ConfigError: as `export_tflite`.
        ConversionError: as `export_tflite`.
        OSError: the disk is full.
    """
    paths = {variant: Path(folder, f"{variant}.tflite") for variant in variants}
    with _converted(
        model, tokenizer, labels=labels, max_length=max_length, has_pairs=has_pairs
    ) as write:
        for variant, path in paths.items():
            write(variant, path)
    return paths


def write_artifacts(
    settings: ExportSettings, trained: Trained, aside: Path, tell: Callable[[str], None]
) -> dict[str, Path]:
    """The TFLite files that the settings ask for: name to file below `aside`."""
    if not settings.tflite:
        return {}
    tell(f"converting to TFLite {', '.join(settings.tflite)}")
    files = export_tflite_variants(
        trained.model,
        trained.tokenizer,
        aside / "tflite",
        variants=settings.tflite,
        **trained.described,
    )
    return {f"tflite/{variant}": path for variant, path in files.items()}


@contextlib.contextmanager
def _converted(
    model: keras.Model, tokenizer: Tokenizer, **described
) -> Iterator[Callable[[str, Path], None]]:
    """Trace the model once; yields a function that writes one variant."""
    graph.check_exportable(
        model,
        labels=described["labels"],
        max_length=described["max_length"],
        positions=graph.positions_of(model),
    )
    function = graph.scores_function(model)
    scores = function.get_concrete_function()
    graph.check_float32(scores)
    module = _module(function, max_length=described["max_length"])

    def write(variant: str, path: Path) -> None:
        if variant not in VARIANTS:
            raise ConfigError(unknown_variant(variant))
        manifest = Manifest(
            labels=tuple(described["labels"]),
            max_length=described["max_length"],
            lowercase=tokenizer.lowercase,
            has_pairs=described["has_pairs"],
            precision=variant,
            version=package_version(),
        )
        content = add_metadata(
            _convert(saved, variant),
            files_of(manifest, tokenizer.vocabulary.pieces),
            name="text classifier",
            description=_description(manifest),
            version=manifest.version,
        )
        make_folder(path.parent)
        with write_aside(path) as aside:
            aside.write_bytes(content)
            _verify(aside, scores, module.weights, variant=variant, tokenizer=tokenizer)

    with tempfile.TemporaryDirectory() as saved:
        # Converting the function itself drops the weights of a Keras 3 model without a word;
        # by way of a SavedModel they stay.
        with quiet():
            tf.saved_model.save(module, saved, signatures={"serving_default": module.serve})
        yield write


def unknown_variant(name: object) -> str:
    """The message for a variant that does not exist."""
    return f"Expected TFLite variants among {', '.join(VARIANTS)}. Received: {name!r}."


def _module(scores: tf.types.experimental.GenericFunction, *, max_length: int) -> tf.Module:
    """The model as a phone calls it: one row of a fixed length."""
    signature = [tf.TensorSpec((1, max_length), tf.int32, name=name) for name in INPUT_NAMES]

    @tf.function(input_signature=signature, autograph=False)
    def serve(ids, mask, segment_ids):
        inputs = dict(zip(INPUT_NAMES, (ids, mask, segment_ids), strict=True))
        batch = {BATCH_OF_INPUTS[name]: values for name, values in inputs.items()}
        # The Python function, not the graph: here every shape is known, and folds away.
        return {OUTPUT_NAME: scores.python_function(*(batch[n] for n in graph.BATCH_NAMES))}

    module = tf.Module()
    module.serve = serve
    module.weights = list(serve.get_concrete_function().variables)
    return module


def _description(manifest: Manifest) -> str:
    texts = "two texts" if manifest.has_pairs else "a text"
    return (
        f"BERT: {texts} of at most {manifest.max_length} tokens to {len(manifest.labels)} labels. "
        f"{manifest.precision}. Made by tfmodel {manifest.version}."
    )


def _convert(saved: str, variant: str) -> bytes:
    with quiet():
        converter = tf.lite.TFLiteConverter.from_saved_model(
            saved, signature_keys=["serving_default"]
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        VARIANTS[variant](converter)
        try:
            return converter.convert()
        except Exception as error:
            raise ConversionError(_refused(error)) from error


def _refused(error: Exception) -> str:
    """What the converter did not take, and which layer it is in."""
    found = []
    for entry in getattr(error, "errors", []):
        if entry.operator.name:
            operation = entry.operator.name.removeprefix("tf.")
            places = [call.name.split("@")[0] for call in entry.location.call]
            layer = places[0].rpartition("/")[0] if places else ""
            found.append(f"{operation} in layer {layer or 'unknown'}")
    if not found:
        return f"TensorFlow's converter refused the model: {str(error)[:500]}"
    return (
        "Expected operations that TFLite has built in; the phone runtimes have no others. "
        f"Received: {'; '.join(sorted(set(found)))}. Compute it there with other operations."
    )


def _verify(
    path: Path,
    scores: tf.types.experimental.ConcreteFunction,
    weights: Sequence[tf.Variable],
    *,
    variant: str,
    tokenizer: Tokenizer,
) -> None:
    """Load the file and compare it with the model: on its size, and on two rows of any ids.

    Raises:
        ConversionError: the weights are not in the file, or its answers are others.
    """
    sizes = [int(np.prod(weight.shape)) for weight in weights]
    expected_bytes = sum(
        size * (_BYTES_A_WEIGHT[variant] if size >= _SMALLEST_QUANTIZED else 4) for size in sizes
    )
    # Half: the converter stores equal tensors once, and may fold some away.
    if path.stat().st_size < expected_bytes / 2:
        raise ConversionError(
            f"{variant}: expected about {expected_bytes:,} bytes for {sum(sizes):,} weights. "
            f"Received: a file of {path.stat().st_size:,} bytes, so weights are missing. "
            "TensorFlow's converter dropped them, or they are all alike: was the model trained?"
        )
    run = LiteRT(path, threads=1)
    length = run.length
    generator = np.random.default_rng(0)
    for real in (length, max(length // 4, 2)):
        ids = generator.integers(0, len(tokenizer.vocabulary), (1, length), dtype=np.int32)
        mask = (np.arange(length)[np.newaxis] < real).astype(np.int32)
        batch = {
            "token_ids": np.where(mask == 1, ids, tokenizer.vocabulary.padding_id).astype("int32"),
            "segment_ids": np.zeros_like(ids),
            "padding_mask": mask,
        }
        wanted = scores(**{name: tf.constant(rows) for name, rows in batch.items()}).numpy()
        difference = float(np.max(np.abs(run(batch) - wanted)))
        if not difference <= _PROBE_LIMITS[variant]:
            raise ConversionError(
                f"{variant}: expected the model's scores within {_PROBE_LIMITS[variant]}. "
                f"Received: a file whose scores differ by {difference:.3g}. This is a fault of "
                "TensorFlow's converter; report it with the model's config."
            )
