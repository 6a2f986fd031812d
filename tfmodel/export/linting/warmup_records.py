"""The requests that TF Serving answers before a version takes traffic, read without TensorFlow.

TF Serving refuses a version whose records it cannot read or answer, and one of more than 1,000
(its `saved_model_warmup_util.cc`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tfmodel.export.linting.findings import Finding
from tfmodel.export.linting.saved_graph import SavedGraph, signatures_of

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
WARMUP_MAX_RECORDS = 1000

# Fields of PredictionLog in TF Serving's apis/prediction_log.proto, and on the way to the name.
_LOGS_OF_ONE_SIGNATURE = (2, 3, 6)  # classify, regress, predict
_REQUEST, _MODEL_SPEC, _SIGNATURE_NAME = 1, 1, 3
_NAMES_NONE = ""


def warmup_findings(graph: SavedGraph) -> Iterator[Finding]:
    """Look whether there are records, and whether TF Serving takes them.

    Args:
        graph: what was read of the folder.

    Yields:
        One finding for each thing to mend.
    """
    path = graph.folder / WARMUP_FILE
    if not path.is_file():
        yield Finding(
            f"There are no warm-up records ({WARMUP_FILE}), so the first requests after a load "
            "wait for TensorFlow to set itself up. Write PredictionLog records of real requests "
            "there."
        )
        return
    asked: Counter[str] = Counter()
    damage = ""
    try:
        for record in _records(path):
            asked[_signature_name(record)] += 1
            if asked.total() > WARMUP_MAX_RECORDS:
                break
    except ValueError as error:
        damage = str(error)
    wanted = {*asked} - {_NAMES_NONE}
    unknown = wanted - {*signatures_of(graph.served or graph.meta_graphs[0])}
    if damage:
        trouble = f"cannot be read ({damage}). Write it again, or remove it"
    elif asked.total() > WARMUP_MAX_RECORDS:
        trouble = f"has more than {WARMUP_MAX_RECORDS:,} records. Keep one for each size of batch"
    elif unknown:
        trouble = f"asks for signatures that are not there: {', '.join(unknown)}. Write it again"
    elif not asked:
        yield Finding(f"{WARMUP_FILE} is empty, so nothing is warmed up.")
        return
    else:
        return
    yield Finding(f"TF Serving refuses the version because {WARMUP_FILE} {trouble}.", refuses=True)


def _records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file; ValueError where it is damaged."""
    from tensorboard.compat.tensorflow_stub import errors
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New

    reader = PyRecordReader_New(str(path))
    while True:
        try:
            reader.GetNext()
        except errors.OutOfRangeError:
            return
        except errors.DataLossError:
            raise ValueError("no TFRecord file, or a damaged one") from None
        yield reader.curr_event


def _signature_name(record: bytes) -> str:
    """The signature that a PredictionLog asks for; ValueError where it is none."""
    for log in _LOGS_OF_ONE_SIGNATURE:
        for request in _parts(record, log, _REQUEST):
            names = _parts(request, _MODEL_SPEC, _SIGNATURE_NAME)
            return names[0].decode("utf-8", "replace") if names else "serving_default"
    return _NAMES_NONE


def _parts(message: bytes, *path: int) -> list[bytes]:
    """The bytes of a field of a field of a message, for which there is no class here."""
    from google.protobuf import empty_pb2, unknown_fields
    from google.protobuf.message import DecodeError

    found = [message]
    for number in path:
        try:
            fields = [
                field
                for part in found
                for field in unknown_fields.UnknownFieldSet(empty_pb2.Empty.FromString(part))
            ]
        except DecodeError:
            raise ValueError("a record that is no PredictionLog") from None
        found = [
            field.data
            for field in fields
            if field.field_number == number and isinstance(field.data, bytes)
        ]
    return found
