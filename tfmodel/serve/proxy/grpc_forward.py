"""gRPC: each call is passed on as it is, whatever its method, and its answer back."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import grpc

from tfmodel.config import ConfigError
from tfmodel.serve.errors import ServingError
from tfmodel.serve.feedback.asked import DEFAULT_SIGNATURE, AskedRow, rows_of_messages
from tfmodel.serve.feedback.mirroring import Trial
from tfmodel.serve.feedback.recorder import Recorder
from tfmodel.serve.grpc_services import RECORDED, asking, check_metadata, correction_handler
from tfmodel.serve.protocol_names import CANARY, FEEDBACK_METHOD, REQUEST_ID, STABLE
from tfmodel.serve.proxy.upstream import unreachable
from tfmodel.serve.settings import ServeSettings
from tfmodel.serve.tensorflow_core import import_tensorflow

_PREDICTION = "/tensorflow.serving.PredictionService/"
_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
_LOOK_SECONDS = 2.0
_ADDRESS = re.compile(r"\b(?:ipv4|ipv6|dns|unix)[:%]")


class Forwarding(grpc.GenericRpcHandler):
    """Calls of one message there and one back, which all of TF Serving's are.

    Args:
        address: `HOST:PORT` of the server behind; `grpcs://HOST:PORT` with TLS.
        settings: limits.
        recorder: records requests to predict and takes corrections.
        token: that clients must send, and that is not passed on; None: nobody must, and what they
            send is passed on.

    Raises:
        ConfigError: no such address, or no such file of authorities.
    """

    def __init__(
        self, address: str, settings: ServeSettings, recorder: Recorder, *, token: str | None = None
    ):
        found = re.fullmatch(r"(grpcs://)?([^\s/@]+:\d{1,5})", address)
        if found is None:
            raise ConfigError(
                "--upstream-grpc: expected HOST:PORT of a TF Serving's gRPC API, such as "
                "localhost:8500, or grpcs://HOST:PORT. Received: another address."
            )
        import_tensorflow()  # which reads messages; otherwise the first call would wait for it
        _messages("Predict")
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.enable_retries", 0),
        ]
        if found[1]:
            credentials = grpc.ssl_channel_credentials(_authorities())
            self._channel = grpc.secure_channel(found[2], credentials, options)
        else:
            self._channel = grpc.insecure_channel(found[2], options)
        self._settings = settings
        self._recorder = recorder
        self._secret = None if token is None else f"Bearer {token}"
        self._correct = correction_handler(recorder, token=token)

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a method."""
        method = handler_call_details.method
        if method == FEEDBACK_METHOD:
            return self._correct
        return grpc.unary_unary_rpc_method_handler(
            lambda body, context: self._forward(method, body, context)
        )

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _forward(self, method: str, body: bytes, context: Any) -> bytes:
        started = time.monotonic()
        try:
            check_metadata(context, self._secret)
        except ServingError as error:
            context.abort(grpc.StatusCode[error.code], error.message)
        seconds = self._settings.timeout_seconds
        if (left := context.time_remaining()) is not None:
            seconds = min(seconds, left)
        ask = self._channel.unary_unary(method)
        try:
            answer, call = ask.with_call(body, timeout=seconds, metadata=self._passed_on(context))
        except grpc.RpcError as error:
            context.set_trailing_metadata(_own(error.trailing_metadata()))
            words = error.details() or ""
            # grpcio's own words name the address.
            if error.code() is grpc.StatusCode.UNAVAILABLE and _ADDRESS.search(words):
                words = unreachable().message
            context.abort(error.code(), words)
        trailing = _own(call.trailing_metadata())
        name = method.removeprefix(_PREDICTION)
        if name in RECORDED:
            own = self._passed_on(context)
            request_id = self._record(name, body, answer, time.monotonic() - started, own)
            if request_id is not None:
                trailing = [each for each in trailing if each[0] != REQUEST_ID]
                trailing.append((REQUEST_ID, request_id))
        context.send_initial_metadata(_own(call.initial_metadata()))
        context.set_trailing_metadata(trailing)
        return answer

    def _record(
        self, name: str, body: bytes, answer: bytes, seconds: float, metadata: list
    ) -> str | None:
        from google.protobuf.message import DecodeError

        asked, answered = _messages(name)
        try:
            request, response = asked.FromString(body), answered.FromString(answer)
        except DecodeError:
            return None
        spec, trial = request.model_spec, None
        is_default = spec.signature_name in ("", DEFAULT_SIGNATURE)
        if name == "Predict" and spec.version_label == STABLE and is_default:
            trial = self._trial(request, response.model_spec.version.value, metadata)
        return self._recorder.by_grpc(request, response, seconds=seconds, trial=trial)

    def _trial(self, request: Any, old: int, metadata: list) -> Trial:
        """How a request to the version in service is asked of another."""
        from tensorflow_serving.apis import get_model_status_pb2 as status_pb2

        def call(method: str, message: Any, kind: Any, seconds: float) -> Any:
            ask = self._channel.unary_unary(method)
            try:
                found = ask(message.SerializeToString(), timeout=seconds, metadata=metadata)
            except grpc.RpcError as error:
                raise ServingError(error.code().name, "The server behind refuses a copy.") from None
            return kind.FromString(found)

        def version_of(label: str) -> int:
            question = status_pb2.GetModelStatusRequest()
            question.model_spec.name = request.model_spec.name
            question.model_spec.version_label = label
            kind = status_pb2.GetModelStatusResponse
            (found,) = call(_STATUS, question, kind, _LOOK_SECONDS).model_version_status
            return found.version

        def versions() -> tuple[int, int] | None:
            try:
                new = version_of(CANARY)
            except (ServingError, ValueError):
                return None
            return (old, new) if old != new else None

        def ask(number: int) -> list[AskedRow]:
            again, kind = asking(request, number), _messages("Predict")[1]
            response = call(f"{_PREDICTION}Predict", again, kind, self._settings.timeout_seconds)
            return rows_of_messages(request, response)

        return Trial(versions, ask)

    def _passed_on(self, context: Any) -> list[tuple[str, Any]]:
        own = () if self._secret is None else ("authorization",)
        sent = [(each.key, each.value) for each in context.invocation_metadata() or ()]
        return [each for each in _own(sent) if each[0] not in own]


def _authorities() -> bytes | None:
    """Whose certificates are trusted: those of `SSL_CERT_FILE`, as of REST; None: gRPC's own."""
    path = os.environ.get("SSL_CERT_FILE")
    try:
        return Path(path).read_bytes() if path else None
    except OSError as error:
        raise ConfigError(
            "SSL_CERT_FILE: expected a file of certificates. Received: one that cannot be read "
            f"({type(error).__name__})."
        ) from None


def _messages(name: str) -> tuple[Any, Any]:
    """The request and the answer of a method that is recorded."""
    from tensorflow_serving.apis import classification_pb2, predict_pb2, regression_pb2

    return {
        "Predict": (predict_pb2.PredictRequest, predict_pb2.PredictResponse),
        "Classify": (
            classification_pb2.ClassificationRequest,
            classification_pb2.ClassificationResponse,
        ),
        "Regress": (regression_pb2.RegressionRequest, regression_pb2.RegressionResponse),
    }[name]


def _own(metadata: Any) -> list[tuple[str, Any]]:
    """Metadata that is the sender's, and not gRPC's."""
    pairs = [(each[0], each[1]) for each in metadata or ()]
    return [
        (key, value) for key, value in pairs if not key.startswith("grpc-") and key != "user-agent"
    ]
