"""The server behind: asked over HTTP, and which version it answers with."""

from __future__ import annotations

import concurrent.futures
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from tfmodel.config import ConfigError
from tfmodel.serve.asgi import Headers
from tfmodel.serve.errors import ServingError

_OF_ONE_CONNECTION = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade".split()
)
"""Headers that are about a connection, not about what is sent over it (RFC 9110, section 7.6.1)."""
_OF_THE_REQUEST = (b"host", b"content-length", b"expect")
"""Headers that are written anew, or that the proxy has answered itself."""
_CONNECT_SECONDS = 5.0
_LOOK_SECONDS = 2.0


class UpstreamAnswer(NamedTuple):
    """What came back, as it came: status, headers, and the body as it was encoded."""

    status: int
    headers: Headers
    body: bytes


class Upstream:
    """The REST door of a TF Serving.

    Args:
        address: `HOST:PORT`, or `https://HOST:PORT`.
        threads: requests that are open at once.

    Raises:
        ConfigError: no such address.
    """

    def __init__(self, address: str, *, threads: int):
        import urllib3

        scheme, host, port = _parts(address)
        pools = {"http": urllib3.HTTPConnectionPool, "https": urllib3.HTTPSConnectionPool}
        self._pool = pools[scheme](host, port, maxsize=threads, retries=False)
        self._errors = urllib3.exceptions
        self._timeout = urllib3.Timeout
        self._skipped = urllib3.util.SKIP_HEADER
        self._headers = urllib3.HTTPHeaderDict
        self.threads = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="proxy")

    def send(
        self, method: str, target: str, headers: Headers, body: bytes, *, seconds: float
    ) -> UpstreamAnswer:
        """Pass a request on, unchanged but for the headers of the connection.

        Args:
            method: of HTTP.
            target: path and query.
            headers: as they came.
            body: as it came.
            seconds: for the answer.

        Raises:
            ServingError: UNAVAILABLE, of status 503 where nobody listens, 502 where the answer is
                none; DEADLINE_EXCEEDED.
        """
        sent = self._headers({"accept-encoding": self._skipped, "user-agent": self._skipped})
        for name, value in passed_on(headers):
            if name in _OF_THE_REQUEST:
                continue
            word = name.decode("latin-1")
            if sent.get(word) == self._skipped:
                del sent[word]
            sent.add(word, value.decode("latin-1"))
        deadline = time.monotonic() + seconds
        for is_last in (False, True):
            left = max(0.001, deadline - time.monotonic())
            try:
                return self._once(method, target, sent, body, left)
            except self._errors.ConnectTimeoutError:
                raise unreachable() from None
            except self._errors.NewConnectionError:
                raise unreachable() from None
            except self._errors.TimeoutError:
                raise ServingError(
                    "DEADLINE_EXCEEDED", "Timed out before the answer of the server behind came."
                ) from None
            except self._errors.ProtocolError as error:
                # A connection that was kept open may be closed by the server just as we send.
                if is_last or not _is_reset(error):
                    raise _broken() from None
            except self._errors.HTTPError:
                raise _broken() from None
        raise AssertionError("not reached")

    def _once(
        self, method: str, target: str, headers: Any, body: bytes, seconds: float
    ) -> UpstreamAnswer:
        answer = self._pool.urlopen(
            method,
            target,
            body=body or None,
            headers=headers,
            timeout=self._timeout(connect=min(_CONNECT_SECONDS, seconds), read=seconds),
            redirect=False,
            preload_content=False,
            decode_content=False,
            assert_same_host=False,
        )
        try:
            content = answer.read()
        except BaseException:
            answer.close()
            raise
        answer.release_conn()
        named = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in answer.headers.iteritems()
        ]
        kept = [each for each in passed_on(named) if each[0] not in (b"content-length", b"date")]
        return UpstreamAnswer(answer.status, kept, content)

    def is_there(self) -> bool:
        """Whether anybody answers."""
        try:
            self.send("GET", "/v1/models", [], b"", seconds=_LOOK_SECONDS)
        except ServingError:
            return False
        return True

    def close(self) -> None:
        """Close the connections."""
        self.threads.shutdown(wait=False)
        self._pool.close()


