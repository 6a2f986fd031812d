"""What a server refuses, and how: too much, too slow, without the token; and how it stops.

Run: pytest tests/serve/test_serving_limits.py
"""

import concurrent.futures
import contextlib
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time

import grpc
import numpy as np
import pytest
from small_servable import ask, copy_version, holding, until, write_half_plus

from tfmodel.config import ConfigError
from tfmodel.serve import Client, Server, ServingError, serve_settings

PREDICT = "/v1/models/model:predict"
BODY = {"instances": [0.0]}


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    return write_half_plus(tmp_path_factory.mktemp("made") / "1")


@pytest.fixture
def serve(version, tmp_path):
    """Start a server with these settings; it is stopped at the end."""
    base = tmp_path / "served"
    base.mkdir()
    copy_version(version, base / "1")
    servers = []

    def start(**values):
        values = {"rest_port": 0, "grpc_port": 0, "batch_threads": 1} | values
        servers.append(Server(base, settings=serve_settings(**values)).start())
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def predict_over_grpc(server, inputs, *, signature="", timeout=60, metadata=None, channel=None):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "model", signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    with channel or grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        response = stub.Predict(request, timeout=timeout, metadata=metadata)
        return {name: tf.make_ndarray(value).tolist() for name, value in response.outputs.items()}


def refused_by_grpc(server, *arguments, **options):
    with pytest.raises(grpc.RpcError) as refused:
        predict_over_grpc(server, *arguments, **options)
    return refused.value.code().name, refused.value.details()


X = {"x": np.float32([0.0])}


def test_a_body_that_is_too_large(serve):
    server = serve(max_body_bytes=1000)
    status, answer = ask(server.rest_address, PREDICT, b"[" * 3900)
    assert status == 413 and answer["error"] == "The body has more than 1,000 bytes."
    connection = http.client.HTTPConnection(server.rest_address, timeout=60)
    connection.request("POST", PREDICT, iter([b"[" * 600] * 3), encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    assert refused_by_grpc(server, {"x": np.zeros(500, np.float32)})[0] == "RESOURCE_EXHAUSTED"
    assert ask(server.rest_address, PREDICT, {"instances": [0.0]})[0] == 200


def test_large_requests_and_answers_hold_up_nobody_and_have_not_too_many_values(serve, monkeypatch):
    from tfmodel.serve import tensors

    server, beside = serve(), {}

    def noting(name, call):
        def noted(*arguments, **named):
            beside.setdefault(name, []).append(threading.current_thread().name != "rest")
            return call(*arguments, **named)

        return noted

    for name in ("parse_object", "inputs_of_json", "json_of_outputs"):
        monkeypatch.setattr(tensors, name, noting(name, getattr(tensors, name)))
    for texts in (["small"], ["large" * 9000, "larger" * 9000]):
        body = {"signature_name": "strings", "instances": texts}
        assert ask(server.rest_address, PREDICT, body)[0] == 200
    assert {*beside} == {"parse_object", "inputs_of_json", "json_of_outputs"}
    assert all(where == [False, True] for where in beside.values())
    monkeypatch.setattr(tensors, "MOST_VALUES", 4)
    for body in ({"instances": [0.0] * 5}, {"inputs": [[1.0, 2.0, 3.0]] * 2}):
        status, answer = ask(server.rest_address, PREDICT, body)
        assert status == 400 and "x has more than 4 values" in answer["error"]


def over_rest(pool, server):
    """How to ask over REST, in a thread."""
    return lambda: pool.submit(ask, server.rest_address, PREDICT, BODY)


def over_grpc(pool, server):
    """How to ask over gRPC, in a thread."""
    return lambda: pool.submit(predict_over_grpc, server, X)


def test_a_full_queue(serve):
    server = serve(max_queue=1)
    with concurrent.futures.ThreadPoolExecutor() as pool, holding(server) as held:
        asked = held.occupy(over_rest(pool, server))
        status, answer = ask(server.rest_address, PREDICT, BODY)
        assert status == 503 and "queue" in answer["error"]
        assert answer["headers"]["retry-after"] == "1"
        assert refused_by_grpc(server, X)[0] == "UNAVAILABLE"
        held.release()
        assert [each.result()[0] for each in asked] == [200, 200]
    assert predict_over_grpc(server, X) == {"y": [2.0]}


def test_too_many_requests_at_once(serve):
    server = serve(max_requests=2)
    with concurrent.futures.ThreadPoolExecutor() as pool, holding(server) as held:
        asked = held.occupy(over_rest(pool, server))
        status, answer = ask(server.rest_address, PREDICT, BODY)
        assert status == 429 and answer["headers"]["retry-after"] == "1"
        assert ask(server.rest_address, "/healthz")[0] == 200
        held.release()
        assert [each.result()[0] for each in asked] == [200, 200]
    with concurrent.futures.ThreadPoolExecutor() as pool, holding(server) as held:
        asked = held.occupy(over_grpc(pool, server))
        assert refused_by_grpc(server, X)[0] == "RESOURCE_EXHAUSTED"
        held.release()
        assert [each.result() for each in asked] == [{"y": [2.0]}] * 2


def test_an_answer_that_comes_too_late(serve):
    server = serve(timeout_seconds=0.05)
    with holding(server):
        status, answer = ask(server.rest_address, PREDICT, BODY)
        assert status == 504 and answer["error"].startswith("Timed out")
        assert refused_by_grpc(server, X)[0] == "DEADLINE_EXCEEDED"
    patient = serve()
    with holding(patient):
        assert refused_by_grpc(patient, X, timeout=0.05)[0] == "DEADLINE_EXCEEDED"
    assert ask(patient.rest_address, PREDICT, BODY)[0] == 200


def test_who_goes_away_is_not_computed_for(serve):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    server = serve()
    (model,) = server.models
    with model.use() as version:
        batcher = version._batcher
    request = predict_pb2.PredictRequest(model_spec={"name": "model"})
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(X["x"]))
    body = json.dumps(BODY).encode()
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with concurrent.futures.ThreadPoolExecutor() as pool, holding(server) as held:
        asked = held.occupy(over_rest(pool, server), 1)
        with (
            connect(server) as leaving,
            grpc.insecure_channel(server.grpc_address) as channel,
        ):
            leaving.sendall(head + body)
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            cancelled = stub.Predict.future(request, timeout=60)
            until(lambda: model.waiting_rows == 2)
            cancelled.cancel()
        until(lambda: all(piece.request.future.cancelled() for piece in batcher._queue))
        asked.append(over_rest(pool, server)())
        held.release()
        assert [each.result()[0] for each in asked] == [200, 200]
    counted = ':tensorflow:serving:request_count{model_name="model",status="CANCELLED"} 2'
    until(lambda: counted in server.metrics.page())


