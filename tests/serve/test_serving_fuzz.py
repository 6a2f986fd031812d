"""Hostile requests: each is refused in words that repeat nothing of it, and the server stays well.

Run: pytest tests/serve/test_serving_fuzz.py
     pytest -m slow tests/serve/test_serving_fuzz.py       # 10,000 requests
"""

import contextlib
import gc
import http.client
import json
import logging
import os
import random
import socket
import threading
import urllib.parse
from pathlib import Path

import grpc
import numpy as np
import pytest
from small_servable import ask, write_half_plus

from tfmodel.serve import Server, serve_settings

SECRET = "jdoe 0173-555"
"""Stands in hostile requests, and must stand in no answer and no log."""
QUOTED = urllib.parse.quote(SECRET)
PREDICT = "/v1/models/model:predict"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("served")
    write_half_plus(base / "1")
    settings = serve_settings(
        rest_port=0, grpc_port=0, max_body_bytes=200_000, read_seconds=2, max_queue=500
    )
    with Server(base, settings=settings) as server:
        yield server


def hostile_value(chance, depth=0):
    """Any JSON, of the kinds that break readers."""
    kinds = ["text", "number", "word", "list", "object", "base64", "deep"]
    kind = chance.choice(kinds[: 3 if depth > 3 else None])
    if kind == "text":
        return SECRET + chance.choice(["", "\0", "é", "\u202e", "𝄞", "\\", '"', "a" * 5000])
    if kind == "number":
        return chance.choice([0, -1, 2**31, 2**63, 2**64, 10**400, 1e308, 5e-324, -0.0, 0.1])
    if kind == "word":
        return chance.choice([None, True, False, float("nan"), float("inf")])
    if kind == "list":
        return [hostile_value(chance, depth + 1) for _ in range(chance.randrange(5))]
    if kind == "base64":
        return {"b64": chance.choice(["AAAA", "?", SECRET, "A", 3])}
    if kind == "deep":
        value = SECRET
        for _ in range(chance.choice([5, 40, 900])):
            value = [value] if chance.random() < 0.9 else {SECRET: value}
        return value
    names = ["x", "text", "a", "b", "inputs", SECRET, ""]
    return {chance.choice(names): hostile_value(chance, depth + 1) for _ in range(3)}


def hostile_body(chance):
    names = ["instances", "inputs", "signature_name", "examples", "context", SECRET]
    body = {name: hostile_value(chance) for name in chance.sample(names, 3)}
    if chance.random() < 0.6:
        signatures = ["strings", "two", "serving_default", "regress_x_to_y", "classify_x_to_y"]
        body["signature_name"] = chance.choice(signatures)
    content = json.dumps(body).encode()
    if chance.random() < 0.4:
        content = damaged(chance, content)
    return content


def damaged(chance, content):
    """Bytes changed, lost, added or repeated."""
    content = bytearray(content)
    for _ in range(chance.randrange(1, 6)):
        place = chance.randrange(len(content) + 1)
        kind = chance.randrange(4)
        if kind == 0:
            content[place:place] = chance.randbytes(chance.randrange(1, 5))
        elif kind == 1:
            del content[place : place + chance.randrange(20)]
        elif kind == 2 and content:
            content[place % len(content)] = chance.randrange(256)
        else:
            content[place:place] = b"[" * chance.choice([3, 3000])
    return bytes(content)


def hostile_path(chance):
    return chance.choice(
        [PREDICT] * 6
        + [
            "/v1/models/model:classify",
            "/v1/models/model:regress",
            f"/v1/models/{QUOTED}%20%00:predict",
            "/v1/models/model/versions/99999999999999999999999:predict",
            f"/v1/models/model/labels/{QUOTED}%ff:predict",
            f"/v1/{QUOTED}%0d%0aX:y",
            "/v1/models/%F0%9F/versions/1/metadata",
            "/v1/models/" + "a" * 3000,
            f"/..%2f..%2fetc/{QUOTED}",
        ]
    )


