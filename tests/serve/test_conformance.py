"""One table of requests and the answers that TF Serving's published API gives, through both doors.

The model is its own test model, half_plus_two. The REST answers are those of `api_rest.md`,
`http_rest_api_handler_test.cc` and `json_tensor_test.cc`; over gRPC its own stubs ask.

Run: pytest tests/serve/test_conformance.py
"""

import base64
import gzip
import json
import math

import grpc
import numpy as np
import pytest
from small_servable import ask, copy_version, write_half_plus

from tfmodel.serve import Server, serve_settings

MODEL = "half_plus_two"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("served") / MODEL
    base.mkdir()
    write_half_plus(base / "123")
    copy_version(base / "123", base / "124")
    settings = serve_settings(rest_port=0, grpc_port=0, max_rows=64, batch_threads=2)
    from tfmodel.serve.server import policy_of

    server = Server(
        {MODEL: base}, policy=policy_of("all"), labels={"stable": 123}, settings=settings
    )
    with server:
        yield server


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield channel


# --- REST -----------------------------------------------------------------------------------

PREDICT = f"/v1/models/{MODEL}:predict"
ANSWERS = [
    # path, body, answer
    (PREDICT, {"instances": [1.0, 2.0, 5.0]}, {"predictions": [2.5, 3.0, 4.5]}),
    (PREDICT, {"inputs": [3, 4]}, {"outputs": [3.5, 4.0]}),
    (PREDICT, {"inputs": {"x": [3.0]}}, {"outputs": [3.5]}),
    (PREDICT, {"instances": [{"x": 1.0}, {"x": 2}]}, {"predictions": [2.5, 3.0]}),
    (PREDICT, {"signature_name": "serving_default", "inputs": [3.0]}, {"outputs": [3.5]}),
    (f"/v1/models/{MODEL}/versions/123:predict", {"instances": [1.0]}, {"predictions": [2.5]}),
    (f"/v1/models/{MODEL}/labels/stable:predict", {"instances": [1.0]}, {"predictions": [2.5]}),
    (f"/V1/Models/{MODEL}:PREDICT", {"instances": [1.0]}, {"predictions": [2.5]}),
    # a number that is no round one comes back with the digits of a float, not of a double
    (PREDICT, {"instances": [0.2]}, {"predictions": [2.1]}),
    (PREDICT, b'{"instances": [Infinity]}', {"predictions": [math.inf]}),
    # an integer of more than 64 bits is a number like 1e30
    (PREDICT, {"instances": [10**30]}, {"predictions": [5e29]}),
    (PREDICT, {"inputs": []}, {"outputs": []}),
    (
        PREDICT,
        {"signature_name": "strings", "instances": ["a", {"b64": "w6k="}]},
        {
            "predictions": [
                {"text": "a", "text_bytes": {"b64": "YQ=="}},
                {"text": "é", "text_bytes": {"b64": "w6k="}},
            ]
        },
    ),
    (
        PREDICT,
        {"signature_name": "strings", "inputs": {"text": ["a"]}},
        {"outputs": {"text": ["a"], "text_bytes": [{"b64": "YQ=="}]}},
    ),
    (
        PREDICT,
        {"signature_name": "two", "instances": [{"a": 1, "b": 0.5}, {"a": 2, "b": 1}]},
        {"predictions": [1.5, 3.0]},
    ),
    (PREDICT, {"signature_name": "two", "inputs": {"a": [1], "b": [0.5]}}, {"outputs": [1.5]}),
    (
        f"/v1/models/{MODEL}:regress",
        {"signature_name": "regress_x_to_y", "examples": [{"x": 80.0}]},
        {"results": [42.0]},
    ),
    (
        f"/v1/models/{MODEL}:regress",
        {"signature_name": "regress_x_to_y", "context": {"x": 80.0}, "examples": [{}, {}]},
        {"results": [42.0, 42.0]},
    ),
    (
        f"/v1/models/{MODEL}/versions/123:classify",
        {"signature_name": "classify_x_to_y", "examples": [{"x": 20.0}, {"x": [10.0]}]},
        {"results": [[["", 12.0]], [["", 7.0]]]},
    ),
]


