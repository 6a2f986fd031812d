"""Export, prove, publish: nothing reaches the served folder that was not checked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pydantic
from pydantic import Field

from tfmodel.config import Settings
from tfmodel.export.places import make_folder, publish_version, staging, versions

_log = logging.getLogger(__name__)

TfliteVariant = Literal["float32", "float16", "int8"]
TFLITE_VARIANTS = get_args(TfliteVariant)
SAVEDMODEL_FOLDER = "savedmodel"
TFLITE_FOLDER = "tflite"
PARITY_FILE = "parity.json"
FAILED_PARITY_FILE = "parity_failed.json"


class ExportSettings(Settings):
    """What to export (config key `export`)."""

    savedmodel: bool = Field(True, description="Write a SavedModel for TF Serving.")
    tflite: list[TfliteVariant] = Field(
        list(TFLITE_VARIANTS),
        description="TFLite files to write: float32, float16 (half the size), int8 (a quarter).",
        examples=[["float32", "int8"]],
    )
    max_length: int | None = Field(
        None,
        ge=4,
        le=100_000,
        description="Tokens a row at most in the artifacts; train.max_length where not given.",
    )
    max_drop: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Accuracy that an artifact of reduced precision may lose; 0.01 is a point.",
    )

    @pydantic.field_validator("tflite")
    @classmethod
    def _each_once(cls, variants: list[str]) -> list[str]:
        return list(dict.fromkeys(variants))


def export_all(
    settings: ExportSettings,
    *,
    model: Any,
    tokenizer: Any,
    labels: Sequence[str],
    max_length: int,
    texts: Sequence[str],
    folder: str | Path,
    text_pairs: Sequence[str] | None = None,
    targets: Sequence[int] | np.ndarray | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Write every artifact aside, check each against the Keras model, then publish them all.

    Args:
        settings: what to export.
        model: the float32 Keras model, token batch to logits (B, C).
        tokenizer: the tokenizer it was trained with.
        labels: class names in the order of the logits.
        max_length: tokens a row in training; `settings.max_length` goes before it.
        texts: real texts to compare on, at least one; best all of the test part: 200 are
            drawn, and more where those leave doubt.
        folder: the run's `export` folder.
        text_pairs: as many second texts; their presence says that the model takes pairs.
        targets: the right class ids, where known.
        progress: told what is being done.

    Returns:
        What `folder/parity.json` now holds, the artifacts' published paths included.

    Raises:
        ParityError: an artifact does not answer as the model; the published ones stay as they
            were, and `parity_failed.json` holds the figures.
        ConfigError: labels or lengths do not fit the model, or the folder cannot be written.
        OSError: the disk is full.
    """
    from tfmodel.export.artifacts import predictor_of
    from tfmodel.export.parity import ParityError, check_parity
    from tfmodel.run_folder import write_json

    folder = Path(folder)
    described = {
        "labels": labels,
        "max_length": settings.max_length or max_length,
        "has_pairs": text_pairs is not None,
    }
    reference = predictor_of(model, tokenizer, **described)
    tell = progress or (lambda _: None)
    with staging(folder) as aside:
        staged = _write(settings, model, tokenizer, aside, texts, described, tell)
        try:
            parity = check_parity(
                reference,
                staged,
                texts,
                text_pairs,
                targets=targets,
                max_drop=settings.max_drop,
                progress=lambda name: tell(f"checking {name}"),
            )
        except ParityError as error:
            for name, figures in error.parity["artifacts"].items():
                figures["path"] = name
            write_json(folder / FAILED_PARITY_FILE, error.parity)
            raise
        published = _publish(staged, folder)
    if not settings.savedmodel and (older := versions(folder / SAVEDMODEL_FOLDER)):
        # Not ours to remove: a server may be answering with it.
        _log.warning(
            "%s holds older weights than this export, and stays: remove it, or set "
            "export.savedmodel=true.",
            folder / SAVEDMODEL_FOLDER / str(max(older)),
        )
    for name, path in published.items():
        parity["artifacts"][name]["path"] = str(path.relative_to(folder))
    write_json(folder / PARITY_FILE, parity)
    (folder / FAILED_PARITY_FILE).unlink(missing_ok=True)
    return parity


def _write(
    settings: ExportSettings,
    model: Any,
    tokenizer: Any,
    aside: Path,
    texts: Sequence[str],
    described: dict[str, Any],
    tell: Callable[[str], None],
) -> dict[str, Path]:
    """All artifacts, in a staging folder; name to path."""
    staged = {}
    if settings.savedmodel:
        from tfmodel.export.savedmodel import export_savedmodel

        tell("writing savedmodel")
        staged[SAVEDMODEL_FOLDER] = export_savedmodel(
            model,
            tokenizer,
            aside / SAVEDMODEL_FOLDER,
            **described,
        )
    if settings.tflite:
        from tfmodel.export.tflite import export_tflite_variants

        tell(f"converting to TFLite {', '.join(settings.tflite)}")
        files = export_tflite_variants(
            model,
            tokenizer,
            aside / TFLITE_FOLDER,
            variants=settings.tflite,
            **described,
        )
        staged |= {f"{TFLITE_FOLDER}/{variant}": path for variant, path in files.items()}
    return staged


def _publish(staged: dict[str, Path], folder: Path) -> dict[str, Path]:
    """Move checked artifacts to where they are served from; name to new path."""
    published = {}
    for name, path in staged.items():
        if path.is_dir():
            published[name] = publish_version(path, folder / SAVEDMODEL_FOLDER)
        else:
            published[name] = path.replace(make_folder(folder / TFLITE_FOLDER) / path.name)
    for variant in TFLITE_VARIANTS:
        # A file that this export did not make holds older weights, and says nothing of it.
        if f"{TFLITE_FOLDER}/{variant}" not in staged:
            (folder / TFLITE_FOLDER / f"{variant}.tflite").unlink(missing_ok=True)
    return published
