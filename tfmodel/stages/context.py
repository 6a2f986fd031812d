"""What a stage is, and what its functions are given."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfmodel import sources
from tfmodel.config import ConfigError
from tfmodel.run_folder import Run, fingerprint, read_json

TIMINGS_FILE = "timings.json"
_ROWS_WITH = {
    "class": "one class",
    "classes": "several classes",
    "number": "one number",
    "spans": "spans of the text",
    "answers": "answers",
    "text": "one text",
    "none": "no label",
}


@dataclasses.dataclass(frozen=True)
class Stage:
    """A step of a run.

    Attributes:
        name: as on the command line.
        inputs: what it depends on besides the stages before it, by a name for the user.
        work: does it.
        is_made: whether what it leaves is there.
        after: the stage whose result it takes, for these settings.
        metrics: its sections of `metrics.json`.
        is_wanted: whether a config asks for it.
        part_of: the stage whose command does it too.
        trains: whether it makes the run's weights, which nothing replaces unasked.
        is_whole: whether all that it consists of is up to date too.
    """

    name: str
    inputs: Callable[[Context], dict]
    work: Callable[[Context], None]
    is_made: Callable[[Run], bool]
    after: Callable[[Any], str | None] = lambda settings: None
    metrics: tuple[str, ...] = ()
    is_wanted: Callable[[Any], bool] = lambda settings: True
    part_of: str | None = None
    trains: bool = False
    is_whole: Callable[[Context], bool] = lambda context: True

    @property
    def command(self) -> str:
        """What one types after `tfmodel` to have it done."""
        return self.part_of or self.name


class Context:
    """A config and its open run folder, with what several stages read.

    Args:
        settings: the whole config, such as `kinds.RunSettings`.
        run: the open folder.
        stages: all of the run's kind, in their order.
        restart: whether trained weights may be replaced.
        config: the config file and its overrides, as one types them.
        beam: flags of the Beam runner that prepares the data; None: this machine does.
        strategy: of the workers that train together; None: this process alone.

    Attributes:
        tasks: of a run of several tasks what `stages.several` keeps: the runs of each.
    """

    def __init__(
        self,
        settings: Any,
        run: Run,
        stages: Sequence[Stage],
        *,
        restart: bool,
        config: str,
        beam: Sequence[str] | None = None,
        strategy: Any = None,
    ):
        self.settings = settings
        self.run = run
        self.stages = {stage.name: stage for stage in stages}
        self.restart = restart
        self.config = config
        self.beam = beam
        self.strategy = strategy
        self.tasks: dict[str, dict[str, Context]] = {}

    @property
    def training(self) -> str:
        """The stage that makes the weights."""
        return next(name for name, stage in self.stages.items() if stage.trains)

    def built_on(self, name: str) -> list[str]:
        """The stages that take what a stage made, at first or second hand."""
        found = [name]
        for each, stage in self.stages.items():
            if stage.after(self.settings) in found:
                found.append(each)
        return found[1:]

    @functools.cached_property
    def encoder_folder(self) -> Path:
        """The pretrained encoder, fetched; of sentence-transformers the folder inside."""
        folder = sources.fetch(self.settings.encoder)
        inside = folder / "0_Transformer"
        return inside if inside.is_dir() and not (folder / "config.json").exists() else folder

    @functools.cached_property
    def encoder_shape(self):
        """The sizes of the pretrained encoder.

        Raises:
            ConfigError: its folder is of no BERT nor of its family, or texts alone are to be
                learned from, on another than BERT itself.
        """
        from tfmodel.model.checkpoints import read_config
        from tfmodel.model.sizes import BertConfig

        shape = BertConfig.from_huggingface(read_config(self.encoder_folder))
        if shape.family != "bert" and not hasattr(self.settings, "task"):
            raise ConfigError(
                f"{self.settings.encoder}: expected an encoder of model_type bert for pretraining. "
                f"Received: model_type {shape.family}. Choose another encoder; in Python, "
                "tm.load_encoder and tm.save_encoder take this one."
            )
        return shape

    @functools.cached_property
    def dataset(self):
        """The prepared dataset."""
        from tfmodel.data import load_dataset

        return load_dataset(self.run.data)

    @property
    def task_name(self) -> str:
        """The task's key in `tasks.TASKS`.

        Raises:
            ConfigError: the task that the config names does not learn the labels of the dataset.
        """
        from tfmodel import tasks

        name, target = self.settings.task.name, self.dataset.target
        if (found := tasks.learning(target, name=name)) is not None:
            return found
        wanted = " or ".join(
            _ROWS_WITH[task.target] for task in tasks.TASKS.values() if task.name == name
        )
        other = tasks.learning(target)
        fix = (
            f"`tfmodel data {self.config}` prepares such rows; to {name}, name a column of them by "
            "data.label"
            if other is None
            else f"Set task.name={tasks.TASKS[other].name}, which learns them, or name another "
            "column by data.label"
        )
        raise ConfigError(
            f"task {name}: expected rows with {wanted} each. Received: {self.run.data}, whose "
            f"target is {target}. {fix}."
        )

    @property
    def task(self):
        """The task's module.

        Raises:
            ConfigError: as `task_name`.
        """
        from tfmodel import tasks

        return tasks.find(self.task_name)

    @functools.cached_property
    def trained(self):
        """The trained model in float32, whatever it was trained in."""
        from tfmodel import tasks

        return tasks.load_model(self.run.model)

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        """Of every stage: the hash of its inputs."""
        return {name: fingerprint(inputs) for name, inputs in self.inputs.items()}

    @functools.cached_property
    def inputs(self) -> dict[str, dict]:
        """Of every stage: its own inputs and those of the stages before it."""
        found: dict[str, dict] = {}
        for name, stage in self.stages.items():
            before = stage.after(self.settings)
            found[name] = {**(found[before] if before else {}), **stage.inputs(self)}
        return found

    def timings(self) -> dict[str, float]:
        """Seconds that each stage took, of those that are up to date."""
        kept = read_if_there(self.run.folder / TIMINGS_FILE)
        return {name: kept[name] for name in self.stages if name in kept and self.up_to_date(name)}

    def up_to_date(self, name: str) -> bool:
        """Whether a stage was done with these inputs, and what it left is there."""
        stage, recorded = self.stages[name], self.run.stage_fingerprint(name)
        is_same = recorded == self.fingerprints[name]
        return is_same and stage.is_made(self.run) and stage.is_whole(self)


def identity_of_source(source: str) -> str:
    """What changes when the bytes of a source do."""
    # A pinned source cannot change; fetching it only to look would cost a download.
    if sources.is_remote(source):
        return source
    return fingerprint(sources.fetch(source))


def read_if_there(path: Path) -> dict:
    """Read a JSON file; empty where there is none."""
    return read_json(path) if path.exists() else {}