@pytest.mark.parametrize(("path", "body", "answer"), ANSWERS, ids=range(len(ANSWERS)))
def test_rest_answers(server, path, body, answer):
    assert ask(server.rest_address, path, body) == (200, answer)


EXAMPLES = f"/v1/models/{MODEL}:classify"
REFUSALS = [
    # method, path, body, status, a part of the error
    ("GET", "/v1/foo", None, 400, "Malformed request: GET /v1/foo"),
    ("POST", "/v1/foo", b"", 400, "Malformed request: POST /v1/foo"),
    ("GET", "/v1/models", None, 400, "Missing model name in request."),
    ("POST", "/v1/models", b"", 400, "Malformed request"),
    ("GET", "/v1/models/foo:predict", None, 400, "Malformed request"),
    ("DELETE", f"/v1/models/{MODEL}", None, 400, "Malformed request"),
    ("POST", "/v1/models/foo/version/50:regress", b"", 400, "Malformed request"),
    ("POST", "/v1/models/foo/versions/HELLO:regress", b"", 400, "Malformed request"),
    ("POST", f"/v1/models/foo/versions/{2**64 - 1}:regress", b"{}", 400, "Failed to convert"),
    ("GET", "/statuspage", None, 404, "Not Found"),
    ("POST", "/v1/models/foo:predict", {"instances": [1]}, 404, "request: Latest(foo)"),
    ("POST", "/v1/models/foo/versions/50:predict", {}, 404, "request: Specific(foo, 50)"),
    ("POST", f"/v1/models/{MODEL}/versions/99:predict", {"instances": [1]}, 404, "Specific("),
    ("POST", f"/v1/models/{MODEL}/labels/new:predict", {"instances": [1]}, 400, "version label"),
    ("GET", "/v1/models/foo", None, 404, "Could not find any versions of model foo"),
    ("GET", f"/v1/models/{MODEL}/versions/9", None, 404, "Could not find version 9 of model"),
    ("GET", "/v1/models/foo/metadata", None, 404, "Servable not found"),
    ("POST", PREDICT, b"", 400, "JSON Parse error: The document is empty"),
    ("POST", PREDICT, b"instances = [1, 2]", 400, "JSON Parse error: Invalid value"),
    ("POST", PREDICT, b'{"instances": ["\xff"]}', 400, "JSON Parse error: Invalid encoding"),
    ("POST", PREDICT, b"[1, 2]", 400, "Is not object"),
    ("POST", PREDICT, b"[" * 100_000, 400, "JSON Parse error"),
    ("POST", PREDICT, b'{"instances": [' + b"1" * 10_000 + b"]}", 400, "JSON Parse error"),
    ("POST", PREDICT, {}, 400, "Missing 'inputs' or 'instances' key"),
    ("POST", PREDICT, {"inputs": [1], "instances": [1]}, 400, "expecting only one of"),
    ("POST", PREDICT, {"instances": 1}, 400, "'instances' to be an list/array"),
    ("POST", PREDICT, {"instances": []}, 400, "No values in 'instances' array"),
    ("POST", PREDICT, {"instances": ["a"]}, 400, "not of expected type: float"),
    ("POST", PREDICT, {"instances": [None]}, 400, "Type: Null is not of expected type: float"),
    ("POST", PREDICT, {"instances": [True]}, 400, "Type: True is not of expected type: float"),
    ("POST", PREDICT, {"instances": [2**24 + 1]}, 400, "without loss of precision"),
    ("POST", PREDICT, {"instances": [1e39]}, 400, "without loss of precision"),
    ("POST", PREDICT, {"instances": [10**400]}, 400, "without loss of precision"),
    ("POST", PREDICT, {"instances": [1, [2]]}, 400, "Expecting shape [] but got: [1]"),
    ("POST", PREDICT, {"instances": [[1, 2], [3, "a"]]}, 400, "element: 1 of 'instances'"),
    ("POST", PREDICT, {"instances": [1, {"x": 1}]}, 400, "got object at item 1 of input list"),
    ("POST", PREDICT, {"instances": [{"x": 1}, 1]}, 400, "Expecting object but got list at item 1"),
    ("POST", PREDICT, {"instances": [{"z": 1}]}, 400, "keys must be equal to: x"),
    ("POST", PREDICT, {"inputs": {"z": [1]}}, 400, "Missing named input: x in 'inputs' object."),
    ("POST", PREDICT, {"inputs": [[1], [2, 3]]}, 400, "list at unexpected size: 2"),
    ("POST", PREDICT, {"inputs": [[1], 2]}, 400, "found at incorrect level"),
    ("POST", PREDICT, {"inputs": [1, [2]]}, 400, "Encountered list at unexpected level: 1"),
    ("POST", PREDICT, {"instances": [[1.0]]}, 400, "to have the shape [?], but got [1,1]"),
    ("POST", PREDICT, {"inputs": 1.0}, 400, "to have the shape [?], but got []"),
    ("POST", PREDICT, {"instances": [0.0] * 65}, 400, "Task size 65 is larger than"),
    ("POST", PREDICT, {"instances": [-5000.0]}, 400, "The model failed on the request"),
    ("POST", PREDICT, {"signature_name": 1, "inputs": [1]}, 400, "must be a string value"),
    ("POST", PREDICT, {"signature_name": "none", "inputs": [1]}, 400, "not found in signature def"),
    (
        "POST", PREDICT, {"signature_name": "two", "instances": [1]}, 400,
        "instances is a plain list, but expecting list of objects",
    ),
    (
        "POST", PREDICT, {"signature_name": "two", "inputs": [1]}, 400,
        "inputs is a plain value/list, but expecting an object",
    ),
    (
        "POST", PREDICT, {"signature_name": "two", "inputs": {"a": [1, 2], "b": [1]}}, 400,
        "must have equal 0th-dimension size",
    ),
    (
        "POST", PREDICT, {"signature_name": "two", "inputs": {"a": [2**31], "b": [1]}}, 400,
        "not of expected type: int32",
    ),
    (
        "POST", PREDICT, {"signature_name": "strings", "instances": [{"b64": "?"}]}, 400,
        "Unable to base64 decode",
    ),
    (
        "POST", PREDICT, b'{"signature_name": "strings", "instances": ["\\ud800"]}', 400,
        "surrogate pair in string is invalid",
    ),
    ("POST", EXAMPLES, {"examples": [{"x": 1.0}]}, 400, "Was: tensorflow/serving/predict"),
    ("POST", EXAMPLES, {"signature_name": "no", "examples": [{}]}, 400, "No signature was found"),
    ("POST", EXAMPLES, {}, 400, "key 'examples' is expected and was not found"),
    ("POST", EXAMPLES, {"examples": 1}, 400, "'examples' value to be an list/array"),
    ("POST", EXAMPLES, {"examples": []}, 400, "'examples' value is an empty array"),
    ("POST", EXAMPLES, {"examples": [1]}, 400, "Example must be JSON object"),
    ("POST", EXAMPLES, {"examples": [{"x": [1, "a"]}]}, 400, "Unexpected element type in feature"),
    ("POST", EXAMPLES, {"examples": [{"x": [[1]]}]}, 400, "unexpected JSON type"),
    ("POST", EXAMPLES, {"examples": [{"x": 1e39}]}, 400, "without loss of precision"),
    ("POST", EXAMPLES, {"examples": [{"x": 2**63}]}, 400, "Only int64 is supported"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"), REFUSALS, ids=range(len(REFUSALS))
)
def test_rest_refusals(server, method, path, body, status, words):
    given, answer = ask(server.rest_address, path, body, method=method)
    assert (given, {*answer}) == (status, {"error", "headers"})
    assert words in answer["error"]
    assert answer["headers"]["content-type"] == "application/json"


def test_rest_takes_bodies_packed_by_gzip(server):
    packed = gzip.compress(json.dumps({"instances": [1.0]}).encode())

    def asked(body, encoding="gzip"):
        status, answer = ask(
            server.rest_address, PREDICT, body, headers={"Content-Encoding": encoding}
        )
        return status, answer.get("error") or answer

    assert asked(packed) == asked(packed, "x-gzip") == (200, {"predictions": [2.5]})
    assert asked(b"") == (400, "JSON Parse error: The document is empty")
    for body in (b'{"instances": [1.0]}', packed[:-4], packed + packed):
        status, words = asked(body)
        assert status == 400 and "Expected a body that is packed by gzip" in words
    most = server.settings.max_body_bytes
    assert asked(gzip.compress(bytes(most + 1))) == (413, f"The body has more than {most:,} bytes.")
    assert asked(packed, "br")[0] == 400


def test_rest_status(server):
    def entry(version):
        status = {"error_code": "OK", "error_message": ""}
        return {"version": version, "state": "AVAILABLE", "status": status}

    look = f"/v1/models/{MODEL}"
    every = {"model_version_status": [entry("124"), entry("123")]}
    assert ask(server.rest_address, look) == (200, every)
    one = {"model_version_status": [entry("123")]}
    assert ask(server.rest_address, f"{look}/versions/123") == (200, one)
    assert ask(server.rest_address, f"{look}/labels/stable") == (200, one)


def test_rest_metadata(server):
    status, answer = ask(server.rest_address, f"/v1/models/{MODEL}/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": MODEL, "signature_name": "", "version": "124"}
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    (x,) = signature["inputs"].values()
    assert x["dtype"] == "DT_FLOAT"
    assert x["tensor_shape"] == {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}


# --- gRPC -----------------------------------------------------------------------------------


def spec_of(request, *, name=MODEL, signature="", version=None, label=""):
    spec = request.model_spec
    spec.name, spec.signature_name = name, signature
    if version is not None:
        spec.version.value = version
    if label:
        spec.version_label = label
    return request


def predict_request(inputs, **spec):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = spec_of(predict_pb2.PredictRequest(), **spec)
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


@pytest.fixture(scope="module")
def prediction(channel):
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


X = {"x": np.float32([1.0, 5.0])}
GRPC_ANSWERS = [
    ({}, X, {"y": [2.5, 4.5]}, 124),
    ({"version": 123}, X, {"y": [2.5, 4.5]}, 123),
    ({"label": "stable"}, X, {"y": [2.5, 4.5]}, 123),
    ({"signature": "strings"}, {"text": [b"\xff", b"a"]}, {"text": [b"\xff", b"a"]}, 124),
    ({"signature": "two"}, {"a": [1], "b": np.float32([2])}, {"sum": [3.0]}, 124),
]


@pytest.mark.parametrize(("spec", "inputs", "outputs", "version"), GRPC_ANSWERS, ids=range(5))
def test_grpc_predict(prediction, spec, inputs, outputs, version):
    import tensorflow as tf

    response = prediction.Predict(predict_request(inputs, **spec), timeout=60)
    assert response.model_spec.name == MODEL and response.model_spec.version.value == version
    assert response.model_spec.signature_name == spec.get("signature", "serving_default")
    for name, value in outputs.items():
        assert tf.make_ndarray(response.outputs[name]).tolist() == value


def test_grpc_fills_the_fields_that_clients_read(prediction):
    response = prediction.Predict(predict_request(X), timeout=60)
    assert [*response.outputs["y"].float_val] == [2.5, 4.5]
    request = predict_request({"text": ["a"]}, signature="strings")
    request.output_filter.append("text")
    response = prediction.Predict(request, timeout=60)
    assert {*response.outputs} == {"text"} and [*response.outputs["text"].string_val] == [b"a"]


def examples_of(request, *numbers, signature):
    spec_of(request, signature=signature)
    for number in numbers:
        example = request.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(number)
    return request


def test_grpc_classify_regress_and_both(prediction):
    from tensorflow_serving.apis import classification_pb2, inference_pb2, regression_pb2

    request = examples_of(
        classification_pb2.ClassificationRequest(), 20.0, 10.0, signature="classify_x_to_y"
    )
    response = prediction.Classify(request, timeout=60)
    scores = [row.classes[0].score for row in response.result.classifications]
    assert scores == [12.0, 7.0] and response.model_spec.signature_name == "classify_x_to_y"
    request = examples_of(regression_pb2.RegressionRequest(), 80.0, signature="regress_x_to_y")
    response = prediction.Regress(request, timeout=60)
    assert [each.value for each in response.result.regressions] == [42.0]
    both = inference_pb2.MultiInferenceRequest(input=request.input)
    for kind in ("classify", "regress"):
        task = spec_of(both.tasks.add(), signature=f"{kind}_x_to_y")
        task.method_name = f"tensorflow/serving/{kind}"
    first, second = prediction.MultiInference(both, timeout=60).results
    assert first.classification_result.classifications[0].classes[0].score == 42.0
    assert second.regression_result.regressions[0].value == 42.0


def test_grpc_metadata_and_status(prediction, channel):
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_service_pb2_grpc,
    )

    request = spec_of(get_model_metadata_pb2.GetModelMetadataRequest())
    request.metadata_field.append("signature_def")
    response = prediction.GetModelMetadata(request, timeout=60)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["two"].inputs["a"].dtype == 3
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    request = spec_of(get_model_status_pb2.GetModelStatusRequest())
    response = models.GetModelStatus(request, timeout=60)
    states = [(each.version, each.state) for each in response.model_version_status]
    assert states == [(124, 30), (123, 30)]  # AVAILABLE


