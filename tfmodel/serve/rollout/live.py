"""A server whose versions and labels are moved: by the file it reads, and over gRPC."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tfmodel.serve.client import Client
from tfmodel.serve.errors import ServingError
from tfmodel.serve.models_config import (
    find_model,
    read_models_config,
    set_versions,
    write_models_config,
)
from tfmodel.serve.transports import VersionStatus

_LOOK_SECONDS = 0.2
_ANSWER_SECONDS = 10.0
_NOT_YET = ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")


class VersionRefused(RuntimeError):
    """A version that the server does not make live, with its reason."""


class Live:
    """A model on a server.

    Args:
        config: the `models.config` that the server reads. Each change is written there whole. A
            server with a `grpc://` address is told of it as well; any other must look at the file
            by itself.
        model: its name.
        address: of the server.
        token: what the server demands.
        certificate: of the authority that vouches for the server.
        wait_seconds: for the server to do what it was told.
    """

    def __init__(
        self,
        config: Path,
        model: str,
        address: str,
        *,
        token: str | None = None,
        certificate: str | Path | None = None,
        wait_seconds: float = 300.0,
    ):
        self.config = config
        self.model = model
        self.address = address
        self.wait_seconds = wait_seconds
        self._options = {"token": token, "certificate": certificate}
        self._client = self.client(timeout_seconds=_ANSWER_SECONDS, tries=1)

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.close()

    def client(self, **options: Any) -> Client:
        """A client of the model, or of one of its versions."""
        return Client(self.address, model=self.model, **self._options, **options)

    # --- looking ----------------------------------------------------------------------------

    def versions(self) -> dict[int, VersionStatus]:
        """The versions that the server knows; none of a model that it does not know.

        Raises:
            ServingError: it does not answer.
        """
        try:
            return {each.version: each for each in self._client.status()}
        except ServingError as error:
            if error.code == "NOT_FOUND":
                return {}
            raise

    def available(self) -> set[int]:
        """The versions that answer."""
        return {number for number, each in self.versions().items() if each.state == "AVAILABLE"}

    def label(self, name: str) -> int | None:
        """The version that the server takes a label for; None where it does not know it.

        Raises:
            ServingError: it does not answer.
        """
        with self.client(label=name, timeout_seconds=_ANSWER_SECONDS, tries=1) as client:
            try:
                (found,) = client.status()
            except ServingError as error:
                if error.code in ("INVALID_ARGUMENT", "NOT_FOUND"):
                    return None
                raise
        return found.version

    # --- moving -----------------------------------------------------------------------------

    def entry(self) -> Any:
        """The model's part of the file, as it is now."""
        return find_model(read_models_config(self.config), self.model, path=self.config)

    def move(
        self, needed: set[int], labels: Mapping[str, int], *, drop: set[int], say: Callable
    ) -> None:
        """Have versions live, then move labels, then let go of versions.

        Each step is written, and waited for, before the next: a label moves only to a version that
        answers, and a version goes only when no label is left on it. Where this is cut off, the
        same call does what is missing. What is served is pinned by number from then on.

        Args:
            needed: versions that must answer before a label moves.
            labels: label to version; other labels stay as they are.
            drop: versions that go, but for those that still have a label.
            say: told of each step.

        Raises:
            VersionRefused: a needed version does not become live; labels are as they were.
            RuntimeError: the server does not do what the file says in time.
            ServingError: the server refuses it, or does not answer in time.
        """
        before, serving = self._now()
        serving |= needed | {*before.values()}
        self._write(serving, before)
        self._until_available(needed, say)
        after = before | dict(labels)
        if after != before or any(self.label(name) != number for name, number in labels.items()):
            self._write(serving, after)
            self._until_labelled(labels, say)
        gone = serving & drop - {*after.values()}
        if gone:
            self._write(serving - gone, after)
        self._until_gone(drop - {*after.values()}, say)

    def withdraw(self, version: int, otherwise: int) -> None:
        """No longer ask for a version that was refused; nothing is waited for.

        Args:
            version: that version.
            otherwise: what is served where nothing would be left.
        """
        labels, serving = self._now()
        labels = {
            name: otherwise if number == version else number for name, number in labels.items()
        }
        self._write((serving | {*labels.values()}) - {version} or {otherwise}, labels)

    def _now(self) -> tuple[dict[str, int], set[int]]:
        """The labels of the file, and the versions that it, or the server, has served."""
        entry = self.entry()
        pinned = {*entry.model_version_policy.specific.versions}
        return dict(entry.version_labels), pinned or self.available()

    def _write(self, versions: set[int], labels: Mapping[str, int]) -> None:
        config = read_models_config(self.config)
        entry = find_model(config, self.model, path=self.config)
        before = entry.SerializeToString(deterministic=True)
        set_versions(entry, versions, labels)
        if entry.SerializeToString(deterministic=True) != before:
            write_models_config(self.config, config)
        if self.address.startswith("grpc"):
            self._client.reload(config, timeout_seconds=self.wait_seconds)

    def _until_available(self, needed: set[int], say: Callable) -> None:
        known = self._or_none(self.versions) or {}
        # What the server said of a version that it could not load before is no word on this try.
        stale = {number: each for number, each in known.items() if each.code != "OK"}
        if missing := sorted(number for number in needed if not _answers(known.get(number))):
            say(f"version {', '.join(map(str, missing))}: waiting until the server has loaded it")

        def done() -> bool:
            found = self.versions()
            for number in needed:
                each = found.get(number)
                if each is not None and each.state != "END":
                    stale.pop(number, None)
                elif each is not None and each.code != "OK" and stale.get(number) != each:
                    raise VersionRefused(f"version {number}: {each.message or each.code}")
            return all(_answers(found.get(number)) for number in needed)

        try:
            self._until(done, f"version {_listed(needed)} to be live")
        except RuntimeError as error:
            said = [f"version {number}: {stale[number].message}" for number in needed & {*stale}]
            if not said:
                raise
            raise VersionRefused("; ".join(said)) from error

    def _until_labelled(self, labels: Mapping[str, int], say: Callable) -> None:
        for name, number in sorted(labels.items()):
            say(f"label {name}: moves to version {number}")
        for name, number in sorted(labels.items()):
            self._until(
                lambda name=name, number=number: self.label(name) == number,
                f"the label {name} on version {number}",
            )

    def _until_gone(self, versions: set[int], say: Callable) -> None:
        if not versions & self.available():
            return
        say(f"version {_listed(versions)}: unloading, when its last request is answered")
        self._until(lambda: not versions & self.available(), f"version {_listed(versions)} to go")

    def _until(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + self.wait_seconds
        while not self._or_none(done):
            if time.monotonic() > deadline:
                more = (
                    ""
                    if self.address.startswith("grpc")
                    else f" Does it follow {self.config}? Start it with --models-config (tfmodel "
                    "serve) or with --model_config_file and --model_config_file_poll_wait_seconds "
                    "(TF Serving), or give its grpc:// address."
                )
                raise RuntimeError(
                    f"{self.address}: expected {what} within {self.wait_seconds:g} s. Received: "
                    f"nothing of the kind.{more} The same command goes on."
                )
            time.sleep(_LOOK_SECONDS)

    def _or_none(self, look: Callable[[], Any]) -> Any:
        """What a look gives; None where the server is not to be reached just now."""
        try:
            return look()
        except ServingError as error:
            if error.code not in _NOT_YET:
                raise
            return None


def _answers(status: VersionStatus | None) -> bool:
    return status is not None and status.state == "AVAILABLE"


def _listed(versions: set[int]) -> str:
    return ", ".join(map(str, sorted(versions)))
