"""What is kept of feedback and for how long, and what is given back to train on.

Run: pytest tests/serve/test_feedback_export.py
"""

import csv
import sqlite3
import time

import pytest
from small_feedback import (
    PRIVATE,
    ask,
    correct,
    read_lines,
    table,
)

from tfmodel.config import ConfigError
from tfmodel.data.rows import Row
from tfmodel.data.settings import DataSettings
from tfmodel.data.targets import TARGETS, parse_row
from tfmodel.serve.feedback import delete_feedback, export_feedback, feedback_stats
from tfmodel.serve.feedback.facts import KIND_OF_TASK, Facts
from tfmodel.serve.feedback.stats import table_lines


def test_retention_and_deletion(record, url):
    recorder = record()
    ids = [ask(recorder, f"text {number}") for number in range(6)]
    for request_id in ids[:2]:
        correct(recorder, request_id=request_id, label="bad")
    store, now = recorder._store, time.time()
    with sqlite3.connect(url.removeprefix("sqlite:///")) as other:
        for age, request_id in enumerate(ids):
            moment = now - 86400 * (10 - age)
            other.execute("update tfmodel_requests set time=? where id=?", (moment, request_id))
        moment = now - 86400 * 10
        other.execute("update tfmodel_corrections set time=? where request_id=?", (moment, ids[0]))
    assert (
        sum(store.prune(now=now, days=8.5, rows=None)) == 1
    )  # of the second, a correction is younger
    assert sum(store.prune(now=now, days=None, rows=2)) == 2
    left = {ids[1], ids[4], ids[5]}
    assert {row[0] for row in table(url, "requests", "id")} == left
    assert {row[0] for row in table(url, "rows", "request_id")} == left
    assert [row[0] for row in table(url, "corrections", "request_id")] == [ids[1]]
    by_itself = correct(recorder, text="alone", label="bad").feedback_id
    assert delete_feedback(url, [ids[1], by_itself]) == (1, 2)
    assert not table(url, "corrections") and len(table(url, "rows")) == 2
    with pytest.raises(ConfigError, match="Received: 1 that nothing is known of"):
        delete_feedback(url, ["x"])


def test_an_export_takes_the_latest_and_accounts_for_the_rest(record, url, tmp_path):
    recorder = record()
    ids = [ask(recorder, text) for text in ("one", "two, again", "one", "three")]
    for row, label in [(0, "bad"), (0, "good"), (1, "bad"), (2, "bad")]:
        correct(recorder, request_id=ids[row], label=label)
    done = export_feedback(url, tmp_path / "rows.jsonl", text="review", label="verdict")
    assert [(row["review"], row["verdict"]) for row in read_lines(done.path)] == [
        ("one", "bad"),
        ("two, again", "bad"),
    ]
    assert (dict(done.left_out), done.conflicts) == ({"same_text": 1, "older_correction": 1}, 2)
    assert "2 corrected to different labels; the latest is taken" in done.lines
    done = export_feedback(url, tmp_path / "rows.csv", only="all", since="2001-01-01")
    with open(done.path, newline="") as file:
        assert [*csv.reader(file)] == [
            ["text", "label"],
            ["one", "bad"],
            ["two, again", "bad"],
            ["three", "good"],
        ]
    assert (done.corrected, done.answered) == (2, 1)
    (figures,) = feedback_stats(url)
    assert (figures.requests, figures.corrected, figures.agreed) == (4, 3, 1)
    lines = table_lines([figures])
    assert lines[1].split() == ["news", "1", "4", "4", "4", "3", "33.3%"]
    for options, words in [
        ({"since": "2999-01-01"}, "expected corrections since 2999"),
        ({"since": "2026"}, "--since: expected a date"),
        ({"model": "other"}, "expected one of news"),
        ({"label": "text"}, "three names"),
    ]:
        with pytest.raises(ConfigError, match=words):
            export_feedback(url, tmp_path / "rows.jsonl", **options)
    with pytest.raises(ConfigError, match="ends in .jsonl"):
        export_feedback(url, tmp_path / "rows.txt")


@pytest.mark.parametrize(
    ("task", "rows", "target"),
    [
        ("classify", ["a", "b"], "class"),
        ("multilabel", [[], ["a"], ["a", "b"]], "classes"),
        ("regress", [1.5, -2.0, 3.25], "number"),
        ("tag", [[], [{"start": 0, "end": 4, "label": "a"}]], "spans"),
        ("span", ["", "text"], "answers"),
    ],
)
def test_what_is_exported_is_read_as_what_was_said(record, url, task, rows, target, tmp_path):
    is_span = task == "span"
    recorder = record(Facts(task, () if task in ("span", "regress") else ("a", "b"), is_span))
    pair = {"text_pair": "text and more"} if is_span else {}
    for number, label in enumerate(rows):
        correct(recorder, text=f"text {number}", **pair, **{KIND_OF_TASK[task]: label})
    done = export_feedback(url, tmp_path / "rows.jsonl")
    assert f"data.target: {target}" in done.lines[-1]
    settings = DataSettings(train="x", target=target, text_pair="text_pair" if pair else None)
    found = {}
    for row in read_lines(done.path):
        raw = Row(row["text"], row.get("text_pair"), row["label"], "rows.jsonl:1")
        found[raw.text] = parse_row(raw, settings, TARGETS[target]).label
    read = [found[f"text {number}"] for number in range(len(rows))]
    if is_span:
        assert [each["answers"] for each in read] == [[], [{"text": "text", "start": 0}]]
    else:
        assert read == rows


def test_private_data_is_stored_where_that_is_wished(record, url, caplog):
    recorder = record(privacy=False)
    ask(recorder, PRIVATE)
    recorder.stop(20)
    assert table(url, "rows", "text") == [(PRIVATE,)]
    assert "private data is stored as it comes" in caplog.text
