"""What is recorded, corrected, kept and given back: without a model, against SQLite.

Run: pytest tests/serve/test_feedback_recorder.py
"""

import json
import logging
import re
import sqlite3
import threading
import time

import pytest
from small_feedback import ANSWERS, PRIVATE, ask, correct, counted, read_lines, refused, table
from small_servable import until

from tfmodel.config import ConfigError
from tfmodel.data.privacy import moved, replace_and_follow
from tfmodel.serve import FeedbackSettings, ServingError
from tfmodel.serve.feedback import delete_feedback, export_feedback, feedback_stats
from tfmodel.serve.feedback.asked import NoTexts, rows_of_json
from tfmodel.serve.feedback.corrections import parse_correction
from tfmodel.serve.feedback.facts import KIND_OF_TASK, Facts
from tfmodel.serve.feedback.stats import table_lines
from tfmodel.serve.feedback.tables import open_engine, shown

# --- places and languages -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "part", "is_exact", "stands"),
    [
        (PRIVATE, "Oslo", True, "Oslo"),
        (PRIVATE, "Ann Lee", True, "Ann Lee"),
        (PRIVATE, "ann@example.com", True, "PRIVATEEMAIL"),
        (PRIVATE, "example", False, "PRIVATEEMAIL"),
        (PRIVATE, "Lee <ann@example", False, "Lee <PRIVATEEMAIL"),
        ("x4111111111111111y 10.1.2.33 Bob", "Bob", True, "Bob"),
        ("call 09050000327now, Bob", "now", True, "now"),
    ],
)
def test_places_follow_what_is_replaced(text, part, is_exact, stands):
    stored, rounds = replace_and_follow(text)
    start = text.index(part)
    first, last, exact = moved(rounds, start, start + len(part))
    assert (stored[first:last], exact) == (stands, is_exact)


def test_requests_of_any_form_are_read():
    answer = {"predictions": [{"label": "a"}, {"label": "b"}]}
    by_row = rows_of_json({"instances": ["x\0", {"b64": "w6k="}]}, answer)
    assert [(row.text, row.answer) for row in by_row] == [
        ("x\ufffd", {"label": "a"}),
        ("é", {"label": "b"}),
    ]
    columns = {"inputs": {"text": ["x", "y\ud800"], "text_pair": ["p", "q"], "max_length": [3, 4]}}
    by_column = rows_of_json(columns, {"outputs": {"label": ["a", "b"], "vector": [[1.0], [2.0]]}})
    assert [(row.text, row.text_pair) for row in by_column] == [("x", "p"), ("y\ufffd", "q")]
    assert by_column[1].answer == {"label": "b"}
    (only,) = rows_of_json({"inputs": ["x"]}, {"outputs": [2.5]})
    assert only.answer == {"score": 2.5}
    (vector,) = rows_of_json({"instances": ["x"]}, {"predictions": [[0.5, 0.5]]})
    assert vector.answer is None
    for request in ({"instances": [1.5]}, {"inputs": {"a": ["x"], "b": ["y"]}}, {"inputs": {}}):
        with pytest.raises(NoTexts):
            rows_of_json(request, {})


# --- corrections ----------------------------------------------------------------------------


def test_the_same_correction_is_stored_once_and_the_latest_counts(record, url):
    recorder = record()
    request_id = ask(recorder, "one", "two")
    first = correct(recorder, request_id=request_id, row=1, label="bad")
    again = correct(recorder, request_id=request_id, row=1, label="bad")
    assert (first.is_new, again.is_new, again.feedback_id) == (True, False, first.feedback_id)
    correct(recorder, request_id=request_id, row=1, label="good")
    assert correct(recorder, request_id=request_id, row=1, label="bad").is_new
    labels = table(url, "corrections", "row_key, label")
    assert labels == [(f"{request_id}:1", f'"{each}"') for each in ("bad", "good", "bad")]
    # The client's own name for it decides, however often and late it is sent.
    named = {"request_id": request_id, "row": 0, "label": "bad", "feedback_id": "abc-1"}
    assert correct(recorder, **named).is_new
    correct(recorder, request_id=request_id, row=0, label="good")
    assert not correct(recorder, **named).is_new
    assert refused(recorder, **named | {"label": "good"}).code == "ALREADY_EXISTS"
    assert counted(recorder, "corrections") == {"stored": 5, "repeated": 2, "refused": 1}


