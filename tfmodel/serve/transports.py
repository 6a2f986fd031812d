"""How a client talks to a server: TF Serving's REST or its gRPC, one interface for both."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.serve.errors import CODE_OF_STATUS, HTTP_STATUS, ServingError
from tfmodel.serve.protocol_names import FEEDBACK_METHOD, FEEDBACK_PATH, REQUEST_ID

_LONGEST_WORDS = 500


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """An input or output of a signature.

    Attributes:
        dtype: such as `string`, `int32` or `float32`.
        shape: sizes, None where any is right; None where nothing is known.
    """

    dtype: str
    shape: tuple[int | None, ...] | None

    @property
    def numpy_type(self) -> Any:
        """The type of its values as numpy has it; objects where they are strings."""
        return object if self.dtype == "string" else np.dtype(self.dtype)


@dataclasses.dataclass(frozen=True)
class SignatureInfo:
    """What can be asked: inputs and outputs by name."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]


class OtherSignature(Exception):
    """An answer that does not fit the signature as it was known: another version gave it."""


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """A version as the server knows it.

    Attributes:
        version: its number.
        state: `START`, `LOADING`, `AVAILABLE`, `UNLOADING` or `END`.
        code: `OK`, or of what went wrong.
        message: what went wrong.
    """

    version: int
    state: str
    code: str
    message: str


@dataclasses.dataclass(frozen=True)
class Target:
    """Whom to ask: a model, perhaps one version of it, by number or label."""

    model: str
    version: int | None = None
    label: str | None = None


class Answer(dict):
    """Outputs by name.

    Attributes:
        request_id: by which the server knows the request, where it has recorded it.
    """

    request_id: str | None = None