def connect(server):
    host, port = server.rest_address.split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def test_clients_that_are_slow_are_let_go(serve):
    server = serve(read_seconds=0.3)
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n".encode()
    with connect(server) as silent, connect(server) as trickling, connect(server) as half:
        trickling.sendall(b"GET /healthz HTTP/1.1\r\n")
        half.sendall(head + b'{"inst')
        assert ask(server.rest_address, PREDICT, {"instances": [0.0]})[0] == 200
        assert silent.recv(100) == b""
        with pytest.raises(OSError):
            for _ in range(50):
                trickling.sendall(b"X-Header: more\r\n")
                time.sleep(0.05)
        assert half.recv(1000).startswith(b"HTTP/1.1 408 ")
    assert_let_go_who_does_not_read(server)
    # A connection is for many requests, however long the pauses between them.
    connection = http.client.HTTPConnection(server.rest_address, timeout=30)
    for pause in (0, 0.5):
        time.sleep(pause)
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"ok\n"
    connection.close()


def assert_let_go_who_does_not_read(server):
    """Nothing of its answers is kept, neither of a large one nor of many small ones."""
    text = json.dumps({"signature_name": "strings", "instances": ["x" * 5_000_000]}).encode()
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text)}\r\n\r\n"
    page = b"GET /monitoring/prometheus/metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    connections = server._doors._rest.server_state.connections
    with connect(server) as deaf, connect(server) as impatient:
        impatient.settimeout(0.2)
        deaf.sendall(head.encode() + text)
        until(lambda: bool(connections))
        with contextlib.suppress(OSError):
            for _ in range(20_000):
                impatient.sendall(page)
        until(lambda: not connections, seconds=20)
    assert ask(server.rest_address, PREDICT, BODY)[0] == 200


def test_a_token_is_demanded_where_there_is_one(serve, tmp_path):
    path = tmp_path / "token"
    path.write_text("0123456789abcdef\n")
    server = serve(token_file=str(path))
    right = {"Authorization": "Bearer 0123456789abcdef"}
    body = {"instances": [0.0]}
    for headers in ({}, {"Authorization": "Bearer 0123456789abcdeg"}, {"Authorization": ""}):
        status, answer = ask(server.rest_address, PREDICT, body, headers=headers)
        assert status == 401 and answer["headers"]["www-authenticate"] == "Bearer"
    assert ask(server.rest_address, PREDICT, body, headers=right)[0] == 200
    assert ask(server.rest_address, "/monitoring/prometheus/metrics")[0] == 401
    assert ask(server.rest_address, "/healthz")[0] == ask(server.rest_address, "/readyz")[0] == 200
    assert refused_by_grpc(server, X)[0] == "UNAUTHENTICATED"
    wrong = [("authorization", "Bearer 0123456789abcde")]
    assert refused_by_grpc(server, X, metadata=wrong)[0] == "UNAUTHENTICATED"
    metadata = [("authorization", right["Authorization"])]
    assert predict_over_grpc(server, X, metadata=metadata) == {"y": [2.0]}
    for address in (f"http://{server.rest_address}", f"grpc://{server.grpc_address}"):
        with Client(address, token="0123456789abcdef") as client:
            assert client.ask({"x": [0.0]})["y"].tolist() == [2.0]
        with Client(address) as client, pytest.raises(ServingError) as refused:
            client.status()
        assert refused.value.code == "UNAUTHENTICATED"


