"""From answers to a better model and back; through kills; and in PostgreSQL. All slow.

Run: pytest -m slow tests/serve/test_feedback_loop.py
"""

import json
import logging
import random
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import small_postgres
import small_run
from small_feedback import start
from small_servable import until

import tfmodel as tm
from tfmodel.serve import Client, Server, ServingError, serve_settings
from tfmodel.serve.feedback import delete_feedback, export_feedback, feedback_stats

pytestmark = pytest.mark.slow
EXPORT = "runs/small/export/savedmodel"


def new_texts(count, seed):
    """Texts about what the model has never seen."""
    generator = random.Random(seed)
    words = ["the", "then", "was", "on", "monday", "said", "after", "new"]
    return [" ".join(["fog", "frost", *generator.sample(words, 5)]) for _ in range(count)]


def test_corrections_make_the_next_model_better(workspace, tfmodel):
    url = "sqlite:///feedback.db"
    texts = [*dict.fromkeys(new_texts(60, 0))]
    settings = serve_settings(rest_port=0, grpc_port=0, feedback=url)
    with Server(EXPORT, settings=settings) as server:
        with Client(f"http://{server.rest_address}") as client:
            answers = client.predict(texts)
            # People say what the model hardly ever says.
            given = [answer.label for answer in answers]
            right = min(small_run.TOPICS, key=given.count)
            for answer in answers[:-5]:
                client.feedback(answer, label=right)
            client.feedback(text="after fog frost", label=right)
    done = tfmodel("feedback", "stats", url)
    assert done.code == 0 and str(len(texts) - 5) in done.out
    (workspace / "rows").mkdir()
    (workspace / "train.csv").rename(workspace / "rows/train.csv")
    command = ["feedback", "export", url, "--output", "rows/corrections.csv"]
    done = tfmodel(*command)
    assert (done.code, f"{len(texts) - 4} rows of the task" in done.out) == (0, True), done.err
    done = tfmodel("run", "small.yaml", "run=runs/second", "data.train=rows/*.csv")
    assert done.code == 0, done.err
    account = json.loads((workspace / "runs/second/data/account.json").read_text())
    assert account["raw"] == account["kept"] == 120 + len(texts) - 4
    unseen = [text for text in new_texts(100, 1) if text not in texts]

    def share(run):
        found = tm.load(run).predict(unseen)
        return sum(each["label"] == right for each in found) / len(found)

    assert share("runs/second") > 0.9 and share("runs/small") < 0.5
    # The same rows as JSON Lines, by themselves, are read too.
    done = tfmodel(*command[:-1], "only.jsonl", "--only", "all")
    assert done.code == 0, done.err
    done = tfmodel("data", "small.yaml", "run=runs/third", "data.train=only.jsonl")
    assert done.code == 0, done.err


def test_the_guide_can_be_followed(workspace, capsys):
    page = Path(__file__).parents[2] / "docs/feedback.md"
    marked = re.findall(
        r"<!-- test -->\n```python\n(.*?)^```$", page.read_text("utf-8"), re.S | re.M
    )
    for block in marked:
        block = block.replace("runs/reviews", "runs/small").replace('"bad"', '"sport"')
        exec(compile(block, "feedback.md", "exec"), {})
    assert marked and "2 rows of the task classify" in capsys.readouterr().out


def test_no_acknowledged_correction_is_lost_or_doubled_by_kills(finished):
    script = Path(__file__).parents[2] / "benchmarks/serving_kills.py"
    command = [sys.executable, script, finished / EXPORT, "--kills", "1", "--between", "40"]
    done = subprocess.run([*command, "--json"], capture_output=True, timeout=400, text=True)
    figures = json.loads(done.stdout)
    assert done.returncode == 0, figures
    assert figures["acknowledged"] >= 80 and figures["kept"] >= figures["acknowledged"]


# --- PostgreSQL -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    with small_postgres.cluster() as cluster:
        yield cluster


@pytest.fixture
def database(cluster):
    """The URL of a database whose tables are new."""
    import psycopg

    with psycopg.connect(cluster.url, autocommit=True) as connection:
        for name in ("requests", "rows", "corrections"):
            connection.execute(f"drop table if exists tfmodel_{name}")
    return cluster.url


