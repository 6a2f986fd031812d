"""One interface over REST and gRPC: typed answers, deadlines, retries of what may be retried.

Run: pytest tests/serve/test_client.py
"""

import concurrent.futures
import threading
import time

import numpy as np
import pytest
from small_servable import copy_version, holding, write_half_plus

from tfmodel.config import ConfigError
from tfmodel.serve import Client, Server, ServingError, serve_settings

DOORS = ["http", "grpc"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    base = tmp_path_factory.mktemp("served")
    write_half_plus(base / "1")
    copy_version(base / "1", base / "2")
    return base


@pytest.fixture(scope="module")
def server(base):
    from tfmodel.serve.server import policy_of

    settings = serve_settings(rest_port=0, grpc_port=0, batch_threads=1)
    policy = policy_of("all")
    with Server(base, policy=policy, labels={"stable": 1}, settings=settings) as server:
        yield server


def address(server, door):
    return f"{door}://{server.rest_address if door == 'http' else server.grpc_address}"


@pytest.fixture(params=DOORS)
def client(server, request):
    with Client(address(server, request.param)) as client:
        yield client


def test_answers_are_typed_alike(client):
    found = client.ask({"x": [0.2, 1]})
    assert found["y"].dtype == np.float32
    np.testing.assert_array_equal(found["y"], np.float32([2.1, 2.5]))
    found = client.ask({"text": ["a", "é", b"\xff"]}, signature="strings")
    assert found["text"].tolist() == ["a", "é", "\ufffd"]
    assert found["text_bytes"].tolist() == [b"a", "é".encode(), b"\xff"]
    assert client.ask({"text": ["\ud800"]}, signature="strings")["text"].tolist() == ["?"]
    found = client.ask({"a": np.arange(3), "b": [0.5] * 3}, signature="two")
    assert found["sum"].tolist() == [0.5, 1.5, 2.5]
    assert client.ask({"x": []})["y"].shape == (0,)


def test_what_can_be_asked_and_which_versions(client):
    signatures = client.signatures()
    assert {"serving_default", "strings", "two"} <= {*signatures}
    (x,) = signatures["serving_default"].inputs.values()
    assert (x.dtype, x.shape) == ("float32", (None,))
    assert [(each.version, each.state, each.code) for each in client.status()] == [
        (2, "AVAILABLE", "OK"),
        (1, "AVAILABLE", "OK"),
    ]


@pytest.mark.parametrize("door", DOORS)
def test_versions_and_labels(server, door):
    with Client(address(server, door), version=1) as client:
        assert [each.version for each in client.status()] == [1]
        assert client.ask({"x": [0.0]})["y"].tolist() == [2.0]
    with Client(address(server, door), label="stable") as client:
        assert client.ask({"x": [0.0]})["y"].tolist() == [2.0]
    for options, code in [({"version": 9}, "NOT_FOUND"), ({"label": "x"}, "INVALID_ARGUMENT")]:
        with Client(address(server, door), **options) as client:
            with pytest.raises(ServingError) as refused:
                client.ask({"x": [0.0]})
            assert refused.value.code == code


def test_mistakes(client, server):
    cases = [
        (lambda: client.ask({"x": [0]}, signature="no"), "one of the signatures"),
        (lambda: client.ask({"y": [0]}), "takes x. Received: y"),
        (lambda: client.ask({"x": ["a"]}), "x: expected values of float32"),
        (lambda: client.ask({"text": [1]}, signature="strings"), "expected values of string"),
        (lambda: client.predict("text"), "a list of strings"),
        (lambda: client.predict(["text"], ["a", "b"]), "as many text_pairs"),
        (lambda: Client("localhost:8501"), "http://localhost:8501 or grpc://localhost:8500"),
        (lambda: Client("http://localhost"), "Expected an address"),
        (lambda: Client("http://localhost:x"), "Expected an address"),
        (lambda: Client("http://localhost:1", version=1, label="x"), "a version or a label"),
        (lambda: Client("http://localhost:1", tries=0), "tries must be 1 or more"),
        (lambda: Client("http://localhost:1", timeout_seconds=0), "timeout_seconds must be above"),
        (lambda: Client("http://localhost:1", certificate="no"), "expected a certificate"),
        (lambda: Client("http://localhost:1", token="0123456789\n"), "without blanks or ends of"),
        (lambda: Client("grpc://localhost:1", token="0123 456789é"), "without blanks or ends of"),
    ]
    for call, words in cases:
        with pytest.raises(ConfigError, match=words):
            call()
    with pytest.raises(ServingError, match="model failed") as refused:
        client.ask({"x": [-5000.0]})
    assert refused.value.code == "INVALID_ARGUMENT"


def test_a_deadline_holds_for_all_tries(server):
    for door in DOORS:
        with Client(address(server, door), timeout_seconds=0.5) as client:
            client.signatures()
            with holding(server), pytest.raises(ServingError) as late:
                client.ask({"x": [0.0]})
            assert late.value.code == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize("door", DOORS)
def test_a_server_that_comes_back_is_asked_again(base, door):
    settings = {"rest_port": 0, "grpc_port": 0, "batch_threads": 1}
    first = Server(base, settings=serve_settings(**settings)).start()
    ports = {
        f"{name}_port": int(where.rpartition(":")[2])
        for name, where in (("rest", first.rest_address), ("grpc", first.grpc_address))
    }
    with Client(address(first, door), tries=50) as client:
        assert client.ask({"x": [0.0]})["y"].tolist() == [2.0]
        first.stop()
        second = Server(base, settings=serve_settings(**settings | ports))
        starting = threading.Timer(0.5, second.start)
        starting.start()
        try:
            assert client.ask({"x": [2.0]})["y"].tolist() == [3.0]
        finally:
            starting.join()
            second.stop()
    with Client(address(first, door), tries=2, timeout_seconds=5) as client:
        with pytest.raises(ServingError) as refused:
            client.status()
        assert refused.value.code == "UNAVAILABLE"


@pytest.mark.parametrize("door", DOORS)
def test_a_full_server_is_asked_again_and_a_wrong_request_is_not(base, door, monkeypatch):
    settings = serve_settings(rest_port=0, grpc_port=0, max_queue=1, batch_threads=1)
    pauses, pause = [], time.sleep
    with (
        Server(base, settings=settings) as server,
        Client(address(server, door), tries=50, timeout_seconds=60) as client,
        concurrent.futures.ThreadPoolExecutor() as pool,
        holding(server) as held,
    ):
        client.signatures()
        asked = held.occupy(lambda: pool.submit(client.ask, {"x": [0.0]}))

        def note_and_pause(seconds):
            pauses.append(seconds)
            if len(pauses) == 3:
                held.release()
            pause(seconds)

        monkeypatch.setattr("tfmodel.serve.client.time.sleep", note_and_pause)
        assert client.ask({"x": [2.0]})["y"].tolist() == [3.0]
        monkeypatch.undo()
        # Each pause is up to four times the one before, and half of it chance.
        assert len(pauses) >= 3
        for number, seconds in enumerate(pauses[:3]):
            assert 0.025 * 4**number <= seconds <= 0.05 * 4**number
        assert [each.result()["y"].tolist() for each in asked] == [[2.0], [2.0]]
        monkeypatch.setattr("tfmodel.serve.client.time.sleep", pytest.fail)
        with pytest.raises(ServingError, match="model failed"):
            client.ask({"x": [-5000.0]})
        monkeypatch.undo()


def test_many_texts(finished):
    import tfmodel as tm

    exported = finished / "runs/small/export/savedmodel"
    texts = [f"{'the bank ' * (number % 7)}{number}" for number in range(100)]
    expected = tm.load(exported).predict(texts)
    with Server(exported, settings=serve_settings(rest_port=0, grpc_port=0)) as server:
        for door in DOORS:
            with Client(address(server, door), batch_size=8) as client:
                answers = client.predict(texts)
                assert client.predict([]) == []
            for answer, want in zip(answers, expected, strict=True):
                assert (answer.label, answer.labels) == (want["label"], (want["label"],))
                assert answer.score == pytest.approx(want["score"], abs=1e-5)
                assert answer.scores == pytest.approx([*want["scores"].values()], abs=1e-5)


def test_answers_of_other_tasks():
    from tfmodel.serve.client import _predictions

    several = {
        "labels": np.array([["a", "b"], ["", ""]], object),
        "scores": np.float32([[0.5, 1.0], [0.0, 0.25]]),
    }
    first, second = _predictions(several, 2)
    assert (first.label, first.labels, first.scores) == (None, ("a", "b"), (0.5, 1.0))
    assert second.labels == ()
    (number,) = _predictions({"score": np.float32([2.5])}, 1)
    assert (number.label, number.score, number.labels, number.scores) == (None, 2.5, (), ())
    with pytest.raises(ConfigError, match="gives y. Ask it with ask"):
        _predictions({"y": np.zeros(1)}, 1)