def test_files_of_tokens_and_certificates_that_are_none(serve, tmp_path):
    path = tmp_path / "file"
    for content, words in [
        (b"short", "5 characters"),
        (b"\xff" * 20, "no UTF-8"),
        (b"a b" * 9, "blanks"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=words):
            serve(token_file=str(path))
    with pytest.raises(ConfigError, match="No such file"):
        serve(token_file=str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="Expected a certificate chain"):
        serve(tls_certificate=str(path), tls_key=str(path))
    with pytest.raises(ConfigError, match="No such file"):
        serve(tls_certificate=str(tmp_path / "none"), tls_key=str(path))


def test_encrypted_doors(serve, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl, which makes the certificate")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext"
    command = [*make.split(), "subjectAltName=IP:127.0.0.1", "-out", certificate, "-keyout", key]
    subprocess.run(command, check=True, capture_output=True)
    server = serve(tls_certificate=str(certificate), tls_key=str(key))
    context = ssl.create_default_context(cafile=str(certificate))
    connection = http.client.HTTPSConnection(server.rest_address, timeout=30, context=context)
    connection.request("POST", PREDICT, json.dumps({"instances": [0.0]}))
    assert json.loads(connection.getresponse().read()) == {"predictions": [2.0]}
    connection.close()
    credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
    channel = grpc.secure_channel(server.grpc_address, credentials)
    assert predict_over_grpc(server, X, channel=channel) == {"y": [2.0]}
    assert_clients_trust(server, certificate, tmp_path)
    plain = connect(server)
    plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"ok" not in plain.recv(100)
    plain.close()


def assert_clients_trust(server, certificate, tmp_path):
    """By the certificate of who vouches for it, and by no other."""
    addresses = f"https://{server.rest_address}", f"grpcs://{server.grpc_address}"
    commented = tmp_path / "commented.pem"
    commented.write_bytes("von Müller\n".encode() + certificate.read_bytes())
    for address in addresses:
        with Client(address, certificate=commented) as client:
            assert client.ask({"x": [0.0]})["y"].tolist() == [2.0]
        with Client(address, tries=1, timeout_seconds=10) as client:
            with pytest.raises(ServingError) as refused:
                client.status()
            assert refused.value.code == "UNAVAILABLE"
    der = tmp_path / "certificate.der"
    der.write_bytes(ssl.PEM_cert_to_DER_cert(certificate.read_text()))
    with pytest.raises(ConfigError, match="in PEM. Received: another file"):
        Client(addresses[0], certificate=der)


def test_only_this_machine_is_answered_unless_it_is_said_otherwise(serve, caplog):
    with pytest.raises(ConfigError, match="--host: expected another value"):
        serve(host="")  # which would be every address
    open_to_all = serve(host="0.0.0.0")
    words = "is open to other machines without a token (--token-file) and TLS (--tls-certificate"
    assert f"{open_to_all.rest_address} {words}" in caplog.text
    caplog.clear()
    server = serve()
    assert "open to other machines" not in caplog.text
    assert server.rest_address.startswith("127.0.0.1:")
    assert server.grpc_address.startswith("127.0.0.1:")


def test_an_answer_does_not_wait_for_the_clients_word_that_its_head_came():
    from tfmodel.serve.doors import listen

    with listen("127.0.0.1", 0) as listening:
        assert listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_requests_that_are_open_are_answered_when_it_stops(serve):
    server = serve()
    with concurrent.futures.ThreadPoolExecutor() as pool, holding(server) as held:
        first = held.occupy(over_rest(pool, server))
        last = over_grpc(pool, server)()
        until(lambda: next(iter(server.models)).waiting_rows == 2)
        stopping = pool.submit(server.stop)
        time.sleep(0.5)
        assert not stopping.done() and not last.done()
        held.release()
        stopping.result(60)
        assert [each.result()[0] for each in first] == [200, 200]
        assert last.result() == {"y": [2.0]}
    with pytest.raises(OSError):
        ask(server.rest_address, PREDICT, BODY)
    ours = ("batch-", "versions", "rest", "grpc")
    until(lambda: not [each for each in threading.enumerate() if each.name.startswith(ours)])
    server.stop()  # again: nothing


def test_while_it_loads_health_answers_and_readiness_says_no(version, tmp_path, monkeypatch):
    base = tmp_path / "served"
    base.mkdir()
    copy_version(version, base / "1")
    server = Server(base, settings=serve_settings(rest_port=0, grpc_port=0))
    seen = []
    load = server.models.load

    def look_and_load():
        seen.append(ask(server.rest_address, "/healthz")[0])
        seen.append(ask(server.rest_address, "/readyz")[0])
        seen.append(ask(server.rest_address, PREDICT, {"instances": [0.0]})[0])
        load()

    monkeypatch.setattr(server.models, "load", look_and_load)
    with server:
        seen.append(ask(server.rest_address, "/readyz")[0])
    assert seen == [200, 503, 503, 200]


def test_the_extra_is_named_where_it_is_missing(version, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    with pytest.raises(ConfigError, match=r"pip install 'tfmodel\[serve\]'"):
        Server(version.parent)
