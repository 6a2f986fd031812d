"""The local server: REST and gRPC on two ports, one set of models behind both."""

from __future__ import annotations

import concurrent.futures
import functools
import logging
import signal
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.export.linting.saved_graph import GRAPH_FILE
from tfmodel.export.linting.serving_ops import check_release
from tfmodel.export.places import is_version, versions
from tfmodel.serve.metrics import Metrics
from tfmodel.serve.models import Models
from tfmodel.serve.models_config import PLATFORM, read_models_config
from tfmodel.serve.rest import RestApplication
from tfmodel.serve.settings import ServeSettings
from tfmodel.serve.versions import ALL_VERSIONS, Policy

_log = logging.getLogger(__name__)
_GRPC_THREADS = 128
_KEEP_ALIVE_SECONDS = 60
_STARTING_SECONDS = 30


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
            the token or of the certificate that cannot be read; or the extra is not installed.

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
        _require_extra()
        self.settings = settings or ServeSettings()
        check_release(self.settings.target)
        bases = _bases(models, config_file)
        self._token = read_token(self.settings.token_file)
        self._pem = _read_tls(self.settings)
        self.metrics = Metrics()
        self.models = Models(
            {name: _base(name, base) for name, base in bases.items()},
            self.settings,
            self.metrics,
            policy=policy,
            labels=labels,
            config_file=None if config_file is None else Path(config_file),
        )
        self._application = RestApplication(self.models, token=self._token)
        self._rest: Any = None
        self._rest_thread: threading.Thread | None = None
        self._grpc: Any = None
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self.rest_address = ""
        self.grpc_address = ""

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> Server:
        """Load the models and open both doors.

        Returns:
            The server itself; `rest_address` and `grpc_address` say where it listens.

        Raises:
            ConfigError: a port is taken.
            RuntimeError: a model has no version that can be served, or a label none that is live.
        """
        listening = _listen(self.settings.host, self.settings.rest_port)
        try:
            # The doors are open while models load: health answers, and readiness says no.
            self._start_rest(listening)
            self._start_grpc()
            self.models.load()
            self._require_models()
        except BaseException:
            self.stop()
            listening.close()
            raise
        self.models.watch()
        return self

    def stop(self) -> None:
        """Answer what is open, then close the doors and unload the models."""
        self._application.is_stopping = True
        stopped = None if self._grpc is None else self._grpc.stop(self.settings.stop_seconds)
        if self._rest is not None:
            self._rest.should_exit = True
            self._rest_thread.join()
            self._rest = None
        if stopped is not None:
            stopped.wait()
            self._grpc = None
        if self._pool is not None:
            self._pool.shutdown(wait=False)
        self.models.close()

    def run(self) -> None:
        """Serve until the process is told to stop by SIGTERM or Ctrl-C; from the main thread.

        Raises:
            ConfigError: as `start`.
            RuntimeError: as `start`.
        """
        stop = threading.Event()
        signals = (signal.SIGTERM, signal.SIGINT)
        before = [signal.signal(each, lambda *_: stop.set()) for each in signals]
        try:
            self.start()
            _log.info("REST at %s, gRPC at %s", self.rest_address, self.grpc_address)
            stop.wait()
            _log.info("stopping: open requests are answered")
            self.stop()
            _log.info("stopped")
        finally:
            for each, handler in zip(signals, before, strict=True):
                signal.signal(each, handler)

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

    def _start_rest(self, listening: socket.socket) -> None:
        import uvicorn

        from tfmodel.serve.protocol import PatientProtocol

        settings = self.settings
        config = uvicorn.Config(
            self._application,
            http=functools.partial(PatientProtocol, head_seconds=settings.read_seconds),
            loop="asyncio",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(settings.stop_seconds) or 1,
            ssl_certfile=settings.tls_certificate,
            ssl_keyfile=settings.tls_key,
        )
        self._rest = uvicorn.Server(config)
        self._rest_thread = threading.Thread(
            target=self._rest.run, args=([listening],), name="rest", daemon=True
        )
        self._rest_thread.start()
        host, port = listening.getsockname()[:2]
        self.rest_address = _address(host, port)
        deadline = time.monotonic() + _STARTING_SECONDS
        while not self._rest.started:
            if not self._rest_thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("The REST server did not start.")
            time.sleep(0.01)

    def _start_grpc(self) -> None:
        import grpc

        from tfmodel.serve.grpc_services import handlers_of

        settings = self.settings
        self._pool = concurrent.futures.ThreadPoolExecutor(_GRPC_THREADS, thread_name_prefix="grpc")
        self._grpc = grpc.server(
            self._pool,
            options=[
                ("grpc.max_receive_message_length", settings.max_body_bytes),
                ("grpc.max_send_message_length", -1),
                # Two servers on one port would each get a part of the requests.
                ("grpc.so_reuseport", 0),
            ],
            maximum_concurrent_rpcs=settings.max_requests,
        )
        self._grpc.add_generic_rpc_handlers(handlers_of(self.models, token=self._token))
        where = _address(settings.host, settings.grpc_port)
        try:
            if self._pem is None:
                port = self._grpc.add_insecure_port(where)
            else:
                credentials = grpc.ssl_server_credentials([self._pem])
                port = self._grpc.add_secure_port(where, credentials)
        except RuntimeError:
            port = 0
        if not port:
            self._grpc = None
            raise _taken("--grpc-port", where)
        self.grpc_address = _address(settings.host, port)
        self._grpc.start()


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