def send_raw(server, content):
    """Bytes to the REST port; what comes back, if anything."""
    host, port = server.rest_address.split(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                answer += part
    return answer


def hostile_bytes(chance):
    """A request that is hardly HTTP."""
    body = hostile_body(chance)
    length = chance.choice([len(body), len(body) + 10, 0, -1, 10**9, SECRET])
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n"
    if chance.random() < 0.2:
        head += "Transfer-Encoding: chunked\r\n"
    if chance.random() < 0.2:
        head += f"X-{SECRET}: " + "y" * chance.choice([10, 100_000]) + "\r\n"
    return damaged(chance, head.encode() + b"\r\n" + body)


def ask_with_malice(server, channel, chance):
    """One request; what it was answered, as text."""
    kind = chance.random()
    if kind < 0.6:
        path, body = hostile_path(chance), hostile_body(chance)
        method = chance.choice(["POST"] * 5 + ["GET", "PUT", "HEAD", "TRACE"])
        try:
            status, answer = ask(server.rest_address, path, body, method=method)
        except http.client.HTTPException:  # an answer to HEAD, or none that is whole
            return ""
        assert status < 500, answer
        return "" if status == 200 else json.dumps(answer)
    if kind < 0.8:
        answer = send_raw(server, hostile_bytes(chance))
        assert not answer.startswith(b"HTTP/1.1 5"), answer
        return "" if answer.startswith(b"HTTP/1.1 200") else answer.decode("latin-1")
    name = chance.choice(["Predict", "Classify", "MultiInference", "GetModelMetadata", "Other"])
    call = channel.unary_unary(f"/tensorflow.serving.PredictionService/{name}")
    try:
        call(hostile_message(chance), timeout=30)
    except grpc.RpcError as error:
        assert error.code().name not in ("INTERNAL", "UNKNOWN"), error.details()
        return error.details()
    return ""


def hostile_message(chance):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = chance.choice(["model", SECRET])
    request.model_spec.signature_name = chance.choice(["", "strings", "two", SECRET])
    for name in chance.sample(["x", "text", "a", "b", SECRET], 2):
        value = chance.choice([[SECRET], [1], [1.5], [[1.0]], 1.0, [], [True]])
        request.inputs[name].CopyFrom(tf.make_tensor_proto(np.array(value)))
        if chance.random() < 0.3:
            request.inputs[name].dtype = chance.randrange(150)
            for size in request.inputs[name].tensor_shape.dim:
                size.size = chance.choice([-5, 0, 3, 2**40, 2**62])
    content = request.SerializeToString()
    return damaged(chance, content) if chance.random() < 0.5 else content


def attack(server, count, seed):
    chance = random.Random(seed)
    with grpc.insecure_channel(server.grpc_address) as channel:
        for _ in range(count):
            answer = ask_with_malice(server, channel, chance)
            assert SECRET not in answer and QUOTED not in answer, answer
            assert "Traceback" not in answer and 'File "' not in answer


def assert_well(server):
    """It answers, and nothing of the requests is left in it."""
    status, answer = ask(server.rest_address, PREDICT, {"instances": [0.0]})
    assert (status, answer) == (200, {"predictions": [2.0]})
    (model,) = server.models
    with model.use() as version:
        assert version.users == 1 and version.waiting_rows == 0


@pytest.mark.parametrize("seed", range(4))
def test_hostile_requests(server, seed, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    attack(server, 300, seed)
    assert_well(server)
    said = "".join(capfd.readouterr()) + caplog.text
    assert SECRET not in said and "Traceback" not in said


def resident_megabytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.slow
def test_ten_thousand_hostile_requests_leave_nothing_behind(server):
    attack(server, 1000, "warm")
    gc.collect()
    before, threads = resident_megabytes(), threading.active_count()
    clients = [threading.Thread(target=attack, args=(server, 2250, seed)) for seed in range(4)]
    failures = []
    hook, threading.excepthook = threading.excepthook, failures.append
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    threading.excepthook = hook
    assert not failures
    assert_well(server)
    gc.collect()
    # gRPC's pool grows to its size and stays; memory is not given back to the last byte.
    assert threading.active_count() <= threads + 16
    assert resident_megabytes() < before + 200