def refusals():
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        inference_pb2,
        model_management_pb2,
    )

    filtered = predict_request(X)
    filtered.output_filter.append("z")
    twice = predict_request(X)
    twice.output_filter.extend(["y", "y"])
    bomb = predict_request(X)
    bomb.inputs["x"].ClearField("tensor_content")
    bomb.inputs["x"].float_val.append(1.0)
    bomb.inputs["x"].tensor_shape.dim[0].size = 2**40
    short = predict_request(X)
    short.inputs["x"].tensor_shape.dim[0].size = 3
    unknown = predict_request(X)
    unknown.inputs["x"].dtype = 99
    two_names = inference_pb2.MultiInferenceRequest()
    for name in ("a", "b"):
        spec_of(two_names.tasks.add(), name=name)
    other = inference_pb2.MultiInferenceRequest()
    spec_of(other.tasks.add()).method_name = "other"
    return {
        "Predict": [
            (predict_request(X, name=""), "INVALID_ARGUMENT", "no name specified"),
            (predict_request(X, name="foo"), "NOT_FOUND", "Latest(foo)"),
            (predict_request(X, version=9), "NOT_FOUND", f"Specific({MODEL}, 9)"),
            (predict_request(X, label="new"), "INVALID_ARGUMENT", "version label"),
            (predict_request(X, signature="no"), "FAILED_PRECONDITION", "not found"),
            (predict_request({}), "INVALID_ARGUMENT", "Missing but required: {x}"),
            (predict_request({**X, "z": [1]}), "INVALID_ARGUMENT", "does not match signature"),
            (predict_request({"x": [1]}), "INVALID_ARGUMENT", "float but int32 is provided"),
            (predict_request({"x": ["a"]}), "INVALID_ARGUMENT", "float but string is provided"),
            (predict_request({"x": np.float32([[1]])}), "INVALID_ARGUMENT", "got [1,1]"),
            (predict_request({"x": np.float32([-5e3])}), "INVALID_ARGUMENT", "model failed"),
            (filtered, "INVALID_ARGUMENT", "output tensor alias not found"),
            (twice, "INVALID_ARGUMENT", "duplicate output tensor alias"),
            (bomb, "INVALID_ARGUMENT", "values"),
            (short, "INVALID_ARGUMENT", "as its shape says"),
            (unknown, "INVALID_ARGUMENT", "float but an unknown type is provided"),
        ],
        "Classify": [
            (
                examples_of(classification_pb2.ClassificationRequest(), 1.0, signature=""),
                "INVALID_ARGUMENT",
                "Was: tensorflow/serving/predict",
            ),
            (
                spec_of(classification_pb2.ClassificationRequest(), signature="classify_x_to_y"),
                "INVALID_ARGUMENT",
                "Input is empty",
            ),
        ],
        "MultiInference": [
            (inference_pb2.MultiInferenceRequest(), "INVALID_ARGUMENT", "at least one"),
            (two_names, "INVALID_ARGUMENT", "the same model name"),
            (other, "UNIMPLEMENTED", "method_name"),
        ],
        "GetModelMetadata": [
            (get_model_metadata_pb2.GetModelMetadataRequest(), "INVALID_ARGUMENT", "ModelSpec"),
            (
                spec_of(get_model_metadata_pb2.GetModelMetadataRequest()),
                "INVALID_ARGUMENT",
                "at least one metadata_field",
            ),
        ],
        "HandleReloadConfigRequest": [
            (model_management_pb2.ReloadConfigRequest(), "INVALID_ARGUMENT", "ModelConfigList"),
        ],
    }


