"""TFLite Metadata: what MediaPipe and the Task Library read to take text and give answers.

A flatbuffer (schema `metadata_schema.fbs`, identifier M001) in a buffer of the model names
the tensors and files; the files themselves are a ZIP appended to the model. No package that
installs beside current TensorFlow writes it, so it is written here, field by field.

Source: https://github.com/tensorflow/tflite-support/blob/master/tensorflow_lite_support/metadata/metadata_schema.fbs
"""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np

from tfmodel.config import ConfigError
from tfmodel.export.manifest import LABELS_FILE, VOCABULARY_FILE

METADATA_BUFFER = "TFLITE_METADATA"
METADATA_IDENTIFIER = b"M001"
MODEL_IDENTIFIER = b"TFL3"
MIN_PARSER_VERSION = "1.1.0"
"""The first parser that knows BertTokenizerOptions."""

INPUT_NAMES = ("ids", "mask", "segment_ids")
"""What both runtimes look for, by name, to recognize a BERT model."""
OUTPUT_NAME = "probability"
"""With another name the Task Library 0.4.4 crashes."""
OUTPUT_NAMES = {"scores": OUTPUT_NAME, "vector": "vector"}
"""The one output of a file, by what the manifest calls it."""
LOGIT_NAMES = ("start_logits", "end_logits")
"""The two outputs of a question answerer, in place of `probability`."""
GAP_INPUT, GAP_OUTPUT = "position", "logits"
"""What one that fills gaps takes beside, and what it gives in place of `probability`."""

_DESCRIPTIONS = {
    "ids": "Ids of the text's word pieces, padded with [PAD].",
    "mask": "1 for a token, 0 for padding.",
    "segment_ids": "0 for the first text, 1 for the second.",
    GAP_INPUT: "Where the gap is that is asked for: the index of a mask among the ids.",
}
_IDS_OF_APP = (
    "Ids that the app makes, by the tokenizer whose files are inside (its kind in tfmodel.json); "
    "padded with the padding piece's."
)
_BUFFER_ALIGNMENT_BYTES = 16
"""What the converter promises to kernels that load several numbers at once."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The ZIP format's first moment: equal models give equal files."""


# --- the metadata flatbuffer ----------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Byte:
    """An enum value or a union's type, which the schema stores in one byte."""

    value: int


class _Table(dict):
    """A flatbuffer table: field id to `str`, `_Byte`, `_Table` or a list of `str` or `_Table`."""


_LABELS_TYPE, _VOCABULARY_TYPE = _Byte(2), _Byte(5)
_FEATURE_PROPERTIES = _Byte(1)
_BERT_TOKENIZER_OPTIONS = _Byte(4)


def _associated_file(name: str, kind: _Byte, description: str) -> _Table:
    return _Table({0: name, 1: description, 2: kind})


def _tensor(name: str, says: str, files: Sequence[_Table] = ()) -> _Table:
    content = _Table({0: _FEATURE_PROPERTIES, 1: _Table()})
    fields = {0: name, 1: says, 3: content}
    return _Table({**fields, 6: list(files)} if files else fields)


