"""The lines of docs/export.md that use an artifact run as they stand, against a small export.

`<!-- test -->` marks a block to run; `test served` one for a server, which stands in for TF
Serving here; `test in NAME` one for the environment of a phone runtime.
"""

from __future__ import annotations

import http.server
import json
import re
import shutil
import subprocess
import threading
from concurrent import futures
from pathlib import Path

import needs
import numpy as np
import pytest
import tensorflow as tf

from tfmodel.export import load

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/export.md").read_text("utf-8")
TEXTS = ["The rice tasted fresh.", "The pie was cold."]  # what the guide asks

_RUNTIMES = {
    "mediapipe": ["mediapipe==1.2.2"],
    "task-library-0.4": ["tflite-support==0.4.4", "numpy<2", "protobuf<4"],
}


def blocks(mark: str, *languages: str) -> list[tuple[str, str]]:
    """Language and content of the blocks under a mark, in order."""
    found = re.findall(rf"^<!-- {mark} -->\n```(\w+)\n(.*?)^```$", GUIDE, re.S | re.M)
    assert found, f"nothing is marked <!-- {mark} -->"
    return [(language, block) for language, block in found if language in languages]


def titles(found: list[tuple[str, str]]) -> list:
    return [pytest.param(block, id=f"lines {block.count(chr(10))}") for _, block in found]


@pytest.fixture
def reviews(exported, tiny, tmp_path, monkeypatch) -> dict[str, np.ndarray]:
    """The guide's run folder below the current one; the scores that its texts must get."""
    (tmp_path / "runs/reviews").mkdir(parents=True)
    (tmp_path / "runs/reviews/export").symlink_to(exported)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    tiny.tokenizer.save(tmp_path / "runs/reviews/model")
    monkeypatch.chdir(tmp_path)
    return dict(zip(TEXTS, tiny.reference.probabilities(TEXTS), strict=True))


def check_answer(printed: str, tiny, scores: np.ndarray) -> None:
    """The label, or numbers that speak for it."""
    labels = tiny.described["labels"]
    if not any(label in printed for label in labels):
        numbers = [float(number) for number in re.findall(r"\d+\.\d+", printed)]
        np.testing.assert_allclose(numbers, scores, atol=0.1)
    found = re.search("|".join(labels), printed)
    assert found is None or found[0] == labels[scores.argmax()], printed


@pytest.mark.parametrize("block", titles(blocks("test", "python")))
def test_python_lines(block, reviews, tiny, capfd):
    exec(compile(block, "export.md", "exec"), {})
    check_answer(capfd.readouterr().out, tiny, reviews[TEXTS[0]])


# --- a server -------------------------------------------------------------------------------


@pytest.fixture
def served(exported):
    """Ports of gRPC and REST where the export answers as TF Serving's protocols say."""
    import grpc
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    loaded = tf.saved_model.load(str(exported / "savedmodel/1"))
    loaded.signatures["serving_default"](text=tf.constant(TEXTS))  # the first answer takes longest

    class Grpc(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            assert request.model_spec.name == "reviews"
            signature = request.model_spec.signature_name or "serving_default"
            inputs = {key: tf.make_ndarray(proto) for key, proto in request.inputs.items()}
            inputs = {key: tf.constant(values) for key, values in inputs.items()}
            response = predict_pb2.PredictResponse()
            for key, values in loaded.signatures[signature](**inputs).items():
                response.outputs[key].CopyFrom(tf.make_tensor_proto(values.numpy()))
            return response

    class Rest(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            assert self.path == "/v1/models/reviews:predict"
            instances = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            texts = [instance["text"] for instance in instances["instances"]]
            answer = loaded.signatures["serving_default"](text=tf.constant(texts))
            labels = [label.decode() for label in answer["label"].numpy()]
            self.send_response(200)
            self.end_headers()
            body = {"predictions": [{"label": label} for label in labels]}
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_):
            pass

    server = grpc.server(futures.ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Grpc(), server)
    ports = {"8500": str(server.add_insecure_port("localhost:0"))}
    server.start()
    with http.server.ThreadingHTTPServer(("localhost", 0), Rest) as rest:
        ports["8501"] = str(rest.server_address[1])
        threading.Thread(target=rest.serve_forever, daemon=True).start()
        yield ports
        rest.shutdown()
    server.stop(None).wait()


@pytest.mark.slow
@pytest.mark.parametrize("block", titles(blocks("test served", "python")))
def test_lines_that_ask_a_server(block, served, reviews, tiny, capfd):
    for port, free in served.items():
        block = block.replace(f"localhost:{port}", f"localhost:{free}")
    exec(compile(block, "export.md", "exec"), {})
    check_answer(capfd.readouterr().out, tiny, reviews[TEXTS[0]])


# --- other programs -------------------------------------------------------------------------


@pytest.mark.slow
def test_c_and_cpp_lines(reviews, tiny):
    if shutil.which("g++") is None:
        needs.give_up("there is no g++")
    script = "set -e\n"
    for language, block in blocks("test", "cpp", "bash"):
        if language == "bash":
            script += block
        else:
            Path(re.match(r"// (\w+\.cpp)\n", block)[1]).write_text(block)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    cpp, cpp_second, c, ids = done.stdout.splitlines()
    labels = tiny.described["labels"]
    for line, text in [(cpp, TEXTS[0]), (cpp_second, TEXTS[1])]:
        label, score = line.split()
        assert label == labels[reviews[text].argmax()]
        assert float(score) == pytest.approx(reviews[text].max(), abs=1e-5)
    label, scores = c.split("\t")
    assert label == labels[reviews[TEXTS[0]].argmax()]
    np.testing.assert_allclose([*map(float, scores.split())], reviews[TEXTS[0]], atol=1e-5)
    wanted = load("runs/reviews/export/tflite/int8.tflite").probabilities(TEXTS[:1])
    np.testing.assert_allclose([*map(float, ids.split())], wanted[0], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", _RUNTIMES)
def test_lines_of_phone_runtimes(name, reviews, tiny):
    python = needs.environment(name, *_RUNTIMES[name])
    ((_, block),) = blocks(f"test in {name}", "python")
    done = subprocess.run([python, "-c", block], capture_output=True, text=True)
    if "cannot open shared object file" in done.stderr:
        needs.give_up(f"{name} cannot be imported: {done.stderr[-500:]}")
    assert done.returncode == 0, done.stderr[-2000:]
    answers = dict(line.rsplit(" ", 1) for line in done.stdout.strip().splitlines())
    labels = tiny.described["labels"]
    assert set(answers) == set(labels)
    scores = [float(answers[label]) for label in labels]
    np.testing.assert_allclose(scores, reviews[TEXTS[0]], atol=0.1)
