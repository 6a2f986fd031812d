"""A server and a proxy that record: ids, corrections, tokens, limits, and all else as before.

Run: pytest tests/serve/test_feedback_serving.py
"""

import concurrent.futures
import gzip
import http.client
import http.server
import json
import logging
import shutil
import sqlite3
import subprocess
import threading

import grpc
import pytest
from small_servable import ask, holding, until, write_half_plus

from tfmodel.config import ConfigError
from tfmodel.serve import Client, Proxy, Server, ServingError, serve_settings
from tfmodel.serve.feedback import feedback_stats

PREDICT = "/v1/models/model:predict"
STRINGS = {"signature_name": "strings", "instances": ["mail ann@example.com", "two"]}
REGRESS = {"signature_name": "regress_x_to_y", "examples": [{"x": 1.0}]}
ID = "tfmodel-request-id"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    base = tmp_path_factory.mktemp("served")
    write_half_plus(base / "1")
    return base


def settings(folder, **values):
    feedback = {"database": f"sqlite:///{folder}/feedback.db", "wait_seconds": 2.0}
    values = {"rest_port": 0, "grpc_port": 0, "batch_threads": 1, "feedback": feedback} | values
    return serve_settings(**values)


@pytest.fixture(scope="module")
def server(base, tmp_path_factory):
    """A server that records, with a limit of bodies."""
    folder = tmp_path_factory.mktemp("recorded")
    with Server(base, settings=settings(folder, max_body_bytes=20_000)) as server:
        yield server


@pytest.fixture(scope="module")
def behind(base):
    """What stands behind the proxy: a server that records nothing, and speaks TF Serving's API."""
    with Server(base, settings=serve_settings(rest_port=0, grpc_port=0)) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(behind, tmp_path_factory):
    folder = tmp_path_factory.mktemp("passed")
    limits = settings(folder, max_body_bytes=20_000)
    with Proxy(behind.rest_address, upstream_grpc=behind.grpc_address, settings=limits) as proxy:
        yield proxy


@pytest.fixture(params=["server", "proxy"])
def recording(request):
    return request.getfixturevalue(request.param)


def exchange(address, method, path, body=None, headers=None):
    """One request: status, headers and body as they come."""
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def rows(recording):
    """What is stored of requests; nothing before the tables are made."""
    database = recording._recorder._engine.url.database
    query = (
        "select q.id, q.model, q.version, q.signature, q.door, r.row, r.text, r.answer "
        "from tfmodel_requests q join tfmodel_rows r on r.request_id = q.id order by q.time, row"
    )
    try:
        with sqlite3.connect(database) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []


def page(recording):
    return recording.metrics.page()


def test_requests_over_both_doors_are_recorded_and_corrected(recording):
    status, headers, body = exchange(
        recording.rest_address, "POST", PREDICT, json.dumps(STRINGS), {"accept": "*/*"}
    )
    assert status == 200 and json.loads(body)["predictions"][1]["text"] == "two"
    with Client(f"grpc://{recording.grpc_address}") as client:
        answer = client.ask({"text": ["three"]}, signature="strings")
        over_grpc = client.feedback(answer.request_id, labels=["a", "b"])
        assert over_grpc.is_new
        with pytest.raises(ServingError, match="no recorded request"):
            client.feedback("0" * 32, label="a")
    with Client(f"http://{recording.rest_address}") as client:
        assert client.feedback(headers[ID], row=1, label="fine").is_new
        assert not client.feedback(headers[ID], row=1, label="fine").is_new
        assert client.feedback(text="alone", label="fine").is_new
        # Numbers are answered, and are no texts to be recorded.
        numbers = client.ask({"x": [2.0]})
        assert numbers["y"].tolist() == [3.0]
        with pytest.raises(ServingError, match="no recorded request"):
            client.feedback(numbers.request_id, label="fine")
    kept = {
        row[0]: [each for each in rows(recording) if each[0] == row[0]] for row in rows(recording)
    }
    first, second = kept[headers[ID]]
    assert first[1:7] == ("model", 1, "strings", "REST", 0, "mail PRIVATEEMAIL")
    assert "example.com" not in json.dumps(kept) and second[6] == "two"
    assert kept[answer.request_id][0][2:7] == (1, "strings", "gRPC", 0, "three")
    until(lambda: 'feedback_requests{model_name="model",outcome="no_text"}' in page(recording))
    figures = feedback_stats(f"sqlite:///{recording._recorder._engine.url.database}")
    assert sum(each.corrected for each in figures) == 3


