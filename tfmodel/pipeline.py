"""A run: the stages of its kind in order, what is up to date, what runs again."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.kinds import Kind, RunSettings, TaskSettings, kind_of_run, load_run_config
from tfmodel.protection import changes, require_own_folder, require_sources_elsewhere
from tfmodel.run_folder import Run
from tfmodel.stages import Context, Stage, join_workers, training_under_way
from tfmodel.stages.doing import do_stage as _do
from tfmodel.stages.doing import save_config as _save_config
from tfmodel.stages.settling import as_asked
from tfmodel.train.distribute.cluster import Cluster

__all__ = ["RunResult", "RunSettings", "TaskSettings", "run"]


@dataclasses.dataclass(frozen=True)
class RunResult:
    """What `run` made.

    Attributes:
        folder: the run folder.
        metrics: what stands in `metrics.json`.
        report: path of `report.html`.
        summary: the short table a run ends with, as text.
    """

    folder: Path
    metrics: dict
    report: Path
    summary: str


def run(
    config: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    restart: bool = False,
    only: str | None = None,
    beam: Sequence[str] | None = None,
) -> RunResult:
    """Do every stage that a config names, in order; those whose inputs did not change rest.

    Args:
        config: path of a YAML file, or its values.
        overrides: `key=value` strings that win over the config.
        restart: replace trained weights whose inputs have changed, and train from the start.
        only: the name of one stage to do alone.
        beam: flags of an Apache Beam runner that prepares the data; None: this machine does.

    Returns:
        The run's folder, figures and report.

    Raises:
        ConfigError: the config or its data is wrong, or trained weights would be replaced
            without `restart`.
        ParityError: an export does not answer as the model does.

    Example:
        >>> tfmodel.run("configs/quickstart.yaml", ["train.epochs=3"]).metrics["test"]
    """
    kind, settings = load_run_config(config, overrides, stage=only)
    name = "CONFIG" if isinstance(config, Mapping) else str(config)
    folder = Path(settings.run).expanduser()
    settings = as_asked(settings, Run(folder, lock=None), kind.training)
    command = shlex.join([name, *overrides])
    cluster = Cluster.from_environment()
    if cluster is not None and kind.train_along is None:
        raise ConfigError(
            f"TF_CONFIG: expected one process for a {kind.name} run. Received: several workers. "
            "Unset TF_CONFIG."
        )
    strategy = None
    if cluster is not None and only in (None, kind.training):
        if restart or not _is_trained(kind, settings, folder, command):
            strategy = join_workers(settings)
    if cluster is not None and not cluster.is_chief:
        return _train_along(kind, settings, folder, strategy, command)
    with _lost_worker_in_words(strategy):
        return _do_stages(kind, settings, folder, strategy, command, restart, only, beam)


def _is_trained(kind: Kind, settings: Any, folder: Path, command: str) -> bool:
    """Whether nothing is left to train: each worker sees it in the folder that they share.

    So a chief that was killed while it exported needs no others, who have ended, to go on.
    """
    opened = Run(folder, lock=None)
    context = Context(settings, opened, kind.stages, restart=False, config=command)
    if opened.stage_fingerprint(context.training) is None:
        return False
    try:
        return context.up_to_date(context.training)
    except ConfigError:  # the raw rows are not to be seen here
        return False


def _lost_worker_in_words(strategy: Any):
    if strategy is None:
        return contextlib.nullcontext()
    from tfmodel.train.distribute import lost_worker_in_words

    return lost_worker_in_words()


def _train_along(kind: Kind, settings: Any, folder: Path, strategy: Any, command: str) -> RunResult:
    """What a worker does that is not the chief."""
    summary = "nothing to train; the chief does the rest alone"
    if strategy is not None:
        context = Context(
            settings,
            Run(folder, lock=None),
            kind.stages,
            restart=False,
            config=command,
            strategy=strategy,
        )
        with _lost_worker_in_words(strategy):
            summary = kind.train_along(context)
    return RunResult(folder=folder, metrics={}, report=folder / "report.html", summary=summary)


def _do_stages(
    kind: Kind,
    settings: Any,
    folder: Path,
    strategy: Any,
    command: str,
    restart: bool,
    only: str | None,
    beam: Sequence[str] | None,
) -> RunResult:
    require_own_folder(folder, kind.places)
    require_sources_elsewhere(folder, kind.sources(settings), kind.places)
    with Run.open(folder) as opened:
        context = Context(
            settings,
            opened,
            kind.stages,
            restart=restart,
            config=command,
            beam=beam,
            strategy=strategy,
        )
        chosen = [stage for stage in kind.stages if _is_chosen(stage, settings, only)]
        _require_same_kind(kind, opened)
        if any(stage.trains for stage in chosen):
            _protect_weights(context)
        _require_before(context, chosen)
        kind.check(context)
        opened.environment()  # first of all: it marks the folder as a run's
        _save_config(context)
        for stage in chosen:
            _do(context, stage)
        summary = kind.tell(context, only)
        return RunResult(opened.folder, opened.metrics(), opened.report, summary)


def _is_chosen(stage: Stage, settings: Any, only: str | None) -> bool:
    if stage.name == only:
        return True
    return stage.is_wanted(settings) and only in (None, stage.part_of)


def _require_same_kind(kind: Kind, run: Run) -> None:
    """Refuse the folder of another kind's run, whose weights this one would replace."""
    other = kind_of_run(run.folder)
    if other not in (None, kind):
        raise ConfigError(
            f"{run.folder}: expected the folder of a {kind.name} run, or a new one. Received: "
            f"that of a {other.name} run. Set run: to another folder."
        )


def _protect_weights(context: Context) -> None:
    """Refuse to replace trained weights, or training under way, by those of another config."""
    run, training = context.run, context.training
    trained = run.stage_fingerprint(training) if run.model.exists() else None
    # Weights without a record are those that a training under way was started to replace.
    begun = run.model.exists() or any(run.checkpoints.glob("last/*"))
    under_way = training_under_way(run) if begun else {}
    key = trained or under_way.get("key")
    if context.restart or not begun or key == context.fingerprints[training]:
        return
    before = run.stage_inputs(training) if trained else under_way.get("inputs")
    what = "weights trained" if trained else "training under way"
    received = (
        "weights of which it is not recorded how they were trained"
        if before is None
        else f"{what} with others ({changes(before, context.inputs[training])})"
    )
    raise ConfigError(
        f"{run.folder}: expected the config and data that this run was trained with. Received: "
        f"{received}. Add --restart to train anew and replace them, or set run: to another folder."
    )


def _require_before(context: Context, chosen: Sequence[Stage]) -> None:
    """Refuse stages whose predecessors are neither chosen nor done."""
    first, names = chosen[0], [stage.name for stage in chosen]
    name = first.after(context.settings)
    while name is not None:
        if name not in names and not context.up_to_date(name):
            stage = context.stages[name]
            before = context.run.stage_inputs(name) if stage.trains else None
            raise ConfigError(
                f"{first.name} needs the stage {name} done with this config. Received: "
                f"{context.run.folder}, where it "
                + (
                    f"was done with another ({changes(before, context.inputs[name])})"
                    if before
                    else "is not"
                )
                + f". Type: tfmodel {stage.command} {context.config} "
                f"(or tfmodel run {context.config} for all stages)."
            )
        name = context.stages[name].after(context.settings)
