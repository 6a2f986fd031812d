"""What a database, a stranger's model or a mistaken setting does to feedback, and what is told.

Run: pytest tests/serve/test_feedback_mending.py
"""

import csv
import sqlite3
import time
from pathlib import Path

import pydantic
import pytest
import small_feedback
from small_feedback import ANSWERS, Known, ask, correct, refused, table
from small_servable import until

from tfmodel.config import ConfigError
from tfmodel.serve import FeedbackSettings, ServingError, serve_settings
from tfmodel.serve.feedback import delete_feedback, export_feedback, feedback_stats
from tfmodel.serve.feedback import retention as retention_module
from tfmodel.serve.feedback.asked import rows_of_json, task_of_answer
from tfmodel.serve.feedback.recorder import Recorder
from tfmodel.serve.feedback.retention import Retention
from tfmodel.serve.feedback.settings import feedback_of
from tfmodel.serve.feedback.store import Store
from tfmodel.serve.metrics import Metrics


def file_of(url):
    return Path(url.removeprefix("sqlite:///"))


def all_bytes(url):
    return b"".join(path.read_bytes() for path in file_of(url).parent.glob("feedback.db*"))


# --- the thread that writes ------------------------------------------------------------------


def test_no_failure_ends_the_thread_that_writes(record, url, monkeypatch, caplog):
    def fail(self, **values):
        raise OverflowError

    monkeypatch.setattr(Store, "prune", fail)
    recorder = record()
    request_id = ask(recorder, "one")
    assert correct(recorder, request_id=request_id, label="bad").is_new
    assert "writing failed (OverflowError)" in caplog.text
    with pytest.raises(ConfigError, match="--feedback-rows.*less than or equal"):
        serve_settings(feedback={"database": url, "rows": 10**20})


def test_limits_are_read_as_options_give_them(url):
    options = {"privacy": None, "regions": None}
    feedback = serve_settings(feedback=feedback_of(url, rows="5", days="2.5", **options)).feedback
    assert (feedback.rows, feedback.days) == (5, 2.5)
    feedback = serve_settings(feedback=feedback_of(url, rows="none", days="9", **options)).feedback
    assert (feedback.rows, feedback.days) == (None, 9)
    with pytest.raises(ConfigError, match="--feedback-rows: expected another value"):
        serve_settings(feedback=feedback_of(url, rows="many", **options))


def test_what_is_past_its_time_goes_in_portions_and_a_failure_is_tried_again(url, monkeypatch):
    class Portions:
        def prune(self, **values):
            asked.append(values)
            if len(asked) == 1:
                raise sqlite3.OperationalError
            yield from (2, 0, 3)

    asked, now = [], [1000.0]
    monkeypatch.setattr(retention_module.time, "monotonic", lambda: now[0])
    retention = Retention(Portions(), FeedbackSettings(database=url, days=1, rows=5))
    with pytest.raises(sqlite3.OperationalError):
        retention.step()
    retention.step()
    assert len(asked) == 1 and not retention.is_at_work
    now[0] += 61
    steps = 0
    while not steps or retention.is_at_work:
        retention.step()
        steps += 1
    assert (steps, len(asked)) == (4, 2)
    now[0] += 61
    retention.step()
    assert len(asked) == 2
    now[0] += 3600
    retention.step()
    assert len(asked) == 3 and (asked[2]["days"], asked[2]["rows"]) == (1, 5)


def test_many_requests_go_portion_by_portion(record, url):
    recorder = record(queue=1000)
    one = ask(recorder, "one")
    until(lambda: (one,) in stored(url))
    with sqlite3.connect(file_of(url)) as other:
        other.execute("update tfmodel_requests set time = 0")
        for name, key in (("requests", "id"), ("rows", "request_id")):
            names = [each[1] for each in other.execute(f"pragma table_info(tfmodel_{name})")]
            values = ", ".join("printf('%032d', n)" if each == key else each for each in names)
            other.execute(
                "with recursive c(n) as (select 1 union all select n + 1 from c where n < 1200) "
                f"insert into tfmodel_{name} select {values} from c, tfmodel_{name}"
            )
    kept = recorder._store.prune(now=time.time(), days=None, rows=2000)
    assert [*kept] == []
    assert [*recorder._store.prune(now=time.time(), days=1, rows=None)] == [500, 500, 201]
    assert table(url, "requests") == table(url, "rows") == []