def test_the_room_for_what_waits_is_counted_with_the_answers(recording, monkeypatch):
    sizes, offer = [], recording._recorder.offer

    def noted(*given, size, **values):
        sizes.append(size)
        return offer(*given, size=size, **values)

    monkeypatch.setattr(recording._recorder, "offer", noted)
    body = json.dumps(STRINGS).encode()
    _, _, answer = exchange(recording.rest_address, "POST", PREDICT, body)
    assert sizes == [len(body) + len(answer)]


def test_bodies_that_are_no_corrections(recording):
    path = "/v1/feedback"
    for body, words in [
        (b"", "empty"),
        (b"{", "JSON Parse error"),
        (b"[1]", "Is not object"),
        (b"[" * 9_000 + b"]" * 9_000, "too deep"),
        (b'{"text": "\xff"}', "Invalid encoding"),
        (json.dumps({"text": "x", "label": {"a": "b"}}).encode(), "label: expected a string"),
    ]:
        status, answer = ask(recording.rest_address, path, body)
        assert status == 400 and words in answer["error"], answer
    assert ask(recording.rest_address, path, b"x" * 20_001)[0] == 413
    assert ask(recording.rest_address, path)[0] in (400, 404)  # GET
    with grpc.insecure_channel(recording.grpc_address) as channel:
        call = channel.unary_unary("/tfmodel.FeedbackService/Correct")
        with pytest.raises(grpc.RpcError) as error:
            call(b"\xff", timeout=30)
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_server_that_records_nothing_has_no_such_path(behind):
    assert ask(behind.rest_address, "/v1/feedback", {"text": "x", "label": "y"})[0] == 400
    _, headers, _ = exchange(behind.rest_address, "POST", PREDICT, json.dumps(STRINGS))
    assert ID not in headers


def test_a_token_is_demanded_and_no_text_is_logged(base, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    (tmp_path / "token").write_text("0123456789abcdef")
    right = {"authorization": "Bearer 0123456789abcdef"}
    limits = settings(tmp_path, token_file=str(tmp_path / "token"))
    with Server(base, settings=limits) as server:
        proxy = Proxy(server.rest_address, upstream_grpc=server.grpc_address, settings=limits)
        with proxy:
            body = {"text": "a private matter", "label": "fine", "model": "model"}
            for each in (server, proxy):
                assert ask(each.rest_address, "/v1/feedback", body)[0] == 401
                with Client(f"grpc://{each.grpc_address}", tries=1) as client:
                    with pytest.raises(ServingError) as error:
                        client.feedback(text="x", label="fine")
                    assert error.value.code == "UNAUTHENTICATED"
                assert ask(each.rest_address, "/v1/feedback", body, headers=right)[0] == 200
            # The proxy's token is not passed on.
            assert ask(proxy.rest_address, PREDICT, STRINGS, headers=right)[0] == 401
            assert ask(server.rest_address, PREDICT, STRINGS, headers=right)[0] == 200
    assert "private matter" not in caplog.text and "example.com" not in caplog.text


def test_an_answer_does_not_wait_for_the_database(base, tmp_path):
    feedback = {"database": f"sqlite:///{tmp_path}/feedback.db", "wait_seconds": 0.3}
    with Server(base, settings=settings(tmp_path, feedback=feedback)) as server:
        ask(server.rest_address, PREDICT, STRINGS)
        with sqlite3.connect(tmp_path / "feedback.db", isolation_level=None) as other:
            until(lambda: rows(server))
            other.execute("begin exclusive")
            for _ in range(20):
                assert ask(server.rest_address, PREDICT, STRINGS)[0] == 200
            status, answer = ask(server.rest_address, "/v1/feedback", {"text": "x", "label": "y"})
            assert (status, answer["headers"]["retry-after"]) == (503, "1")
            other.execute("rollback")
    # Stopped, it has written what waited.
    assert len(rows(server)) == 42


# --- the proxy ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/models/model", None),
        ("GET", "/v1/models/model/versions/1/metadata", None),
        ("GET", "/v1/models/none", None),
        ("GET", "/monitoring/prometheus/nothing?x=1&y=%20", None),
        ("POST", PREDICT, b'{"instances": [1.0, 2.0]}'),
        ("POST", PREDICT, b'{"instances": ["wrong"]}'),
        ("POST", PREDICT, b"\xff\xfe"),
        ("POST", "/v1/models/model:regress", json.dumps(REGRESS).encode()),
        ("POST", "/v1/models/model/versions/7:predict", b'{"instances": [1.0]}'),
        ("PUT", PREDICT, b"{}"),
    ],
)  # fmt: skip
def test_what_comes_is_passed_on_unchanged(behind, proxy, method, path, body):
    direct = exchange(behind.rest_address, method, path, body)
    passed = exchange(proxy.rest_address, method, path, body)
    assert passed[0] == direct[0] and passed[2] == direct[2]
    ours = {name.lower() for name in passed[1]} - {ID}
    assert ours == {name.lower() for name in direct[1]}


