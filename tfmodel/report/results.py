"""What a report is made from."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Figures = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """What a run has found so far; whatever is empty is left out of the report.

    Attributes:
        title: what was made, such as the run's name.
        task: the task's name, as in the config.
        run_folder: where everything lies.
        command: what made the run.
        next_command: what to type now.
        config: the resolved settings.
        environment: name -> version or machine.
        account: the dataset's `account.json`.
        label_noise: what `data_review/label_noise.json` tells of disputed labels.
        history: what training wrote down, as `plots.learning_curves` takes it.
        training: the `train` part of `metrics.json`.
        evaluation: `dev` and `test` -> what `evaluate.classification` returned.
        parity: the export's `parity.json`.
        timings: stage -> seconds.
    """

    title: str
    task: str = "classify"
    run_folder: str | Path = ""
    command: str = ""
    next_command: str = ""
    config: Figures = dataclasses.field(default_factory=dict)
    environment: Figures = dataclasses.field(default_factory=dict)
    account: Figures = dataclasses.field(default_factory=dict)
    label_noise: Figures = dataclasses.field(default_factory=dict)
    history: Figures | Sequence[Figures] = ()
    training: Figures = dataclasses.field(default_factory=dict)
    evaluation: Mapping[str, Figures] = dataclasses.field(default_factory=dict)
    parity: Figures = dataclasses.field(default_factory=dict)
    timings: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def judged(self) -> tuple[str, Figures]:
        """Give the part that judges the model and its figures: test if there is one, else dev."""
        for part in ("test", "dev"):
            if self.evaluation.get(part):
                return part, self.evaluation[part]
        return "", {}