def stored(url):
    try:
        return table(url, "requests", "id")
    except sqlite3.OperationalError:
        return []


# --- the database ----------------------------------------------------------------------------


def test_nothing_of_what_is_deleted_stays_in_a_file(record, url):
    recorder = record()
    secret = "a matter that nobody may know"
    ids = [ask(recorder, f"{secret} {number}") for number in range(3)]
    correct(recorder, request_id=ids[0], label="bad")
    assert secret.encode() in all_bytes(url)
    assert delete_feedback(url, ids[:2]) == (2, 1)
    assert f"{secret} 0".encode() not in all_bytes(url)
    assert sum(recorder._store.prune(now=time.time() + 86400, days=0.5, rows=None)) == 1
    assert secret.encode() not in all_bytes(url)


def test_a_reader_that_keeps_what_is_deleted_is_told_of(record, url, caplog):
    recorder = record(wait_seconds=0.1)
    one = ask(recorder, "one")
    correct(recorder, request_id=one, label="bad")
    with sqlite3.connect(file_of(url), isolation_level=None) as reader:
        reader.execute("begin")
        reader.execute("select count(*) from tfmodel_rows").fetchone()
        assert recorder._store.delete([one]) == (1, 1)
        reader.execute("rollback")
    assert "is being read: what is deleted stands in its -wal file" in caplog.text


def test_tables_of_another_release_are_told_of(record, url, caplog):
    recorder = record()
    correct(recorder, request_id=ask(recorder, "one"), label="bad")
    recorder.stop(20)
    with sqlite3.connect(file_of(url)) as other:
        other.execute("alter table tfmodel_rows drop column changes")
    words = "expected the tables of this release. Received: tfmodel_rows without changes"
    with pytest.raises(ConfigError, match=words):
        feedback_stats(url)
    assert words not in caplog.text
    again = record()
    for _ in range(2):
        assert refused(again, text="x", label="bad").http_status == 503
    assert caplog.text.count(words) == 1
    with sqlite3.connect(file_of(url)) as other:
        other.execute("alter table tfmodel_rows add column changes text")

    def is_stored():
        try:
            return correct(again, text="x", label="bad").is_new
        except ServingError:
            return False

    until(is_stored)