def _require_extra() -> None:
    try:
        import uvicorn  # noqa: F401
    except ImportError:
        raise ConfigError(
            "Expected the packages of the extra serve. Received: an environment without uvicorn. "
            "Install them: pip install 'tfmodel[serve]'"
        ) from None
    # They tell of each mistake of a client's, with stack and words, and of files with their paths.
    for name in ("grpc", "uvicorn", "uvicorn.error", "asyncio", "tensorflow"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


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
    base = Path(base)
    if not name or "/" in name or ":" in name:
        raise ConfigError(
            f"Expected a model's name without / and :. Received: {name!r}. Choose another --name."
        )
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


def read_token(path: str | Path | None) -> str | None:
    """The token in a file; None where no file is named.

    Raises:
        ConfigError: it cannot be read, or holds what is no token.
    """
    if path is None:
        return None
    try:
        token = Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        words = getattr(error, "strerror", None) or "no UTF-8"
        raise ConfigError(
            f"{path}: expected a file with the token. Received: {words}. Check the path."
        ) from None
    if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{path}: expected a token of 16 or more printable ASCII characters without blanks. "
            f"Received: {len(token)} characters. Make one: openssl rand -hex 32 > {path}"
        )
    return token


def _read_tls(settings: ServeSettings) -> tuple[bytes, bytes] | None:
    """Key and certificate chain, checked."""
    import ssl

    if not settings.has_tls:
        return None
    files = settings.tls_certificate, settings.tls_key
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files)
        return Path(settings.tls_key).read_bytes(), Path(settings.tls_certificate).read_bytes()
    except OSError as error:  # ssl.SSLError is one
        words = error.strerror or "files that do not fit together"
        raise ConfigError(
            "Expected a certificate chain and its private key in PEM for --tls-certificate and "
            f"--tls-key. Received: {words}. Check both files."
        ) from None


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=2048)
        # Connections inherit it: otherwise the end of an answer waits for the client's word that
        # the beginning came, 40 ms.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except (OSError, OverflowError):
        raise _taken("--rest-port", _address(host, port)) from None


def _taken(option: str, where: str) -> ConfigError:
    return ConfigError(
        f"{option}: expected an address that is free. Received: {where}, where one cannot listen. "
        f"Stop what listens there, or choose another port: {option} 0 takes any free one."
    )


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