class VersionWatch:
    """Which version of each model answers where a request names none, or a label.

    Over REST an answer does not say. The highest that is there does, or the one that the label is
    on. The status of a model is asked for beside its requests, at most once in a while, so for a
    moment after a change it is the version before.

    Args:
        upstream: who is asked.
        headers: sent with each question.
        seconds: between two questions for one model.
    """

    def __init__(self, upstream: Upstream, *, seconds: float):
        self._upstream = upstream
        self._seconds = seconds
        self._asked: dict[tuple[str, str], tuple[float, Future]] = {}
        self._lock = threading.Lock()

    def look(self, model: str, headers: Headers, label: str = "") -> Callable[[], int | None]:
        """Learn it beside; the function waits for a moment where it is not known yet.

        Args:
            model: its name.
            headers: of the request, which may hold a token.
            label: that the request names; empty: none.
        """
        asked = model, label
        with self._lock:
            when, future = self._asked.get(asked, (float("-inf"), None))
            if time.monotonic() - when > self._seconds and (future is None or future.done()):
                future = self._upstream.threads.submit(self.now, model, [*headers], label)
                self._asked[asked] = time.monotonic(), future

        def version() -> int | None:
            try:
                return future.result(_LOOK_SECONDS)
            except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
                return None

        return version

    def now(self, model: str, headers: Headers, label: str = "") -> int | None:
        """Ask for it; see `look`."""
        kept = [each for each in headers if each[0] == b"authorization"]
        try:
            target = f"/v1/models/{quote(model, safe='')}"
            target += f"/labels/{quote(label, safe='')}" if label else ""
            answer = self._upstream.send("GET", target, kept, b"", seconds=_LOOK_SECONDS)
            found = json.loads(answer.body)["model_version_status"]
            live = [int(each["version"]) for each in found if each["state"] == "AVAILABLE"]
        except (ServingError, ValueError, KeyError, TypeError):
            return None
        return max(live, default=None)


def passed_on(headers: Headers) -> Sequence[tuple[bytes, bytes]]:
    """The headers that are not about the connection."""
    named: set[bytes] = set()
    for name, value in headers:
        if name.lower() == b"connection":
            named |= {each.strip().lower() for each in value.split(b",")}
    return [each for each in headers if each[0].lower() not in _OF_ONE_CONNECTION | named]


def unreachable() -> ServingError:
    """What is said where nobody listens."""
    return ServingError("UNAVAILABLE", "The server behind cannot be reached.")


def _broken() -> ServingError:
    return ServingError("UNAVAILABLE", "The server behind gave no whole answer.", http_status=502)


def _is_reset(error: Exception) -> bool:
    """Whether a connection ended before anything of an answer had come."""
    inner = error.args[1] if len(error.args) > 1 else None
    return isinstance(inner, ConnectionError)  # http.client.RemoteDisconnected is one


def _parts(address: str) -> tuple[str, str, int]:
    parts = urlsplit(address if "://" in address else f"http://{address}")
    try:
        is_whole = parts.scheme in ("http", "https") and parts.hostname and parts.port
    except ValueError:  # a port that is none
        is_whole = False
    if not is_whole or parts.path.strip("/") or parts.query or parts.username:
        raise ConfigError(
            "--upstream: expected HOST:PORT of a TF Serving's REST API, such as localhost:8501, or "
            "https://HOST:PORT. Received: another address."
        )
    return parts.scheme, parts.hostname, parts.port


def header_of(headers: Headers, name: bytes) -> bytes:
    """The value of a header; empty where there is none."""
    return next((value for each, value in headers if each.lower() == name), b"")


def with_changed(headers: Headers, changed: Mapping[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """The headers, with others in the place of those of these names."""
    return [each for each in headers if each[0] not in changed] + [*changed.items()]