def test_the_database_of_something_else_is_left_as_it_is(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("create table x (y)")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="without its tables"):
        feedback_stats(f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_one_correction_by_its_text_and_by_its_row(record, url):
    recorder = record()
    request_id = ask(recorder, "one")
    until(lambda: (request_id,) in stored(url))

    def rename(old, new):
        with sqlite3.connect(file_of(url)) as other:
            other.execute("update tfmodel_requests set id = ? where id = ?", (new, old))

    said = {"request_id": request_id, "row": 0, "text": "one", "label": "bad"}
    rename(request_id, "elsewhere")
    assert correct(recorder, **said, feedback_id="first").is_new
    rename("elsewhere", request_id)
    assert not correct(recorder, **said, feedback_id="first").is_new
    for other in ({"label": "good"}, {"request_id": ask(recorder, "one")}):
        assert refused(recorder, **said | other, feedback_id="first").code == "ALREADY_EXISTS"
    assert correct(recorder, **said, feedback_id="second").is_new
    rename(request_id, "elsewhere")
    assert not correct(recorder, **said, feedback_id="second").is_new
    assert len(table(url, "corrections")) == 2


# --- answers of strangers' models ------------------------------------------------------------

STRANGE = [
    {"score": [0.5]},
    {"score": True},
    {"score": 10**400},
    {"answer": "x"},
    {"answer": "x", "start": "0", "end": 1},
    {"answer": 5, "start": 0, "end": 1},
    {"labels": ["a", 1.5]},
    {"labels": "a"},
    {"label": ["a"]},
    {"entities": "x"},
    {"entities": [{"start": 0}]},
    {"entities": [{"start": "a", "end": 1, "label": "x"}]},
]


def test_answers_of_any_form_are_kept_counted_and_exported(record, url, tmp_path):
    assert all(task_of_answer(answer) is None for answer in STRANGE)
    for task, answer in (ANSWERS | {"regress": {"score": 2.5}}).items():
        (row,) = rows_of_json({"instances": ["x"]}, {"predictions": [answer]})
        assert task_of_answer(row.answer) == task
    kinds = {"score": "score", "answer": "answer", "labels": "labels", "label": "label"}
    right = {"score": 1.5, "answer": "x", "labels": ["a"], "label": "a", "spans": []}
    # Answers that an earlier release has taken for those of a task, too.
    recorder = record(None)
    for number, answer in enumerate(STRANGE):
        kind = kinds.get(next(iter(answer)), "spans")
        request_id = recorder.by_rest(
            {"instances": [f"x {number}"]},
            {"predictions": [answer]},
            size=1,
            signature="",
            model=kind,
            version=1,
            seconds=0.01,
        )
        correct(recorder, request_id=request_id, **{kind: right[kind]})
        ask(recorder, f"more {number}", answer=answer)
    until(lambda: len(stored(url)) == 2 * len(STRANGE))
    figures = feedback_stats(url)
    assert sum(each.corrected for each in figures) == len(STRANGE)
    assert {each.compared for each in figures} == {0}
    done = export_feedback(url, tmp_path / "scores.jsonl", only="all", model="score")
    assert (done.task, done.corrected, done.answered) == ("regress", 3, 0)
    for kind in ("answer", "labels", "label", "spans"):
        export_feedback(url, tmp_path / f"{kind}.jsonl", only="all", model=kind)


def test_a_table_has_every_second_text(record, url, tmp_path):
    recorder = record(None, names=("pairs", "news"))
    correct(recorder, text="one", text_pair="beside", label="bad", model="pairs")
    correct(recorder, text="two", label="good", model="news")
    done = export_feedback(url, tmp_path / "rows.csv")
    with open(done.path, newline="") as file:
        assert [*csv.reader(file)] == [
            ["text", "text_pair", "label"],
            ["two", "", "good"],
            ["one", "beside", "bad"],
        ]
    done = export_feedback(url, tmp_path / "news.csv", model="news")
    assert done.path.read_text().splitlines() == ["text,label", "two,good"]


def test_a_model_without_a_folder_is_told_of(url, caplog):
    settings = FeedbackSettings(database=url)
    known = {"known": Known(None), "models": lambda: ["model"], "has_others": True}
    recorder = Recorder(settings, Metrics(), **known)
    recorder.start()
    for _ in range(2):
        small_feedback.ask(recorder, "one")
    recorder.stop(20)
    assert caplog.text.count("the model news answers, and no folder is known for it") == 1
    assert "The folder of model may be meant: say so by --name" in caplog.text


# --- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "feedback",
    [
        {"databse": "postgresql://u:hunter2@h/x"},
        {"database": ["postgresql://u:hunter2@h/x"]},
        ["postgresql://u:hunter2@h/x"],
    ],
)
def test_no_mistake_repeats_a_password(feedback):
    with pytest.raises(ConfigError) as error:
        serve_settings(feedback=feedback)
    assert "hunter2" not in str(error.value) and "a value not shown here" in str(error.value)
    with pytest.raises(ConfigError) as error:
        serve_settings(feedbck="postgresql://u:hunter2@h/x")
    assert "hunter2" not in str(error.value)
    if isinstance(feedback, dict):
        with pytest.raises(pydantic.ValidationError) as error:
            FeedbackSettings(**feedback)
        assert "hunter2" not in str(error.value)
    with pytest.raises(ConfigError, match="Received: 2"):
        serve_settings(feedback={"sample": 2})
