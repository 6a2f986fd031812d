"""`tfmodel serve` on a model that a run has exported, as a user starts and stops it.

Run: pytest tests/serve/test_serve_command.py
"""

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from small_servable import ask

import tfmodel as tm
from tfmodel.serve import Server, serve_settings

TEXTS = ["the bank and its shares", "rain", "", "a goal " * 30, "Ünïcode \u202e text"]
PREDICT = "/v1/models/model:predict"


@pytest.fixture(scope="module")
def base(finished):
    return finished / "runs/small/export/savedmodel"


@pytest.fixture(scope="module")
def server(base):
    with Server(base, settings=serve_settings(rest_port=0, grpc_port=0)) as server:
        yield server


def test_it_answers_as_predict_does(server, base):
    expected = tm.load(base).predict(TEXTS)
    status, answer = ask(server.rest_address, PREDICT, {"instances": TEXTS})
    assert status == 200
    for row, want in zip(answer["predictions"], expected, strict=True):
        assert row["label"] == want["label"]
        assert row["scores"] == pytest.approx([*want["scores"].values()], abs=1e-5)
    # Each alone, and all at once from many clients: the same.
    alone = [{}] * len(TEXTS)

    def client(number):
        _, found = ask(server.rest_address, PREDICT, {"instances": [TEXTS[number]]})
        alone[number] = found["predictions"][0]

    threads = [threading.Thread(target=client, args=(number,)) for number in range(len(TEXTS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for row, want in zip(alone, answer["predictions"], strict=True):
        assert row["scores"] == pytest.approx(want["scores"], abs=1e-5)


def test_every_signature_answers(server):
    texts = ["the bank", "rain on monday"]
    rows = [{"text": text, "max_length": 5} for text in texts]
    asked = {
        "max_length": {"instances": rows},
        "vector": {"instances": texts},
        "ids": {
            "inputs": {
                "token_ids": [[2, 7, 3], [2, 3, 0]],
                "segment_ids": [[0, 0, 0], [0, 0, 0]],
                "padding_mask": [[1, 1, 1], [1, 1, 0]],
            }
        },
    }
    for signature, body in asked.items():
        body = {"signature_name": signature, **body}
        status, answer = ask(server.rest_address, PREDICT, body)
        assert status == 200, answer
    invalid = {"instances": [{"b64": "//79"}]}  # no UTF-8
    assert ask(server.rest_address, PREDICT, invalid)[0] == 200


@pytest.fixture
def process(base):
    command = "serve", str(base), "--rest-port", "0", "--grpc-port", "0", "--name", "news"
    with subprocess.Popen(
        [sys.executable, "-m", "tfmodel.cli", *command], stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("sign", [signal.SIGTERM])
def test_it_starts_answers_and_stops(process, base, sign):
    said = ""
    for line in process.stderr:
        said += line
        if found := re.search(r"^REST at (\S+), gRPC at (\S+)$", line):
            break
    status, answer = ask(found[1], "/v1/models/news:predict", {"instances": ["the bank"]})
    assert status == 200 and {*answer["predictions"][0]} == {"label", "score", "scores"}
    process.send_signal(sign)
    said += process.stderr.read()
    assert process.wait(60) == 0
    assert "version 1: live" in said and said.endswith("stopped\n")
    assert str(base.parent) not in said and "WARNING" not in said


def test_mistakes(tfmodel, base, tmp_path):
    cases = [
        (["nothing"], 2, "a path where nothing is"),
        ([str(base), "--versions", "latest"], 2, "newest, all, or numbers"),
        ([str(base), "--label", "stable"], 2, "NAME=VERSION"),
        ([str(base), "--max-batch-size", "0"], 2, "--max-batch-size"),
        ([str(base), "--rest-port", "70000"], 2, "--rest-port"),
        ([str(base), "--name", "a/b"], 2, "without / and :"),
        ([str(base), "--token-file", "nothing"], 2, "a file with the token"),
        ([str(base), "--versions", "9", "--rest-port", "0", "--grpc-port", "0"], 1, "no version"),
    ]
    for arguments, code, words in cases:
        done = tfmodel("serve", *arguments)
        assert (done.code, words in done.err) == (code, True), done.err


def test_help_shows_an_example(capsys):
    from tfmodel.cli import main

    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    assert "tfmodel serve runs/quickstart/export/savedmodel" in capsys.readouterr().out


def test_the_guide_can_be_followed(finished, monkeypatch, capsys):
    page = Path(__file__).parents[2] / "docs/serving.md"
    monkeypatch.chdir(finished)
    marked = re.findall(
        r"<!-- test -->\n```python\n(.*?)^```$", page.read_text("utf-8"), re.S | re.M
    )
    assert marked
    for block in marked:
        exec(compile(block.replace("runs/reviews", "runs/small"), "serving.md", "exec"), {})
    assert "predictions" in capsys.readouterr().out
