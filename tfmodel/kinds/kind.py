"""What a kind of run is: its config's schema, its stages, and how it is told about."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from tfmodel.config import Settings
from tfmodel.stages import Context, Stage


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of run.

    Attributes:
        name: in messages: "a … run".
        settings: the schema of its config; a config is known by the keys that only one kind has.
        stages: in their order; one of them trains.
        places: what it replaces in its folder, besides what every run does.
        sources: the source under each key of a config that names one.
        tell: writes the report of a run as far as it came, and gives the lines it ends with;
            takes the run's context and the stage that was asked for alone, or None.
        check: refuses, before any work, what a later stage would refuse.
        train_along: what a worker does that trains with a chief (TF_CONFIG); gives words for it.
            None: such a run is trained by one process.
    """

    name: str
    settings: type[Settings]
    stages: tuple[Stage, ...]
    places: tuple[str, ...]
    sources: Callable[[Any], Mapping[str, str | None]]
    tell: Callable[[Context, str | None], str]
    train_along: Callable[[Context], str] | None
    check: Callable[[Context], None] = lambda context: None

    @property
    def commands(self) -> list[str]:
        """The stages, by name."""
        return [stage.name for stage in self.stages]

    @property
    def training(self) -> str:
        """The stage that makes the weights."""
        return next(stage.name for stage in self.stages if stage.trains)


def unfinished_command(context: Context) -> str | None:
    """What to type for the first stage that is not done; None where all that are wanted are."""
    for name, stage in context.stages.items():
        if stage.is_wanted(context.settings) and not context.up_to_date(name):
            others = stage.trains and context.run.stage_fingerprint(name)
            return f"tfmodel {stage.command} {context.config}" + (" --restart" if others else "")
    return None
