"""Requests that TF Serving answers before a version takes traffic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tfmodel import tasks
from tfmodel.export.linting.warmup_records import WARMUP_FILE
from tfmodel.export.manifest import Manifest
from tfmodel.tasks.fill import GAP

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
"""Of a server that batches: what `allowed_batch_sizes` should be."""


def write_warmup(
    folder: Path,
    texts: Sequence[str],
    manifest: Manifest,
    signatures: Sequence[str],
    *,
    sizes: Sequence[int] = BATCH_SIZES,
) -> None:
    """Write requests for every signature that takes texts, in every batch size.

    A request has short and long rows in turn, so that the work for a short and for a full row has
    been prepared when the first users come.

    Args:
        folder: a SavedModel version folder.
        texts: texts; repeated to fill the batches, and within a row to fill it.
        manifest: whether the model takes `text_pair` too (it gets the same texts), and the
            longest row.
        signatures: names of the model's signatures; `ids` is left out.
        sizes: rows of a request.
    """
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    path = folder / WARMUP_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in (name for name in signatures if name != "ids"):
            for rows in sizes:
                request = predict_pb2.PredictRequest()
                request.model_spec.name = "model"
                request.model_spec.signature_name = signature
                for name, values in _columns(texts, rows, manifest, signature).items():
                    request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
                log = prediction_log_pb2.PredictionLog(
                    predict_log=prediction_log_pb2.PredictLog(request=request)
                )
                # Inputs are a map, which has no order of its own.
                writer.write(log.SerializeToString(deterministic=True))


def full_row(text: str, manifest: Manifest) -> str:
    """A text over and over, so that it is as long as a model reads.

    Args:
        text: any text.
        manifest: the longest row; whether the model fills gaps: then the row has one, in front, for
            what comes late is cut and each gap costs the scores of a whole vocabulary.
    """
    fills_gaps = tasks.fills_gaps(manifest.task)
    words = text.replace(GAP, "").strip() if fills_gaps else text
    # A word is a token or more.
    filled = " ".join([words or "a"] * manifest.max_length)
    return f"{GAP} {filled}" if fills_gaps else filled


def _columns(
    texts: Sequence[str], rows: int, manifest: Manifest, signature: str
) -> Mapping[str, list]:
    batch = [texts[row % len(texts)] for row in range(rows)]
    # A single row is the short one.
    column = [full_row(batch[row], manifest) if row % 2 else batch[row] for row in range(rows)]
    columns = {
        name: column for name in ("text", "text_pair") if name == "text" or manifest.has_pairs
    }
    if signature == "max_length":
        columns["max_length"] = [manifest.max_length] * rows
    return columns