def test_a_text_by_itself_and_one_whose_request_is_not_known(record, url):
    recorder = record(sample=1e-12)
    assert ask(recorder, PRIVATE) is None
    unknown = "0" * 32
    said = refused(recorder, request_id=unknown, label="bad")
    assert (said.http_status, "Send the text itself" in said.message) == (400, True)
    assert correct(recorder, request_id=unknown, row=3, text=PRIVATE, label="bad").is_new
    assert not correct(recorder, text=PRIVATE, label="bad").is_new
    assert table(url, "corrections", "text, request_id, model") == [
        ("Ann Lee <PRIVATEEMAIL> is in Oslo.", unknown, "news")
    ]
    two = record(names=("a", "b"))
    assert "model: expected the name" in refused(two, text="x", label="bad").message
    assert "none of this name" in refused(two, text="x", model="c", label="bad").message
    assert correct(two, text="x", model="b", label="bad").is_new


def test_mistakes_of_clients(record):
    recorder = record(max_characters=100)
    cases = [
        ({"label": "bad"}, "Expected request_id, or the text"),
        ({"request_id": "x' or 1=1", "label": "bad"}, "request_id: expected the id"),
        ({"request_id": 7, "label": "bad"}, "request_id: expected the id"),
        ({"text": "x", "label": "other"}, "labels that the model has: good, bad"),
        ({"text": "x", "label": ["bad"]}, "label: expected a string"),
        ({"text": "x", "label": " "}, "label: expected a string"),
        ({"text": "x", "score": 1}, "Expected label, as the answers of this model"),
        ({"text": "x", "label": "bad", "score": 1}, "in one field.*label and score"),
        ({"text": "x"}, "none of them"),
        ({"text": "x", "label": "bad", "secret": 1}, "another one"),
        ({"text": "x", "label": "bad", "start": 1}, "start: expected only with answer"),
        ({"text": "x", "text_pair": "y", "label": "bad"}, "Expected text alone"),
        ({"text": "x" * 101, "label": "bad"}, "at most 100 characters"),
        ({"text": ["x"], "label": "bad"}, "text: expected a string"),
        ({"request_id": "0" * 32, "row": -1, "label": "bad"}, "row: expected a whole number"),
        ({"request_id": "0" * 32, "row": True, "label": "bad"}, "row: expected a whole number"),
        ({"text": "x", "label": "bad", "model": "a b"}, "model: expected the name"),
        ({"text": "x", "label": "bad", "feedback_id": "a b"}, "feedback_id: expected 1 to 64"),
    ]
    for content, words in cases:
        said = refused(recorder, **content)
        assert said.code == "INVALID_ARGUMENT" and re.search(words, said.message), content
        assert not re.search("other[^s]|secret|or 1=1", said.message.replace("another", ""))


def test_whatever_is_sent_is_taken_or_refused():
    strange = [
        None,
        True,
        -1,
        2**70,
        1.5,
        "",
        "\ud800",
        "\0",
        "x" * 999,
        [],
        [[]],
        {},
        [{}],
        [None],
    ]
    strange += [
        {"start": 0},
        [{"start": 0, "end": 2**70, "label": "x"}],
        [{"start": "0", "end": 1}],
    ]
    fields = ("request_id", "row", "text", "text_pair", "model", "feedback_id", "start")
    refusals = taken = 0
    for kind in KIND_OF_TASK.values():
        for field in (kind, *fields, "other"):
            for value in strange:
                content = {"text": "x", kind: "a"} | {field: value}
                try:
                    correction = parse_correction(content, max_characters=100)
                    json.dumps(correction.value).encode()
                    taken += 1
                except ServingError as error:
                    assert error.code == "INVALID_ARGUMENT"
                    refusals += 1
    assert refusals > taken > 20


def test_rows_of_a_request(record):
    recorder = record()
    two, one = ask(recorder, "one", "two"), ask(recorder, "one")
    assert "one of the request's 2 rows" in refused(recorder, request_id=two, label="bad").message
    assert "no row of this index" in refused(recorder, request_id=one, row=1, label="bad").message
    assert correct(recorder, request_id=one, label="bad").is_new


PEOPLE = Facts("tag", ("PER", "LOC"), False)


