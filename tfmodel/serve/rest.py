"""TF Serving's REST API as an ASGI application.

Source: `model_servers/http_rest_api_handler.cc` and `http_rest_api_util.cc` of TF Serving.
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote

from tfmodel.serve import examples, metrics, tensors
from tfmodel.serve.asgi import (
    Receive,
    Send,
    check_token,
    error_answer,
    is_packed,
    read_body,
    send_answer,
    unpacked,
)
from tfmodel.serve.batching import gone, outcome_of
from tfmodel.serve.errors import ServingError, invalid
from tfmodel.serve.feedback.asked import AskedRow, rows_of_json
from tfmodel.serve.feedback.recorder import Recorder
from tfmodel.serve.models import Models, metadata
from tfmodel.serve.protocol_names import FEEDBACK_PATH, REQUEST_ID
from tfmodel.serve.servable import DEFAULT_SIGNATURE

_ASK = re.compile(
    r"(?i)/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?:(classify|regress|predict)"
)
_LOOK = re.compile(
    r"(?i)/v1/models(?:/([^/:]+))?(?:/versions/(\d+)|/labels/([^/:]+))?(?:/(metadata))?"
)
_T = TypeVar("_T")
_LARGEST_VERSION = 2**63 - 1
_WATCH_SECONDS = 0.5
"""So long a request waits before it is watched whether its client is still there."""
_AT_ONCE = 2**16
"""Bytes of a body, or of an answer, that are read or written between other requests; more are by a
thread beside."""


class RestApplication:
    """The REST API, health, readiness and metrics.

    Args:
        models: what is asked.
        token: that clients must send as `Authorization: Bearer TOKEN`; None: nobody must.
        recorder: records requests and takes corrections; None: nothing does.
    """

    def __init__(
        self, models: Models, *, token: str | None = None, recorder: Recorder | None = None
    ):
        self.models = models
        self.is_stopping = False
        self._settings = models.settings
        self._metrics = models.metrics
        self._token = None if token is None else f"Bearer {token}".encode()
        self._recorder = recorder
        self._open = 0

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        call = _Call(scope["method"], scope.get("raw_path") or scope["path"].encode())
        self._open += 1
        try:
            status, content_type, body = await self._answer(call, scope, receive)
            headers = [(REQUEST_ID.encode(), call.request_id)] if call.request_id else []
        except ServingError as error:
            call.code = error.code
            status, content_type, body, headers = error_answer(error)
        except Exception as error:  # nobody is told what went wrong inside
            call.code = "INTERNAL"
            wrong = ServingError("INTERNAL", f"The server failed ({type(error).__name__}).")
            status, content_type, body, headers = error_answer(wrong)
        finally:
            self._open -= 1
        if call.api:
            model = self.models.known(call.model)
            seconds = time.monotonic() - call.started
            self._metrics.request(model, call.api, "REST", call.code, seconds)
        headers = [(b"content-type", content_type.encode()), *headers]
        seconds = self._settings.read_seconds
        await send_answer(send, status, headers, body, seconds=seconds)

    async def _answer(
        self, call: _Call, scope: Mapping[str, Any], receive: Receive
    ) -> tuple[int, str, bytes]:
        if call.path == "/healthz":
            return 200, "text/plain", b"ok\n"
        if call.path == "/readyz":
            ready = self.models.are_ready and not self.is_stopping
            return (200, "text/plain", b"ready\n") if ready else (503, "text/plain", b"not ready\n")
        check_token(scope, self._token)
        if call.path == metrics.METRICS_PATH:
            for model in self.models:
                self._metrics.set(":tfmodel:serving:queue_rows", model.name, to=model.waiting_rows)
            return 200, metrics.CONTENT_TYPE, self._metrics.page().encode()
        if not call.path.lower().startswith("/v1/"):
            raise ServingError("NOT_FOUND", "Not Found")
        if self._open > self._settings.max_requests:
            raise ServingError("RESOURCE_EXHAUSTED", "Too many requests are open.")
        if call.method == "POST" and call.path == FEEDBACK_PATH and self._recorder is not None:
            body = await self._body(scope, receive)
            return 200, "application/json", await self._recorder.answer(body)
        if call.method == "POST" and (found := _ASK.fullmatch(call.path)):
            *call.spec, method = found.groups()
            call.api = method.lower()
            body = await self._body(scope, receive)
            request = await _done(len(body), tensors.parse_object, body)
            answer, written = await self._ask(call, request, receive, len(body))
            self._record(call, request, answer, len(body) + len(written))
            return 200, "application/json", written
        if call.method == "GET" and (found := _LOOK.fullmatch(call.path)):
            *call.spec, what = found.groups()
            return 200, "application/json", self._look(call, what)
        raise invalid(f"Malformed request: {call.shown}")

    def _record(
        self, call: _Call, request: Mapping[str, Any], answer: Mapping[str, Any], size: int
    ) -> None:
        if self._recorder is None:
            return
        trial = None
        if call.api == "predict" and tensors.signature_name(request) in ("", DEFAULT_SIGNATURE):
            ask = functools.partial(self._ask_again, call.model, request)
            trial = self.models.trial(call.model, call.answered_by, ask)
        request_id = self._recorder.by_rest(
            request,
            answer,
            size=size,
            model=call.model,
            version=call.answered_by,
            version_label=call.version[1] or None,
            signature=tensors.signature_name(request),
            seconds=time.monotonic() - call.started,
            trial=trial,
        )
        call.request_id = (request_id or "").encode()

    async def _body(self, scope: Mapping[str, Any], receive: Receive) -> bytes:
        most, seconds = self._settings.max_body_bytes, self._settings.read_seconds
        body = await read_body(scope, receive, most=most, seconds=seconds)
        if not (body and is_packed(scope)):
            return body
        return await _done(most, unpacked, body, most=most)  # few bytes may be packed from many

    # --- what is asked ----------------------------------------------------------------------

    async def _ask(
        self, call: _Call, request: Mapping[str, Any], receive: Receive, size: int
    ) -> tuple[dict[str, Any], bytes]:
        """The answer, as an object and as it is sent; `size` is that of the request."""
        deadline = time.monotonic() + self._settings.timeout_seconds
        name = tensors.signature_name(request)
        with self.models.use(call.model, *call.version) as version:
            call.answered_by = version.number
            if call.api == "predict":
                signature = version.servable.signature(name)
                inputs, by_row = await _done(size, tensors.inputs_of_json, signature, request)
                future = version.submit(signature, inputs, deadline=deadline)
                outputs = await _outcome(future, deadline, receive)
                write = functools.partial(tensors.json_of_outputs, by_row=by_row)
            else:
                method = examples.CLASSIFY if call.api == "classify" else examples.REGRESS
                given = await _done(size, examples.input_of_json, request)
                question = examples.Question(version, name, method, given)
                self._metrics.examples(call.model, question.rows)
                outputs = await _outcome(question.submit(deadline), deadline, receive)
                write = question.json
        return await _done(tensors.size_of(outputs), _answered, write, outputs)

    def _ask_again(self, model: str, request: Mapping[str, Any], number: int) -> list[AskedRow]:
        """What a version answers to a request to predict; in a thread that can wait."""
        deadline = time.monotonic() + self._settings.timeout_seconds
        with self.models.use(model, number) as version:
            signature = version.servable.signature(tensors.signature_name(request))
            inputs, by_row = tensors.inputs_of_json(signature, request)
            future = version.submit(signature, inputs, deadline=deadline)
            outputs = outcome_of(future, deadline)
        return rows_of_json(request, tensors.json_of_outputs(outputs, by_row=by_row))

    def _look(self, call: _Call, what: str | None) -> bytes:
        if not call.model:
            raise invalid("Missing model name in request.")
        number, label = call.version
        if what is None:
            return json.dumps(_as_dict(self.models.status(call.model, number, label))).encode()
        from tensorflow_serving.apis import get_model_metadata_pb2

        with self.models.use(call.model, number, label) as version:
            response = metadata(call.model, version)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        written = {
            "model_spec": _as_dict(response.model_spec),
            "metadata": {"signature_def": _as_dict(signatures)},
        }
        return json.dumps(written).encode()


class _Call:
    """A request line: whom it asks, and what for."""

    def __init__(self, method: str, raw_path: bytes):
        self.method = method
        self.path = raw_path.decode("latin-1")
        self.spec: list[str | None] = [None, None, None]
        self.api = ""
        self.code = "OK"
        self.started = time.monotonic()
        self.answered_by: int | None = None
        self.request_id = b""

    @property
    def shown(self) -> str:
        """The line, where it is plain enough to be no text of anybody's."""
        line = f"{self.method} {self.path}"
        return line if re.fullmatch(r"[A-Z]{1,10} /[\w/.:-]{0,200}", line, re.ASCII) else "…"

    @property
    def model(self) -> str:
        return unquote(self.spec[0] or "")

    @property
    def version(self) -> tuple[int | None, str]:
        """A number or a label."""
        number, label = self.spec[1:]
        if number is not None and (len(number) > 19 or int(number) > _LARGEST_VERSION):
            raise invalid("Failed to convert version to numeric.")
        return None if number is None else int(number), unquote(label or "")


