"""A version beside the one in service, then in its place or gone: by moving two labels."""

from __future__ import annotations

import contextlib
import glob
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.export.places import versions
from tfmodel.run_folder import clear_leftovers
from tfmodel.serve.admission import PARITY_FILE, admit, parity_verdicts
from tfmodel.serve.batching_file import batching_changes
from tfmodel.serve.errors import ServingError
from tfmodel.serve.models_config import (
    PLATFORM,
    check_model_name,
    find_model,
    read_models_config,
    set_versions,
    write_models_config,
)
from tfmodel.serve.protocol_names import CANARY, STABLE
from tfmodel.serve.rollout.live import Live, VersionRefused
from tfmodel.serve.rollout.state import State, alone, folder_of, read_state, write_state

_log = logging.getLogger(__name__)


class Rollout:
    """The rollouts of a model: started, promoted, taken back, finished.

    Clients ask for the label `stable`; `canary` is on the version that is tried, and otherwise
    where `stable` is, so that it can always be asked. Every call does what is missing and no more:
    given again after an interruption it goes on, and `rollback` is possible at any point.

    Args:
        config: the `models.config` that the server follows.
        model: its name there; None: the only one.
        server: `http://HOST:8501` or `grpc://HOST:8500`; by default the one of the last rollout.
        base: the folder with the version folders as it is called here, where the server calls it
            otherwise (in a container); by default that of the last rollout, or of the file.
        token: what the server demands.
        certificate: of the authority that vouches for the server.
        wait_seconds: for the server to do each step.
        target: TF Serving release that a version must fit.

    Raises:
        ConfigError: no such file or model.
    """

    def __init__(
        self,
        config: str | Path,
        *,
        model: str | None = None,
        server: str | None = None,
        base: str | Path | None = None,
        token: str | None = None,
        certificate: str | Path | None = None,
        wait_seconds: float = 300.0,
        target: str = "2.12",
    ):
        self.config = Path(config)
        entry = find_model(read_models_config(config), model, path=config)
        self.model: str = check_model_name(entry.name, option="--model")
        self._target = target
        state = read_state(self.config, self.model)
        self._server = server or (state.server if state else "http://localhost:8501")
        self._base = Path(base or (state.base if state else entry.base_path)).resolve()
        self._options = {
            "token": token,
            "certificate": certificate,
            "wait_seconds": wait_seconds,
        }

    @property
    def state(self) -> State | None:
        """What was noted; None before the first rollout."""
        return read_state(self.config, self.model)

    def live(self) -> Live:
        """The model on its server."""
        return Live(self.config, self.model, self._server, **self._options)

    def version_folder(self, number: int) -> Path:
        """A version's folder here.

        Raises:
            ConfigError: there is none.
        """
        folder = self._base / str(number)
        if not folder.is_dir():
            known = ", ".join(map(str, versions(self._base))) or "none"
            raise ConfigError(
                f"{self._base}: expected the version {number}. Received: {known}. Put it there by "
                "renaming a folder, or name the folder of versions: --base FOLDER"
            )
        return folder

    def start(self, version: int, *, stable: int | None = None) -> State:
        """Check a version here, have the server load it beside the one in service, label it.

        Args:
            version: its number.
            stable: the version in service, where the server has no label `stable` yet; by default
                the highest other one that answers.

        Raises:
            ConfigError: another rollout is open, no such version, or it is in service already.
            VersionRefused: its files, its parity verdict or its warm-up refuse it, here or on the
                server; what was served before is served on.
            RuntimeError: the server does not do it in time.
        """
        with self._working() as live:
            former = state = self.state
            if state is not None and state.is_open and state.new != version:
                raise ConfigError(
                    f"{self.model}: expected no rollout that is open. Received: that of version "
                    f"{state.new}, {state.stage}. End it first: tfmodel rollout promote, or "
                    "rollback."
                )
            if state is not None and state.is_open and state.stage in ("promoting", "rolling back"):
                raise ConfigError(
                    f"{self.model}: expected no rollout that is being ended. Received: one that is "
                    f"{state.stage}. Give that command again."
                )
            self.version_folder(version)
            old = self._in_service(live, version, stable)
            if state is None or not state.is_open or state.old != old:
                state = State(self.model, old, version, str(self._base), self._server)
                state.history = former.history if former else []
                state.reach("starting")
            state.base, state.server = str(self._base), self._server
            write_state(self.config, state)
            try:
                self._check(version, old)
                labels = {CANARY: old, **live.entry().version_labels, STABLE: old}
                live.move({old}, labels, drop=set(), say=_log.info)
                drop = {former.old} if former and former.stage == "promoted" else set()
                live.move({version}, {CANARY: version}, drop=drop - {version}, say=_log.info)
            except VersionRefused as refused:
                self._note(state, "refused", str(refused))
                live.withdraw(version, old)
                raise
            return state if state.stage == "canary" else self._note(state, "canary")

    def promote(self, *, anyway: bool = False) -> State:
        """Move `stable` to the new version; the old one stays loaded, to come back at once.

        Args:
            anyway: whether it need not have passed a comparison.

        Raises:
            ConfigError: no version is on trial, or it has not passed a comparison.
            VersionRefused: the new version answers no more; labels are as they were.
            RuntimeError: the server does not do it in time; the same call goes on.
        """
        with self._working() as live:
            state = self._require("canary", "promoting", "promoted", do="promote")
            if state.stage == "canary" and not anyway:
                self._require_passed(state)
            if state.stage != "promoted":
                self._note(state, "promoting")
            labels = {STABLE: state.new, CANARY: state.new}
            live.move({state.new}, labels, drop=set(), say=_log.info)
            return state if state.stage == "promoted" else self._note(state, "promoted")

    def rollback(self) -> State:
        """Have both labels on the old version again, and let the new one go.

        Raises:
            ConfigError: there was no rollout.
            VersionRefused: the old version cannot be served; labels are as they were.
            RuntimeError: the server does not do it in time; the same call goes on.
        """
        with self._working() as live:
            state = self._require(do="rollback")
            if state.stage != "rolled back":
                self._note(state, "rolling back")
            labels = {STABLE: state.old, CANARY: state.old}
            live.move({state.old}, labels, drop={state.new}, say=_log.info)
            return state if state.stage == "rolled back" else self._note(state, "rolled back")

    def finish(self) -> State:
        """Let the old version go, once the new one is in service.

        Raises:
            ConfigError: none was promoted.
            RuntimeError: the server does not do it in time; the same call goes on.
        """
        with self._working() as live:
            state = self._require("promoted", "finishing", "finished", do="finish")
            if state.stage != "finished":
                self._note(state, "finishing")
            labels = {STABLE: state.new, CANARY: state.new}
            live.move({state.new}, labels, drop={state.old}, say=_log.info)
            return state if state.stage == "finished" else self._note(state, "finished")

    def on_trial(self) -> State:
        """The rollout whose two versions can be compared.

        Raises:
            ConfigError: the server has not both of them.
        """
        return self._require("canary", "promoting", "promoted", do="compare")

    def note_comparison(self, figures: dict[str, Any]) -> None:
        """Keep the figures and the verdict of a comparison.

        Raises:
            ConfigError: the rollout is of other versions by now.
        """
        with alone(self.config):
            state = self.state
            if state is None or (state.old, state.new) != (figures["old"], figures["new"]):
                raise ConfigError(
                    f"{self.model}: expected the versions that were compared, {figures['old']} and "
                    f"{figures['new']}. Received: a rollout of others. Compare again."
                )
            state.comparison = figures
            write_state(self.config, state)

    # --- inside -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _working(self) -> Iterator[Live]:
        with alone(self.config), self.live() as live:
            # Nobody else writes these files now: what lies half written was left by a killed one.
            clear_leftovers(folder_of(self.config))
            for left in self.config.parent.glob(f".{glob.escape(self.config.name)}.partial-*"):
                left.unlink(missing_ok=True)
            yield live

    def _note(self, state: State, stage: Any, reason: str = "") -> State:
        if (state.stage, state.reason) != (stage, reason):
            state.reach(stage, reason)
        write_state(self.config, state)
        return state

    def _in_service(self, live: Live, version: int, stable: int | None) -> int:
        """The version that `stable` is on, or shall be on."""
        labelled = live.entry().version_labels.get(STABLE) or live.label(STABLE)
        others = live.available() - {version}
        old = labelled or stable or max(others, default=None)
        if old is None:
            raise ConfigError(
                f"{self.model}: expected a version in service beside {version}. Received: none "
                f"that answers. Name it: --stable NUMBER"
            )
        if labelled and stable not in (None, labelled):
            raise ConfigError(
                f"{self.model}: expected --stable to be where the label stable is, version "
                f"{labelled}. Received: {stable}."
            )
        if old == version:
            raise ConfigError(
                f"{self.model}: expected another version than the one in service. Received: "
                f"{version}, on which the label stable is."
            )
        return old

    def _check(self, version: int, old: int) -> None:
        """Lint, parity verdict and warm-up, before the server sees it: TF Serving has no parity."""
        folder = self.version_folder(version)
        _log.info("version %d: checking its files, its parity verdict and its warm-up", version)
        try:
            for words in batching_changes(self._base / str(old), folder):
                _log.warning("%s", words)
            admit(folder, target=self._target).close()
            if not parity_verdicts(folder):
                _log.info("version %d: no parity verdict lies beside it (%s)", version, PARITY_FILE)
        except ServingError as error:
            raise VersionRefused(f"version {version}: {error.message}") from None

    def _require(self, *stages: str, do: str) -> State:
        state = self.state
        if state is None or (stages and state.stage not in stages):
            received = "none" if state is None else f"one that is {state.stage}"
            begin = "tfmodel rollout start CONFIG VERSION begins one"
            wanted = f" that is {stages[0]}" if stages else ""
            raise ConfigError(
                f"{self.model}: expected a rollout{wanted} to {do}. Received: {received}; {begin}."
            )
        return state

    def _require_passed(self, state: State) -> None:
        comparison = state.comparison
        if comparison is None:
            received = "no comparison"
        elif not comparison["passed"]:
            received = "; ".join(comparison["failures"])
        else:
            return
        raise ConfigError(
            f"{self.model}: expected a comparison that version {state.new} has passed. Received: "
            f"{received}. Compare (tfmodel rollout compare), roll back, or promote it --anyway."
        )


def write_first_config(path: str | Path, model: str, base: str | Path, stable: int) -> None:
    """Write a `models.config` of one model that is pinned to a version; no file may be there.

    Args:
        path: the file.
        model: what clients call the model.
        base: the folder of its versions, as the server calls it.
        stable: the version in service.

    Raises:
        ConfigError: the name has a / or a :.
    """
    from tensorflow_serving.config import model_server_config_pb2

    check_model_name(model, option="--model")
    config = model_server_config_pb2.ModelServerConfig()
    entry = config.model_config_list.config.add()
    entry.name, entry.base_path, entry.model_platform = model, str(base), PLATFORM
    set_versions(entry, {stable}, {STABLE: stable, CANARY: stable})
    write_models_config(path, config)