def test_spans_stand_in_the_text_that_is_stored(record, url, tmp_path):
    recorder = record(PEOPLE)
    ids = [ask(recorder, PRIVATE + " " * number, answer=ANSWERS["tag"]) for number in range(3)]

    def span(part, label):
        return {
            "start": PRIVATE.index(part),
            "end": PRIVATE.index(part) + len(part),
            "label": label,
        }

    right = [span("Ann Lee", "PER"), span("Oslo", "LOC")]
    assert correct(recorder, request_id=ids[0], spans=right).problem is None
    inside = correct(recorder, request_id=ids[1], spans=[span("example", "PER")])
    assert inside.problem == "span_in_private_data"
    assert correct(recorder, request_id=ids[2], spans=[]).problem is None
    for spans, words in [
        ([{"start": 3, "end": 999, "label": "PER"}], "inside of the text"),
        ([{"start": 3, "end": 3, "label": "PER"}], "inside of the text"),
        ([{"start": -3, "end": 3, "label": "PER"}], "whole numbers from 0"),
        ([[0, 3, "PER"]], "a list of objects"),
        ([span("Oslo", "ORG")], "PER, LOC"),
    ]:
        assert words in refused(recorder, request_id=ids[0], spans=spans).message
    (stored,) = {row[0].strip() for row in table(url, "rows", "text")}
    assert json.loads(table(url, "rows", "answer")[0][0]) == {
        "entities": [{"start": 0, "end": 7, "label": "PER"}]
    }
    done = export_feedback(url, tmp_path / "spans.jsonl")
    assert (done.corrected, dict(done.left_out)) == (2, {"span_in_private_data": 1})
    rows = read_lines(tmp_path / "spans.jsonl")
    assert [stored[each["start"] : each["end"]] for each in rows[-1]["label"]] == [
        "Ann Lee",
        "Oslo",
    ]
    (left,) = read_lines(tmp_path / "spans.left_out.jsonl")
    assert left["reason"] == "span_in_private_data" and "ann@" not in json.dumps(left)
    assert feedback_stats(url)[0].compared == 2


def test_answers_stand_in_the_context_that_is_stored(record, url, tmp_path):
    recorder = record(Facts("span", (), True))
    contexts = [PRIVATE, PRIVATE + " Oslo", PRIVATE + " or", PRIVATE + " no"]
    ids = [ask(recorder, "Where?", pairs=[context], answer=ANSWERS["span"]) for context in contexts]
    correct(recorder, request_id=ids[0], answer="Oslo")
    assert "more than one place" in refused(recorder, request_id=ids[1], answer="Oslo").message
    start = contexts[1].rindex("Oslo")
    correct(recorder, request_id=ids[1], answer="Oslo", start=start)
    correct(recorder, request_id=ids[2], answer="<ann@example.com>", start=PRIVATE.index("<"))
    correct(recorder, request_id=ids[3], answer="")
    for answer, start in [("Rome", None), ("Rome", 0), ("Oslo", 999), ("Oslo", 31)]:
        more = {} if start is None else {"start": start}
        assert (
            refused(recorder, request_id=ids[0], answer=answer, **more).code == "INVALID_ARGUMENT"
        )
    export_feedback(url, tmp_path / "answers.jsonl")
    found = {row["request_id"]: row for row in read_lines(tmp_path / "answers.jsonl")}
    texts = []
    for request_id in ids:
        row = found[request_id]
        for text, start in zip(row["label"]["text"], row["label"]["answer_start"], strict=True):
            assert row["text_pair"][start : start + len(text)] == text
        texts.append(row["label"]["text"])
    assert texts == [["Oslo"], ["Oslo"], ["<PRIVATEEMAIL>"], []]
    assert all(row["text"] == "Where?" for row in found.values())


def test_other_tasks_and_models_of_others(record, url, tmp_path):
    several = record(Facts("multilabel", ("good", "bad", "ugly"), False))
    request_id = ask(several, "one", answer=ANSWERS["multilabel"])
    correct(several, request_id=request_id, labels=["ugly", "good", "ugly"])
    assert "the model has" in refused(several, request_id=request_id, labels=["x"]).message
    export_feedback(url, tmp_path / "several.jsonl")
    assert read_lines(tmp_path / "several.jsonl")[0]["label"] == ["good", "ugly"]
    # Of a model that says nothing of itself, the form of its answers does.
    stranger = record(None)
    number = ask(stranger, "two", answer=ANSWERS["regress"])
    assert "Expected score" in refused(stranger, request_id=number, label="bad").message
    assert correct(stranger, request_id=number, score=3).is_new
    for score in (float("nan"), float("inf"), True, "3", 10**400):
        assert refused(stranger, request_id=number, score=score).code == "INVALID_ARGUMENT"
    # What such a model calls a label may be a text.
    echo = ask(stranger, "three", answer={"label": PRIVATE, "words": ["a", PRIVATE]})
    correct(stranger, request_id=echo, label=PRIVATE)
    assert "example.com" not in str(table(url, "rows") + table(url, "corrections"))
    delete_feedback(url, [echo])
    vectors = record(Facts("embed", (), False))
    assert "take no corrections" in refused(vectors, text="x", label="a").message
    with pytest.raises(ConfigError, match="models of one task.*multilabel.*regress"):
        export_feedback(url, tmp_path / "mixed.jsonl")
    assert table_lines(feedback_stats(url))[1].endswith("0.5 off")