class Echo(http.server.BaseHTTPRequestHandler):
    """Says what came, packed where that is asked for; breaks off where it is told to."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"] or 0))
        if self.path == "/break":
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
            self.close_connection = True
            return
        if self.path == PREDICT:
            said = gzip.compress(json.dumps({"predictions": ["fine"]}).encode())
        else:
            came = [self.command, self.path, sorted(map(list, self.headers.items())), body.hex()]
            said = gzip.compress(json.dumps(came).encode())
        self.send_response(201 if self.path.startswith("/created") else 200)
        self.send_header("content-encoding", "gzip")
        self.send_header("x-own", "1")
        self.send_header("x-own", "2")
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *words):
        pass


@pytest.fixture
def echo():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_headers_and_packed_bodies(echo, tmp_path):
    with Proxy(echo, settings=settings(tmp_path)) as proxy:
        sent = {"X-Mine": "a", "Authorization": "Bearer t", "TE": "trailers"}
        sent |= {"Connection": "x-gone, close", "X-Gone": "b"}
        status, headers, body = exchange(
            proxy.rest_address, "POST", "/created?a=b", b"\0\xff", sent
        )
        assert status == 201 and headers["content-encoding"] == "gzip"
        method, path, came, content = json.loads(gzip.decompress(body))
        assert (method, path, content) == ("POST", "/created?a=b", "00ff")
        assert {name.lower(): value for name, value in came} == {
            "host": echo,
            "accept-encoding": "identity",
            "content-length": "2",
            "x-mine": "a",
            "authorization": "Bearer t",
        }
        request = gzip.compress(json.dumps({"instances": ["packed"]}).encode())
        packed = {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
        _, headers, body = exchange(proxy.rest_address, "POST", PREDICT, request, packed)
        assert json.loads(gzip.decompress(body)) == {"predictions": ["fine"]}
        until(lambda: rows(proxy))
        (row,) = rows(proxy)
        assert row[:5] == (headers[ID], "model", None, "serving_default", "REST")
        assert row[5:] == (0, "packed", '{"label": "fine"}')
        bomb = gzip.compress(b" " * 2**25)
        assert exchange(proxy.rest_address, "POST", PREDICT, bomb, packed)[0] == 200
        until(lambda: 'outcome="no_text"} 1' in page(proxy))
        status, _, body = exchange(proxy.rest_address, "POST", "/break", b"x")
        assert status == 502 and b"gave no whole answer" in body


def test_a_server_behind_that_is_down_full_or_slow(behind, tmp_path):
    where = {"upstream_grpc": behind.grpc_address, "settings": settings(tmp_path, max_requests=2)}
    with Proxy("127.0.0.1:1", upstream_grpc="127.0.0.1:1", settings=settings(tmp_path)) as proxy:
        status, answer = ask(proxy.rest_address, PREDICT, STRINGS)
        assert status == 503 and answer["error"] == "The server behind cannot be reached."
        assert answer["headers"]["retry-after"] == "1"
        assert ask(proxy.rest_address, "/healthz")[0] == 200
        assert ask(proxy.rest_address, "/readyz")[0] == 503
        with Client(f"grpc://{proxy.grpc_address}", tries=1) as client:
            with pytest.raises(ServingError) as error:
                client.status()
        assert (error.value.code, "127.0.0.1" in error.value.message) == ("UNAVAILABLE", False)
        body = {"text": "x", "label": "y", "model": "m"}
        assert ask(proxy.rest_address, "/v1/feedback", body)[0] == 200
    with Proxy(behind.rest_address, **where) as proxy, holding(behind) as held:
        assert ask(proxy.rest_address, "/readyz")[0] == 200
        assert_looked_at_once_for_all(proxy)
        question = proxy.rest_address, PREDICT, STRINGS
        asked = [threading.Thread(target=ask, args=question) for _ in range(2)]
        for each in asked:
            each.start()
        until(lambda: proxy._application._open == 2)
        assert ask(proxy.rest_address, PREDICT, STRINGS)[0] == 429
        held.release()
        for each in asked:
            each.join()
    slow = settings(tmp_path, timeout_seconds=0.3)
    with Proxy(behind.rest_address, settings=slow) as proxy, holding(behind):
        status, answer = ask(proxy.rest_address, PREDICT, STRINGS)
        assert status == 504 and answer["error"].startswith("Timed out")


def assert_looked_at_once_for_all(proxy):
    """Whoever asks for readiness needs no token, and takes no threads from those who ask models."""
    looks, go = [], threading.Event()

    def look():
        looks.append(go.wait(30))
        return False

    upstream = proxy._application._upstream
    upstream.is_there, is_there = look, upstream.is_there
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, proxy.rest_address, "/readyz") for _ in range(8)]
        until(lambda: proxy._application._open == 8)
        go.set()
        assert [each.result()[0] for each in asked] == [503] * 8
    assert len(looks) == 1
    upstream.is_there = is_there


def test_mistakes_of_whoever_starts_it(tmp_path, tfmodel):
    for options, words in [
        (["--upstream", "nowhere"], "--upstream: expected HOST:PORT"),
        (["--upstream", "h:1/path"], "--upstream: expected HOST:PORT"),
        (["--upstream", "h:1", "--upstream-grpc", "x"], "--upstream-grpc: expected HOST:PORT"),
        (["--upstream", "h:1", "--upstream-grpc", "http://h:1"], "or grpcs://HOST:PORT"),
        (["x", "--upstream-grpc", "h:1"], "Received: no --upstream"),
        (["x", "--feedback-sample", "1"], "Expected --feedback beside --feedback-sample"),
        (["x", "--feedback", "sqlite:///x.db", "--feedback-sample", "2"], "--feedback-sample"),
        (["x", "--feedback", "sqlite:///x.db", "--feedback-privacy", "name"], "kinds of secret"),
        (["x", "--feedback", "x", "--feedback-regions", "us"], "--feedback-regions"),
    ]:
        done = tfmodel("serve", *options)
        assert (done.code, words in done.err) == (2, True), done.err
    with pytest.raises(ConfigError, match="URL of a database"):
        Proxy("h:1", settings=serve_settings(feedback="secret"))
    done = tfmodel("feedback", "stats", f"sqlite:///{tmp_path}/none.db")
    assert (done.code, "a path where nothing is" in done.err) == (2, True)
    with Client("http://localhost:1") as client:
        for options, words in [
            ({"text": "x"}, "Expected one of label"),
            ({"text": "x", "label": "a", "score": 1}, "label and score"),
            ({"label": "a"}, "Received: neither"),
        ]:
            with pytest.raises(ConfigError, match=words):
                client.feedback(**options)


@pytest.mark.slow
def test_a_server_behind_with_tls_over_both_doors(base, tmp_path, monkeypatch, caplog):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl, which makes the certificate")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext"
    command = [*make.split(), "subjectAltName=IP:127.0.0.1", "-out", certificate, "-keyout", key]
    subprocess.run(command, check=True, capture_output=True)
    files = {"tls_certificate": str(certificate), "tls_key": str(key)}
    with Server(base, settings=serve_settings(rest_port=0, grpc_port=0, **files)) as behind:
        rest, over_grpc = f"https://{behind.rest_address}", f"grpcs://{behind.grpc_address}"
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with Proxy(rest, upstream_grpc=over_grpc, settings=settings(tmp_path)) as proxy:
            assert ask(proxy.rest_address, PREDICT, STRINGS)[0] == 200
            with Client(f"grpc://{proxy.grpc_address}") as client:
                assert client.ask({"x": [2.0]})["y"].tolist() == [3.0]
        assert "gRPC without" not in caplog.text
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
        with pytest.raises(ConfigError, match="SSL_CERT_FILE: expected a file of certificates"):
            Proxy(rest, upstream_grpc=over_grpc, settings=settings(tmp_path))
        # Whoever trusts others does not trust this one.
        monkeypatch.delenv("SSL_CERT_FILE")
        with Proxy(rest, upstream_grpc=over_grpc, settings=settings(tmp_path)) as proxy:
            assert ask(proxy.rest_address, PREDICT, STRINGS)[0] in (502, 503)
            with Client(f"grpc://{proxy.grpc_address}", tries=1) as client:
                with pytest.raises(ServingError):
                    client.ask({"x": [2.0]})
        Proxy(rest, upstream_grpc=behind.grpc_address, settings=settings(tmp_path))
        assert "gRPC without: grpcs://HOST:PORT" in caplog.text
