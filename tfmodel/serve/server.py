"""The local server: REST and gRPC on two ports, one set of models behind both."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfmodel.config import ConfigError
from tfmodel.export.linting.saved_graph import GRAPH_FILE
from tfmodel.export.linting.serving_ops import check_release
from tfmodel.export.places import is_version, versions
from tfmodel.serve.doors import Doors, read_token, require_extra, until_told
from tfmodel.serve.feedback.facts import KnownModels
from tfmodel.serve.feedback.recorder import Recorder
from tfmodel.serve.metrics import Metrics
from tfmodel.serve.models import Models
from tfmodel.serve.models_config import PLATFORM, check_model_name, read_models_config
from tfmodel.serve.rest import RestApplication
from tfmodel.serve.settings import ServeSettings
from tfmodel.serve.tensorflow_core import import_tensorflow
from tfmodel.serve.versions import ALL_VERSIONS, Policy

_log = logging.getLogger(__name__)


class Server:
    """Serves SavedModels as TF Serving does, from this process.

    Args:
        models: name to base folder, or one base folder, whose name is `model`.
        policy: which versions are served; by default the newest that can be.
        labels: of the first model: label to version.
        config_file: a `models.config` of TF Serving's, in place of the three above; it is read
            again whenever it changes.
        settings: doors, limits and batches; see `serve_settings`.

    Raises:
        ConfigError: neither models nor a config file, or both; no base folder; a file of models, of
            the token or of the certificate that cannot be read; a feedback database that cannot be
            meant; or an extra is not installed.

    Example:
        >>> with Server("runs/news/export/savedmodel") as server:
        ...     print(server.rest_address)
        127.0.0.1:8501
    """

    def __init__(
        self,
        models: str | Path | Mapping[str, str | Path] | None = None,
        *,
        policy: Policy | None = None,
        labels: Mapping[str, int] | None = None,
        config_file: str | Path | None = None,
        settings: ServeSettings | None = None,
    ):
        require_extra()
        if config_file is not None:  # what reads it imports TensorFlow, with all that it can have
            import_tensorflow()
        self.settings = settings or ServeSettings()
        check_release(self.settings.target)
        bases = _bases(models, config_file)
        self._token = read_token(self.settings.token_file)
        self._doors = Doors(self.settings)
        self.metrics = Metrics()
        self.models = Models(
            {name: _base(name, base) for name, base in bases.items()},
            self.settings,
            self.metrics,
            policy=policy,
            labels=labels,
            config_file=None if config_file is None else Path(config_file),
        )
        self._recorder = self._make_recorder()
        self._application = RestApplication(self.models, token=self._token, recorder=self._recorder)

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def rest_address(self) -> str:
        """Host and port of REST."""
        return self._doors.rest_address

    @property
    def grpc_address(self) -> str:
        """Host and port of gRPC."""
        return self._doors.grpc_address

    def start(self) -> Server:
        """Load the models and open both doors.

        Returns:
            The server itself; `rest_address` and `grpc_address` say where it listens.

        Raises:
            ConfigError: a port is taken.
            RuntimeError: a model has no version that can be served, or a label none that is live.
        """
        import_tensorflow()
        from tfmodel.serve.grpc_services import handlers_of

        if self._recorder is not None:
            self._recorder.start()
        try:
            # The doors are open while models load: health answers, and readiness says no.
            self._doors.open_rest(self._application)
            handlers = handlers_of(self.models, token=self._token, recorder=self._recorder)
            self._doors.open_grpc(handlers)
            self.models.load()
            self._require_models()
        except BaseException:
            self.stop()
            raise
        self.models.watch()
        return self

    def stop(self) -> None:
        """Answer what is open, then close the doors and unload the models."""
        self._application.is_stopping = True
        self._doors.close()
        if self._recorder is not None:
            self._recorder.stop(self.settings.stop_seconds)
        self.models.close()

    def run(self) -> None:
        """Serve until the process is told to stop by SIGTERM or Ctrl-C; from the main thread.

        Raises:
            ConfigError: as `start`.
            RuntimeError: as `start`.
        """

        def start() -> None:
            self.start()
            _log.info("REST at %s, gRPC at %s", self.rest_address, self.grpc_address)

        def stop() -> None:
            _log.info("stopping: open requests are answered")
            self.stop()
            _log.info("stopped")

        until_told(start, stop)

    def _make_recorder(self) -> Recorder | None:
        settings = self.settings.feedback
        if settings is None:
            return None
        known = KnownModels(lambda name: self._bases().get(name))
        return Recorder(settings, self.metrics, known=known, models=lambda: [*self._bases()])

    def _bases(self) -> dict[str, Path]:
        return {model.name: model.base for model in self.models}

    def _require_models(self) -> None:
        for model in self.models:
            if not model.live:
                reasons = "; ".join(
                    f"version {number}: {message}"
                    for number, (_, code, message) in model.states().items()
                    if code != "OK"
                )
                raise RuntimeError(
                    f"{model.name}: no version can be served: {reasons or 'there is none'}"
                )
            for label, number in model.labels.items():
                if number not in model.live:
                    raise RuntimeError(
                        f"{model.name}: expected the version of the label {label} to be live. "
                        f"Received: {number}; live are {', '.join(map(str, model.live))}."
                    )


def policy_of(words: str) -> Policy:
    """Which versions to serve: `newest`, `all`, or numbers such as `3,5`.

    Raises:
        ConfigError: anything else.
    """
    if words in ("newest", "all"):
        return Policy() if words == "newest" else ALL_VERSIONS
    if all(is_version(number) for number in words.split(",")):
        return Policy(specific=frozenset(map(int, words.split(","))))
    raise ConfigError(
        f"--versions: expected newest, all, or numbers such as 3,5. Received: {words!r}."
    )


def labels_of(pairs: Sequence[str]) -> dict[str, int]:
    """Labels from `NAME=VERSION` each.

    Raises:
        ConfigError: no such pair, or a label twice.
    """
    labels: dict[str, int] = {}
    for pair in pairs:
        label, _, version = pair.partition("=")
        if not label or set(label) & {*"/:"} or not is_version(version) or label in labels:
            raise ConfigError(
                "--label: expected NAME=VERSION, such as stable=3, each name once. "
                f"Received: {pair!r}."
            )
        labels[label] = int(version)
    return labels


def _bases(
    models: str | Path | Mapping[str, str | Path] | None, config_file: str | Path | None
) -> Mapping[str, str | Path]:
    """Name to base folder."""
    if (models is None) == (config_file is None):
        raise ConfigError(
            "Expected a base folder of versions, or a models.config (--models-config). Received: "
            f"{'neither' if models is None else 'both'}."
        )
    if config_file is None:
        return models if isinstance(models, Mapping) else {"model": models}
    entries = read_models_config(config_file).model_config_list.config
    for entry in entries:
        if entry.model_platform != PLATFORM or not Path(entry.base_path).is_absolute():
            raise ConfigError(
                f"{config_file}: expected the model {entry.name} to have an absolute base_path and "
                f"the model_platform {PLATFORM}. Received: {entry.base_path!r} and "
                f"{entry.model_platform!r}."
            )
    return {entry.name: entry.base_path for entry in entries}


def _base(name: str, base: str | Path) -> Path:
    """A base folder that holds a version."""
    check_model_name(name, option="--name")
    base = Path(base)
    wanted = "a folder with version folders 1, 2, … of SavedModels"
    if not base.is_dir():
        received = "a file" if base.exists() else "a path where nothing is"
        raise ConfigError(f"{base}: expected {wanted}. Received: {received}. Check the path.")
    if (base / GRAPH_FILE).is_file():
        raise ConfigError(
            f"{base}: expected {wanted}. Received: one version alone. Name the folder above it: "
            f"{base.resolve().parent}"
        )
    if not versions(base):
        raise ConfigError(
            f"{base}: expected {wanted}. Received: a folder without. Name RUN/export/savedmodel, "
            "or export first: tfmodel export CONFIG"
        )
    return base