class Transport(Protocol):
    """One request each; ServingError where there is no answer.

    `predict` raises `OtherSignature` where the answer has other outputs than `info` says.
    """

    def predict(
        self,
        target: Target,
        signature: str,
        info: SignatureInfo,
        inputs: Mapping[str, np.ndarray],
        seconds: float,
    ) -> Answer:
        """Ask a signature."""

    def signatures(self, target: Target, seconds: float) -> dict[str, SignatureInfo]:
        """What can be asked."""

    def status(self, target: Target, seconds: float) -> list[VersionStatus]:
        """The versions."""

    def correct(self, body: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Say what is right."""

    def reload(self, config: Any, seconds: float) -> None:
        """Exchange what is served."""

    def close(self) -> None:
        """Close the connections."""


def open_transport(
    address: str, *, token: str | None, certificate: bytes | None, connections: int
) -> Transport:
    """Connect to a server when it is first asked.

    Args:
        address: `http://HOST:PORT`, `https://…`, `grpc://…` or `grpcs://…`.
        token: sent with each request.
        certificate: PEM of the authority that vouches for the server; the system's by default.
        connections: of HTTP, kept open.

    Raises:
        ConfigError: another address, or a token that no header can hold.
    """
    if token is not None and not re.fullmatch(r"[!-~]+", token):
        raise ConfigError(  # the library's own words would repeat it
            "Expected token to be printable ASCII without blanks or ends of lines. Received: "
            "another one. What is read from a file may end in a newline: .strip() it."
        )
    parts = urlsplit(address)
    doors = {"http": _Rest, "https": _Rest, "grpc": _Grpc, "grpcs": _Grpc}
    try:
        is_whole = parts.scheme in doors and parts.hostname and parts.port
    except ValueError:  # a port that is none
        is_whole = False
    if not is_whole or parts.path.strip("/") or parts.query:
        raise ConfigError(
            "Expected an address such as http://localhost:8501 or grpc://localhost:8500 (https and "
            f"grpcs for TLS). Received: {address!r}."
        )
    return doors[parts.scheme](parts, token, certificate, connections)


# --- REST -----------------------------------------------------------------------------------


class _Rest:
    def __init__(self, parts: Any, token: str | None, certificate: bytes | None, connections: int):
        try:
            import urllib3
        except ImportError:
            raise ConfigError(
                "Expected the packages of the extra serve. Received: an environment without "
                "urllib3. Install them: pip install 'tfmodel[serve]'"
            ) from None
        options: dict[str, Any] = {}
        if certificate is not None:
            options["ca_cert_data"] = certificate.decode("ascii")
        self._errors = urllib3.exceptions
        self._timeout = urllib3.Timeout
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._headers = {"content-type": "application/json"}
        if token is not None:
            self._headers["authorization"] = f"Bearer {token}"
        self._pool = urllib3.PoolManager(
            num_pools=1, maxsize=connections, block=True, retries=False, **options
        )

    def predict(self, target, signature, info, inputs, seconds):
        columns = {name: _to_json(value) for name, value in inputs.items()}
        body = {"signature_name": signature, "inputs": columns}
        content, headers = self._send("POST", f"{_path(target)}:predict", seconds, body)
        answer = content.get("outputs")
        if len(info.outputs) == 1:
            answer = {next(iter(info.outputs)): answer}
        if not isinstance(answer, dict) or {*answer} != {*info.outputs}:
            raise OtherSignature
        try:
            found = Answer(
                (name, _from_json(value, info.outputs[name])) for name, value in answer.items()
            )
        except (KeyError, TypeError, ValueError):
            raise OtherSignature from None
        found.request_id = headers.get(REQUEST_ID)
        return found

    def correct(self, body, seconds):
        return self._ask("POST", FEEDBACK_PATH, seconds, body)

    def signatures(self, target, seconds):
        answer = self._ask("GET", f"{_path(target)}/metadata", seconds)
        found = answer["metadata"]["signature_def"]["signature_def"]

        def tensor(written: Mapping[str, Any]) -> TensorInfo:
            shape = written["tensor_shape"]
            sizes = [int(each["size"]) for each in shape.get("dim", ())]
            return _info(written["dtype"], None if shape.get("unknown_rank") else sizes)

        return {
            name: SignatureInfo(
                *(
                    {each: tensor(info) for each, info in sorted(written[side].items())}
                    for side in ("inputs", "outputs")
                )
            )
            for name, written in sorted(found.items())
            if not name.startswith("__")
        }

    def status(self, target, seconds):
        answer = self._ask("GET", _path(target), seconds)
        return [
            VersionStatus(
                int(each["version"]),
                each["state"],
                each["status"].get("error_code", "OK"),
                each["status"].get("error_message", ""),
            )
            for each in answer["model_version_status"]
        ]

    def reload(self, config, seconds):
        raise ConfigError(
            "Expected a grpc:// address: TF Serving takes a new config over gRPC alone. Received: "
            f"{self._base.partition('/v1/')[0]}."
        )

    def close(self):
        self._pool.clear()

    def _ask(self, method: str, path: str, seconds: float, body: Any = None) -> Any:
        return self._send(method, path, seconds, body)[0]

    def _send(
        self, method: str, path: str, seconds: float, body: Any = None
    ) -> tuple[dict[str, Any], Mapping[str, str]]:
        content = None if body is None else json.dumps(body).encode()
        try:
            answer = self._pool.request(
                method,
                self._base + path,
                body=content,
                headers=self._headers,
                timeout=self._timeout(total=seconds),
                pool_timeout=seconds,
                redirect=False,
            )
        except self._errors.TimeoutError as error:
            code = "DEADLINE_EXCEEDED"
            if isinstance(error, self._errors.ConnectTimeoutError):
                code = "UNAVAILABLE"
            raise ServingError(code, "The server did not answer in time.") from None
        except self._errors.EmptyPoolError:
            words = "Every connection was in use until the time was over."
            raise ServingError("DEADLINE_EXCEEDED", words) from None
        except self._errors.HTTPError as error:
            words = f"The server cannot be reached ({type(error).__name__})."
            raise ServingError("UNAVAILABLE", words) from None
        try:
            content = json.loads(answer.data)
        except ValueError:
            content = {}
        if answer.status == 200 and isinstance(content, dict):
            return content, answer.headers
        code = CODE_OF_STATUS.get(answer.status, "UNKNOWN")
        said = content.get("error") if isinstance(content, dict) else None
        words = str(said or f"The server answered with status {answer.status}.")[:_LONGEST_WORDS]
        raise ServingError(code, words, http_status=answer.status)


def _path(target: Target) -> str:
    path = "/v1/models/" + quote(target.model, safe="")
    if target.version is not None:
        return f"{path}/versions/{target.version}"
    return f"{path}/labels/{quote(target.label, safe='')}" if target.label else path


def _to_json(value: np.ndarray) -> Any:
    def written(each: Any) -> Any:
        if isinstance(each, list):
            return [*map(written, each)]
        if isinstance(each, bytes):
            try:
                return each.decode("utf-8")
            except UnicodeDecodeError:
                return {"b64": base64.b64encode(each).decode("ascii")}
        return each

    listed = value.tolist()
    return written(listed) if value.dtype == object else listed


def _from_json(value: Any, info: TensorInfo) -> np.ndarray:
    if info.dtype != "string":
        return np.asarray(value, info.numpy_type)

    def read(each: Any) -> Any:
        return base64.b64decode(each["b64"]) if isinstance(each, dict) else each

    flat = np.asarray(value, object)
    return np.array([*map(read, flat.ravel().tolist())], object).reshape(flat.shape)


def _info(dtype: str, sizes: Sequence[int] | None) -> TensorInfo:
    names = {"float": "float32", "double": "float64", "half": "float16"}
    name = dtype.removeprefix("DT_").lower()
    shape = None if sizes is None else tuple(None if size < 0 else size for size in sizes)
    return TensorInfo(names.get(name, name), shape)


# --- gRPC -----------------------------------------------------------------------------------


class _Grpc:
    def __init__(self, parts: Any, token: str | None, certificate: bytes | None, connections: int):
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        self._error = grpc.RpcError
        self._metadata = None if token is None else [("authorization", f"Bearer {token}")]
        # Retries are the client's, with its deadline; texts and answers may be large.
        options = [
            ("grpc.enable_retries", 0),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        if parts.scheme == "grpcs":
            credentials = grpc.ssl_channel_credentials(certificate)
            self._channel = grpc.secure_channel(parts.netloc, credentials, options)
        else:
            self._channel = grpc.insecure_channel(parts.netloc, options)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._correct = self._channel.unary_unary(FEEDBACK_METHOD)

    def predict(self, target, signature, info, inputs, seconds):
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        _fill(request.model_spec, target).signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value, info.inputs[name].dtype))
        answer, call = self._send(self._prediction.Predict, request, seconds)
        found = Answer()
        found.request_id = dict(call.trailing_metadata() or ()).get(REQUEST_ID)
        for name in sorted(answer.outputs):
            value = tf.make_ndarray(answer.outputs[name])
            if value.dtype == object and not name.endswith("_bytes"):
                texts = [each.decode("utf-8", "replace") for each in value.ravel().tolist()]
                value = np.array(texts, object).reshape(value.shape)
            found[name] = value
        return found

    def signatures(self, target, seconds):
        from tensorflow.core.framework import types_pb2
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest()
        _fill(request.model_spec, target)
        request.metadata_field.append("signature_def")
        answer = self._ask(self._prediction.GetModelMetadata, request, seconds)
        found = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(found)

        def tensor(written: Any) -> TensorInfo:
            shape = written.tensor_shape
            sizes = None if shape.unknown_rank else [each.size for each in shape.dim]
            return _info(types_pb2.DataType.Name(written.dtype), sizes)

        return {
            name: SignatureInfo(
                *(
                    {each: tensor(side[each]) for each in sorted(side)}
                    for side in (definition.inputs, definition.outputs)
                )
            )
            for name, definition in sorted(found.signature_def.items())
            if not name.startswith("__")
        }

    def status(self, target, seconds):
        from tensorflow.core.protobuf import error_codes_pb2
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        _fill(request.model_spec, target)
        answer = self._ask(self._models.GetModelStatus, request, seconds)
        states = get_model_status_pb2.ModelVersionStatus.State
        return [
            VersionStatus(
                each.version,
                states.Name(each.state),
                error_codes_pb2.Code.Name(each.status.error_code),
                each.status.error_message,
            )
            for each in answer.model_version_status
        ]

    def correct(self, body, seconds):
        answer = self._ask(self._correct, json.dumps(body).encode(), seconds)
        return json.loads(answer)

    def reload(self, config, seconds):
        from tensorflow_serving.apis import model_management_pb2

        request = model_management_pb2.ReloadConfigRequest(config=config)
        status = self._ask(self._models.HandleReloadConfigRequest, request, seconds).status
        if status.error_code:
            from tensorflow.core.protobuf import error_codes_pb2

            code = error_codes_pb2.Code.Name(status.error_code)
            raise ServingError(code, status.error_message[:_LONGEST_WORDS])

    def close(self):
        self._channel.close()

    def _ask(self, call: Any, request: Any, seconds: float) -> Any:
        return self._send(call, request, seconds)[0]

    def _send(self, call: Any, request: Any, seconds: float) -> tuple[Any, Any]:
        try:
            return call.with_call(request, timeout=seconds, metadata=self._metadata)
        except self._error as error:
            code, words = error.code().name, (error.details() or "")[:_LONGEST_WORDS]
            raise ServingError(code if code in HTTP_STATUS else "UNKNOWN", words) from None


def _fill(spec: Any, target: Target) -> Any:
    spec.name = target.model
    if target.version is not None:
        spec.version.value = target.version
    elif target.label:
        spec.version_label = target.label
    return spec