async def _done(size: int, call: Callable[..., _T], *arguments: Any, **named: Any) -> _T:
    """What a call gives, made in a thread where it is about many bytes: others go on meanwhile."""
    if size <= _AT_ONCE:
        return call(*arguments, **named)
    whole = functools.partial(call, *arguments, **named)
    return await asyncio.get_running_loop().run_in_executor(None, whole)


def _answered(write: Callable[[Any], dict[str, Any]], outputs: Any) -> tuple[dict[str, Any], bytes]:
    answer = write(outputs)
    return answer, json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace")


async def _outcome(future: Any, deadline: float, receive: Receive) -> dict[str, Any]:
    """What a future gives; who goes away meanwhile is not computed for."""
    answer = asyncio.wrap_future(future)
    watched = [answer]
    try:
        await asyncio.wait(watched, timeout=min(_WATCH_SECONDS, _left(deadline)))
        if not answer.done():
            watched.append(asyncio.ensure_future(receive()))  # there is no more until it goes
            first = asyncio.FIRST_COMPLETED
            done, _ = await asyncio.wait(watched, timeout=_left(deadline), return_when=first)
            if done and not answer.done():
                raise gone()
        if not answer.done():
            raise ServingError("DEADLINE_EXCEEDED", "Timed out before the answer came.")
        return answer.result()
    finally:
        for each in watched:
            each.cancel()


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _as_dict(message: Any) -> dict[str, Any]:
    from google.protobuf import json_format

    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