# --- when the database is away --------------------------------------------------------------


def test_a_locked_database_holds_nothing_up_and_nothing_acknowledged_is_lost(record, url, caplog):
    caplog.set_level(logging.INFO, "tfmodel")
    recorder = record(wait_seconds=0.3, queue=5)
    request_id = ask(recorder, "before")
    correct(recorder, request_id=request_id, label="good")
    with sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None) as other:
        other.execute("begin exclusive")
        started = time.monotonic()
        ids = [ask(recorder, f"meanwhile {number}") for number in range(8)]
        assert time.monotonic() - started < 0.2
        assert [each is not None for each in ids] == [True] * 5 + [False] * 3
        said = refused(recorder, request_id=request_id, label="bad")
        assert (said.http_status, said.passes) == (503, True)
        other.execute("rollback")
    assert correct(recorder, request_id=request_id, label="bad").is_new
    assert correct(recorder, request_id=ids[4], label="bad").is_new
    assert counted(recorder) == {"recorded": 6, "queue_full": 3}
    assert [row[0] for row in table(url, "corrections", "label")] == ['"good"', '"bad"', '"bad"']
    assert "cannot be written now (OperationalError)" in caplog.text
    assert "can be written again" in caplog.text and "meanwhile" not in caplog.text


def test_tables_that_vanish_are_made_again_and_a_full_disk_is_waited_for(record, url):
    recorder = record()
    correct(recorder, request_id=ask(recorder, "one"), label="good")
    with sqlite3.connect(url.removeprefix("sqlite:///")) as other:
        for name in ("requests", "rows", "corrections"):
            other.execute(f"drop table tfmodel_{name}")
    until(lambda: _stored(recorder, text="two", label="good"))

    def limit(pages):
        with recorder._engine.connect() as connection:
            connection.exec_driver_sql(f"pragma max_page_count={pages}")

    limit(1)  # SQLite says that the disk is full
    large = ask(recorder, "x" * 90_000)
    assert large is not None
    assert refused(recorder, text="three", label="good").http_status == 503
    limit(10**6)
    assert correct(recorder, text="three", label="good").is_new
    assert (large,) in table(url, "requests", "id")


def _stored(recorder, **content):
    try:
        return correct(recorder, **content).is_new
    except ServingError as error:
        assert error.http_status == 503
        return False


def test_what_no_database_takes_costs_nothing_else(record, url, monkeypatch):
    import sqlalchemy as sa

    recorder = record()
    write = recorder._store._write

    def refuse(connection, requests):
        if "poison" in {request.rows[0].text.text for request in requests}:
            raise sa.exc.DataError("insert", {}, Exception("poison"))
        write(connection, requests)

    monkeypatch.setattr(recorder._store, "_write", refuse)
    ids = [ask(recorder, text) for text in ("one", "poison", "two")]
    correct(recorder, request_id=ids[2], label="good")
    assert counted(recorder) == {"recorded": 2, "refused": 1}
    assert {*table(url, "requests", "id")} == {(ids[0],), (ids[2],)}


def test_a_correction_that_no_database_takes_is_not_to_be_sent_again(record, monkeypatch):
    import sqlalchemy as sa

    recorder = record()
    store = recorder._store.correct

    def refuse(request_id, *rest, **more):
        if more["feedback_id"] == "poison":
            raise sa.exc.DataError("insert", {}, Exception("poison"))
        return store(request_id, *rest, **more)

    monkeypatch.setattr(recorder._store, "correct", refuse)
    with pytest.raises(ServingError, match="cannot hold this correction") as caught:
        correct(recorder, text="one", label="good", feedback_id="poison")
    assert caught.value.http_status == 400
    assert correct(recorder, text="one", label="good", feedback_id="sound").is_new


