"""gRPC: each call is passed on as it is, whatever its method, and its answer back."""

from __future__ import annotations

import re
import time
from typing import Any

import grpc

from tfmodel.config import ConfigError
from tfmodel.serve.errors import ServingError
from tfmodel.serve.feedback.recorder import Recorder
from tfmodel.serve.grpc_services import check_metadata, correction_handler
from tfmodel.serve.protocol_names import FEEDBACK_METHOD, REQUEST_ID
from tfmodel.serve.proxy.upstream import unreachable
from tfmodel.serve.settings import ServeSettings

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_ADDRESS = re.compile(r"\b(?:ipv4|ipv6|dns|unix)[:%]")


class Forwarding(grpc.GenericRpcHandler):
    """Calls of one message there and one back, which all of TF Serving's are.

    Args:
        address: `HOST:PORT` of the server behind.
        settings: limits.
        recorder: records requests to predict and takes corrections.
        token: that clients must send, and that is not passed on; None: nobody must, and what they
            send is passed on.

    Raises:
        ConfigError: no such address.
    """

    def __init__(
        self, address: str, settings: ServeSettings, recorder: Recorder, *, token: str | None = None
    ):
        if re.fullmatch(r"[^\s/@]+:\d{1,5}", address) is None:
            raise ConfigError(
                "--upstream-grpc: expected HOST:PORT of a TF Serving's gRPC API, such as "
                "localhost:8500. Received: another address."
            )
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.enable_retries", 0),
        ]
        self._channel = grpc.insecure_channel(address, options)
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
        if method == _PREDICT:
            request_id = self._record(body, answer, time.monotonic() - started)
            if request_id is not None:
                trailing = [each for each in trailing if each[0] != REQUEST_ID]
                trailing.append((REQUEST_ID, request_id))
        context.send_initial_metadata(_own(call.initial_metadata()))
        context.set_trailing_metadata(trailing)
        return answer

    def _record(self, body: bytes, answer: bytes, seconds: float) -> str | None:
        from google.protobuf.message import DecodeError
        from tensorflow_serving.apis import predict_pb2

        try:
            request = predict_pb2.PredictRequest.FromString(body)
            response = predict_pb2.PredictResponse.FromString(answer)
        except DecodeError:
            return None
        return self._recorder.by_grpc(request, response, seconds=seconds)

    def _passed_on(self, context: Any) -> list[tuple[str, Any]]:
        own = () if self._secret is None else ("authorization",)
        sent = [(each.key, each.value) for each in context.invocation_metadata() or ()]
        return [each for each in _own(sent) if each[0] not in own]


def _own(metadata: Any) -> list[tuple[str, Any]]:
    """Metadata that is the sender's, and not gRPC's."""
    pairs = [(each[0], each[1]) for each in metadata or ()]
    return [
        (key, value) for key, value in pairs if not key.startswith("grpc-") and key != "user-agent"
    ]
