"""The stage `export`: files that answer without tfmodel."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tfmodel.export.publish import PARITY_FILE
from tfmodel.export.settings import ExportSettings
from tfmodel.run_folder import Run
from tfmodel.stages.context import Context, Stage, read_if_there

if TYPE_CHECKING:
    from tfmodel.data import Split

_log = logging.getLogger(__name__)


def _export_inputs(context: Context) -> dict:
    settings = context.settings.export or ExportSettings()
    return {f"export.{key}": value for key, value in settings.model_dump(mode="json").items()}


def _export(context: Context) -> None:
    from tfmodel.export import export_all
    from tfmodel.stages.card_facts import facts_of
    from tfmodel.tasks import right_answers

    settings = context.settings.export or ExportSettings()
    trained, dataset = context.trained, context.dataset
    part = next(name for name in ("test", "dev", "train") if name in dataset.counts)
    split = dataset.split(part)
    targets = None
    calibration = _drawn(dataset.split("train"), settings.calibration_rows, context.settings.seed)
    if hasattr(context.task, "asked"):
        split, calibration = map(context.task.asked, (split, calibration))
    else:
        targets = right_answers(context.task, split, dataset.labels)
    parity = export_all(
        settings,
        model=trained.model,
        tokenizer=trained.tokenizer,
        labels=trained.labels,
        max_length=trained.max_length,
        task=trained.task,
        decoding=trained.decoding,
        texts=split.texts,
        text_pairs=split.text_pairs,
        targets=targets,
        folder=context.run.export,
        calibration_texts=calibration.texts,
        calibration_pairs=calibration.text_pairs,
        facts=facts_of(context),
        progress=_log.info,
    )
    context.run.update_metrics("export", parity["artifacts"])


def _drawn(split: Split, rows: int, seed: int) -> Split:
    """So many rows of a split, or all where it has fewer, by the seed."""
    import numpy as np

    from tfmodel.train.out_of_fold import select_rows

    return select_rows(split, np.random.default_rng(seed).permutation(len(split.texts))[:rows])


def is_exported(run: Run) -> bool:
    """Whether every artifact that was published is there."""
    parity = read_if_there(run.export / PARITY_FILE)
    artifacts = parity.get("artifacts", {}).values()
    return bool(parity) and all((run.export / each["path"]).exists() for each in artifacts)


EXPORT = Stage(
    "export",
    _export_inputs,
    _export,
    is_exported,
    after=lambda settings: "finetune",  # not on what was measured
    metrics=("export",),
    is_wanted=lambda settings: settings.export is not None,
)
