"""Anybody's SavedModel as it lies on disk: which operations it has, and who uses them.

Nothing is loaded, so operations that are not installed here are seen like any others, and
TensorFlow, which takes seconds to import, is not needed: TensorBoard brings the same protocol
buffers.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.export.linting import serving_ops
from tfmodel.export.places import is_version, versions

GRAPH_FILE = "saved_model.pb"
_META_GRAPHS_FIELD = 2  # of the message SavedModel
_LARGEST_MESSAGE_BYTES = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class SavedGraph:
    """A SavedModel version folder and what its graph file says.

    Attributes:
        folder: where `saved_model.pb` is.
        meta_graphs: `MetaGraphDef`, at least one.
    """

    folder: Path
    meta_graphs: tuple[Any, ...]

    @property
    def served(self) -> Any | None:
        """The meta graph that TF Serving loads, which is tagged `serve` and nothing else."""
        for meta_graph in self.meta_graphs:
            if [*meta_graph.meta_info_def.tags] == ["serve"]:
                return meta_graph
        return None


@dataclasses.dataclass(frozen=True)
class OperationUse:
    """An operation in a SavedModel.

    Attributes:
        name: as registered, such as `TFText>RoundRobinTrim`.
        nodes: how many there are.
        signatures: that come to it, directly or through functions.
        functions: of the library that hold it; `graph` stands for none of them.
    """

    name: str
    nodes: int
    signatures: tuple[str, ...]
    functions: tuple[str, ...]

    @property
    def since(self) -> str | None:
        """The first TF Serving release from which on every one has it; None: none has."""
        return serving_ops.since(self.name)


def read_saved_graph(where: str | Path) -> SavedGraph:
    """Read the graph file of a SavedModel.

    Args:
        where: a version folder, or the folder above, of which the highest version is taken, as
            TF Serving does.

    Returns:
        What it holds.

    Raises:
        ConfigError: nothing there, no SavedModel, or one that is damaged.
    """
    folder = _version_folder(Path(where))
    path = folder / GRAPH_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path}: expected a file that can be read. Received: {error.strerror}. "
            "Change its permissions, or copy it again."
        ) from None
    if len(content) > _LARGEST_MESSAGE_BYTES:
        raise ConfigError(
            f"{path}: expected at most 2 GB, the limit of protocol buffers. Received: "
            f"{len(content):,} bytes. Keep weights in variables, not in constants."
        )
    return SavedGraph(folder, _parse(content, path))


def _parse(content: bytes, path: Path) -> tuple[Any, ...]:
    from google.protobuf import empty_pb2, unknown_fields
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

    try:
        # TensorBoard has no message for the file itself: its fields are unknown to this one.
        fields = unknown_fields.UnknownFieldSet(empty_pb2.Empty.FromString(content))
        found = tuple(
            MetaGraphDef.FromString(field.data)
            for field in fields
            if field.field_number == _META_GRAPHS_FIELD
        )
        damage = "" if found else "one without a graph" if content else "an empty one"
    except (DecodeError, TypeError) as error:
        damage = f"one that cannot be read ({error})"
    if damage:
        raise ConfigError(
            f"{path.parent}: expected a SavedModel. Received: a {GRAPH_FILE}, but {damage}. Copy "
            "it or export it again."
        )
    return found


def _version_folder(where: Path) -> Path:
    looked_for = f"a SavedModel ({GRAPH_FILE}, or version folders 1, 2, … with one)"
    if not where.is_dir():
        received = "a file" if where.exists() else "a path where nothing is"
        raise ConfigError(f"{where}: expected {looked_for}. Received: {received}. Check the path.")
    if (where / GRAPH_FILE).is_file():
        return where
    # TF Serving takes the highest number and does not look at another one.
    highest = versions(where)[-1:]
    for folder in where.iterdir():
        # Its name may have leading zeros.
        if is_version(folder.name) and int(folder.name) in highest:
            if (folder / GRAPH_FILE).is_file():
                return folder
    names = sorted(entry.name for entry in where.iterdir())
    received = ", ".join(names[:8]) + (", …" if len(names) > 8 else "") if names else "nothing"
    if highest:
        received = f"{highest[0]}, the highest version, without {GRAPH_FILE}"
    raise ConfigError(f"{where}: expected {looked_for}. Received: a folder with {received}.")


# --- operations -----------------------------------------------------------------------------


def operation_uses(meta_graphs: Iterable[Any]) -> list[OperationUse]:
    """Count the operations of graphs and of their libraries, and say who comes to them.

    Args:
        meta_graphs: `MetaGraphDef`.

    Returns:
        Each operation once, by name. The call of a library's function is no operation.
    """
    nodes: Counter[str] = Counter()
    signatures: dict[str, set[str]] = {}
    places: dict[str, set[str]] = {}
    for meta_graph in meta_graphs:
        for operation, place, by in _operations(meta_graph):
            nodes[operation] += 1
            signatures.setdefault(operation, set()).update(by)
            places.setdefault(operation, set()).add(place)
    return [
        OperationUse(name, nodes[name], *(tuple(sorted(of[name])) for of in (signatures, places)))
        for name in sorted(nodes)
    ]


def signatures_of(meta_graph: Any) -> dict[str, Any]:
    """What a client can ask for: name to `SignatureDef`."""
    return {
        name: signature
        for name, signature in sorted(meta_graph.signature_def.items())
        if not name.startswith("__")
    }


def nodes_of(meta_graph: Any) -> Iterator[Any]:
    """Every `NodeDef` of a graph and of its library."""
    yield from meta_graph.graph_def.node
    for function in meta_graph.graph_def.library.function:
        yield from function.node_def


def _operations(meta_graph: Any) -> Iterator[tuple[str, str, set[str]]]:
    """For each node: its operation, the function that holds it, the signatures that come to it."""
    library = {f.signature.name: f for f in meta_graph.graph_def.library.function}
    reached = {
        name: _reached_nodes(meta_graph, signature)
        for name, signature in signatures_of(meta_graph).items()
    }
    callers: dict[str, set[str]] = {name: set() for name in library}
    for signature, nodes in reached.items():
        for name in _reached_functions(nodes.values(), library):
            callers[name].add(signature)
    for node in meta_graph.graph_def.node:
        if node.op not in library:
            by = {name for name, nodes in reached.items() if node.name in nodes}
            yield node.op, "graph", by
    for name, function in library.items():
        for node in function.node_def:
            if node.op not in library:
                yield node.op, name, callers[name]


def _reached_nodes(meta_graph: Any, signature: Any) -> dict[str, Any]:
    """The graph's nodes that a signature's outputs are computed from, by name."""
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    reached = {}
    waiting = [tensor for info in signature.outputs.values() for tensor in _tensor_names(info)]
    while waiting:
        name = waiting.pop().lstrip("^").partition(":")[0]
        if name in nodes and name not in reached:
            reached[name] = nodes[name]
            waiting += nodes[name].input
    return reached


def _tensor_names(info: Any) -> list[str]:
    """The tensors of an output: one, or several where it is sparse or ragged."""
    kind = info.WhichOneof("encoding")
    if kind == "coo_sparse":
        parts = info.coo_sparse
        return [
            parts.values_tensor_name,
            parts.indices_tensor_name,
            parts.dense_shape_tensor_name,
        ]
    if kind == "composite_tensor":
        return [name for part in info.composite_tensor.components for name in _tensor_names(part)]
    return [info.name]


def _reached_functions(nodes: Iterable[Any], library: dict[str, Any]) -> set[str]:
    """The functions that nodes call, and those that these call."""
    reached: set[str] = set()
    waiting = [name for node in nodes for name in _called(node)]
    while waiting:
        name = waiting.pop()
        if name in library and name not in reached:
            reached.add(name)
            waiting += _named_in(library[name].attr)
            waiting += [called for node in library[name].node_def for called in _called(node)]
    return reached


def _called(node: Any) -> Iterator[str]:
    yield node.op  # older graphs call a function so
    yield from _named_in(node.attr)


def _named_in(attributes: Any) -> Iterator[str]:
    for value in attributes.values():
        kind = value.WhichOneof("value")
        if kind == "func":
            yield value.func.name
        elif kind == "list":
            yield from (function.name for function in value.list.func)
