"""A process of its own: whatever happens there is told in words."""

import pytest

from tfmodel.export.parity import measure
from tfmodel.export.parity.measure import ClientError, run_client

LITERT = {"output": "probability", "padding_id": 0}
ROWS = [{"ids": [2, 5, 6, 3], "segment_ids": [0] * 4}] * 5


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Run a script as a client; the real protocol is beside it."""

    def run(script, request=None, **kwargs):
        protocol = measure.CLIENTS / "protocol.py"
        (tmp_path / "protocol.py").write_text(protocol.read_text())
        (tmp_path / "mine.py").write_text(script)
        with monkeypatch.context() as patch:
            patch.setattr(measure, "CLIENTS", tmp_path)
            return run_client("mine", request or {"path": "x", "rows": [1, 2, 3]}, **kwargs)

    return run


def _serving(load):
    return f"import os, time\nfrom protocol import serve\nserve(lambda: None, {load})\n"


def test_answers_and_what_it_took(client):
    told = client(_serving("lambda runtime, request: lambda row: row * 2"))
    assert told.answers == [2, 4, 6] and told.errors == {}
    assert told.figures["latency_ms"]["rows"] == 3
    assert told.figures["load_seconds"] < 1
    assert 5 < told.figures["runtime_memory_mb"] <= told.figures["peak_memory_mb"] < 100


def test_memory_that_loading_takes_is_the_files(client):
    told = client(_serving("lambda runtime, request: (bytearray(200_000_000), int)[1]"))
    own = told.figures["peak_memory_mb"] - told.figures["runtime_memory_mb"]
    assert own == pytest.approx(200, abs=20)


def test_a_row_that_is_refused_does_not_stop_the_others(client):
    told = client(_serving("lambda runtime, request: lambda row: 1 // (row - 2)"))
    assert told.answers == [-1, None, 1]
    assert "zero" in told.errors[1]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (_serving("lambda *_: os.kill(os.getpid(), 11)"), "ended by SIGSEGV, while loading it"),
        (_serving("lambda *_: lambda row: os._exit(3)"), "exit code 3, while answering"),
        (_serving("lambda *_: open('/nowhere')"), "it is refused: FileNotFoundError: .*nowhere"),
        (_serving("lambda *_: time.sleep(60)"), "not answer within 1 seconds, while loading it"),
        ("import nothing_here", "exit code 1: ModuleNotFoundError: No module.*nothing_here"),
        ("pass", "exit code 0"),
    ],
)
def test_a_crash_or_a_hang_is_told_in_words(client, script, message):
    with pytest.raises(ClientError, match=message):
        client(script, timeout_seconds=1 if "sleep" in script else 60)


def test_an_interpreter_that_is_none():
    with pytest.raises(ClientError, match="/nowhere/python cannot be run: No such file"):
        run_client("ask_litert", {}, python="/nowhere/python")


def test_texts_of_any_characters_reach_a_client(client):
    rows = ["é电影", "half \ud800", "\0 line\nbreak", ""]
    told = client(_serving("lambda *_: lambda row: row"), {"path": "x", "rows": rows})
    assert told.answers == rows


def test_litert_alone_answers_a_file(exported):
    path = str(exported / "tflite/float32.tflite")
    told = run_client("ask_litert", {"path": path, "rows": ROWS, **LITERT})
    assert len(told.answers) == 5 and sum(told.answers[0]) == pytest.approx(1, abs=1e-5)
    # TensorFlow alone would be several hundred.
    assert told.figures["peak_memory_mb"] < 150


def test_clients_import_nothing_of_ours():
    for script in measure.CLIENTS.glob("*.py"):
        assert "tfmodel" not in script.read_text().replace("nothing of tfmodel", "")
    assert len(list(measure.CLIENTS.glob("ask_*.py"))) == 4