def test_requests_are_written_together_and_corrections_at_once(record, url, monkeypatch):
    from tfmodel.serve.feedback import recorder as module

    monkeypatch.setattr(module, "_GATHER_SECONDS", 60.0)
    recorder = record()
    write, batches = recorder._store.write, []
    monkeypatch.setattr(
        recorder._store, "write", lambda requests: (batches.append(len(requests)), write(requests))
    )
    ids = [ask(recorder, f"text {number}") for number in range(100)]
    until(lambda: counted(recorder) == {"recorded": 100})
    assert batches == [100]  # a batch is not waited for any longer
    last = ask(recorder, "one more")
    assert correct(recorder, request_id=last, label="good").is_new
    assert batches == [100, 1]
    assert {row[0] for row in table(url, "requests", "id")} == {*ids, last}


def test_what_waits_is_written_when_it_stops(record, url):
    recorder = record(queue=300)
    ids = {ask(recorder, f"text {number}") for number in range(250)}
    recorder.stop(20)
    assert {row[0] for row in table(url, "requests", "id")} == ids
    assert ask(recorder, "late") is None
    with pytest.raises(ServingError, match="stopping"):
        recorder.correct({"text": "x", "label": "good"})


def test_what_waits_is_written_though_the_database_is_locked_when_it_stops(record, url, caplog):
    recorder = record(wait_seconds=0.02)
    correct(recorder, text="x", label="good")
    path = url.removeprefix("sqlite:///")
    with sqlite3.connect(path, isolation_level=None, check_same_thread=False) as other:
        other.execute("begin exclusive")
        ids = {ask(recorder, f"text {number}") for number in range(5)}
        threading.Timer(1.0, other.execute, ["rollback"]).start()
        recorder.stop(20)
    assert {row[0] for row in table(url, "requests", "id")} == ids
    # Where it stays locked, the time is kept, and what is lost is said.
    recorder = record(wait_seconds=0.02)
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("begin exclusive")
        ask(recorder, "late")
        started = time.monotonic()
        recorder.stop(0.8)
        assert 0.7 < time.monotonic() - started < 5
    assert "1 requests were not recorded (stopped)" in caplog.text


def test_what_is_not_recorded_is_counted(record):
    recorder = record(max_characters=10, queue_bytes=150)
    ask(recorder, "x" * 11)
    until(lambda: counted(recorder) == {"no_text": 1})
    recorder.by_rest({"instances": 3}, {}, size=1, signature="", model="news", seconds=0.1)
    until(lambda: counted(recorder) == {"no_text": 1, "unreadable": 1})
    assert recorder.by_rest({}, {}, size=151, signature="", model="news", seconds=0.1) is None
    assert counted(recorder)["queue_full"] == 1


# --- databases that cannot be meant ---------------------------------------------------------


def test_mistaken_databases_and_no_password_is_told(tmp_path, monkeypatch):
    for url, words in [
        ("nonsense", "URL of a database"),
        ("sqlite://", "outlives the process"),
        ("sqlite:///:memory:", "outlives the process"),
        (f"sqlite:///{tmp_path}/none/x.db", "file of SQLite"),
        (f"sqlite:///{tmp_path}", "a folder"),
        ("nosuch://u:hunter2@h/x", "whose driver is installed"),
        ("postgresql://u:${NO_SUCH_VARIABLE}@h/x", "NO_SUCH_VARIABLE to be set"),
        ("postgresql://u:hunter2@h:port/x", "URL of a database"),
    ]:
        with pytest.raises(ConfigError, match=words) as error:
            open_engine(url)
        assert "hunter2" not in str(error.value)
    with pytest.raises(ConfigError, match="a path where nothing is"):
        feedback_stats(f"sqlite:///{tmp_path}/none.db")
    sqlite3.connect(tmp_path / "other.db").execute("create table x (y)")
    with pytest.raises(ConfigError, match="without its tables"):
        feedback_stats(f"sqlite:///{tmp_path}/other.db")
    (tmp_path / "broken.db").write_bytes(b"no database" * 100)
    with pytest.raises(RuntimeError, match="cannot be read or written now"):
        feedback_stats(f"sqlite:///{tmp_path}/broken.db")
    pytest.importorskip("psycopg")
    monkeypatch.setenv("SECRET", "p@ss/w:rd")
    engine = open_engine("postgresql://u:${SECRET}@127.0.0.1:1/x")
    assert engine.url.password == "p@ss/w:rd"
    assert shown(engine) == "postgresql:127.0.0.1/x"
    settings = FeedbackSettings(database="postgresql://u:hunter2@h/x")
    assert "hunter2" not in repr(settings)


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sqlalchemy", None)
    with pytest.raises(ConfigError, match=r"pip install 'tfmodel\[feedback\]'"):
        open_engine("sqlite:///x.db")
