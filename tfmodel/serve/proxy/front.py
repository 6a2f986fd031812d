"""The proxy as a server: it starts, passes on and records, and stops."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from tfmodel.serve.doors import Doors, read_token, require_extra, until_told
from tfmodel.serve.feedback.facts import KnownModels
from tfmodel.serve.feedback.recorder import Recorder
from tfmodel.serve.feedback.settings import FeedbackSettings
from tfmodel.serve.metrics import Metrics
from tfmodel.serve.proxy.rest_forward import ProxyApplication
from tfmodel.serve.proxy.upstream import Upstream
from tfmodel.serve.settings import ServeSettings

_log = logging.getLogger(__name__)


class Proxy:
    """Stands in front of a TF Serving, and keeps requests, answers and corrections.

    What comes is passed on unchanged, and so is what comes back; the limits of `settings` hold.
    No TensorFlow is loaded unless gRPC is passed on.

    Args:
        upstream: `HOST:PORT` of its REST API; `https://HOST:PORT` with TLS.
        upstream_grpc: `HOST:PORT` of its gRPC API; `grpcs://HOST:PORT` with TLS; None: no gRPC is
            answered.
        models: name to base folder of the models behind, from which their tasks and labels are
            read; of others, corrections are taken as they come.
        settings: doors and limits; where they say nothing of `feedback`, its defaults.

    Raises:
        ConfigError: no such addresses, or as `Server`.

    Example:
        >>> with Proxy("localhost:8501") as proxy:
        ...     print(proxy.rest_address)
        127.0.0.1:8601
    """

    def __init__(
        self,
        upstream: str,
        *,
        upstream_grpc: str | None = None,
        models: Mapping[str, str | Path] | None = None,
        settings: ServeSettings | None = None,
    ):
        require_extra()
        self.settings = settings or ServeSettings()
        token = read_token(self.settings.token_file)
        self._doors = Doors(self.settings)
        self._upstream = Upstream(upstream, threads=self.settings.max_requests)
        self.metrics = Metrics()
        bases = {name: Path(base) for name, base in (models or {}).items()}
        self._recorder = Recorder(
            self.settings.feedback or FeedbackSettings(),
            self.metrics,
            known=KnownModels(bases.get),
            models=lambda: [*bases],
            has_others=True,
        )
        self._application = ProxyApplication(
            self._upstream, self.settings, self.metrics, self._recorder, token=token
        )
        self._calls = None
        if upstream_grpc is not None:
            from tfmodel.serve.proxy.grpc_forward import Forwarding

            self._calls = Forwarding(upstream_grpc, self.settings, self._recorder, token=token)
            if upstream.startswith("https:") and not upstream_grpc.startswith("grpcs:"):
                _log.warning("REST is asked with TLS and gRPC without: grpcs://HOST:PORT has it")

    def __enter__(self) -> Proxy:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def rest_address(self) -> str:
        """Host and port of REST."""
        return self._doors.rest_address

    @property
    def grpc_address(self) -> str:
        """Host and port of gRPC; empty where it is not passed on."""
        return self._doors.grpc_address

    def start(self) -> Proxy:
        """Open the doors, whether or not the server behind is there.

        Raises:
            ConfigError: a port is taken.
        """
        self._recorder.start()
        try:
            self._doors.open_rest(self._application)
            if self._calls is not None:
                self._doors.open_grpc([self._calls])
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Answer what is open, close the doors, and write what waits."""
        self._application.is_stopping = True
        self._doors.close()
        self._recorder.stop(self.settings.stop_seconds)
        if self._calls is not None:
            self._calls.close()
        self._upstream.close()

    def run(self) -> None:
        """Pass on until the process is told to stop by SIGTERM or Ctrl-C; from the main thread.

        Raises:
            ConfigError: as `start`.
        """

        def start() -> None:
            self.start()
            grpc = f", gRPC at {self.grpc_address}" if self.grpc_address else ""
            _log.info("REST at %s%s, passed on", self.rest_address, grpc)

        def stop() -> None:
            _log.info("stopping: open requests are answered")
            self.stop()
            _log.info("stopped")

        until_told(start, stop)
