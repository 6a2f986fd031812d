"""A training in MLflow."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfmodel.config import ConfigError
from tfmodel.train.watch.tracker import Value, kept_run_id

_PARAMETERS_A_CALL = 100
_FIGURES_A_CALL = 1000
_HELD_SECONDS = 5.0
_LONGEST_PARAMETER = 6000


class MLflow:
    """A `Tracker` that logs to MLflow (extra `mlflow`): a server, or a SQLite file.

    A training that goes on does so in the run it began in, whose id is kept in `folder`; steps
    that MLflow has already are not logged again.

    Args:
        folder: for the run's id, and the SQLite file and artifacts without a `tracking_uri`.
        experiment: made where it is not there.
        name: of the run; None: MLflow makes one up.
        tracking_uri: server or `sqlite:///FILE`; None: as the environment variable
            MLFLOW_TRACKING_URI says, without it `mlflow.db` in `folder`.

    Raises:
        ConfigError: the extra is not installed.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        experiment: str = "tfmodel",
        name: str | None = None,
        tracking_uri: str | None = None,
    ):
        self.folder = Path(folder)
        self.experiment = experiment
        self.name = name
        self.tracking_uri = tracking_uri
        self._mlflow = _mlflow()
        self._held: list = []
        self._sent = time.monotonic()

    def start(self, config: Mapping[str, Value], *, step: int) -> None:
        """Open the run, a new one or that of the training that goes on."""
        import os

        uri, artifacts = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"), None
        if not uri:
            self.folder.mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{(self.folder / 'mlflow.db').resolve()}"
            artifacts = (self.folder / "mlflow-artifacts").resolve().as_uri()
        self.client = self._mlflow.MlflowClient(tracking_uri=uri)
        file = self.folder / "mlflow_run_id"
        known = kept_run_id(file) if step else None
        self._done: dict[str, int] = {}
        if known is None:
            found = self.client.get_experiment_by_name(self.experiment)
            experiment = (
                self.client.create_experiment(self.experiment, artifact_location=artifacts)
                if found is None
                else found.experiment_id
            )
            run = self.client.create_run(experiment, run_name=self.name)
            self.run_id = kept_run_id(file, run.info.run_id)
            entity = self._mlflow.entities.Param
            parameters = [entity(k, str(v)[:_LONGEST_PARAMETER]) for k, v in config.items()]
            for start in range(0, len(parameters), _PARAMETERS_A_CALL):
                part = parameters[start : start + _PARAMETERS_A_CALL]
                self.client.log_batch(self.run_id, params=part)
        else:
            self.run_id = known
            self.client.update_run(known, status="RUNNING")
            for name in self.client.get_run(known).data.metrics:
                history = self.client.get_metric_history(known, name)
                self._done[name] = max(point.step for point in history)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Log the figures of a step, many steps at a time."""
        now = int(time.time() * 1000)
        metric = self._mlflow.entities.Metric
        self._held += [
            metric(name, float(value), now, step)
            for name, value in figures.items()
            if step > self._done.get(name, -1)
        ]
        if len(self._held) >= _FIGURES_A_CALL or time.monotonic() - self._sent > _HELD_SECONDS:
            self.flush()

    def image(self, step: int, name: str, png: bytes) -> None:
        """Log a picture as an artifact."""
        part, base = name.rpartition("/")[::2]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, f"{base}_step_{step:07d}.png")
            file.write_bytes(png)
            self.client.log_artifact(self.run_id, str(file), artifact_path=part or None)

    def table(self, step: int, name: str, rows: Sequence[Mapping[str, Value]]) -> None:
        """Log rows as a table."""
        if rows:
            columns = {column: [row[column] for row in rows] for column in rows[0]}
            self.client.log_table(self.run_id, columns, f"{name}_step_{step:07d}.json")

    def flush(self) -> None:
        """Send what is held back."""
        for start in range(0, len(self._held), _FIGURES_A_CALL):
            part = self._held[start : start + _FIGURES_A_CALL]
            self.client.log_batch(self.run_id, metrics=part)
        self._held.clear()
        self._sent = time.monotonic()

    def finish(self, figures: Mapping[str, float]) -> None:
        """Log the figures of the weights kept, and end the run."""
        self.flush()
        for name, value in figures.items():
            self.client.log_metric(self.run_id, f"kept/{name}", float(value))
        self.client.set_terminated(self.run_id)


def _mlflow():
    try:
        import mlflow
    except ImportError:
        raise ConfigError(
            "MLflow needs the extra mlflow: pip install 'tfmodel[mlflow]'. "
            "Received: no package mlflow."
        ) from None
    return mlflow
