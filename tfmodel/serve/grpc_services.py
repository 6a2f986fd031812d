"""TF Serving's gRPC API: PredictionService and ModelService.

Source: `model_servers/prediction_service_impl.cc`, `model_service_impl.cc` and
`servables/tensorflow/multi_inference.cc` of TF Serving.
"""

from __future__ import annotations

import dataclasses
import hmac
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from tfmodel.serve import examples
from tfmodel.serve.batching import outcome_of
from tfmodel.serve.errors import ServingError, invalid
from tfmodel.serve.feedback.asked import AskedRow, rows_of_messages
from tfmodel.serve.feedback.mirroring import Trial
from tfmodel.serve.feedback.recorder import Recorder
from tfmodel.serve.models import Models, metadata
from tfmodel.serve.protocol_names import FEEDBACK_SERVICE, REQUEST_ID
from tfmodel.serve.servable import DEFAULT_SIGNATURE
from tfmodel.serve.tensors import fill_proto, inputs_of_proto
from tfmodel.serve.versions import Version

_ENTRYPOINT = "GRPC"
RECORDED = ("Predict", "Classify", "Regress")
"""The methods of PredictionService whose requests are counted and recorded."""


def handlers_of(
    models: Models, *, token: str | None = None, recorder: Recorder | None = None
) -> list[Any]:
    """Handlers of both services, for `grpc.Server.add_generic_rpc_handlers`.

    Args:
        models: what is asked.
        token: that clients must send as metadata `authorization: Bearer TOKEN`; None: nobody must.
        recorder: records requests; None: nothing does.
    """
    import grpc
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        model_management_pb2,
        predict_pb2,
        regression_pb2,
    )

    service = _Service(models)
    prediction = {
        "Predict": (predict_pb2.PredictRequest, service.predict),
        "Classify": (classification_pb2.ClassificationRequest, service.classify),
        "Regress": (regression_pb2.RegressionRequest, service.regress),
        "MultiInference": (inference_pb2.MultiInferenceRequest, service.multi_inference),
        "GetModelMetadata": (get_model_metadata_pb2.GetModelMetadataRequest, service.metadata),
    }
    model = {
        "GetModelStatus": (get_model_status_pb2.GetModelStatusRequest, service.status),
        "HandleReloadConfigRequest": (model_management_pb2.ReloadConfigRequest, service.reload),
    }
    secret = None if token is None else f"Bearer {token}"
    services = {
        f"tensorflow.serving.{name}": {
            method: grpc.unary_unary_rpc_method_handler(
                _Method(models, method, request, answer, secret, recorder),
                response_serializer=lambda response: response.SerializeToString(),
            )
            for method, (request, answer) in methods.items()
        }
        for name, methods in (("PredictionService", prediction), ("ModelService", model))
    }
    if recorder is not None:
        services[FEEDBACK_SERVICE] = {"Correct": correction_handler(recorder, token=token)}
    return [
        grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items()
    ]


def correction_handler(recorder: Recorder, *, token: str | None) -> Any:
    """A handler that takes corrections: JSON both ways.

    Args:
        recorder: takes them.
        token: as `handlers_of`.
    """
    import grpc

    secret = None if token is None else f"Bearer {token}"

    def correct(body: bytes, context: Any) -> bytes:
        try:
            check_metadata(context, secret)
            return recorder.answer_now(body)
        except ServingError as error:
            context.abort(grpc.StatusCode[error.code], error.message)

    return grpc.unary_unary_rpc_method_handler(correct)


def check_metadata(context: Any, secret: str | None) -> None:
    """Refuse a call without the token.

    Args:
        context: of grpcio.
        secret: what the metadata `authorization` must be; None: nothing is demanded.

    Raises:
        ServingError: UNAUTHENTICATED.
    """
    if secret is None:
        return
    sent = dict(context.invocation_metadata()).get("authorization", "")
    given = sent if isinstance(sent, bytes) else sent.encode()
    if not hmac.compare_digest(given, secret.encode()):
        raise ServingError("UNAUTHENTICATED", "Expected the token of this server.")


