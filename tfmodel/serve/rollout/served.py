"""A version on a server as a predictor: it answers as the SavedModel would that is loaded here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.export.manifest import Manifest, read_files
from tfmodel.export.predictor import Predictor
from tfmodel.serve.client import Client


def manifest_of(version: str | Path) -> Manifest:
    """What a version of this project's says of itself.

    Args:
        version: the version folder.

    Raises:
        ConfigError: it is none of this project's, or fills gaps.
    """
    assets = Path(version) / "assets"
    files = {path.name: path.read_bytes() for path in assets.iterdir()} if assets.is_dir() else {}
    manifest = read_files(files, name=str(version))
    if tasks.fills_gaps(manifest.task):
        raise ConfigError(
            f"{version}: expected a task whose answers a rollout compares. Received: "
            f"{manifest.task}, whose versions it knows no figure of. Export it as the next "
            "version, which its own check has compared with the model."
        )
    return manifest


def served_predictor(client: Client, manifest: Manifest, *, where: str) -> Predictor:
    """Ask a version by a client.

    Args:
        client: of that version.
        manifest: what the version says of itself.
        where: what messages call it.

    Returns:
        A predictor of kind `served`, whose answers are those of `tfmodel.load` of the version.
    """
    task = tasks.find(manifest.task)

    def answer(texts: list[str], text_pairs: list[str] | None) -> Any:
        inputs = {"text": texts} | ({} if text_pairs is None else {"text_pair": text_pairs})
        found = client.ask(inputs)
        if tasks.gives_lists(manifest.task):
            return task.values_of_served({name: _bytes(each) for name, each in found.items()})
        return np.asarray(found[task.VALUES], np.float32).reshape(len(texts), -1)

    return Predictor(answer, manifest, kind="served", where=where)


def _bytes(values: np.ndarray) -> np.ndarray:
    """Strings as a SavedModel gives them."""
    if values.dtype != object:
        return values
    flat = np.empty(values.size, object)
    flat[:] = [each.encode("utf-8") for each in values.ravel().tolist()]
    return flat.reshape(values.shape)
