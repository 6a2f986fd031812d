"""SavedModel for TF Serving: strings in, labels out, versions that appear whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from tfmodel.export import graph
from tfmodel.export.manifest import Manifest, files_of, package_version
from tfmodel.export.places import make_folder, next_version
from tfmodel.export.quiet import quiet
from tfmodel.export.settings import ExportSettings
from tfmodel.export.trained import Trained
from tfmodel.run_folder import write_aside
from tfmodel.tokens.tokenizer import Tokenizer

TEXT_SIGNATURE = "serving_default"
IDS_SIGNATURE = "ids"
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
WARMUP_BATCH_SIZES = (1, 8, 32)


def export_savedmodel(
    model: keras.Model,
    tokenizer: Tokenizer,
    base: str | Path,
    *,
    labels: Sequence[str],
    max_length: int,
    has_pairs: bool = False,
    warmup_texts: Sequence[str] = (),
) -> Path:
    """Export a classifier as the next version under a folder that TF Serving watches.

    Args:
        model: float32 model from a token batch to logits (B, C).
        tokenizer: the tokenizer the model was trained with.
        base: the served folder; made where missing.
        labels: class names in the order of the logits.
        max_length: tokens a row at most; longer texts are cut.
        has_pairs: whether a row is two texts.
        warmup_texts: texts for the records that TF Serving answers before it takes traffic;
            by default the labels.

    Returns:
        The new version's folder: the highest number so far plus one. It appears whole, and no
        older version is touched. Signature `serving_default` takes strings `text` (B,), and
        `text_pair` (B,) for pairs; `ids` takes int32 `token_ids`, `segment_ids` and
        `padding_mask` (B, T). Both give `label` (B,) string, `score` (B,) and `scores` (B, C).

    Raises:
        ConfigError: labels or `max_length` do not fit the model, or `base` cannot be written.
        ValueError: the model computes in half precision.
        OSError: the disk is full.

    Example:
        >>> export_savedmodel(model, tokenizer, "served", labels=["no", "yes"], max_length=128)
        PosixPath('served/1')
    """
    graph.check_exportable(
        model, labels=labels, max_length=max_length, positions=graph.positions_of(model)
    )
    manifest = Manifest(
        labels=tuple(labels),
        max_length=max_length,
        lowercase=tokenizer.lowercase,
        has_pairs=has_pairs,
        version=package_version(),
    )
    base = make_folder(base)
    version = base / str(next_version(base))
    # Its name is no integer until it is whole, and TF Serving looks at integers alone.
    with write_aside(version) as folder, quiet():
        files = files_of(manifest, tokenizer.vocabulary.pieces)
        _save(_module(model, tokenizer, manifest), folder, files)
        write_warmup(folder, list(warmup_texts) or list(labels), has_pairs=has_pairs)
    return version


def write_artifacts(
    settings: ExportSettings, trained: Trained, aside: Path, tell: Callable[[str], None]
) -> dict[str, Path]:
    """The SavedModels that the settings ask for: name to version folder below `aside`."""
    written = {}
    for precision in settings.savedmodel_precision if settings.savedmodel else ():
        name = "savedmodel" if precision == "float32" else f"savedmodel_{precision}"
        tell(f"writing {name}")
        written[name] = export_savedmodel(
            trained.model, trained.tokenizer, aside / name, **trained.described
        )
    return written


def _module(model: keras.Model, tokenizer: Tokenizer, manifest: Manifest) -> tf.Module:
    """Everything a version serves, as an object that `tf.saved_model.save` takes."""
    scores = graph.scores_function(model)
    concrete_scores = scores.get_concrete_function()
    graph.check_float32(concrete_scores)
    names = tf.constant(manifest.labels)

    def answers(batch):
        probabilities = concrete_scores(**batch)
        return {
            "label": tf.gather(names, tf.argmax(probabilities, axis=-1)),
            "score": tf.reduce_max(probabilities, axis=-1),
            "scores": probabilities,
        }

    tokenize = graph.batch_function(
        tokenizer, max_length=manifest.max_length, has_pairs=manifest.has_pairs
    )
    concrete_tokenize = tokenize.get_concrete_function()

    def from_texts(*texts):
        return answers(concrete_tokenize(*texts))

    def from_ids(*batch):
        named = dict(zip(graph.BATCH_NAMES, batch, strict=True))
        return answers(graph.at_least_one_token(named))

    module = tf.Module()
    # Only what the graph reads: no state of dropout, no optimizer.
    module.weights = list(concrete_scores.variables)
    module.signatures_by_name = {
        TEXT_SIGNATURE: _like(tokenize, from_texts),
        IDS_SIGNATURE: _like(scores, from_ids),
    }
    return module


def _like(function, python_function):
    """A graph of `python_function` that takes what `function` takes."""
    return tf.function(python_function, input_signature=function.input_signature, autograph=False)


def _save(module: tf.Module, folder: Path, files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as staging:
        assets = []
        for name, content in files.items():
            path = Path(staging, name)
            path.write_bytes(content)
            assets.append(tf.saved_model.Asset(str(path)))
        module.files = assets
        tf.saved_model.save(module, str(folder), signatures=module.signatures_by_name)


def write_warmup(folder: Path, texts: Sequence[str], *, has_pairs: bool) -> None:
    """Write the requests that TF Serving answers before a version takes traffic.

    Args:
        folder: a SavedModel version folder.
        texts: real texts; repeated to fill the batches.
        has_pairs: whether the model takes `text_pair` too; it gets the same texts.
    """
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    path = folder / WARMUP_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ("text", "text_pair") if has_pairs else ("text",)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for rows in WARMUP_BATCH_SIZES:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "model"
            request.model_spec.signature_name = TEXT_SIGNATURE
            batch = [texts[index % len(texts)] for index in range(rows)]
            for name in names:
                request.inputs[name].CopyFrom(tf.make_tensor_proto(batch, tf.string))
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())
