"""What an exported file says of itself, read without running it."""

from __future__ import annotations

import dataclasses
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.export.manifest import LABELS_FILE, Manifest, read_files, read_tokenizer
from tfmodel.export.places import versions
from tfmodel.export.tflite.metadata import METADATA_BUFFER, read_associated_files
from tfmodel.tokens.row_tokenizer import RowTokenizer

# Fields of the metadata's tables, by the schema that `metadata.py` names.
_SUBGRAPHS, _INPUTS, _OUTPUTS, _NAME = 3, 2, 3, 0


@dataclasses.dataclass(frozen=True)
class Tensors:
    """The inputs and outputs of a `.tflite`, as the model and as its metadata name them.

    Attributes:
        inputs: names in the model's order.
        outputs: names in the model's order.
        described_inputs: names in the metadata; none without metadata.
        described_outputs: names in the metadata.
    """

    inputs: list[str]
    outputs: list[str]
    described_inputs: list[str]
    described_outputs: list[str]


@dataclasses.dataclass(frozen=True)
class Description:
    """A SavedModel or TFLite file of ours, not loaded.

    Attributes:
        path: the version folder or the file.
        kind: `savedmodel` or `tflite`.
        manifest: what is in `tfmodel.json` inside.
        files: those inside, by name.
        written_labels: what is in `labels.txt` inside, which phones show.
        tensors: of a TFLite file.
    """

    path: Path
    kind: str
    manifest: Manifest
    files: Mapping[str, bytes]
    written_labels: list[str]
    tensors: Tensors | None = None

    def tokenizer(self) -> RowTokenizer:
        """The tokenizer inside: its own vocabulary, length and lower-casing."""
        return read_tokenizer(self.files, self.manifest, name=str(self.path))

    def contradictions(self) -> list[str]:
        """What the files inside say against each other, in words."""
        found = []
        expected = [" ".join(label.split()) for label in self.manifest.labels]
        if [" ".join(label.split()) for label in self.written_labels] != expected:
            found.append(
                f"its labels.txt says {self.written_labels[:5]}, its tfmodel.json {expected[:5]}"
            )
        if self.tensors is not None:
            for what in ("inputs", "outputs"):
                named = getattr(self.tensors, what)
                described = getattr(self.tensors, f"described_{what}")
                if named != described:
                    found.append(
                        f"its metadata names the {what} {', '.join(described) or 'not at all'}, "
                        f"the model {', '.join(named)}"
                    )
        return found


def describe(path: str | Path) -> Description | None:
    """Read what a SavedModel or a `.tflite` says of itself.

    Args:
        path: a version folder, a folder of versions (the highest is taken) or a file.

    Returns:
        Its description; None for anything else.

    Raises:
        ConfigError: it is not whole, or not made by tfmodel.
    """
    path = Path(path)
    if path.is_file() and path.suffix == ".tflite":
        inside = read_associated_files(path)
        return _described(path, "tflite", inside, read_tensors(path))
    if path.is_dir():
        for folder in (path, *(path / str(number) for number in reversed(versions(path)))):
            if (folder / "saved_model.pb").is_file():
                assets = folder / "assets"
                files = assets.iterdir() if assets.is_dir() else ()
                inside = {file.name: file.read_bytes() for file in files}
                return _described(folder, "savedmodel", inside)
    return None


def _described(
    path: Path, kind: str, inside: dict[str, bytes], tensors: Tensors | None = None
) -> Description:
    manifest = read_files(inside, name=str(path))
    labels = inside.get(LABELS_FILE, b"").decode("utf-8", "replace").split("\n")
    return Description(path, kind, manifest, inside, labels[:-1], tensors)


def read_tensors(path: str | Path) -> Tensors:
    """Read how a `.tflite` and the metadata in it name inputs and outputs.

    Args:
        path: the file; its weights stay on disk.

    Raises:
        ConfigError: it is damaged.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    try:
        with (
            Path(path).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return _tensors(schema.Model.GetRootAs(content, 0))
    except (struct.error, AttributeError, IndexError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path}: expected a TFLite model with inputs and outputs. Received: one that cannot "
            f"be read ({error}). Copy or export the file again."
        ) from None


def _tensors(model: Any) -> Tensors:
    graph = model.Subgraphs(0)
    described = _described_tensors(_metadata(model))
    inputs = [graph.Tensors(graph.Inputs(i)) for i in range(graph.InputsLength())]
    outputs = [graph.Tensors(graph.Outputs(i)) for i in range(graph.OutputsLength())]
    return Tensors(
        inputs=[tensor.Name().decode() for tensor in inputs],
        outputs=[tensor.Name().decode() for tensor in outputs],
        described_inputs=described[0],
        described_outputs=described[1],
    )


def _metadata(model: Any) -> bytes:
    """The metadata flatbuffer in a model; empty without."""
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name().decode() == METADATA_BUFFER:
            return model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    return b""


def _described_tensors(metadata: bytes) -> tuple[list[str], list[str]]:
    if not metadata:
        return [], []
    import flatbuffers
    from flatbuffers.number_types import UOffsetTFlags
    from flatbuffers.table import Table

    def children(table: Table, field: int) -> list[Table]:
        offset = table.Offset(4 + 2 * field)
        if not offset:
            return []
        start = table.Vector(offset)
        places = [start + 4 * index for index in range(table.VectorLen(offset))]
        return [Table(table.Bytes, table.Indirect(place)) for place in places]

    def name(table: Table) -> str:
        offset = table.Offset(4 + 2 * _NAME)
        return table.String(table.Pos + offset).decode() if offset else ""

    root = flatbuffers.encode.Get(UOffsetTFlags.packer_type, metadata, 0)
    (graph,) = children(Table(metadata, root), _SUBGRAPHS)
    return (
        [name(tensor) for tensor in children(graph, _INPUTS)],
        [name(tensor) for tensor in children(graph, _OUTPUTS)],
    )
