"""A recorder without a server: what it is told, what it has stored, what it has counted."""

from __future__ import annotations

import json
import sqlite3

import pytest

from tfmodel.serve import FeedbackSettings, ServingError
from tfmodel.serve.feedback.facts import Facts
from tfmodel.serve.feedback.recorder import Recorder
from tfmodel.serve.metrics import Metrics

PRIVATE = "Ann Lee <ann@example.com> is in Oslo."
CLASSIFY = Facts("classify", ("good", "bad"), False)
ANSWERS = {
    "classify": {"label": "good", "score": 0.75, "scores": [0.75, 0.25]},
    "multilabel": {"labels": ["good", ""], "scores": [0.75, 0.25]},
    "regress": 2.5,
    "tag": {"tags": ["B-PER", "I-PER", "O", ""], "starts": [0, 4, 8, 0], "ends": [3, 7, 9, 0]},
    "span": {"answer": "Oslo", "start": 32, "end": 36, "score": 0.5, "span": [32, 36, 0.5, 1]},
}


class Known:
    """What models say of themselves, without files."""

    def __init__(self, facts):
        self._facts = facts

    def facts(self, model, version=None):
        return self._facts


def ask(recorder, *texts, answer=ANSWERS["classify"], pairs=None, version=1):
    rows = [*texts]
    if pairs is not None:
        rows = [{"text": text, "text_pair": pair} for text, pair in zip(texts, pairs, strict=True)]
    request, answered = {"instances": rows}, {"predictions": [answer] * len(rows)}
    return recorder.by_rest(
        request, answered, size=100, signature="", model="news", version=version, seconds=0.01
    )


def correct(recorder, **content):
    return recorder.correct(content).result(30)


def refused(recorder, **content):
    with pytest.raises(ServingError) as error:
        correct(recorder, **content)
    return error.value


def table(url, name, columns="*"):
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        return connection.execute(f"select {columns} from tfmodel_{name}").fetchall()


def counted(recorder, name="requests"):
    lines = recorder._metrics.page().splitlines()
    found = [
        line.rpartition(" ")
        for line in lines
        if line.startswith(f":tfmodel:serving:feedback_{name}{{")
    ]
    return {labels.rpartition('outcome="')[2][:-2]: int(count) for labels, _, count in found}


def read_lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def start(url, facts=CLASSIFY, names=("news",), **values):
    """A recorder that writes; whoever starts it stops it."""
    settings = FeedbackSettings(database=url, **{"wait_seconds": 2.0} | values)
    recorder = Recorder(settings, Metrics(), known=Known(facts), models=lambda: [*names])
    recorder.start()
    return recorder
