"""`tfmodel data --skew` on a whole run.

Run: pytest tests/stages/test_skew_command.py
"""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import small_families
import small_run

from tfmodel.config import ConfigError
from tfmodel.stages.skew import skew_of_run


def write_rows(accents: int) -> None:
    rows = [(text, label) for text, label in small_run.rows()]
    rows = [
        (f"café {text}" if i < accents else text, label) for i, (text, label) in enumerate(rows)
    ]
    with open("train.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def test_rows_that_differ_are_counted_shown_and_written(workspace, tfmodel):
    write_rows(accents=7)
    done = tfmodel("data", "small.yaml", "--skew", "run=runs/accents")
    assert done.code == 0, done.err
    written = json.loads(Path("runs/accents/skew.json").read_text("utf-8"))
    phone = written["runtimes"]["phone"]
    assert phone["differ"] == 7
    assert phone["rows"] == written["rows"] == written["rows_in_all"] > 7
    assert phone["share"] == 7 / phone["rows"]
    assert phone["examples"][0]["ours"][:4] == "c ##a ##f ##e".split()
    assert phone["examples"][0]["theirs"][0] == "[UNK]"
    assert f"a phone (MediaPipe, tflite-support)           7  {phone['share']:6.1%}" in done.out
    assert (
        "in training  c ##a ##f ##e" in done.out and "written: runs/accents/skew.json" in done.out
    )


def test_byte_pairs_are_nobodys_to_compare_with(tmp_path):
    small_families.tokenizer_of("roberta").save(tmp_path / "encoder")
    settings = SimpleNamespace(encoder=str(tmp_path / "encoder"))
    message = r"--skew: expected an encoder of WordPieces. Received: .*\(byte_pairs\)"
    with pytest.raises(ConfigError, match=message):
        skew_of_run(settings, tmp_path)


def test_without_the_flag_nothing_is_measured(workspace, tfmodel):
    assert tfmodel("data", "small.yaml").code == 0
    assert not Path("runs/small/skew.json").exists()


def test_many_rows_are_a_sample(workspace, tfmodel, monkeypatch):
    monkeypatch.setattr("tfmodel.stages.skew._MOST_ROWS", 10)
    done = tfmodel("data", "small.yaml", "--skew")
    assert done.code == 0, done.err
    written = json.loads(Path("runs/small/skew.json").read_text("utf-8"))
    assert written["rows"] == 10 and written["rows_in_all"] > 10
    assert f"of 10 rows drawn from {written['rows_in_all']:,}" in done.out
