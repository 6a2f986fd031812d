"""Copies of requests to a version on trial: off the way of answers, bounded, private data replaced.

Run: pytest tests/serve/test_mirroring.py
"""

import json
import sqlite3
import threading
import time

import numpy as np
import pytest
from small_feedback import CLASSIFY, PRIVATE, correct, counted, refused, table
from small_servable import until

from tfmodel.config import ConfigError
from tfmodel.data.dataset import Split
from tfmodel.serve import ServingError
from tfmodel.serve.feedback import delete_feedback, export_feedback
from tfmodel.serve.feedback.asked import AskedRow, rows_of_json
from tfmodel.serve.feedback.facts import Facts
from tfmodel.serve.feedback.mirroring import Trial
from tfmodel.serve.feedback.scrubbing import packed, unpacked

GOOD, BAD = ({"label": name, "score": 0.75} for name in ("good", "bad"))
EMBED = Facts("embed", (), False)


def ask(recorder, *texts, new=GOOD, old=GOOD, versions=(1, 2), is_busy=lambda: False):
    """A request to version 1, whose copies version 2 answers with `new`."""

    def answered(answer):
        def ask(number):
            if isinstance(answer, Exception) and number == 2:
                raise answer
            given = old if number == 1 else answer
            return rows_of_json({"instances": [*texts]}, {"predictions": [given] * len(texts)})

        return ask

    trial = Trial(lambda: versions, answered(new), is_busy)
    request, answer = {"instances": [*texts]}, {"predictions": [old] * len(texts)}
    return recorder.by_rest(
        request,
        answer,
        size=100,
        signature="",
        model="news",
        version=1,
        seconds=0.01,
        trial=trial,
    )


def outcomes(recorder):
    lines = [line for line in recorder._metrics.page().splitlines() if "mirrored_requests{" in line]
    return {
        line.partition('outcome="')[2].partition('"')[0]: int(line.split()[-1]) for line in lines
    }


def settled(recorder, count):
    """What became of copies, once so many have an end and are written."""
    until(lambda: sum(outcomes(recorder).values()) == count)
    until(lambda: not recorder._copies)
    recorder.stop(20)
    return outcomes(recorder)


def test_both_answers_are_kept_and_nothing_private(record, url):
    recorder = record(CLASSIFY, mirror=1.0)
    request_id = ask(recorder, PRIVATE, "two", new=BAD)
    ask(recorder, "three", new=GOOD)
    ask(recorder, "four", versions=None)
    assert settled(recorder, 3) == {"compared": 2, "no_trial": 1}
    copies = table(url, "copies", "request_id, row, model, task, old, new, agrees, problem")
    assert [copy[1:] for copy in copies] == [
        (0, "news", "classify", 1, 2, 0.0, None),
        (1, "news", "classify", 1, 2, 0.0, None),
        (0, "news", "classify", 1, 2, 1.0, None),
    ]
    assert copies[0][0] == request_id
    assert all(0 <= old < 5 and 0 <= new < 5 for old, new in times(url))
    assert "example.com" not in str(table(url, "copies") + table(url, "rows"))
    # They go with their requests, and with the time.
    delete_feedback(url, [request_id])
    assert [text for (text,) in table(url, "copies", "request_id")] == [copies[2][0]]
    sum(recorder._store.prune(now=time.time() + 2 * 86400, days=1, rows=None))
    assert not table(url, "copies") and not table(url, "requests")


def times(url):
    return table(url, "copies", "old_seconds, new_seconds")


def test_spans_are_compared_as_they_were_sent(record, url):
    """Both stand in what is replaced, and would look alike."""
    texts = (Facts("tag", ("PER",), False), "mail ann@example.com now")
    entities = [
        {"tags": ["O", "B-PER", ""], "starts": [0, at, 0], "ends": [4, 8, 0]} for at in (5, 6)
    ]
    recorder = record(texts[0], mirror=1.0)
    ask(recorder, texts[1], old=entities[0], new=entities[1])
    ask(recorder, texts[1], old=entities[0], new=entities[0])
    settled(recorder, 2)
    assert [agrees for (agrees,) in table(url, "copies", "agrees")] == [0.0, 1.0]
    stored = [json.loads(answer)["entities"] for (answer,) in table(url, "copies", "answer")]
    assert stored[0] == stored[1]