def test_grpc_refusals(channel, prediction):
    from tensorflow_serving.apis import model_service_pb2_grpc

    models = model_service_pb2_grpc.ModelServiceStub(channel)
    for method, cases in refusals().items():
        call = getattr(prediction, method, None) or getattr(models, method)
        for request, code, words in cases:
            with pytest.raises(grpc.RpcError) as refused:
                call(request, timeout=60)
            assert (refused.value.code().name, words) == (code, words), refused.value.details()
            assert words in refused.value.details()


def test_bytes_that_are_no_message_are_refused(channel):
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    for body in (b"\xff" * 50, b"\x0a\xff\xff\xff\xff\x0f", base64.b64encode(b"text" * 9)):
        with pytest.raises(grpc.RpcError) as refused:
            call(body, timeout=60)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_metrics_bear_the_names_of_tf_serving(server):
    from prometheus_lines import samples

    ask(server.rest_address, PREDICT, {"instances": [1.0]})
    status, page = ask(server.rest_address, "/monitoring/prometheus/metrics")
    assert status == 200
    found = samples(page["text"])
    counted = found[":tensorflow:serving:request_count"]
    assert counted[(("model_name", MODEL), ("status", "OK"))] >= 1
    latency = found[":tensorflow:serving:request_latency_count"]
    assert latency[(("API", "predict"), ("entrypoint", "REST"), ("model_name", MODEL))] >= 1
    asked = (("model_name", MODEL), ("thread_pool_name", "batch_threads"))
    assert found[":tensorflow:serving:batching_session:queuing_latency_count"][asked[1:]] >= 1
    runtime = found[":tensorflow:serving:runtime_latency_count"]
    assert runtime[(("API", "Predict"), asked[0], ("runtime", "TF1"))] >= 1
    # Of requests that fail no latency is noted; requests about a model are not counted.
    before = sum(latency.values())
    ask(server.rest_address, PREDICT, {"instances": ["wrong"]})
    ask(server.rest_address, f"/v1/models/{MODEL}/metadata")
    _, page = ask(server.rest_address, "/monitoring/prometheus/metrics")
    found = samples(page["text"])
    assert sum(found[":tensorflow:serving:request_latency_count"].values()) == before
    failed = found[":tensorflow:serving:request_count"]
    assert failed[(("model_name", MODEL), ("status", "INVALID_ARGUMENT"))] >= 1
    assert {model for key in counted for label, model in key if label == "model_name"} <= {
        MODEL,
        "unknown",
    }
    assert f'version_available{{model_name="{MODEL}",version="123"}} 1' in page["text"]