@dataclasses.dataclass(frozen=True)
class _Patience:
    """How long an answer is waited for.

    Attributes:
        deadline: of `time.monotonic`.
        when_over: has something called when the call is over, the client gone; False: it is.
    """

    deadline: float
    when_over: Callable[[Callable[[], Any]], bool] = lambda call: True

    def outcome(self, future: Future) -> Any:
        """What a future gives; who goes away meanwhile is not computed for."""
        if not self.when_over(future.cancel):
            future.cancel()
        return outcome_of(future, self.deadline)


class _Method:
    """One method: reads the message, answers, and puts errors into gRPC's words."""

    def __init__(
        self,
        models: Models,
        name: str,
        request: type,
        answer: Callable[[Any, _Patience], Any],
        secret: str | None,
        recorder: Recorder | None,
    ):
        self._models = models
        self._name = name
        self._request = request
        self._answer = answer
        self._secret = secret
        self._recorder = recorder if name in RECORDED else None

    def __call__(self, body: bytes, context: Any) -> Any:
        import grpc

        started = time.monotonic()
        seconds = self._models.settings.timeout_seconds
        if (left := context.time_remaining()) is not None:
            seconds = min(seconds, left)
        code, message, model = "OK", "", ""
        response = None
        try:
            check_metadata(context, self._secret)
            request = self._read(body)
            model = _model_of(request)
            patience = _Patience(started + seconds, context.add_callback)
            response = self._answer(request, patience)
        except ServingError as error:
            code, message = error.code, error.message
        except Exception as error:  # nobody is told what went wrong inside
            code, message = "INTERNAL", f"The server failed ({type(error).__name__})."
        known = self._models.known(model)
        took = time.monotonic() - started
        if self._name in RECORDED:
            self._models.metrics.request(known, self._name, _ENTRYPOINT, code, took)
        if code != "OK":
            context.abort(grpc.StatusCode[code], message)
        if self._recorder is not None:
            trial = self._trial(request, response) if self._name == "Predict" else None
            request_id = self._recorder.by_grpc(request, response, seconds=took, trial=trial)
            if request_id is not None:
                context.set_trailing_metadata([(REQUEST_ID, request_id)])
        return response

    def _trial(self, request: Any, response: Any) -> Trial | None:
        if request.model_spec.signature_name not in ("", DEFAULT_SIGNATURE):
            return None

        def ask(number: int) -> list[AskedRow]:
            patience = _Patience(time.monotonic() + self._models.settings.timeout_seconds)
            return rows_of_messages(request, self._answer(asking(request, number), patience))

        spec = response.model_spec
        return self._models.trial(spec.name, spec.version.value, ask)

    def _read(self, body: bytes) -> Any:
        from google.protobuf.message import DecodeError

        try:
            return self._request.FromString(body)
        except DecodeError:
            raise invalid(f"Expected a {self._request.DESCRIPTOR.name}") from None


def asking(request: Any, number: int) -> Any:
    """The same request, to a version.

    Args:
        request: one with a `model_spec`.
        number: the version.
    """
    again = type(request)()
    again.CopyFrom(request)
    again.model_spec.version.value = number  # in place of a label
    return again


def _model_of(request: Any) -> str:
    """The model's name, for metrics."""
    fields = request.DESCRIPTOR.fields_by_name
    if "model_spec" in fields:
        return request.model_spec.name
    if "tasks" in fields and request.tasks:
        return request.tasks[0].model_spec.name
    return ""