def test_failures_are_counted_and_kept(record, url):
    recorder = record(CLASSIFY, mirror=1.0)
    ask(recorder, "one", new=ServingError("INTERNAL", "x"))
    ask(recorder, "two", new=ServingError("NOT_FOUND", "x"))
    ask(recorder, "three", new=ValueError("strange"))
    assert settled(recorder, 3) == {"failed": 1, "dropped": 1, "unreadable": 1}
    assert table(url, "copies", "problem, answer, agrees") == [("INTERNAL", None, None)]


def test_clients_go_first_and_what_finds_no_room_is_dropped(record, url):
    recorder = record(CLASSIFY, mirror=1.0)
    is_busy = threading.Event()
    is_busy.set()
    # Whoever is answered waits for nothing of this: each call returns at once.
    ids = [ask(recorder, f"text {number}", is_busy=is_busy.is_set) for number in range(150)]
    assert all(ids) and outcomes(recorder)["dropped"] >= 40
    assert not table_or_none(url)
    is_busy.clear()
    until(lambda: sum(outcomes(recorder).values()) == 150)
    found = settled(recorder, 150)
    assert found["compared"] in (100, 101) and {*found} == {"compared", "dropped"}
    assert len(table(url, "requests")) == 150


def table_or_none(url):
    try:
        return table(url, "copies")
    except sqlite3.OperationalError:
        return []


def test_without_a_share_nothing_is_asked_twice(record, url):
    recorder = record(CLASSIFY)
    ask(recorder, "one", new=ValueError)
    recorder.stop(20)
    assert not outcomes(recorder) and not table(url, "copies")


def test_a_stopping_server_does_not_wait_for_copies(record):
    recorder = record(CLASSIFY, mirror=1.0)
    for _ in range(5):
        ask(recorder, "one", is_busy=lambda: True)
    recorder.stop(5)
    assert outcomes(recorder) == {"dropped": 5}


def test_a_database_of_before_gets_the_table(record, url):
    recorder = record(CLASSIFY)
    correct(recorder, request_id=ask(recorder, "one"), label="bad")
    recorder.stop(20)
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("drop table tfmodel_copies")
    from tfmodel.serve.feedback import feedback_stats

    (figures,) = feedback_stats(url)
    assert figures.corrected == 1 and not table(url, "copies")


# --- other verbs, and vectors ----------------------------------------------------------------


def test_examples_to_classify_and_regress_are_read():
    examples = [{"text": "one", "size": 2}, {"text": ["two"]}]
    results = {"results": [[["a", 0.25], ["b", 0.75]], [["", 0.5]]]}
    request = {"examples": examples, "context": {"text_pair": "beside"}}
    assert rows_of_json(request, results) == [
        AskedRow("one", "beside", {"label": "b", "score": 0.75, "scores": [0.25, 0.75]}),
        AskedRow("two", "beside", {"scores": [0.5]}),
    ]
    (row,) = rows_of_json({"examples": [{"said": "x"}]}, {"results": [1.5]})
    assert (row.text, row.answer) == ("x", {"score": 1.5})


def test_vectors_are_kept_of_texts_without_private_data(record, url):
    recorder = record(EMBED, mirror=1.0)
    one, other = [0.25, -0.5, 0.125], [1.0, 0.5, 0.25]
    ask(recorder, "plain", old=one, new=other)
    ask(recorder, PRIVATE, old=one, new=other)
    settled(recorder, 2)
    stored = [answer and json.loads(answer) for (answer,) in table(url, "rows", "answer")]
    assert stored == [{"vector": packed(one)}, None]
    np.testing.assert_array_equal(unpacked(packed(one)), np.float32(one))
    copies = table(url, "copies", "answer, agrees")
    assert copies == [(json.dumps({"vector": packed(other)}), None), (None, None)]
    # Nobody knows what the numbers of a stranger's model are.
    stranger = record(None)
    ask(stranger, "plain", old=one)
    stranger.stop(20)
    assert table(url, "rows", "answer")[-1] == (None,)


