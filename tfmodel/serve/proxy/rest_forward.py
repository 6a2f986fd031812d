"""REST: each request is passed on as it is, and its answer back; those to a model are recorded."""

from __future__ import annotations

import asyncio
import functools
import re
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

from tfmodel.serve import metrics as metric_names
from tfmodel.serve.asgi import (
    Headers,
    Receive,
    Send,
    check_token,
    error_answer,
    read_body,
    send_answer,
)
from tfmodel.serve.errors import CODE_OF_STATUS, ServingError
from tfmodel.serve.feedback.asked import DEFAULT_SIGNATURE, AskedRow, NoTexts, rows_of_json
from tfmodel.serve.feedback.mirroring import Trial
from tfmodel.serve.feedback.recorder import Recorder
from tfmodel.serve.metrics import Metrics
from tfmodel.serve.protocol_names import CANARY, FEEDBACK_PATH, REQUEST_ID, STABLE
from tfmodel.serve.proxy.upstream import (
    Upstream,
    UpstreamAnswer,
    VersionWatch,
    header_of,
    with_changed,
)
from tfmodel.serve.settings import ServeSettings
from tfmodel.serve.tensors import parse_object

METRICS_PATH = "/metrics"
"""The proxy's own; those of the server behind stay where they are."""
_ASK = re.compile(
    r"(?i)/v1/models/([^/:?]+)(?:/versions/(\d{1,19})|/labels/([^/:?]+))?:"
    r"(predict|classify|regress)"
)


class ProxyApplication:
    """The REST API of the server behind, with corrections, health and the proxy's own metrics.

    Args:
        upstream: the server behind.
        settings: limits.
        metrics: where requests are noted.
        recorder: records requests and takes corrections.
        token: that clients must send, and that is not passed on; None: nobody must, and what they
            send is passed on.
    """

    def __init__(
        self,
        upstream: Upstream,
        settings: ServeSettings,
        metrics: Metrics,
        recorder: Recorder,
        *,
        token: str | None = None,
    ):
        self.is_stopping = False
        self._upstream = upstream
        self._settings = settings
        self._metrics = metrics
        self._recorder = recorder
        self._token = None if token is None else f"Bearer {token}".encode()
        self._versions = VersionWatch(upstream, seconds=settings.poll_seconds)
        self._open = 0
        self._look: asyncio.Future | None = None

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        self._open += 1
        try:
            status, headers, body = await self._answer(scope, receive)
        except ServingError as error:
            status, headers, body = _of_error(error)
        except Exception as error:  # nobody is told what went wrong inside
            wrong = ServingError("INTERNAL", f"The server failed ({type(error).__name__}).")
            status, headers, body = _of_error(wrong)
        finally:
            self._open -= 1
        await send_answer(send, status, headers, body, seconds=self._settings.read_seconds)

    async def _answer(self, scope: Mapping[str, Any], receive: Receive) -> UpstreamAnswer:
        path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        if path == "/healthz":
            return UpstreamAnswer(200, _typed("text/plain"), b"ok\n")
        if path == "/readyz":
            is_ready = not self.is_stopping and await self._is_there()
            said = b"ready\n" if is_ready else b"not ready\n"
            return UpstreamAnswer(200 if is_ready else 503, _typed("text/plain"), said)
        check_token(scope, self._token)
        if path == METRICS_PATH:
            page = self._metrics.page().encode()
            return UpstreamAnswer(200, _typed(metric_names.CONTENT_TYPE), page)
        settings = self._settings
        if self._open > settings.max_requests:
            raise ServingError("RESOURCE_EXHAUSTED", "Too many requests are open.")
        most, seconds = settings.max_body_bytes, settings.read_seconds
        body = await read_body(scope, receive, most=most, seconds=seconds)
        if scope["method"] == "POST" and path == FEEDBACK_PATH:
            said = await self._recorder.answer(body)
            return UpstreamAnswer(200, _typed("application/json"), said)
        return await self._forward(scope, path, body)

    async def _is_there(self) -> bool:
        """Whether the server behind answers; looked at once for all who ask meanwhile."""
        if self._look is None or self._look.done():
            self._look = asyncio.ensure_future(self._beside(self._upstream.is_there))
        return await asyncio.shield(self._look)

    async def _forward(self, scope: Mapping[str, Any], path: str, body: bytes) -> UpstreamAnswer:
        started = time.monotonic()
        headers = [*scope["headers"]]
        if self._token is not None:
            headers = [each for each in headers if each[0] != b"authorization"]
        asked = _ASK.fullmatch(path) if scope["method"] == "POST" else None
        query = scope["query_string"].decode("latin-1")

        def send(path: str) -> UpstreamAnswer:
            target = path + (f"?{query}" if query else "")
            seconds = self._settings.timeout_seconds
            return self._upstream.send(scope["method"], target, headers, body, seconds=seconds)

        answer = await self._beside(functools.partial(send, path))
        if asked is None or answer.status != 200:
            return answer
        model, label = unquote(asked[1]), unquote(asked[3] or "")
        version = None
        if not asked[2]:
            version = self._versions.look(model, headers, label)
        exchange = _Exchange(headers, body, answer, self._settings.max_body_bytes, version)
        trial = None
        if label == STABLE and asked[4].lower() == "predict":
            trial = self._trial(model, exchange, send)
        request_id = self._recorder.offer(
            exchange.rows,
            size=len(body) + len(answer.body),
            late=exchange.columns,
            trial=trial,
            model=model,
            version=int(asked[2]) if asked[2] else None,
            version_label=label or None,
            signature=None,
            door="REST",
            seconds=time.monotonic() - started,
        )
        if request_id is None:
            return answer
        changed = {REQUEST_ID.encode(): request_id.encode()}
        return answer._replace(headers=with_changed(answer.headers, changed))

    def _trial(
        self, model: str, exchange: _Exchange, send: Callable[[str], UpstreamAnswer]
    ) -> Trial:
        """How a request to the version in service is asked of another."""

        def versions() -> tuple[int, int] | None:
            before = exchange.version
            old, new = (
                self._versions.now(model, exchange.headers, label) for label in (STABLE, CANARY)
            )
            # Where the label has moved meanwhile, nobody knows which version has answered.
            return (old, new) if None not in (old, new) and old == before != new else None

        def ask(number: int) -> Sequence[AskedRow]:
            if exchange.signature != DEFAULT_SIGNATURE:
                raise NoTexts
            answer = send(f"/v1/models/{quote(model, safe='')}/versions/{number}:predict")
            if answer.status != 200:
                code = CODE_OF_STATUS.get(answer.status, "UNKNOWN")
                raise ServingError(code, "The server behind refuses a copy.")
            return exchange.rows(answer)

        return Trial(versions, ask)

    async def _beside(self, call: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._upstream.threads, call)