class _Service:
    """The methods, each from a request, and how long it is waited for, to a response."""

    def __init__(self, models: Models):
        self._models = models

    def predict(self, request: Any, patience: _Patience) -> Any:
        from tensorflow_serving.apis import predict_pb2

        with self._models.use(*_asked(request)) as version:
            name = request.model_spec.signature_name or DEFAULT_SIGNATURE
            if name not in version.servable.signatures:
                raise ServingError("FAILED_PRECONDITION", "Serving signature key not found.")
            signature = version.servable.signature(name)
            wanted = _wanted(signature.outputs, request.output_filter)
            inputs = inputs_of_proto(signature, request.inputs)
            future = version.submit(signature, inputs, deadline=patience.deadline)
            outputs = patience.outcome(future)
        response = predict_pb2.PredictResponse()
        _fill_spec(response.model_spec, request.model_spec.name, version, name)
        for output in wanted:
            fill_proto(response.outputs[output], signature.outputs[output], outputs[output])
        return response

    def classify(self, request: Any, patience: _Patience) -> Any:
        from tensorflow_serving.apis import classification_pb2

        response = classification_pb2.ClassificationResponse()
        return self._examples(request, response, examples.CLASSIFY, patience)

    def regress(self, request: Any, patience: _Patience) -> Any:
        from tensorflow_serving.apis import regression_pb2

        response = regression_pb2.RegressionResponse()
        return self._examples(request, response, examples.REGRESS, patience)

    def _examples(
        self, request: Any, response: Any, method: examples.Method, patience: _Patience
    ) -> Any:
        name = request.model_spec.signature_name
        with self._models.use(*_asked(request)) as version:
            question = examples.Question(version, name, method, request.input)
            self._models.metrics.examples(request.model_spec.name, question.rows)
            outputs = patience.outcome(question.submit(patience.deadline))
            response.result.CopyFrom(question.result(outputs))
            _fill_spec(
                response.model_spec, request.model_spec.name, version, question.signature.name
            )
        return response

    def multi_inference(self, request: Any, patience: _Patience) -> Any:
        from tensorflow_serving.apis import inference_pb2

        if not request.tasks:
            raise invalid("Inference request must contain at least one inference task")
        specs = [task.model_spec for task in request.tasks]
        if any(spec.name != specs[0].name for spec in specs):
            raise invalid(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        names = [spec.signature_name for spec in specs]
        if len({*names}) < len(names):
            raise invalid("Duplicate evaluation of signature.")
        response = inference_pb2.MultiInferenceResponse()
        with self._models.use(*_asked(request.tasks[0])) as version:
            asked = []
            for task in request.tasks:
                method = _METHODS.get(task.method_name)
                if method is None:
                    raise ServingError(
                        "UNIMPLEMENTED", "Unsupported signature method_name of an inference task"
                    )
                name = task.model_spec.signature_name
                question = examples.Question(version, name, method, request.input)
                asked.append((question, method, question.submit(patience.deadline)))
            self._models.metrics.examples(specs[0].name, asked[0][0].rows)
            for question, method, future in asked:
                entry = response.results.add()
                _fill_spec(entry.model_spec, specs[0].name, version, question.signature.name)
                field = "classification" if method is examples.CLASSIFY else "regression"
                result = question.result(patience.outcome(future))
                getattr(entry, f"{field}_result").CopyFrom(result)
        return response

    def metadata(self, request: Any, patience: _Patience) -> Any:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        if any(field != "signature_def" for field in request.metadata_field):
            raise invalid("Metadata field is not supported: there is signature_def alone")
        with self._models.use(*_asked(request)) as version:
            return metadata(request.model_spec.name, version)

    def status(self, request: Any, patience: _Patience) -> Any:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        return self._models.status(*_asked(request))

    def reload(self, request: Any, patience: _Patience) -> Any:
        from tensorflow_serving.apis import model_management_pb2

        self._models.reload(request.config)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response


_METHODS = {method.signature_method: method for method in (examples.CLASSIFY, examples.REGRESS)}


def _asked(request: Any) -> tuple[str, int | None, str]:
    """Name, version and label of a message's `model_spec`."""
    spec = request.model_spec
    number = spec.version.value if spec.HasField("version") else None
    return spec.name, number, spec.version_label


def _wanted(outputs: Any, chosen: Any) -> list[str]:
    """The outputs that a request asks for; all where it does not say."""
    if any(name not in outputs for name in chosen):
        known = ",".join(outputs)
        raise invalid(
            "output tensor alias not found in signature. Outputs expected to be in the set "
            f"{{{known}}}."
        )
    if len({*chosen}) < len(chosen):
        raise invalid("duplicate output tensor alias")
    return [*chosen] or [*outputs]


def _fill_spec(spec: Any, name: str, version: Version, signature: str) -> None:
    spec.name = name
    spec.version.value = version.number
    spec.signature_name = signature