def test_what_is_right_of_vectors_is_how_alike_two_texts_are(record, url, tmp_path):
    recorder = record(EMBED)
    request_id = ask(recorder, "one", old=[0.5, 0.5])
    for content in (
        {"text": "one", "label": "a"},
        {"text": "one", "score": 1},
        {"request_id": request_id, "score": 1},
        {"request_id": request_id, "text": "one", "text_pair": "two", "score": 1},
    ):
        assert "text and text_pair, and as score" in refused(recorder, **content).message
    pair = {"text": "one", "text_pair": PRIVATE, "score": 4.5}
    assert correct(recorder, **pair).is_new and not correct(recorder, **pair).is_new
    assert counted(recorder, "corrections") == {"stored": 1, "repeated": 1, "refused": 4}
    done = export_feedback(url, tmp_path / "pairs.csv")
    assert done.lines[-1] == "read them with data.target: number"
    header, line = done.path.read_text().splitlines()
    assert (header, line) == ("text,text_pair,label", "one,Ann Lee <PRIVATEEMAIL> is in Oslo.,4.5")


# --- rows of a comparison --------------------------------------------------------------------


class Manifest:
    def __init__(self, task, has_pairs=False):
        self.task, self.has_pairs = task, has_pairs


class OnTrial:
    """A rollout from version 1 to 2, without files."""

    model, old, new, server = "news", 1, 2, "http://localhost:1"

    def on_trial(self):
        return self

    def version_folder(self, number):
        return number

    def note_comparison(self, figures):
        self.noted = figures


def test_an_answer_of_another_form_is_a_failure_of_the_new_version(record, url, monkeypatch):
    from tfmodel.serve.rollout import Rule, compare_mirrored, recorded

    recorder = record(CLASSIFY, mirror=1.0)
    strange = [{"label": "good", "score": float("nan")}, {"score": 0.5}, [0.25, 0.75]]
    for new in (GOOD, BAD, *strange):
        ask(recorder, "one", new=new)
    ask(recorder, "two", old=strange[0], new=GOOD)  # of the old one nothing is known
    settled(recorder, 6)
    monkeypatch.setattr(recorded, "manifest_of", lambda folder: Manifest("classify"))
    rule = Rule(min_rows=1, min_agreement=0, max_latency_ratio=1e9)
    found = compare_mirrored(OnTrial(), url, rule=rule).figures
    assert (found["rows"], found["failed_requests"], found["left_out"]) == (2, 3, 1)
    assert found["agreement"]["agreement"] == 0.5
    assert found["failures"] == ["version 2 failed on 3 of 6 requests"]


def test_rows_that_were_asked_and_those_that_were_corrected(record, url):
    from tfmodel.serve.rollout import feedback_rows

    recorder = record(CLASSIFY)
    ids = [ask(recorder, f"text {number}") for number in range(20)]
    correct(recorder, request_id=ids[3], label="bad")
    correct(recorder, request_id=ids[3], label="good")
    correct(recorder, text="alone", label="bad")
    manifest = Manifest("classify")
    found = feedback_rows(url, manifest, model="news", version=1, most=5)
    assert len(found) == 5 and not found.is_labelled
    assert (found.split.texts[0], found.split.texts[-1]) == ("text 19", "text 0")
    assert found.corrected == Split(
        ["alone", "text 3"], None, ["bad", "good"], found.corrected.origins
    )
    for options, words in [
        ({"version": 2}, "requests of news, version 2. Received: none"),
        ({"version": 1, "since": "2999-01-01"}, "since 2999-01-01. Received: none"),
        ({"version": 1, "since": "soon"}, "--since: expected a date"),
    ]:
        with pytest.raises(ConfigError, match=words):
            feedback_rows(url, manifest, model="news", **options)
    # Answers to questions, and pairs of texts, in the form of a dataset.
    recorder = record(Facts("span", (), True))
    correct(recorder, text="Where?", text_pair="In Oslo.", answer="Oslo", model="news")
    from tfmodel.serve.feedback.opening import open_store
    from tfmodel.serve.rollout.recorded import _corrected

    with open_store(url) as store:
        questions = _corrected(store, Manifest("span", True), "news", None, 10)
    assert questions.labels == [{"answers": [{"text": "Oslo", "start": 3}], "id": ""}]
    assert questions.text_pairs == ["In Oslo."]
