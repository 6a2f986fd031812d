"""What TF Serving or its clients stumble over in a SavedModel, but for operations it has not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfmodel.export.linting.findings import Finding
from tfmodel.export.linting.saved_graph import GRAPH_FILE, SavedGraph, nodes_of, signatures_of
from tfmodel.export.linting.warmup_records import warmup_findings

LARGE_ASSETS_BYTES = 100_000_000
LARGE_GRAPH_BYTES = 1_000_000_000  # half of what protocol buffers can hold

_NO_JSON = re.compile("BFLOAT16|COMPLEX|QU?INT|FLOAT8|INT4|VARIANT|RESOURCE")
_XLA = "experimental in TF Serving (--xla_cpu_compilation_enabled=true): try it on your server"
_ABSOLUTE_PATH = re.compile(rb"(/[\w.+@-]+){2,}\.\w+")
_SUSPECTS = {
    r"Print(V2)?": "writes to the server's log at every request",
    r"Debug\w+|CheckNumerics(V2)?": "is for debugging, and costs time at every request",
    r"Cudnn\w+|Nccl\w+": "runs on a GPU only",
    r"TPU\w+|\w+TPU[A-Z]\w+": "runs on a TPU only",
    r"Xla\w+": f"is computed by XLA, {_XLA}",
    r"ReadFile|WholeFileReader(V2)?|MatchingFiles": "reads files when asked, on the server's disk",
}


def servable_findings(graph: SavedGraph) -> Iterator[Finding]:
    """Look for what TF Serving refuses and what its clients stumble over.

    Args:
        graph: what was read of the folder.

    Yields:
        One finding for each thing to mend.
    """
    yield from _signature_findings(graph)
    yield from _operation_findings(graph)
    yield from warmup_findings(graph)
    yield from _file_findings(graph)


# --- signatures -----------------------------------------------------------------------------


def _signature_findings(graph: SavedGraph) -> Iterator[Finding]:
    if graph.served is None:
        tags = " and ".join(
            f"[{', '.join(meta_graph.meta_info_def.tags)}]" for meta_graph in graph.meta_graphs
        )
        yield Finding(
            f"The graph is tagged {tags}; TF Serving looks for [serve]. Save it with "
            "tf.saved_model.save, or start the server with --saved_model_tags."
        )
    meta_graph = graph.served or graph.meta_graphs[0]
    signatures = signatures_of(meta_graph)
    if not signatures:
        yield Finding(
            "There is no signature, so no client can ask it anything. Save it with "
            "tf.saved_model.save(…, signatures=…)."
        )
    elif "serving_default" not in signatures:
        yield Finding(
            "There is no signature serving_default, so every request must name one of "
            f"{', '.join(signatures)}."
        )
    for name, signature in signatures.items():
        yield from _input_findings(name, signature)
        yield from _output_findings(name, signature)


def _input_findings(name: str, signature: Any) -> Iterator[Finding]:
    unknown = _shapes(signature.inputs, lambda sizes: sizes is None)
    if unknown:
        yield Finding(
            f"Signature {name}: the shape of {unknown} is not known, so that of a "
            "request is not checked. Give the function an input_signature."
        )
    fixed = _shapes(signature.inputs, lambda sizes: bool(sizes) and sizes[0] >= 0)
    if fixed:
        yield Finding(
            f"Signature {name} takes a fixed number of rows: {fixed}. Leave the first dimension "
            "open (None), or requests of other sizes fail and the server cannot batch them."
        )


def _output_findings(name: str, signature: Any) -> Iterator[Finding]:
    outputs = signature.outputs
    encoded = [output for output in sorted(outputs) if output.endswith("_bytes")]
    if encoded:
        yield Finding(
            f"Signature {name}: REST answers strings in base64 where an output's name ends in "
            f"_bytes: {', '.join(encoded)}. Rename it, unless it is binary."
        )
    unknown = _shapes(outputs, lambda sizes: sizes is None or -1 in sizes[1:])
    if unknown:
        yield Finding(
            f"Signature {name}: the shape of {unknown} is not wholly known, so clients cannot "
            "tell what to expect. Fix what does not vary with tf.ensure_shape."
        )
    scalars = _shapes(outputs, lambda sizes: sizes == [])
    if scalars:
        yield Finding(
            f"Signature {name}: {scalars} has no dimension for rows, so REST fails where a request "
            'has "instances". Answer one value a row.'
        )
    types = {output: _type_name(info) for output, info in sorted(outputs.items())}
    odd = [f"{output} ({kind})" for output, kind in types.items() if _NO_JSON.match(kind)]
    if odd:
        yield Finding(
            f"Signature {name}: REST cannot write {', '.join(odd)}. Cast it to float32 or int64."
        )


def _shapes(tensors: Any, is_meant: Any) -> str:
    """Names and shapes of the tensors whose sizes are meant; a size of -1 is not known."""
    found = []
    for name, info in sorted(tensors.items()):
        if info.WhichOneof("encoding") not in ("name", None):
            continue  # sparse and ragged tensors say their shape elsewhere
        shape = info.tensor_shape
        sizes = None if shape.unknown_rank else [dimension.size for dimension in shape.dim]
        if is_meant(sizes):
            shown = "…" if sizes is None else ", ".join("?" if s < 0 else str(s) for s in sizes)
            found.append(f"{name} ({shown})")
    return ", ".join(found)


def _type_name(info: Any) -> str:
    from tensorboard.compat.proto.types_pb2 import DataType

    try:
        return DataType.Name(info.dtype).removeprefix("DT_")
    except ValueError:  # a type that is newer than this TensorBoard
        return str(info.dtype)


# --- operations -----------------------------------------------------------------------------


def _operation_findings(graph: SavedGraph) -> Iterator[Finding]:
    operations: set[str] = set()
    devices: Counter[str] = Counter()
    compiled = False
    paths: set[str] = set()
    for meta_graph in graph.meta_graphs:
        for function in meta_graph.graph_def.library.function:
            compiled |= _is_compiled(function)
        for node in nodes_of(meta_graph):
            operations.add(node.op)
            compiled |= _is_compiled(node)
            paths |= _absolute_paths(node)
            if kind := re.search("GPU|TPU|XLA", node.device):
                devices[kind[0]] += 1
    for pattern, words in _SUSPECTS.items():
        suspects = sorted(name for name in operations if re.fullmatch(pattern, name))
        if suspects:
            shown = ", ".join(suspects[:5]) + (", …" if len(suspects) > 5 else "")
            yield Finding(f"{shown}: {words}.")
    if compiled:
        yield Finding(
            f"Functions are marked to be compiled by XLA, {_XLA}. Export without jit_compile=True."
        )
    for path in sorted(paths):
        yield Finding(
            f"The graph names the file {path}, which the server's disk may lack. Keep it in a "
            "tf.saved_model.Asset."
        )
    for device, nodes in sorted(devices.items()):
        yield Finding(
            f"{nodes} nodes are pinned to a {device}, which another server may not have. Export "
            "outside tf.device."
        )
    if any(not meta_graph.meta_info_def.stripped_default_attrs for meta_graph in graph.meta_graphs):
        yield Finding(
            "Attributes that have their default value were kept, so a server older than the "
            "TensorFlow that wrote them may refuse those that it does not know. Save with "
            "tf.saved_model.save, which leaves them out."
        )


def _absolute_paths(node: Any) -> set[str]:
    values = node.attr["value"].tensor.string_val if node.op == "Const" else ()
    return {value.decode() for value in values if _ABSOLUTE_PATH.fullmatch(value)}


def _is_compiled(holder: Any) -> bool:
    return "_XlaMustCompile" in holder.attr and holder.attr["_XlaMustCompile"].b


# --- files ----------------------------------------------------------------------------------


def _file_findings(graph: SavedGraph) -> Iterator[Finding]:
    folder = graph.folder
    for meta_graph in graph.meta_graphs:
        for asset in meta_graph.asset_file_def:
            name = asset.filename
            if name.startswith("/") or ".." in Path(name).parts:
                yield Finding(f"Asset {name} lies outside assets/, where no server finds it.", True)
            elif not (folder / "assets" / name).exists():
                yield Finding(f"Asset {name} is missing from assets/. Copy the folder again.", True)
    yield from _weight_findings(graph)
    graph_bytes = (folder / GRAPH_FILE).stat().st_size
    if graph_bytes > LARGE_GRAPH_BYTES:
        yield Finding(
            f"{GRAPH_FILE} has {_megabytes(graph_bytes)}, and cannot have more than 2,147 MB. Keep "
            "weights in variables, not in constants."
        )
    assets_bytes = sum(
        path.stat().st_size
        for name in ("assets", "assets.extra")
        for path in (folder / name).rglob("*")
        if path.is_file()
    )
    if assets_bytes > LARGE_ASSETS_BYTES:
        yield Finding(
            f"The assets have {_megabytes(assets_bytes)}, which every server copies. Keep only "
            "what the graph reads."
        )


def _weight_findings(graph: SavedGraph) -> Iterator[Finding]:
    folder = graph.folder / "variables"
    has_variables = any(
        node.op in ("VarHandleOp", "VariableV2", "Variable")
        for meta_graph in graph.meta_graphs
        for node in meta_graph.graph_def.node
    )
    if has_variables and not (folder / "variables.index").is_file():
        yield Finding("The weights are missing: variables/variables.index. Copy it again.", True)
    parts = [re.search(r"-of-(\d+)$", path.name) for path in folder.glob("variables.data-*")]
    wanted = {int(found[1]) for found in parts if found}
    if (folder / "variables.index").is_file() and wanted != {len(parts)}:
        yield Finding(
            f"The weights are not whole: {len(parts)} of {max(wanted, default=1)} files "
            "variables/variables.data-*. Copy the folder again.",
            True,
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
