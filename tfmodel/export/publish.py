"""Export, prove, publish: nothing reaches the served folder that was not checked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.export.places import (
    is_version,
    make_folder,
    publish_version,
    remove,
    replace,
    staging,
    versions,
)
from tfmodel.export.settings import ExportSettings
from tfmodel.export.trained import Trained

_log = logging.getLogger(__name__)

SAVEDMODEL_FOLDER = "savedmodel"
TFLITE_FOLDER = "tflite"
PARITY_FILE = "parity.json"
FAILED_PARITY_FILE = "parity_failed.json"

# Artifacts that have no versions: the newest takes the older one's place.
_REPLACED = (f"{TFLITE_FOLDER}/*.tflite", "keras_hub", "onnx")


def export_all(
    settings: ExportSettings,
    *,
    model: Any,
    tokenizer: Any,
    labels: Sequence[str],
    max_length: int,
    texts: Sequence[str],
    folder: str | Path,
    task: str = "classify",
    decoding: Mapping[str, Any] | None = None,
    text_pairs: Sequence[str] | None = None,
    targets: Sequence[Any] | np.ndarray | None = None,
    calibration_texts: Sequence[str] | None = None,
    calibration_pairs: Sequence[str] | None = None,
    facts: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Write every artifact aside, check each against the Keras model, then publish them all.

    Args:
        settings: what to export.
        model: the float32 Keras model, token batch to outputs (B, C).
        tokenizer: the tokenizer it was trained with.
        labels: the name of each output: of `classify` the classes, in the order of the logits.
        max_length: tokens a row in training; `settings.max_length` goes before it.
        texts: real texts to compare on, at least one; best all of the test part: 200 are
            drawn, and more where those leave doubt.
        folder: the run's `export` folder.
        task: one of `tasks.TASKS`.
        decoding: what the task's answers are decoded by beside the labels.
        text_pairs: as many second texts; their presence says that the model takes pairs.
        targets: the right answers, where known: what the task's `targets` gives.
        calibration_texts: real texts for int8_full, none of `texts` among them; `texts` by
            default.
        calibration_pairs: as many second texts.
        facts: what the model card says of data, metrics, seeds and limits.
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
    if calibration_texts is None:
        calibration_texts, calibration_pairs = texts, text_pairs
    trained = Trained(
        model,
        tokenizer,
        labels=labels,
        max_length=settings.max_length or max_length,
        has_pairs=text_pairs is not None,
        calibration_texts=calibration_texts,
        calibration_pairs=calibration_pairs,
        facts=facts or {},
        task=task,
        decoding=decoding or {},
    )
    _refuse_early(settings, trained)
    reference = predictor_of(model, tokenizer, **trained.described)
    tell = progress or (lambda _: None)
    with staging(folder) as aside:
        staged = _write(settings, trained, aside, tell)
        try:
            parity = check_parity(
                reference,
                staged,
                texts,
                text_pairs,
                targets=targets,
                max_drop=settings.max_drop,
                runtime=settings.runtime,
                progress=lambda name: tell(f"checking {name}"),
            )
        except ParityError as error:
            for name, figures in error.parity["artifacts"].items():
                figures["path"] = name
            write_json(folder / FAILED_PARITY_FILE, error.parity)
            raise
        published = _publish(staged, aside, folder)
    for name, path in published.items():
        parity["artifacts"][name]["path"] = str(path.relative_to(folder))
    write_json(folder / PARITY_FILE, parity)
    (folder / FAILED_PARITY_FILE).unlink(missing_ok=True)
    return parity


def _refuse_early(settings: ExportSettings, trained: Trained) -> None:
    """Refuse what cannot be exported, or not be checked here, before the minutes of work."""
    from tfmodel.export import keras_hub
    from tfmodel.export import onnx as onnx_model
    from tfmodel.export.graph import family_of
    from tfmodel.export.tflite.phone_runtimes import choose_runtime
    from tfmodel.tasks.readings import require_pooled_output

    asked = [key for key in ("keras_hub", "onnx") if getattr(settings, key)]
    if asked and tasks.fills_gaps(trained.task):
        raise ConfigError(
            f"export.{asked[0]}: expected a task with one answer a row. Received: "
            f"{trained.task}, which fills gaps, and which it has no form for. Leave it out; the "
            "model folder is a Hugging Face one."
        )
    has_one_vector = not (tasks.gives_vectors(trained.task) or tasks.reads_tokens(trained.task))
    if settings.keras_hub and has_one_vector:
        require_pooled_output(trained.model, "export.keras_hub")
    if settings.keras_hub and tasks.reads_tokens(trained.task):
        raise ConfigError(
            "export.keras_hub: expected a task that KerasHub has. Received: "
            f"{trained.task}, which answers each token, and KerasHub has no class for that. Leave "
            "it out; the model folder is a Hugging Face one."
        )
    for door in (keras_hub, onnx_model):
        door.require_extra(settings)
    settings.check_family(family_of(trained.model), trained.tokenizer.kind)
    if settings.tflite:
        choose_runtime(settings.runtime, trained)


def _write(
    settings: ExportSettings, trained: Trained, aside: Path, tell: Callable[[str], None]
) -> dict[str, Path]:
    """All artifacts, each where it will stand below the export folder; name to path."""
    from tfmodel.export import keras_hub, savedmodel, tflite
    from tfmodel.export import onnx as onnx_model

    staged = {}
    # Each door writes what the settings ask of it, and names it.
    for door in (savedmodel, tflite, keras_hub, onnx_model):
        staged |= door.write_artifacts(settings, trained, aside, tell)
    return staged


def _publish(staged: dict[str, Path], aside: Path, folder: Path) -> dict[str, Path]:
    """Move checked artifacts to where they are served from; name to new path."""
    published = {}
    for name, path in staged.items():
        target = folder / path.relative_to(aside)
        if is_version(path.name) and path.is_dir():
            published[name] = publish_version(path, target.parent)
        else:
            make_folder(target.parent)
            published[name] = replace(path, target)
    _clear(folder, {*published.values()})
    return published


def _clear(folder: Path, published: set[Path]) -> None:
    """Remove what this export did not make: it holds older weights, and says nothing of it."""
    for pattern in _REPLACED:
        for older in {*folder.glob(pattern)} - published:
            remove(older)
    for base in folder.glob(f"{SAVEDMODEL_FOLDER}*"):
        if not any(path.parent == base for path in published) and (older := versions(base)):
            # Not ours to remove: a server may be answering with it.
            _log.warning(
                "%s holds older weights than this export, and stays: remove it, or export it "
                "again with %s.",
                base / str(max(older)),
                _key_of(base),
            )


def _key_of(base: Path) -> str:
    """What a config says to have a folder of SavedModels written."""
    precision = base.name.removeprefix(f"{SAVEDMODEL_FOLDER}_")
    if precision == SAVEDMODEL_FOLDER:
        precision = "float32"
    return f"export.savedmodel=true and {precision} in export.savedmodel_precision"
