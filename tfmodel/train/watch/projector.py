"""Vectors of texts in the files that TensorBoard's projector reads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfmodel.train.watch.event_files import one_line

CONFIG_FILE = "projector_config.pbtxt"
_CHARACTERS = 200


def write_projector(
    folder: str | Path,
    name: str,
    vectors: np.ndarray,
    metadata: Mapping[str, Sequence[str]],
) -> None:
    """Write vectors and what is known of each, replacing what was there.

    The projector shows them if `folder` is a run: TensorBoard's `--logdir` itself or a folder
    under it, with an event file.

    Args:
        folder: the run.
        name: of the tensor: letters, digits, `_` and `-`.
        vectors: float (n, D), finite.
        metadata: column name to n values; shown as labels and to colour by. Tabs, line breaks
            and control characters become spaces.

    Raises:
        ValueError: shapes that do not fit, no metadata, or vectors that are not finite.
    """
    vectors = np.asarray(vectors, np.float32)
    lengths = {column: len(values) for column, values in metadata.items()}
    if vectors.ndim != 2 or not lengths or set(lengths.values()) != {len(vectors)}:
        raise ValueError(
            "Expected vectors (n, D) and metadata of n values a column. "
            f"Received: vectors {vectors.shape}, metadata {lengths}."
        )
    if not np.isfinite(vectors).all():
        raise ValueError(
            f"Expected finite vectors. Received: {int((~np.isfinite(vectors)).sum())} that are not."
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # As text: a file of raw floats is taken for text where its bytes happen to be UTF-8.
    lines = ["\t".join(f"{value:.6g}" for value in row) for row in vectors.tolist()]
    _write(folder / f"{name}.tensor.tsv", lines)
    columns = list(metadata)
    rows = list(zip(*metadata.values(), strict=True))
    lines = ["\t".join(_cell(value) for value in row) for row in rows]
    # Of a single column the projector expects no header.
    header = ["\t".join(_cell(column) for column in columns)] if len(columns) > 1 else []
    _write(folder / f"{name}.metadata.tsv", header + lines)
    config = (
        f'embeddings {{\n  tensor_name: "{name}"\n  tensor_path: "{name}.tensor.tsv"\n'
        f'  metadata_path: "{name}.metadata.tsv"\n}}'
    )
    _write(folder / CONFIG_FILE, [config])


def _cell(value: object) -> str:
    return one_line(str(value), characters=_CHARACTERS) or "(empty)"


def _write(file: Path, lines: list[str]) -> None:
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    aside.write_text("\n".join(lines) + "\n", "utf-8", errors="replace", newline="\n")
    aside.replace(file)
