"""The two ports of a server: REST by uvicorn, gRPC by grpcio; and how it is told to stop."""

from __future__ import annotations

import concurrent.futures
import functools
import ipaddress
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.serve.settings import ServeSettings

_log = logging.getLogger(__name__)
_GRPC_THREADS = 128
_KEEP_ALIVE_SECONDS = 60
_STARTING_SECONDS = 30


class Doors:
    """Where a server listens, and the threads that do.

    Args:
        settings: addresses, certificate and limits.

    Attributes:
        rest_address: host and port of REST, once it is open.
        grpc_address: host and port of gRPC, once it is open.

    Raises:
        ConfigError: the certificate or its key cannot be read.
    """

    def __init__(self, settings: ServeSettings):
        self.rest_address = ""
        self.grpc_address = ""
        self._settings = settings
        self._pem = _read_tls(settings)
        self._rest: Any = None
        self._rest_thread: threading.Thread | None = None
        self._grpc: Any = None
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None

    def open_rest(self, application: Any) -> None:
        """Answer HTTP.

        Args:
            application: of ASGI.

        Raises:
            ConfigError: the port is taken.
        """
        import uvicorn

        from tfmodel.serve.protocol import PatientProtocol

        settings = self._settings
        listening = listen(settings.host, settings.rest_port)
        config = uvicorn.Config(
            application,
            http=functools.partial(PatientProtocol, seconds=settings.read_seconds),
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
        self._warn_of_strangers(host)
        deadline = time.monotonic() + _STARTING_SECONDS
        while not self._rest.started:
            if not self._rest_thread.is_alive() or time.monotonic() > deadline:
                listening.close()
                raise RuntimeError("The REST server did not start.")
            time.sleep(0.01)

    def _warn_of_strangers(self, host: str) -> None:
        """Say that other machines reach a server which nothing keeps them from."""
        settings = self._settings
        if ipaddress.ip_address(host).is_loopback or (settings.token_file and settings.has_tls):
            return
        missing = "TLS (--tls-certificate, --tls-key)"
        if settings.token_file is None:
            missing = f"a token (--token-file){'' if settings.has_tls else f' and {missing}'}"
        _log.warning("%s is open to other machines without %s", self.rest_address, missing)

    def open_grpc(self, handlers: Sequence[Any]) -> None:
        """Answer gRPC.

        Args:
            handlers: of grpcio.

        Raises:
            ConfigError: the port is taken.
        """
        import grpc

        settings = self._settings
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
        self._grpc.add_generic_rpc_handlers(tuple(handlers))
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

    def close(self) -> None:
        """Answer what is open, then listen no more."""
        stopped = None if self._grpc is None else self._grpc.stop(self._settings.stop_seconds)
        if self._rest is not None:
            self._rest.should_exit = True
            self._rest_thread.join()
            self._rest = None
        if stopped is not None:
            stopped.wait()
            self._grpc = None
        if self._pool is not None:
            self._pool.shutdown(wait=False)


def until_told(start: Callable[[], object], stop: Callable[[], object]) -> None:
    """Run until the process is told to stop by SIGTERM or Ctrl-C; from the main thread.

    Args:
        start: called first.
        stop: called when told.
    """
    told = threading.Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(each, lambda *_: told.set()) for each in signals]
    try:
        start()
        told.wait()
        stop()
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)


def require_extra() -> None:
    """Meet a missing package before anything else.

    Raises:
        ConfigError: the extra `serve` is not installed.
    """
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


def read_token(path: str | Path | None) -> str | None:
    """The token in a file.

    Raises:
        ConfigError: the file cannot be read, or holds none.
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


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigError: the address is taken.
    """
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