class _Exchange:
    """A request and its answer as bytes, read when they are recorded."""

    def __init__(
        self, headers: Headers, body: bytes, answer: UpstreamAnswer, most: int, version: Any
    ):
        self.headers, self._body, self._answer = headers, body, answer
        self._most = most
        self._version = version

    @functools.cached_property
    def _request(self) -> dict[str, Any]:
        return _object(self._body, self.headers, self._most)

    @property
    def signature(self) -> str:
        """What was asked for."""
        return self._request.get("signature_name") or DEFAULT_SIGNATURE

    @property
    def version(self) -> int | None:
        """The version that answered, where it is known; waits for a moment."""
        return None if self._version is None else self._version()

    def rows(self, answer: UpstreamAnswer | None = None) -> Sequence[AskedRow]:
        """The rows of the request, with its answer or another one."""
        answer = answer or self._answer
        return rows_of_json(self._request, _object(answer.body, answer.headers, 8 * self._most))

    def columns(self) -> dict[str, Any]:
        """What is learned beside."""
        learned = {} if self._version is None else {"version": self.version}
        return {"signature": self.signature, **learned}


def _object(body: bytes, headers: Headers, most: int) -> dict[str, Any]:
    encoding = header_of(headers, b"content-encoding").strip().lower()
    if encoding in (b"gzip", b"x-gzip", b"deflate"):
        # 47: gzip's head or zlib's.
        body = zlib.decompressobj(47).decompress(body, most + 1)
        if len(body) > most:
            raise NoTexts
    elif encoding not in (b"", b"identity"):
        raise NoTexts
    return parse_object(body)


def _typed(content_type: str) -> Headers:
    return [(b"content-type", content_type.encode())]


def _of_error(error: ServingError) -> UpstreamAnswer:
    status, content_type, body, headers = error_answer(error)
    return UpstreamAnswer(status, [*_typed(content_type), *headers], body)
