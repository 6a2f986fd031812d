"""Whether a version may go live: what its files, its check and its warm-up say."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.export.linting.warmup_records import WARMUP_FILE, WARMUP_MAX_RECORDS
from tfmodel.serve.batching_file import read_batching
from tfmodel.serve.errors import ServingError, without_paths
from tfmodel.serve.servable import Servable

PARITY_FILE = "parity.json"


Note = Callable[[str, float], None]
"""Told how a warm-up went, OK or a code, and how many seconds it took."""


def admit(folder: Path, *, target: str, note: Note = lambda *_: None) -> Servable:
    """Load a version that may be served, and answer its warm-up requests.

    Args:
        folder: the version folder.
        target: the TF Serving release whose operations it must make do with.
        note: told of the warm-up.

    Returns:
        The version, warm.

    Raises:
        ServingError: it is damaged, the lint or its parity verdict refuses it, it cannot be
            loaded, or a warm-up request fails. The message names no path.
    """
    _check_files(folder, target)
    _check_parity(folder)
    batching = read_batching(folder)
    servable = Servable(folder, batching=batching)
    try:
        _warm_up(servable, folder, note)
    except BaseException:
        servable.close()
        raise
    return servable


def _check_files(folder: Path, target: str) -> None:
    from tfmodel.export.linting import lint

    try:
        report = lint(folder, target=target)
    except ConfigError as error:
        raise _refusal(f"It is damaged: {error}") from None
    except OSError as error:
        raise _refusal(f"It cannot be read: {error.strerror}") from None
    if not report.passed:
        words = f"TF Serving {target} cannot serve it: {' '.join(report.problems)}"
        raise _refusal(words)


def _check_parity(folder: Path) -> None:
    if not all(verdict is True for verdict in parity_verdicts(folder)):
        raise _refusal(f"Its {PARITY_FILE} says that it does not answer as its model does.")


def parity_verdicts(folder: Path) -> list[Any]:
    """What `parity.json` says of a version; an export puts it beside the base folder.

    Args:
        folder: the version folder.

    Returns:
        True where it answers as its model does; nothing where nothing is said of it.

    Raises:
        ServingError: the file cannot be read.
    """
    try:
        artifacts = json.loads((folder.parent.parent / PARITY_FILE).read_bytes())["artifacts"]
        own = f"{folder.parent.name}/{folder.name}"
        return [each["passed"] for each in artifacts.values() if each.get("path") == own]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _refusal(f"Its {PARITY_FILE} cannot be read, so nobody knows its verdict.") from None


def _refusal(words: str) -> ServingError:
    return ServingError("FAILED_PRECONDITION", without_paths(words))


# --- warm-up --------------------------------------------------------------------------------


def _warm_up(servable: Servable, folder: Path, note: Note) -> None:
    path = folder / WARMUP_FILE
    if not path.is_file():
        return
    records = _records(path)
    started = time.monotonic()
    for number, record in enumerate(records, 1):
        try:
            _answer(servable, record)
        except ServingError as error:
            note(error.code, time.monotonic() - started)
            raise ServingError(
                error.code, f"Its warm-up request {number} fails: {error.message}"
            ) from error
    note("OK", time.monotonic() - started)


def _records(path: Path) -> list[Any]:
    import tensorflow as tf
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    try:
        found = [
            prediction_log_pb2.PredictionLog.FromString(record)
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
        ]
    except (tf.errors.OpError, DecodeError):
        raise _refusal(f"Its {WARMUP_FILE} cannot be read.") from None
    if len(found) > WARMUP_MAX_RECORDS:
        raise _refusal(f"Its {WARMUP_FILE} has more than {WARMUP_MAX_RECORDS:,} records.")
    return found


def _answer(servable: Servable, record: Any) -> None:
    """Answer a PredictionLog as a client's request would be."""
    from tfmodel.serve import examples
    from tfmodel.serve.tensors import inputs_of_proto

    kind = record.WhichOneof("log_type")
    if kind == "predict_log":
        request = record.predict_log.request
        signature = servable.signature(request.model_spec.signature_name)
        servable.run(signature.name, inputs_of_proto(signature, request.inputs))
    elif kind in ("classify_log", "regress_log"):
        request = getattr(record, kind).request
        method = examples.CLASSIFY if kind == "classify_log" else examples.REGRESS
        signature = examples.signature_of(servable, request.model_spec.signature_name, method)
        servable.run(signature.name, examples.inputs_of(request.input))
    else:
        raise ServingError("UNIMPLEMENTED", f"Requests of the kind {kind} are not known")
