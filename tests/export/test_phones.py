"""What a phone answers, judged without a phone: its ids, its labels, what is not run."""

import sys

import numpy as np
import pytest

from tfmodel.export import check_parity, export_tflite
from tfmodel.export.parity import ParityError
from tfmodel.export.parity.description import describe
from tfmodel.export.parity.measure import ClientError, Told
from tfmodel.export.parity.phones import Phone, ask_phone, device_rows, phones

LABELS = ["bad", "so-so", "good"]
PHONE = Phone("ask_mediapipe", sys.executable, "not at hand")


@pytest.fixture
def described(exported):
    return describe(exported / "tflite/float32.tflite")


def _plain(tiny):
    """Texts of which a device makes our ids."""
    return [text for text in tiny.texts if "café" not in text]


@pytest.fixture
def device(described, tiny, monkeypatch):
    """Ask a pretended device, which gives other scores than the file where a test says so."""

    def ask(change=lambda answers: None, texts=None, file=described):
        texts = texts or _plain(tiny)
        here = tiny.reference.probabilities(texts)
        answers = [
            [[label, float(score)] for label, score in zip(LABELS, row, strict=True)]
            for row in here
        ]
        change(answers)
        errors = {row: "it is full" for row, each in enumerate(answers) if each is None}
        told = Told(answers, errors, [], {}, {"peak_memory_mb": 100.0})
        monkeypatch.setattr("tfmodel.export.parity.phones.run_client", lambda *_, **__: told)
        return ask_phone(PHONE, file, texts, here, None, max_drop=0.05, timeout_seconds=10)

    return ask


def test_a_device_cuts_and_wraps_as_we_do(described):
    texts = ["good movie", "very " * 40, ""]
    assert device_rows(described, texts).same.tolist() == [True, True, True]


def test_a_row_with_other_ids_is_skew_with_an_example(described):
    rows = device_rows(described, ["good", "GOOD movie", "café movie"])
    assert rows.same.tolist() == [True, True, False]
    assert rows.example == {
        "text": "café movie",
        "ours": ["c", "##a", "##f", "##e"],
        "theirs": ["[UNK]", "movie", "[SEP]"],
    }


def test_the_same_answers_pass(device):
    figures = device()
    assert figures["passed"] and figures["largest_score_difference"] == 0
    assert figures["skew"] == {"rows": 0, "share": 0, "example": None}
    assert figures["peak_memory_mb"] == 100


def test_skew_is_counted_and_fails_nothing(device, tiny):
    texts = [*_plain(tiny), "café"]

    def spoil(answers):
        answers[-1] = [["bad", 0.0], ["so-so", 0.0], ["good", 1.0]]

    figures = device(spoil, texts)
    assert figures["passed"] and figures["skew"]["rows"] == 1
    assert figures["rows_with_our_ids"] == len(texts) - 1


def test_a_score_that_is_off_fails(device):
    def spoil(answers):
        answers[0][0][1] += 0.002

    assert "a score is off by 0.002 (limit 1e-03)" in device(spoil)["failures"][0]


def test_uniform_scores_fail_a_quantized_file(device, exported):
    quantized = describe(exported / "tflite/int8.tflite")

    def spoil(answers):
        for answer in answers:
            answer[:] = [[label, 1 / 3] for label in LABELS]

    failures = device(spoil, file=quantized)["failures"]
    assert "another label than in LiteRT on" in failures[0]


def test_other_names_fail(device):
    def spoil(answers):
        for answer in answers:
            answer[0][0], answer[2][0] = answer[2][0], answer[0][0]

    assert "its labels are ['good', 'so-so', 'bad']" in device(spoil)["failures"][0]


def test_a_row_that_the_device_refuses_fails(device):
    def spoil(answers):
        answers[0] = None

    assert device(spoil)["failures"] == ["it does not answer 1 rows: it is full"]


# --- in the gate ------------------------------------------------------------------------------


def _parity(tiny, path, runtime="auto"):
    arguments = {"measure": True, "max_drop": 0.1, "runtime": runtime}
    return check_parity(tiny.reference, {"x": path}, tiny.texts, **arguments)["artifacts"]["x"]


def test_what_is_not_at_hand_is_said_to_be_not_run(exported, tiny, monkeypatch):
    monkeypatch.delenv("TFMODEL_TASK_LIBRARY_PYTHON", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = _parity(tiny, exported / "tflite/int8.tflite")["runtimes"]
    assert list(found) == ["litert", "mediapipe", "task-library-0.4"]
    assert found["mediapipe"] == {
        "not_run": "mediapipe is not installed: pip install 'tfmodel[parity]'"
    }
    assert "TFMODEL_TASK_LIBRARY_PYTHON names no" in found["task-library-0.4"]["not_run"]
    monkeypatch.setenv("TFMODEL_TASK_LIBRARY_PYTHON", "/somewhere/python")
    assert phones()["task-library-0.4"].python == "/somewhere/python"


def test_a_failure_there_counts_where_the_runtime_is_demanded(exported, tiny, monkeypatch):
    path = exported / "tflite/int8.tflite"
    monkeypatch.setattr("tfmodel.export.parity.gate.phones", lambda: {"mediapipe": PHONE})

    def crash(*arguments, **kwargs):
        raise ClientError("its process was ended by SIGSEGV, while loading it")

    monkeypatch.setattr("tfmodel.export.parity.phones.run_client", crash)
    figures = _parity(tiny, path)
    assert figures["passed"] and not figures["runtimes"]["mediapipe"]["passed"]
    assert _parity(tiny, path, "litert")["passed"]
    for runtime in ("mediapipe", "task-library-0.4"):
        with pytest.raises(ParityError, match="in mediapipe: its process was ended by SIGSEGV"):
            _parity(tiny, path, runtime)


def test_a_phone_is_not_asked_pairs(tiny_pairs, tmp_path, monkeypatch):
    path = export_tflite(
        tiny_pairs.model, tiny_pairs.tokenizer, tmp_path / "x.tflite", **tiny_pairs.described
    )
    monkeypatch.setattr("tfmodel.export.parity.gate.phones", lambda: {"mediapipe": PHONE})
    parity = check_parity(
        tiny_pairs.reference, {"x": path}, tiny_pairs.texts, tiny_pairs.text_pairs, measure=True
    )
    ran = parity["artifacts"]["x"]["runtimes"]["mediapipe"]
    assert ran == {"not_run": "it takes single texts alone"}
    assert np.isfinite(parity["artifacts"]["x"]["largest_score_difference"])