def metadata_flatbuffer(
    inputs: Sequence[str],
    *,
    name: str,
    description: str,
    version: str,
    says: str = "",
    outputs: Sequence[str] = (OUTPUT_NAME,),
    has_vocabulary: bool = True,
) -> bytes:
    """Describe a BERT classifier or embedder as MediaPipe and the Task Library want it.

    Args:
        inputs: `INPUT_NAMES`, and `GAP_INPUT` where it fills gaps, in the order in which the model
            takes its inputs.
        name: the model's name.
        description: what the model does, for people.
        version: the model's version, for people.
        says: what the output holds, for people.
        outputs: one of `OUTPUT_NAMES`, `GAP_OUTPUT`, or `LOGIT_NAMES` in the model's order; only
            `probability` has the labels beside it.
        has_vocabulary: whether `vocab.txt` stands in the file; without it, the runtimes are told
            of no tokenizer.

    Returns:
        The flatbuffer, identifier included.
    """
    vocabulary = _associated_file(VOCABULARY_FILE, _VOCABULARY_TYPE, "Word pieces, one a line.")
    labels = _associated_file(LABELS_FILE, _LABELS_TYPE, "Labels, one a line.")
    tokenizer = _Table({0: _BERT_TOKENIZER_OPTIONS, 1: _Table({0: [vocabulary]})})
    descriptions = _DESCRIPTIONS if has_vocabulary else {**_DESCRIPTIONS, "ids": _IDS_OF_APP}
    subgraph = _Table(
        {
            2: [_tensor(tensor, descriptions[tensor]) for tensor in inputs],
            3: [_tensor(each, says, [labels] if each == OUTPUT_NAME else []) for each in outputs],
            **({5: [tokenizer]} if has_vocabulary else {}),
        }
    )
    model = _Table(
        {0: name, 1: description, 2: version, 3: [subgraph], 7: MIN_PARSER_VERSION},
    )
    builder = flatbuffers.Builder(1024)
    builder.Finish(_write(builder, model), file_identifier=METADATA_IDENTIFIER)
    return bytes(builder.Output())


def _write(builder: flatbuffers.Builder, value: Any) -> int:
    """Write a value, its children first as flatbuffers must be, and return where it is."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, list):
        offsets = [_write(builder, item) for item in value]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()
    offsets = {
        field: inner if isinstance(inner, _Byte) else _write(builder, inner)
        for field, inner in value.items()
    }
    builder.StartObject(max(value, default=-1) + 1)
    for field, inner in offsets.items():
        if isinstance(inner, _Byte):
            builder.PrependUint8Slot(field, inner.value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(field, inner, 0)
    return builder.EndObject()


# --- into the model -------------------------------------------------------------------------


def add_metadata(
    model: bytes,
    files: Mapping[str, bytes],
    *,
    name: str,
    description: str,
    version: str,
    says: str = "",
) -> bytes:
    """Put metadata and files into a converted model, and name its tensors.

    Args:
        model: a `.tflite` as the converter wrote it, with a signature whose inputs are
            `INPUT_NAMES` and whose one output is among `OUTPUT_NAMES`, or the two are
            `LOGIT_NAMES`; or with `GAP_INPUT` beside and `GAP_OUTPUT` alone.
        files: name to content; `labels.txt` among them, and `vocab.txt` where the tokenizer is
            WordPiece.
        name: the model's name.
        description: what the model does, for people.
        version: the model's version, for people.
        says: what the output holds, for people.

    Returns:
        The whole file; equal arguments give equal bytes.

    Raises:
        ValueError: the model has no such signature, or a file is missing.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    if LABELS_FILE not in files:
        raise ValueError(f"Expected {LABELS_FILE}. Received: {', '.join(files) or 'no files'}.")
    parsed = schema.ModelT.InitFromPackedBuf(model)
    inputs, outputs = _name_tensors(parsed)
    flatbuffer = metadata_flatbuffer(
        inputs,
        name=name,
        description=description,
        version=version,
        says=says,
        outputs=outputs,
        has_vocabulary=VOCABULARY_FILE in files,
    )
    parsed.metadata = [m for m in parsed.metadata or [] if m.name != METADATA_BUFFER.encode()]
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_BUFFER, len(parsed.buffers)
    parsed.metadata.append(entry)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(flatbuffer, np.uint8)
    parsed.buffers.append(buffer)
    return _append_zip(pack_model(parsed), files)


