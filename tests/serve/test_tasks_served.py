"""The forms of the conformance table's requests, asked of every task: the SavedModel's answers.

Each request of `test_conformance.py` that can be had of a text model is asked through both doors,
and compared with what TensorFlow says when the signature is called.
"""

import base64

import grpc
import numpy as np
import pytest
from small_servable import ask

from tfmodel.serve import Server, serve_settings
from tfmodel.tasks import TASKS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(exported_tasks):
    settings = serve_settings(rest_port=0, grpc_port=0, batch_threads=1)
    with Server(
        {name: task.base for name, task in exported_tasks.items()}, settings=settings
    ) as it:
        yield it


@pytest.fixture(scope="module")
def signatures(exported_tasks):
    """Task to signature to inputs, their types, and outputs as TensorFlow gives them."""
    import tensorflow as tf

    found = {}
    for name, task in exported_tasks.items():
        loaded = tf.saved_model.load(str(task.version))
        for key, signature in loaded.signatures.items():
            specs = signature.structured_input_signature[1]
            inputs = task.inputs(specs)
            given = {each: tf.constant(inputs[each], specs[each].dtype) for each in specs}
            outputs = {each: value.numpy() for each, value in signature(**given).items()}
            types = {each: spec.dtype for each, spec in specs.items()}
            found.setdefault(name, {})[key] = (inputs, types, outputs)
    return found


def plain(value):
    """As JSON has it."""
    if isinstance(value, np.ndarray):
        return [plain(each) for each in value]
    return value.decode() if isinstance(value, bytes) else value


def same(given, wanted, where):
    """Words equal; numbers within float32's reach, those in lists too."""
    if isinstance(wanted, list):
        assert isinstance(given, list) and len(given) == len(wanted), where
        for one, other in zip(given, wanted, strict=True):
            same(one, other, where)
    elif isinstance(wanted, dict):
        assert {*given} == {*wanted}, where
        for key, value in wanted.items():
            same(given[key], value, f"{where}: {key}")
    elif isinstance(wanted, str):
        assert given == wanted, where
    else:
        assert given == pytest.approx(wanted, abs=1e-5), where


def by_row(columns):
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [next(iter(row.values())) for row in rows] if len(columns) == 1 else rows


def wanted_of(outputs, *, rows):
    columns = {key: plain(value) for key, value in outputs.items()}
    if rows:
        return {"predictions": by_row(columns)}
    return {"outputs": next(iter(columns.values())) if len(columns) == 1 else columns}


def encoded(column):
    return [{"b64": base64.b64encode(text.encode()).decode()} for text in column]


def requests_of(signature, inputs):
    """Bodies by how they are formed, and whether they are by row."""
    named = [dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)]
    body = {"signature_name": signature}
    yield "named rows", {**body, "instances": named}, True
    yield "named columns", {**body, "inputs": inputs}, False
    if len(inputs) == 1:
        (column,) = inputs.values()
        yield "rows", {**body, "instances": column}, True
        yield "columns", {**body, "inputs": column}, False
    texts = {
        key: encoded(value) if key.startswith("text") else value for key, value in inputs.items()
    }
    if texts != inputs:
        yield "base64", {**body, "inputs": texts}, False
        yield "base64 rows", {**body, "instances": by_row(texts)}, True
    if signature == "serving_default":
        yield "default", {"inputs": inputs}, False


@pytest.mark.parametrize("name", [name for name in TASKS if not name.startswith("embed_")])
def test_rest_gives_what_the_signatures_give(server, signatures, name):
    asked = 0
    for signature, (inputs, _, outputs) in signatures[name].items():
        for form, body, rows in requests_of(signature, inputs):
            for path in (f"/v1/models/{name}", f"/v1/models/{name}/versions/1"):
                status, answer = ask(server.rest_address, f"{path}:predict", body)
                where = f"{name}: {signature}: {form}"
                assert status == 200, (where, answer)
                same(answer, wanted_of(outputs, rows=rows), where)
                asked += 1
    assert asked >= (14 if name == "span" else 20)  # which has pairs and two signatures
    assert {"serving_default", "ids"} <= {*signatures[name]}


@pytest.mark.parametrize("name", [name for name in TASKS if not name.startswith("embed_")])
def test_grpc_gives_what_the_signatures_give(server, signatures, name):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for signature, (inputs, types, outputs) in signatures[name].items():
            request = predict_pb2.PredictRequest()
            request.model_spec.name, request.model_spec.signature_name = name, signature
            for key, column in inputs.items():
                request.inputs[key].CopyFrom(tf.make_tensor_proto(column, types[key]))
            response = stub.Predict(request, timeout=60)
            assert {*response.outputs} == {*outputs}
            for key, value in outputs.items():
                same(plain(tf.make_ndarray(response.outputs[key])), plain(value), f"{name}: {key}")
            with pytest.raises(grpc.RpcError) as caught:
                request.inputs["other"].CopyFrom(tf.make_tensor_proto(["a"]))
                stub.Predict(request, timeout=60)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_refusals_and_metadata(server, signatures):
    for name, own in signatures.items():
        path = f"/v1/models/{name}"
        for method in ("classify", "regress"):
            status, answer = ask(
                server.rest_address, f"{path}:{method}", {"examples": [{"text": "a"}]}
            )
            assert (status, "Was: tensorflow/serving/predict" in answer["error"]) == (400, True)
        for body in ({"instances": [1]}, {"inputs": {"words": ["a"]}}, {"inputs": {"text": "a"}}):
            assert ask(server.rest_address, f"{path}:predict", body)[0] == 400, (name, body)
        _, metadata = ask(server.rest_address, f"{path}/metadata")
        told = metadata["metadata"]["signature_def"]["signature_def"]
        for signature, (inputs, types, outputs) in own.items():
            assert {*told[signature]["inputs"]} == {*inputs}
            assert {*told[signature]["outputs"]} == {*outputs}
            for key, dtype in types.items():
                kinds = {"string": "DT_STRING", "int32": "DT_INT32"}
                assert told[signature]["inputs"][key]["dtype"] == kinds[dtype.name]