def ask(recorder, text):
    return recorder.by_rest(
        {"instances": [text, "second"]},
        {"predictions": [{"label": "good", "score": 0.5}] * 2},
        size=100,
        signature="",
        model="news",
        version=3,
        seconds=0.01,
    )


def select(url, query):
    import psycopg

    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


def test_postgres_keeps_it_all(database, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    one, two = start(database, None), start(database, None)
    ids = [ask(one, f"mail ann@example.com {number}\0") for number in range(20)]
    for number, request_id in enumerate(ids):
        label = "bad" if number % 2 else "good"
        assert one.correct({"request_id": request_id, "row": 0, "label": label}).result(30).is_new
    # Two servers are told the same at once.
    said = {"request_id": ids[0], "row": 1, "label": "bad"}
    futures = [each.correct(said) for each in (one, two) * 10]
    assert sum(future.result(30).is_new for future in futures) == 1
    named = {"text": "x", "label": "bad", "feedback_id": "same"}
    futures = [each.correct(named) for each in (one, two) * 10]
    assert sum(future.result(30).is_new for future in futures) == 1
    for each in (one, two):
        each.stop(20)
    assert select(database, "select count(*) from tfmodel_corrections") == [(22,)]
    assert select(database, "select max(text) from tfmodel_rows where row = 0") == [
        ("mail PRIVATEEMAIL 9\ufffd",)
    ]
    done = export_feedback(database, tmp_path / "rows.jsonl", only="all")
    assert (done.corrected, done.answered) == (22, 0)
    (of_text, figures) = feedback_stats(database)
    assert (figures.rows, figures.corrected, figures.agreed) == (40, 21, 10)
    assert delete_feedback(database, [ids[0], "same"]) == (1, 3)
    three = start(database, None, days=1, rows=1000)
    assert sum(three._store.prune(now=time.time() + 2 * 86400, days=1, rows=None)) == 19
    three.stop(20)
    assert select(database, "select count(*) from tfmodel_rows") == [(0,)]
    assert "hunter2" not in caplog.text and "example.com" not in caplog.text


def test_a_postgres_that_goes_away_holds_nothing_up(cluster, database, caplog):
    recorder = start(database, None)
    first = ask(recorder, "before")
    recorder.correct({"request_id": first, "row": 0, "label": "bad"}).result(30)
    cluster.crash()
    started = time.monotonic()
    ids = [ask(recorder, f"meanwhile {number}") for number in range(50)]
    assert time.monotonic() - started < 0.5 and None not in ids
    with pytest.raises(ServingError) as error:
        recorder.correct({"request_id": first, "row": 1, "label": "bad"}).result(60)
    assert error.value.http_status == 503
    restart = threading.Thread(target=cluster.start)
    restart.start()
    restart.join()
    deadline = time.monotonic() + 60
    while True:
        try:
            recorder.correct({"request_id": ids[-1], "row": 1, "label": "bad"}).result(60)
            break
        except ServingError as error:
            assert error.http_status == 503 and time.monotonic() < deadline
            time.sleep(0.2)
    recorder.stop(30)
    assert select(database, "select count(*) from tfmodel_requests") == [(51,)]
    assert select(database, "select count(*) from tfmodel_corrections") == [(2,)]
    assert "hunter2" not in caplog.text and "127.0.0.1/postgres cannot be written" in caplog.text


def test_postgres_deletes_what_takes_longer_than_a_client_waits(database):
    import psycopg

    recorder = start(database, None)
    for number in range(3):
        ask(recorder, f"text {number}")
    recorder.stop(20)
    slow = (
        "create or replace function slow() returns trigger language plpgsql as "
        "'begin perform pg_sleep(0.8); return null; end'"
    )
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(slow)
        connection.execute(
            "create trigger slow before delete on tfmodel_requests execute function slow()"
        )
    recorder = start(database, None, wait_seconds=0.4, rows=1)
    until(lambda: select(database, "select count(*) from tfmodel_requests") == [(0,)], 20)
    recorder.stop(20)