def _name_tensors(model: Any) -> tuple[list[str], list[str]]:
    """Give the tensors the names of their signature; return them in the model's order.

    The outputs' names come second.

    The converter orders inputs as it likes and calls them `serving_default_ids:0`.
    """
    signatures = model.signatureDefs or []
    subgraph = model.subgraphs[0]
    names = {}
    for tensor in [*signatures[0].inputs, *signatures[0].outputs] if signatures else []:
        names[tensor.tensorIndex] = tensor.name.decode()
    received = [names.get(index) for index in [*subgraph.inputs, *subgraph.outputs]]
    inputs, outputs = received[: len(subgraph.inputs)], received[len(subgraph.inputs) :]
    known = [*([name] for name in OUTPUT_NAMES.values()), sorted(LOGIT_NAMES), [GAP_OUTPUT]]
    is_known = sorted(map(str, outputs)) in known
    if sorted(map(str, inputs)) != sorted(inputs_beside(outputs)) or not is_known:
        raise ValueError(
            f"Expected a model with inputs {', '.join(INPUT_NAMES)} and one output of "
            f"{', '.join(OUTPUT_NAMES.values())}, {GAP_OUTPUT}, or {' and '.join(LOGIT_NAMES)}. "
            f"Received: inputs {inputs} and outputs {outputs}."
        )
    for index, name in names.items():
        subgraph.tensors[index].name = name
    return inputs, outputs


def inputs_beside(outputs: Iterable[Any]) -> tuple[str, ...]:
    """The inputs of a file, by the names of its outputs."""
    return (*INPUT_NAMES, GAP_INPUT) if set(outputs) == {GAP_OUTPUT} else INPUT_NAMES


def pack_model(model: Any) -> bytes:
    """Serialize, with buffers aligned as the converter aligns them.

    The generated Python code forgets the schema's `force_align: 16`; kernels on phones may
    then read weights at addresses that their instructions do not take.
    """
    builder = flatbuffers.Builder(sum(_length(b.data) for b in model.buffers) + 1_000_000)
    for buffer in model.buffers:
        if _length(buffer.data):
            buffer.Pack = _aligned_pack(buffer)
    builder.Finish(model.Pack(builder), file_identifier=MODEL_IDENTIFIER)
    return bytes(builder.Output())


def _length(data: Any) -> int:
    return 0 if data is None else len(data)


def _aligned_pack(buffer: Any) -> Any:
    from tensorflow.lite.python import schema_py_generated as schema

    def pack(builder: flatbuffers.Builder) -> int:
        payload = bytes(buffer.data)
        builder.StartVector(1, len(payload), _BUFFER_ALIGNMENT_BYTES)
        builder.head -= len(payload)
        builder.Bytes[builder.head : builder.head + len(payload)] = payload
        builder.vectorNumElems = len(payload)
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)

    return pack


def _append_zip(model: bytes, files: Mapping[str, bytes]) -> bytes:
    """Append a ZIP of the files, stored uncompressed: phones map them into memory.

    Its offsets count from the start of the whole file, as every reader understands them.
    """
    content = io.BytesIO(model)
    with zipfile.ZipFile(content, "a", zipfile.ZIP_STORED) as archive:
        for file, payload in sorted(files.items()):
            entry = zipfile.ZipInfo(file, date_time=_EPOCH)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, payload)
    return content.getvalue()


# --- reading back ---------------------------------------------------------------------------


def read_associated_files(path: str | Path) -> dict[str, bytes]:
    """Read the files inside a `.tflite`.

    Args:
        path: the file.

    Returns:
        Name to content; empty for a model without files.

    Raises:
        ConfigError: no such file, not a TFLite model, or one that is cut off.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise ConfigError(
            f"{path}: expected a .tflite file. Received: {error.strerror}. Check the path."
        ) from None
    if head[4:] != MODEL_IDENTIFIER:
        raise ConfigError(
            f"{path}: expected a TFLite model (bytes 4 to 7 are TFL3). Received: a file that "
            f"starts with {head!r}. Name a .tflite that `tfmodel export` wrote."
        )
    if not zipfile.is_zipfile(path):
        return {}
    try:
        with zipfile.ZipFile(path) as archive:
            return {entry.filename: archive.read(entry) for entry in archive.infolist()}
    except (zipfile.BadZipFile, OSError, RuntimeError) as error:
        raise ConfigError(
            f"{path}: expected the files inside to be whole. Received: {error}. "
            "Copy or export the file again."
        ) from None
