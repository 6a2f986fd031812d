"""All models of a server: found by name, watched, and exchanged for those of a new config."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.serve.errors import ServingError, invalid, without_paths
from tfmodel.serve.feedback.asked import AskedRow
from tfmodel.serve.feedback.mirroring import Trial
from tfmodel.serve.metrics import Metrics
from tfmodel.serve.models_config import PLATFORM, read_models_config
from tfmodel.serve.protocol_names import CANARY, STABLE
from tfmodel.serve.settings import ServeSettings
from tfmodel.serve.versions import ALL_VERSIONS, Model, Policy, Version

_log = logging.getLogger(__name__)
_PLAIN_NAME = re.compile(r"[\w.-]{1,128}", re.ASCII)


class Models:
    """The models of a server.

    Args:
        bases: name to base folder; no others are ever read, since a SavedModel is code.
        settings: batches and limits.
        metrics: where requests are noted.
        policy: which versions are served.
        labels: of the first model: label to version.
        config_file: a `models.config` that is read again whenever it changes; what it says of
            these models goes before `policy` and `labels`.
    """

    def __init__(
        self,
        bases: Mapping[str, Path],
        settings: ServeSettings,
        metrics: Metrics,
        *,
        policy: Policy | None = None,
        labels: Mapping[str, int] | None = None,
        config_file: Path | None = None,
    ):
        self.settings = settings
        self.metrics = metrics
        self._config_file = config_file
        self._config_seen: object = None
        self._config_problem = ""
        self._allowed = {base.resolve() for base in bases.values()}
        self._models = {
            name: Model(name, base, settings, metrics, policy=policy)
            for name, base in bases.items()
        }
        next(iter(self._models.values())).labels = dict(labels or {})
        self._are_loaded = False
        self._reloading = threading.Lock()
        self._stopped = threading.Event()
        self._poller: threading.Thread | None = None

    def __iter__(self) -> Iterator[Model]:
        return iter([*self._models.values()])

    @contextlib.contextmanager
    def use(self, name: str, number: int | None = None, label: str = "") -> Iterator[Version]:
        """A version of a model to ask; see `Model.use`.

        Raises:
            ServingError: NOT_FOUND or INVALID_ARGUMENT; UNAVAILABLE while the first versions are
                loaded.
        """
        if not name:
            raise invalid("ModelSpec has no name specified.")
        model = self._models.get(name)
        if not self._are_loaded and not (model and model.live):
            raise ServingError("UNAVAILABLE", "The models are being loaded.")
        if model is None:
            asked = f"Latest({_shown(name)})"
            if number is not None:
                asked = f"Specific({_shown(name)}, {number})"
            raise ServingError("NOT_FOUND", f"Servable not found for request: {asked}")
        with model.use(number, label) as version:
            yield version

    def status(self, name: str, number: int | None = None, label: str = "") -> Any:
        """The state of each version, or of one, as a `GetModelStatusResponse`.

        Raises:
            ServingError: NOT_FOUND or INVALID_ARGUMENT.
        """
        from tensorflow_serving.apis import get_model_status_pb2 as status_pb2

        model = self._models.get(name)
        states = model.states() if model is not None else {}
        if label:
            if model is None or label not in model.labels:
                raise invalid("Unrecognized servable version label")
            number = model.labels[label]
        if number is not None:
            if number not in states:
                raise ServingError(
                    "NOT_FOUND", f"Could not find version {number} of model {_shown(name)}"
                )
            states = {number: states[number]}
        if not states:
            raise ServingError("NOT_FOUND", f"Could not find any versions of model {_shown(name)}")
        from tensorflow.core.protobuf import error_codes_pb2

        response = status_pb2.GetModelStatusResponse()
        for version, (state, code, message) in states.items():
            entry = response.model_version_status.add(version=version)
            entry.state = status_pb2.ModelVersionStatus.State.Value(state)
            entry.status.error_code = error_codes_pb2.Code.Value(code)
            entry.status.error_message = message
        return response

    def trial(
        self, name: str, number: int | None, ask: Callable[[int], Sequence[AskedRow]]
    ) -> Trial | None:
        """How a request can be asked once more, of `stable` and `canary`.

        Args:
            name: of the model that it asked.
            number: of the version that answered.
            ask: asks a version.

        Returns:
            None where that version is not `stable`, or none is on trial.
        """
        model = self._models.get(name)

        def versions() -> tuple[int, int] | None:
            new = model.labels.get(CANARY)
            if number is None or new in (None, number) or model.labels.get(STABLE) != number:
                return None
            return number, new

        if model is None or versions() is None:
            return None
        return Trial(versions, ask, is_busy=lambda: model.waiting_rows > 0)

    def known(self, name: str) -> str:
        """The name where it is one of a model, otherwise a word that stands for all others."""
        return name if name in self._models else "unknown"

    @property
    def are_ready(self) -> bool:
        """Whether every model has a version to ask."""
        return all(model.live for model in self)

    # --- watching ---------------------------------------------------------------------------

    def load(self) -> None:
        """Load what is in the folders now.

        Raises:
            ConfigError: the config file cannot be read.
        """
        if self._config_file is not None:
            self._config_seen = _identity(self._config_file)
            entries = read_models_config(self._config_file).model_config_list.config
            for entry in entries:
                if (model := self._models.get(entry.name)) is not None:
                    model.policy, model.labels = _policy(entry), dict(entry.version_labels)
        for model in self:
            model.poll(at_rest=False)
        self._are_loaded = True

    def watch(self) -> None:
        """Look at the folders from now on, in a thread of its own."""
        self._poller = threading.Thread(target=self._watch, name="versions", daemon=True)
        self._poller.start()

    def _watch(self) -> None:
        while not self._stopped.wait(self.settings.poll_seconds):
            self._follow()
            for model in self:
                try:
                    model.poll()
                except Exception as error:  # the next look may do better
                    _log.error("%s: looking failed (%s)", model.name, type(error).__name__)

    def close(self) -> None:
        """Stop watching, answer what is open, and unload everything."""
        self._stopped.set()
        if self._poller is not None:
            self._poller.join()
        for model in self:
            model.close()

    # --- a new config -----------------------------------------------------------------------

    def _follow(self) -> None:
        """Do as the config file says, where it has changed or could not be done so far."""
        if self._config_file is None:
            return
        seen = _identity(self._config_file)
        if seen == self._config_seen and not self._config_problem:
            return
        problem = ""
        try:
            self.reload(read_models_config(self._config_file), is_trusted=True)
            _log.info("the config file is in force")
        except (ConfigError, ServingError) as error:
            problem = without_paths(str(error))
        except Exception as error:  # what is served goes on as it is
            problem = f"it cannot be followed ({type(error).__name__})"
        if problem and (problem, seen) != (self._config_problem, self._config_seen):
            _log.warning("the config file is not in force: %s", problem)
        self._config_seen, self._config_problem = seen, problem

    def reload(self, config: Any, *, is_trusted: bool = False) -> None:
        """Exchange the models for those of a config, and wait until they are loaded.

        Labels move last, all at once, and only to versions that are live.

        Args:
            config: a `ModelServerConfig`; its base paths are folders that the server was started
                with, or that its config file names.
            is_trusted: whether it comes from the config file, which may name other folders.

        Raises:
            ServingError: the config is wrong, and nothing was changed; FAILED_PRECONDITION: a
                label's version is not live, and no label was moved; UNKNOWN: a model has no
                version that can be served, likewise.
        """
        if config.WhichOneof("config") != "model_config_list":
            raise invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
                "ModelConfigList is currently supported"
            )
        entries = [*config.model_config_list.config]
        with self._reloading:
            bases = self._checked(entries, is_trusted=is_trusted)
            self._allowed |= {*bases.values()}
            older = self._models
            fresh: dict[str, Model] = {}
            for entry in entries:
                model = older.get(entry.name)
                if model is None or model.base.resolve() != bases[entry.name]:
                    model = Model(entry.name, bases[entry.name], self.settings, self.metrics)
                    model.policy = _policy(entry)
                    model.poll(at_rest=False)
                fresh[entry.name] = model
            self._models = fresh
            for entry in entries:
                # What has a label stays until the labels have moved.
                fresh[entry.name].policy = _policy(entry)
                fresh[entry.name].poll(at_rest=False)
            for name, model in older.items():
                if fresh.get(name) is not model:
                    model.close()
            missing = [_shown(name) for name, model in fresh.items() if not model.live]
            if missing:
                raise ServingError(
                    "UNKNOWN",
                    f"{len(missing)} servable(s) did not become available: {', '.join(missing)}",
                )
            self._move_labels(fresh, {entry.name: dict(entry.version_labels) for entry in entries})
            for model in fresh.values():
                model.poll()

    def _checked(self, entries: list, *, is_trusted: bool) -> dict[str, Path]:
        names = [entry.name for entry in entries]
        if len({*names}) < len(names):
            raise invalid("Illegal to list a model multiple times in config list")
        bases = {}
        for entry in entries:
            shown = _shown(entry.name)
            if not entry.name or "/" in entry.name or ":" in entry.name:
                raise invalid("Expected a model name without / and :")
            if entry.model_platform != PLATFORM:
                raise invalid(f"Model {shown}: expected model_platform to be {PLATFORM}")
            base = Path(entry.base_path)
            if not base.is_absolute():
                raise invalid(f"Expected model {shown} to have an absolute path or URI")
            try:
                bases[entry.name] = base.resolve()
            except (OSError, ValueError, RuntimeError):
                raise invalid(f"Expected model {shown} to have a base path") from None
            if not is_trusted and bases[entry.name] not in self._allowed:
                raise ServingError(
                    "PERMISSION_DENIED",
                    f"Model {shown}: its base path is none of the folders that the server was "
                    "started with",
                )
            if any(number < 1 for number in entry.version_labels.values()):
                raise invalid(f"Model {shown}: a label's version is less than 1")
        return bases

    def _move_labels(self, models: Mapping[str, Model], labels: Mapping[str, dict]) -> None:
        for name, own in labels.items():
            for version in own.values():
                if version not in models[name].live:
                    raise ServingError(
                        "FAILED_PRECONDITION",
                        f"Request to assign label to version {version} of model {_shown(name)}, "
                        "which is not currently available for inference",
                    )
        for name, own in labels.items():
            models[name].labels = own


def _identity(path: Path) -> tuple[int, ...] | None:
    """What changes when a file does; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _policy(entry: Any) -> Policy:
    """The version policy of a `ModelConfig`."""
    policy = entry.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return ALL_VERSIONS
    if kind == "specific":
        return Policy(specific=frozenset(policy.specific.versions))
    return Policy(newest=max(1, policy.latest.num_versions))


def _shown(name: str) -> str:
    """A name of a client's, where it looks like one and not like a text."""
    return name if _PLAIN_NAME.fullmatch(name) else "…"


def metadata(name: str, version: Version) -> Any:
    """What a version can be asked, as a `GetModelMetadataResponse`."""
    from tensorflow_serving.apis import get_model_metadata_pb2

    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = name
    response.model_spec.version.value = version.number
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for signature, definition in version.servable.signature_defs.items():
        signatures.signature_def[signature].CopyFrom(definition)
    response.metadata["signature_def"].Pack(signatures)
    return response
