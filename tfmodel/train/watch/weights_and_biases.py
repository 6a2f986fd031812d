"""A training in Weights & Biases."""

from __future__ import annotations

import io
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfmodel.config import ConfigError
from tfmodel.train.watch.tracker import Value, kept_run_id


class WeightsAndBiases:
    """A `Tracker` that logs to Weights & Biases (extra `wandb`), online or offline.

    A training that goes on does so in the run it began in, whose id is kept in `folder` with the
    last step logged: no step is logged twice. Neither command line, console, code nor git state
    are sent.

    Args:
        folder: for W&B's own files and the run's id.
        project: W&B project.
        name: of the run; None: W&B makes one up.
        entity: user or team; None: the account's own.
        mode: `online`, `offline`, or None: as the environment variable WANDB_MODE says.

    Raises:
        ConfigError: the extra is not installed.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        project: str = "tfmodel",
        name: str | None = None,
        entity: str | None = None,
        mode: str | None = None,
    ):
        self.folder = Path(folder)
        self.options = {"project": project, "name": name, "entity": entity, "mode": mode}
        self._wandb = _wandb()
        self._run = None
        self._known = self._last = -1

    def start(self, config: Mapping[str, Value], *, step: int) -> None:
        """Open the run, a new one or that of the training that goes on."""
        wandb, file = self._wandb, self.folder / "wandb_run_id"
        known = kept_run_id(file) if step else None
        run_id = known or kept_run_id(file, uuid.uuid4().hex[:12])
        steps = self.folder / "wandb_last_step"
        if known and steps.exists():
            self._known = self._last = int(steps.read_text("ascii") or -1)
        self._steps = steps.open("r+" if self._known >= 0 else "w", encoding="ascii")
        settings = wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            save_code=False,
            silent=True,
            x_disable_meta=True,
        )
        self._run = wandb.init(
            id=run_id,
            resume="allow" if known else None,
            dir=str(self.folder),
            config=dict(config),
            settings=settings,
            **self.options,
        )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Log the figures of a step."""
        if step > self._known:
            self._log(step, dict(figures))

    def image(self, step: int, name: str, png: bytes) -> None:
        """Log a picture."""
        from PIL import Image

        with Image.open(io.BytesIO(png)) as picture:
            self._log(step, {name: self._wandb.Image(picture)})

    def table(self, step: int, name: str, rows: Sequence[Mapping[str, Value]]) -> None:
        """Log rows as a table."""
        columns = list(rows[0]) if rows else ["none"]
        values = [list(row.values()) for row in rows]
        self._log(step, {name: self._wandb.Table(columns=columns, data=values)})

    def flush(self) -> None:
        """Nothing: what is logged is with a process of W&B's own at once."""

    def finish(self, figures: Mapping[str, float]) -> None:
        """Write the summary, and end the run."""
        self._run.summary.update({f"kept/{name}": value for name, value in figures.items()})
        self._run.finish()
        self._steps.close()

    def _log(self, step: int, values: dict) -> None:
        # W&B drops steps that go back, as that of the last picture of all may.
        step = max(self._last, step)
        self._run.log(values, step=step)
        if step > self._last:
            self._last = step
            self._steps.seek(0)
            self._steps.write(f"{step:020d}")
            self._steps.flush()


def _wandb():
    try:
        import wandb
    except ImportError:
        raise ConfigError(
            "Weights & Biases needs the extra wandb: pip install 'tfmodel[wandb]'. "
            "Received: no package wandb."
        ) from None
    return wandb
